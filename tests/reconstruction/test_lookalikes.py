"""Places that look alike never become one: rendered scenes with equal twins, judged by their true poses."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.lookalikes_verdict import judge_by_poses
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ReconstructionError
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.result import ReconstructionResult
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.synthetic import SyntheticScene, write_scene
from sfm_lightglue.synthetic.lookalikes import LookalikeScene, connected_groups, overlap_matrix, render_lookalikes

SIZE = (320, 240)


def rendered(scene: LookalikeScene, folder: Path) -> SyntheticScene:
    found = render_lookalikes(scene, SIZE)
    write_scene(found, folder)
    return found


def run(folder: Path, mode: str) -> ReconstructionResult:
    fast = {"extractor": {"max_keypoints": 512}, "density": {"level": "sparse"}, "refine": {"mode": "off"}}
    config = ReconstructConfig.from_mapping(fast | {"lookalikes": {"mode": mode}, "num_threads": 1})
    return reconstruct(folder / "images", folder / "output", config)


def num_folded(result: ReconstructionResult, scene: SyntheticScene) -> int:
    poses = scene.cam_from_world_from_name
    return sum(judge_by_poses(dict(poses_of_model(model)), poses).is_folded for model in result.models)


@pytest.mark.parametrize(
    "scene",
    [
        LookalikeScene("house", "house", False, False, True, seed=11),
        LookalikeScene("fence", "fence", True, False, False, seed=12),
        LookalikeScene("rooms", "rooms", False, False, False, seed=13),
    ],
    ids=lambda scene: scene.kind,
)
def test_no_published_model_is_folded(scene, tmp_path):
    truth = rendered(scene, tmp_path)
    try:
        result = run(tmp_path, "auto")
    except ReconstructionError:
        return  # that nothing is published is told as an error
    assert num_folded(result, truth) == 0
    groups = connected_groups(truth.names, overlap_matrix(truth))
    if result.summary.num_published > 1 and len(groups) == 1:
        told = any(model["maybe_same_as"] for model in result.summary.models)
        assert told or result.summary.num_pairs_kept_apart > 0
