"""Right models are no folds: walls, thin things, wide baselines, planes, other scales, motion ahead, loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.lookalikes.model_check import check_fold
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import UP
from tests.helpers.folded_models import model_of

LIMIT = ChecksConfig().max_conflict


def faces_of_box(rng: np.random.Generator, per_face: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Points on the four vertical faces of a box, and the outward normal of each."""
    points, normals = [], []
    for number, count in enumerate(per_face):
        angle = np.pi / 2 * number
        normal = np.array([np.cos(angle), np.sin(angle), 0])
        along = np.array([-normal[1], normal[0], 0])
        across, up = rng.uniform(-3, 3, (count, 1)), rng.uniform(-2, 2, (count, 1))
        points.append(3 * normal + across * along + up * UP)
        normals.append(np.broadcast_to(normal, (count, 3)))
    return np.concatenate(points), np.concatenate(normals)


def box(per_face: tuple[int, ...], detected: float = 0.8) -> pycolmap.Reconstruction:
    """A house seen from all sides: the faces hide each other."""
    rng = np.random.default_rng(1)
    points, normals = faces_of_box(rng, per_face)
    poses, rows = {}, {}
    for number in range(24):
        angle = 2 * np.pi * number / 24
        center = 9 * np.array([np.cos(angle), np.sin(angle), 0.05])
        poses[f"{number:02d}.jpg"] = Rigid3.look_at(center, np.zeros(3), UP)
        faces_camera = (normals * (center - points)).sum(axis=1) > 1.0
        rows[f"{number:02d}.jpg"] = np.flatnonzero(faces_camera & (rng.random(len(points)) < detected))
    return model_of(poses, points, rows)


def rooms(detected: float = 0.8) -> pycolmap.Reconstruction:
    """Rooms one behind the other, all seen in the same direction: each wall hides the rooms behind it."""
    rng = np.random.default_rng(2)
    walls = [rng.uniform(-1, 1, (250, 3)) * [4, 0.3, 2] + [0, 6.0 * room, 0] for room in range(3)]
    poses, rows = {}, {}
    for room in range(3):
        for number in range(6):
            center = np.array([np.linspace(-1.5, 1.5, 6)[number], 6.0 * room - 4 + rng.normal(0, 0.2), 0.1 * number])
            name = f"{room}-{number}.jpg"
            poses[name] = Rigid3.look_at(center, center + np.array([0.1, 4, 0]), UP)
            rows[name] = 250 * room + np.flatnonzero(rng.random(250) < detected)
    return model_of(poses, np.concatenate(walls), rows)


def two_distances(detected: float = 0.8) -> pycolmap.Reconstruction:
    """A facade from far away and from near: each has points of its own scale, and few in common."""
    rng = np.random.default_rng(3)
    coarse, fine = (rng.uniform(-1, 1, (count, 3)) * [6, 0.3, 4] for count in (400, 3000))
    points = np.concatenate([coarse, fine])
    poses, rows = {}, {}
    for number in range(8):
        for name, distance, own in (("far", 24.0, 0), ("near", 6.0, 1)):
            center = np.array([np.linspace(-3, 3, 8)[number], -distance, 0.2 * number])
            poses[f"{name}-{number}.jpg"] = Rigid3.look_at(center, center * [0.9, 0, 0], UP)
            is_own = (np.arange(len(points)) >= len(coarse)) if own else (np.arange(len(points)) < len(coarse))
            is_shared = rng.random(len(points)) < 0.02
            rows[f"{name}-{number}.jpg"] = np.flatnonzero((is_own | is_shared) & (rng.random(len(points)) < detected))
    return model_of(poses, points, rows)


