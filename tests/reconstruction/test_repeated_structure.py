"""Courtyards with equal windows end to end: no camera at the wrong place, and most cameras at the right one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.alignment import MIN_ALIGNED, ConsistentPoses, align_consistent_poses
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.result import ReconstructionResult
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.synthetic import render_courtyard, write_scene

NUM_IMAGES, SIZE = 8, (640, 480)
MAX_CENTER_ERROR = 0.02
"""Of the extent of the true camera centres."""

MIN_RIGHT = 6


@dataclass(frozen=True, eq=False)
class Courtyard:
    """A reconstructed courtyard and its true cameras."""

    result: ReconstructionResult
    truth: dict[str, Rigid3]

    @property
    def extent(self) -> float:
        centers = [pose.center for pose in self.truth.values()]
        return max(float(np.linalg.norm(a - b)) for a, b in combinations(centers, 2))

    def aligned_models(self) -> list[ConsistentPoses]:
        return [
            align_consistent_poses(poses_of_model(model), self.truth, MAX_CENTER_ERROR * self.extent)
            for model in self.result.models
            if model.num_reg_images() >= MIN_ALIGNED
        ]


@pytest.fixture(scope="session", params=[2], ids="seed {}".format)
def yard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Courtyard:
    scene = render_courtyard(NUM_IMAGES, SIZE, request.param)
    folder = tmp_path_factory.mktemp(f"courtyard-{request.param}")
    write_scene(scene, folder)
    result = reconstruct(folder, config=ReconstructConfig())
    return Courtyard(result, dict(scene.cam_from_world_from_name))


def test_no_camera_of_a_courtyard_is_at_the_wrong_place(yard: Courtyard) -> None:
    for aligned in yard.aligned_models():
        assert max(aligned.center_errors.values()) <= MAX_CENTER_ERROR * yard.extent
        assert aligned.wrong == ()


def test_most_cameras_of_a_courtyard_are_found(yard: Courtyard) -> None:
    assert sum(len(aligned.right) for aligned in yard.aligned_models()) >= MIN_RIGHT


def test_every_image_of_a_courtyard_has_a_status(yard: Courtyard) -> None:
    summary = yard.result.summary
    assert summary.images.keys() == yard.truth.keys()
    published = {name for model in yard.result.models for name in poses_of_model(model)}
    for name, image in summary.images.items():
        assert (image["status"] in {"registered", "other_model"}) == (name in published)
        assert (image["reason"] is None) == (name in published)
        if name in published:
            assert image["num_points"] >= 12
            assert image["support"] >= 0.5


def test_the_published_folders_are_those_of_the_summary(yard: Courtyard) -> None:
    folder = Path(yard.result.output)
    assert {f"sparse/{path.name}" for path in (folder / "sparse").iterdir()} == {
        model["path"] for model in yard.result.summary.models if model["verdict"] != "rejected"
    }
