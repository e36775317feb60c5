"""When a densified model counts as worse than the one before."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3, Sim3
from sfm_lightglue.reconstruction.densified_summary import DensifySummary, ModelCounts, PoseChange

BEFORE = ModelCounts(4, 1000, 3000, 3.0, 0.4)


def summary(after: ModelCounts, shift: float = 0.001, rotation_deg: float = 0.01, lost: tuple[str, ...] = ()) -> str:
    change = PoseChange(shift, rotation_deg)
    made = DensifySummary(BEFORE, after, change, lost, 6, 9000, 1, 0, {}, {"densify": 1.0, "total": 2.0})
    text = json.dumps(made.as_dict())  # a number that is none differs from itself
    assert json.dumps(DensifySummary.from_dict(json.loads(text)).as_dict()) == text
    return made.problem() or ""


@pytest.mark.parametrize(
    ("changes", "others", "text"),
    [
        ({"num_points": 9000}, {}, ""),
        ({"num_points": 900, "mean_reprojection_error_px": 0.85}, {}, ""),
        ({"mean_reprojection_error_px": 0.95}, {}, "error grew from 0.40 to 0.95 px"),
        ({"num_points": 700}, {}, "points fell from 1000 to 700"),
        ({"num_points": 700, "mean_track_length": 1.3 * BEFORE.mean_track_length}, {}, ""),  # no points of two images
        ({}, {"shift": 0.06}, "moved by 6.0 %"),
        ({}, {"shift": float("nan")}, "moved by"),
        ({}, {"rotation_deg": 3.0}, "turned by 3.00 degrees"),
        ({}, {"lost": ("a.jpg",)}, "1 images lost all points (a.jpg)"),
    ],
)
def test_what_got_worse(changes, others, text):
    found = summary(dataclasses.replace(BEFORE, **changes), **others)
    assert text in found and bool(found) == bool(text)


def poses(number: int) -> dict[str, Rigid3]:
    generator = np.random.default_rng(0)
    return {str(i): Rigid3.from_rotvec(generator.normal(size=3), generator.normal(size=3)) for i in range(number)}


def moved(cam_from_world: Rigid3, new_from_old: Sim3) -> Rigid3:
    """The pose in a world that was turned, shifted and scaled."""
    R = cam_from_world.R @ new_from_old.R.T
    return Rigid3(R, -R @ (new_from_old @ cam_from_world.center[None])[0])


@pytest.mark.parametrize("number", [2, 3, 6])
def test_a_similarity_is_no_change_and_a_turned_camera_is_one(number):
    before = poses(number)
    similarity = Sim3(2.5, Rigid3.from_rotvec(np.array([0.3, -1.0, 0.4]), np.zeros(3)).R, np.array([1.0, 2.0, 3.0]))
    after = {name: moved(pose, similarity) for name, pose in before.items()}
    change = PoseChange.between(before, after)
    assert change.mean_center_shift < 1e-6 and change.mean_rotation_deg < 1e-4
    turn = Rigid3.from_rotvec(np.array([0.0, np.radians(6), 0.0]), np.zeros(3))
    after["0"] = turn @ after["0"]
    change = PoseChange.between(before, after)
    assert change.mean_rotation_deg == pytest.approx(6 if number == 2 else 6 / number, rel=1e-3)


def test_cameras_at_one_place_have_no_scale_but_an_angle():
    before = {name: Rigid3(pose.R, np.zeros(3)) for name, pose in poses(3).items()}
    assert PoseChange.between(before, before) == PoseChange(0.0, 0.0)
