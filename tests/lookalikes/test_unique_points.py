"""Folds whose places have most points in common: the unique points of each place fill whole parts of its images."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.lookalikes.missing_points import shared_points
from sfm_lightglue.lookalikes.model_check import check_fold
from sfm_lightglue.lookalikes.sparse_model import SparseModel
from sfm_lightglue.mapping.checks_config import ChecksConfig
from tests.helpers.exact_scenes import UP
from tests.helpers.folded_models import model_of

LIMIT = ChecksConfig().max_conflict
NUM_IMAGES = 8


def cameras(prefix: str, shift: float = 0.0) -> dict[str, Rigid3]:
    """A walk along a wall at a distance of 9."""
    centers = [np.array([shift + x, -9.0, 0.2]) for x in np.linspace(-2.5, 2.5, NUM_IMAGES)]
    return {f"{prefix}-{i}.jpg": Rigid3.look_at(each, each * [1, 0, 0], UP) for i, each in enumerate(centers)}


def cloud(rng: np.random.Generator, count: int, low: tuple[float, ...], high: tuple[float, ...]) -> np.ndarray:
    return rng.uniform(low, high, (count, 3))


def twin_rooms(
    is_folded: bool, num_own: int, detected: float = 0.8, detected_in_first: float = 0.8
) -> pycolmap.Reconstruction:
    """Two places with equal walls, with parts of its own on both sides of each."""
    rng = np.random.default_rng(4)
    wall = cloud(rng, 700, (-2.5, -0.3, -3), (2.5, 0.3, 3))
    own = [cloud(rng, num_own, (2.6, -0.3, -3), (5.0, 0.3, 3)) for _ in range(2)]
    for each in own:
        each[::2, 0] *= -1
    step = np.array([0.0 if is_folded else 20.0, 0, 0])
    walls = [wall] if is_folded else [wall, wall + step]
    points = np.concatenate([*walls, own[0], own[1] + step])
    starts = np.cumsum([0, *(len(each) for each in (*walls, *own))])
    poses, rows = {}, {}
    for place in range(2):
        for name, pose in cameras(str(place), place * step[0]).items():
            parts = (0 if is_folded else place, len(walls) + place)
            seen = np.concatenate([np.arange(starts[part], starts[part + 1]) for part in parts])
            fraction = detected if place > 0 else detected_in_first
            poses[name], rows[name] = pose, seen[rng.random(len(seen)) < fraction]
    return model_of(poses, points, rows)


@pytest.mark.parametrize("num_own", [80, 120])
def test_places_that_differ_in_few_points_beside_them_are_a_fold(num_own: int) -> None:
    check = check_fold(twin_rooms(True, num_own))
    assert check.conflict > LIMIT
    assert {tuple(sorted({name[0] for name in group})) for group in check.groups} == {("0",), ("1",)}


def test_places_whose_images_have_different_numbers_of_points_are_a_fold() -> None:
    """Then much is missing anyway in one direction."""
    assert check_fold(twin_rooms(True, 80, 0.9, 0.4)).conflict > LIMIT


@pytest.mark.parametrize("detected", [0.5, 0.8, 0.95])
def test_right_rooms_are_no_fold(detected: float) -> None:
    assert check_fold(twin_rooms(False, 120, detected)).conflict == 0


def test_points_that_are_not_detected_are_not_alone() -> None:
    counts = shared_points(SparseModel.from_model(twin_rooms(False, 120, 0.6)))
    assert counts.num_missing.sum() > 1000
    assert counts.num_alone.sum() < 0.01 * counts.num_missing.sum()


def before_wall(things: dict[str, tuple[float, range]], detected: float = 0.8) -> pycolmap.Reconstruction:
    """A wall, and things that stand before it in some of the images; each hides what is behind it.

    Args:
        things: by name, the place of its middle and the numbers of the images in which it stands there.
        detected: fraction of the points that an image observes.
    """
    rng = np.random.default_rng(6)
    wall = cloud(rng, 900, (-5, -0.3, -3), (5, 0.3, 3))
    parts, starts = [wall], [0]
    for x, _ in things.values():
        starts.append(sum(len(each) for each in parts))
        parts.append(cloud(rng, 90, (x - 0.6, -3.1, -2), (x + 0.6, -2.9, 1)))
    poses, rows = {}, {}
    for number, (name, pose) in enumerate(cameras("a").items()):
        rays = wall - pose.center
        at_things = pose.center[0] + rays[:, 0] * 6 / rays[:, 1]
        is_hidden, seen = np.zeros(len(wall), np.bool_), []
        for start, (x, numbers) in zip(starts[1:], things.values(), strict=True):
            if number in numbers:
                is_hidden |= (np.abs(at_things - x) < 0.6) & (wall[:, 2] < 2)
                seen.append(np.arange(start, start + 90))
        seen.append(np.flatnonzero(~is_hidden))
        flat = np.concatenate(seen)
        poses[name], rows[name] = pose, flat[rng.random(len(flat)) < detected]
    return model_of(poses, np.concatenate(parts), rows)


@pytest.mark.parametrize(
    "things",
    [
        {"person": (0.5, range(0, 4))},
        {"first": (-1.0, range(0, 4)), "second": (1.0, range(4, 8))},
        {"first": (-1.0, range(0, 3)), "second": (0.2, range(3, 6)), "third": (1.4, range(5, 8))},
    ],
)
def test_things_that_stand_for_some_images_make_no_fold(things: dict[str, tuple[float, range]]) -> None:
    assert check_fold(before_wall(things)).conflict == 0
