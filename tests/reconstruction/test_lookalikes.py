"""Rendered scenes with equal twins, judged by their true poses: a street and two rooms are not folded."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.lookalikes_verdict import judge_by_poses
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.result import ReconstructionResult
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.synthetic import read_truth, write_scene
from sfm_lightglue.synthetic.lookalikes import LookalikeScene, render_lookalikes

SIZE = (320, 240)


def run(folder: Path, mode: str, trust_pairs: str = "") -> ReconstructionResult:
    fast = {"extractor": {"max_keypoints": 512}, "density": {"level": "sparse"}, "refine": {"mode": "off"}}
    lookalikes = {"mode": mode, "trust_pairs": trust_pairs}
    config = ReconstructConfig.from_mapping(fast | {"lookalikes": lookalikes, "num_threads": 1})
    return reconstruct(folder / "images", folder / "output", config)


def folded_models(result: ReconstructionResult, poses: dict[str, Rigid3]) -> list[bool]:
    return [judge_by_poses(dict(poses_of_model(model)), poses).is_folded for model in result.models]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A walk along four equal houses, of 12 images; all runs use the same features and matches."""
    folder = tmp_path_factory.mktemp("street")
    write_scene(render_lookalikes(LookalikeScene("street", "street", False, False, True, seed=4), SIZE), folder)
    return folder


def test_a_street_of_equal_houses_is_folded_only_if_nothing_is_done(street: Path) -> None:
    poses = dict(read_truth(street)[1])
    assert any(folded_models(run(street, "off"), poses))
    for mode in ("auto", "strict"):
        result = run(street, mode)
        assert not any(folded_models(result, poses))
        assert sum(model.num_reg_images() for model in result.models) >= 9
        assert result.summary.num_pairs_kept_apart > 20


def test_pairs_that_the_user_trusts_are_not_kept_apart(street: Path) -> None:
    before = run(street, "auto").summary.num_pairs_kept_apart
    names = sorted(read_truth(street)[1])
    file = street / "trusted.txt"
    file.write_text("".join(f"{first} {second}\n" for first, second in zip(names, names[3:], strict=False)))
    assert run(street, "auto", str(file)).summary.num_pairs_kept_apart < before


def test_equal_rooms_are_two_models(tmp_path: Path) -> None:
    """Rooms that share nine tenths of their points, with names in random order; no image shows both."""
    truth = render_lookalikes(LookalikeScene("rooms", "rooms", False, False, False, seed=13), SIZE)
    write_scene(truth, tmp_path)
    result = run(tmp_path, "auto")
    assert not any(folded_models(result, dict(truth.cam_from_world_from_name)))
    assert [model.num_reg_images() >= 7 for model in result.models] == [True, True]
    assert result.summary.num_pairs_kept_apart > 20