def plane(detected: float = 0.7) -> pycolmap.Reconstruction:
    """A field seen from above in a grid, with wide baselines."""
    rng = np.random.default_rng(4)
    points = rng.uniform(-8, 8, (900, 3)) * [1, 1, 0]
    poses, rows = {}, {}
    for number in range(16):
        center = np.array([1.8 * (number % 4) - 2.7, 1.8 * (number // 4) - 2.7, 8.0])
        poses[f"{number:02d}.jpg"] = Rigid3.look_at(center, center * [1, 1, 0], np.array([0.0, 1, 0]))
        rows[f"{number:02d}.jpg"] = np.flatnonzero(rng.random(len(points)) < detected)
    return model_of(poses, points, rows)


def ahead(detected: float = 0.8) -> pycolmap.Reconstruction:
    """A motion straight ahead between two walls; points are seen from at most 15 units."""
    rng = np.random.default_rng(5)
    points = rng.uniform(0, 1, (2400, 3)) * [0.2, 60, 3] + [-2, 0, -1.5]
    points[::2, 0] += 3.8
    poses, rows = {}, {}
    for number in range(20):
        center = np.array([0.1 * np.sin(number), 2.0 * number, 0])
        poses[f"{number:02d}.jpg"] = Rigid3.look_at(center, center + np.array([0, 10, 0]), UP)
        is_near = np.abs(points[:, 1] - center[1] - 9) < 6
        rows[f"{number:02d}.jpg"] = np.flatnonzero(is_near & (rng.random(len(points)) < detected))
    return model_of(poses, points, rows)


def fence(detected: float = 0.8) -> pycolmap.Reconstruction:
    """Thin bars before a wall: both are seen."""
    rng = np.random.default_rng(6)
    wall = rng.uniform(-1, 1, (500, 3)) * [6, 0.1, 3]
    bars = rng.uniform(-1, 1, (300, 3)) * [6, 0.05, 1] + [0, -3, -1]
    points = np.concatenate([wall, bars])
    poses, rows = {}, {}
    for number in range(14):
        center = np.array([np.linspace(-5, 5, 14)[number], -9, 0.1])
        poses[f"{number:02d}.jpg"] = Rigid3.look_at(center, center * [0.9, 0, 0], UP)
        rows[f"{number:02d}.jpg"] = np.flatnonzero(rng.random(len(points)) < detected)
    return model_of(poses, points, rows)


def fading(length: float, jump: float, seed: int) -> pycolmap.Reconstruction:
    """A wall in changing light: points come and go, so images have the fewer in common the farther apart they are.

    Args:
        length: number of images after which most points have changed.
        jump: so many images lie between each two of the four in the middle.
        seed: of the points.
    """
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (600, 3)) * [6, 0.3, 3]
    is_on = rng.random(len(points)) < 0.6
    poses, rows = {}, {}
    for number in range(24):
        stays = np.exp(-(jump if 10 <= number < 14 else 1.0) / length)
        is_on = np.where(rng.random(len(points)) < stays, is_on, rng.random(len(points)) < 0.6)
        center = np.array([0.1 * number - 1.2, -8, 0])
        poses[f"{number:02d}.jpg"] = Rigid3.look_at(center, center * [0.9, 0, 0], UP)
        rows[f"{number:02d}.jpg"] = np.flatnonzero(is_on & (rng.random(len(points)) < 0.9))
    return model_of(poses, points, rows)


@pytest.mark.parametrize(
    "build",
    [
        lambda: box((200, 200, 200, 200)),
        lambda: box((300, 20, 300, 20)),
        lambda: box((200, 200, 200, 200), 0.45),
        rooms,
        two_distances,
        plane,
        lambda: plane(0.4),
        ahead,
        fence,
        lambda: fence(0.5),
        lambda: fading(14, 3, 1),
        lambda: fading(30, 10, 2),
    ],
)
def test_right_models_are_no_folds(build: Callable[[], pycolmap.Reconstruction]) -> None:
    check = check_fold(build())
    assert np.isfinite(check.evidence).any()  # there are images whose points can be compared
    assert check.conflict <= LIMIT / 2


def test_rooms_in_one_place_are_a_fold() -> None:
    """The same rooms without the distance between them: nothing hides them from each other."""
    model = rooms()
    for image_id in model.reg_image_ids():
        image = model.images[image_id]
        room = int(image.name[0])
        pose = image.cam_from_world() * pycolmap.Rigid3d(pycolmap.Rotation3d(), [0, 6.0 * room, 0])
        image.frame.set_cam_from_world(image.camera_id, pose)
        for element in image.get_observation_points2D():
            point = model.points3D[element.point3D_id]
            point.xyz = point.xyz * [1, 0, 1] + [0, (point.xyz[1] + 3) % 6 - 3, 0]
    assert check_fold(model).conflict > 2 * LIMIT


def test_a_loop_whose_ends_were_not_matched_is_no_fold() -> None:
    """The second round has points of its own at the same places: its pairs with the first one were not tried."""
    rng = np.random.default_rng(7)
    wall = rng.uniform(-1, 1, (400, 3)) * [6, 0.3, 3]
    points = np.concatenate([wall, wall])
    poses, rows = {}, {}
    for lap in range(2):
        for number in range(10):
            center = np.array([np.linspace(-4, 4, 10)[number], -8 + 0.2 * lap, 0])
            name = f"{lap}-{number}.jpg"
            poses[name] = Rigid3.look_at(center, center * [0.9, 0, 0], UP)
            rows[name] = 400 * lap + np.flatnonzero(rng.random(400) < 0.8)
    model = model_of(poses, points, rows)
    names = sorted(poses)
    tried = [ImagePair(first, second) for i, first in enumerate(names) for second in names[i + 1 : i + 4]]
    assert check_fold(model).conflict > LIMIT  # had all pairs been tried
    assert check_fold(model, tried).conflict == 0
