"""A rendered scene with equal twins that still folds, judged by its true poses: an expected failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.lookalikes_verdict import judge_by_poses
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.result import ReconstructionResult
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.synthetic import write_scene
from sfm_lightglue.synthetic.lookalikes import LookalikeScene, render_lookalikes


def run(folder: Path, mode: str) -> ReconstructionResult:
    fast = {"extractor": {"max_keypoints": 512}, "density": {"level": "sparse"}, "refine": {"mode": "off"}}
    config = ReconstructConfig.from_mapping(fast | {"lookalikes": {"mode": mode}, "num_threads": 1})
    return reconstruct(folder / "images", folder / "output", config)


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="twins that are equal in every pixel still fold: see docs/explanation/wrong-models.md",
)
def test_twins_that_are_equal_in_every_pixel_are_not_folded(tmp_path: Path) -> None:
    truth = render_lookalikes(LookalikeScene("rooms", "rooms", False, False, False, seed=13), (320, 240))
    write_scene(truth, tmp_path)
    poses = truth.cam_from_world_from_name
    judged = [judge_by_poses(dict(poses_of_model(model)), poses) for model in run(tmp_path, "auto").models]
    assert not any(each.is_folded for each in judged)
