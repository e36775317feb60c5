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
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import UP
from tests.helpers.folded_models import all_pairs, model_of, street_model

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


def before_wall(
    things: dict[str, tuple[float, range]],
    detected: float = 0.8,
    num_visits: int = 1,
    num_points: tuple[int, int] = (900, 90),
) -> pycolmap.Reconstruction:
    """A wall, and things that stand before it in some of the images; each hides what is behind it.

    Args:
        things: by name, the place of its middle and the numbers of the images in which it stands there.
        detected: fraction of the points that an image observes.
        num_visits: number of walks along the wall; numbers of images go on in the next one.
        num_points: of the wall and of each thing.
    """
    rng = np.random.default_rng(6)
    wall = cloud(rng, num_points[0], (-5, -0.3, -3), (5, 0.3, 3))
    parts, starts = [wall], [0]
    for x, _ in things.values():
        starts.append(sum(len(each) for each in parts))
        parts.append(cloud(rng, num_points[1], (x - 0.6, -3.1, -2), (x + 0.6, -2.9, 1)))
    poses, rows = {}, {}
    walks = [each for visit in range(num_visits) for each in cameras("ab"[visit], 0.1 * visit).items()]
    for number, (name, pose) in enumerate(walks):
        rays = wall - pose.center
        at_things = pose.center[0] + rays[:, 0] * 6 / rays[:, 1]
        is_hidden, seen = np.zeros(len(wall), np.bool_), []
        for start, (x, numbers) in zip(starts[1:], things.values(), strict=True):
            if number in numbers:
                is_hidden |= (np.abs(at_things - x) < 0.6) & (wall[:, 2] < 2)
                seen.append(np.arange(start, start + num_points[1]))
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


@pytest.mark.parametrize("num_points", [(1000, 10), (1000, 30), (2000, 30), (1000, 90), (2000, 90)])
@pytest.mark.parametrize("places", [((-1.0,), (1.0,)), ((-2.0, 1.0), (-0.5,)), ((-2.0, 1.0), (-0.5, 2.5))])
def test_things_that_stand_elsewhere_in_a_second_visit_make_no_fold(
    places: tuple[tuple[float, ...], ...], num_points: tuple[int, int]
) -> None:
    """Cars that parked before a wall: the wall around them is common."""
    things = {
        f"{visit}-{number}": (x, range(NUM_IMAGES * visit, NUM_IMAGES * (visit + 1)))
        for visit, own in enumerate(places)
        for number, x in enumerate(own)
    }
    assert check_fold(before_wall(things, num_visits=2, num_points=num_points)).conflict == 0


def test_things_that_stand_elsewhere_in_a_second_visit_are_told() -> None:
    """Points of two visits to one place are alone between common ones. So are those of shelves with equal boxes."""
    places = ((-2.0, 1.0), (-0.5, 2.5))
    things = {
        f"{visit}-{number}": (x, range(NUM_IMAGES * visit, NUM_IMAGES * (visit + 1)))
        for visit, own in enumerate(places)
        for number, x in enumerate(own)
    }
    model = before_wall(things, num_visits=2)
    found = check_fold(model)
    assert found.conflict == 0
    assert {name[0] for name in found.doubted} == {"a", "b"}
    trusted = [ImagePair("a-3.jpg", "b-3.jpg")]
    assert check_fold(model, trusted=trusted).doubted == ()


@pytest.mark.parametrize("model", [twin_rooms(False, 120, 0.6), before_wall({}, num_visits=2), street_model(False)])
def test_right_models_are_not_doubted(model: pycolmap.Reconstruction) -> None:
    assert check_fold(model).doubted == ()


@pytest.mark.parametrize("num_points", [200, 300, 600, 1000])
def test_few_points_are_not_alone_by_chance(num_points: int) -> None:
    model = before_wall({}, 0.5, num_points=(num_points, 0), num_visits=2)
    counts = shared_points(SparseModel.from_model(model))
    assert counts.num_alone.sum() < 0.005 * counts.num_missing.sum()
    assert check_fold(model).conflict == 0


def test_every_kth_point_is_not_alone_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfm_lightglue.lookalikes.sparse_model._MAX_POINTS_PER_IMAGE", 40)
    arrays = SparseModel.from_model(before_wall({}, 0.5, num_points=(2000, 0)))
    assert arrays.step > 1
    counts = shared_points(arrays)
    assert counts.num_alone.sum() < 0.005 * counts.num_missing.sum()


def test_the_angles_of_long_tracks_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SparseModel.from_model(twin_rooms(False, 80))
    before = shared_points(model)
    monkeypatch.setattr("sfm_lightglue.lookalikes.missing_points._MAX_COSINES", 100)
    np.testing.assert_array_equal(shared_points(model).alone, before.alone)


def test_places_that_the_user_joined_are_not_asked_for_alone_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfm_lightglue.lookalikes.model_check.alone_evidence", lambda *_: pytest.fail("asked"))
    model = street_model(True)
    assert check_fold(model).conflict > LIMIT
    trusted = all_pairs([image.name for image in model.images.values()])
    assert check_fold(model, trusted=trusted).conflict == 0


def test_probable_pairs_of_a_scene_with_twins_join_places_that_differ_a_little() -> None:
    model = twin_rooms(True, 40)
    pairs = all_pairs([image.name for image in model.images.values()])
    assert check_fold(model, has_twins=True).conflict > LIMIT
    assert check_fold(model, None, dict.fromkeys(pairs, 0.95), has_twins=True).conflict == 0
