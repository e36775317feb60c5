"""Images of one place of a fold have more rare points in common than images with such views usually have."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.lookalikes import rare_points
from sfm_lightglue.lookalikes.missing_points import shared_points
from sfm_lightglue.lookalikes.rare_points import places_by_rare_points
from sfm_lightglue.lookalikes.sparse_model import SparseModel
from tests.helpers.exact_scenes import UP
from tests.helpers.folded_models import model_of, street_model

MOST_COMMON = {"num_twins": 400, "num_own": 120}
"""Most points of the houses are common."""


def houses(num_houses: int, num_images: int) -> list[tuple[str, ...]]:
    return [tuple(f"{house}-{number}.jpg" for number in range(num_images)) for house in range(num_houses)]


@pytest.mark.parametrize(("num_houses", "num_images"), [(4, 4), (5, 3)])
def test_the_houses_of_a_folded_street_are_places(num_houses: int, num_images: int) -> None:
    model = street_model(True, num_houses, num_images, **MOST_COMMON)
    assert places_by_rare_points(model) == houses(num_houses, num_images)


def test_houses_without_own_points_are_no_places() -> None:
    assert places_by_rare_points(street_model(True, 4, 4, num_twins=400, num_own=0)) == []


def test_two_images_of_a_house_are_too_few_for_a_place() -> None:
    assert places_by_rare_points(street_model(True, 5, 2, **MOST_COMMON)) == []


@pytest.mark.parametrize("num_own", [120, 300])
@pytest.mark.parametrize("num_images", [4, 7])
def test_a_right_street_has_no_places(num_own: int, num_images: int) -> None:
    assert places_by_rare_points(street_model(False, 4, num_images, num_twins=400, num_own=num_own)) == []


@pytest.mark.parametrize("num_images", [12, 20])
def test_a_right_ring_around_an_object_has_no_places(num_images: int) -> None:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(600, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    poses, rows_from_name = {}, {}
    for number, angle in enumerate(np.linspace(0, 2 * np.pi, num_images, endpoint=False).tolist()):
        center = np.array([6 * np.sin(angle), -6 * np.cos(angle), 0.3])
        name = f"{number:02}.jpg"
        poses[name] = Rigid3.look_at(center, np.zeros(3), UP)
        is_seen = (points @ center > 1.0) & (rng.random(len(points)) < 0.8)
        rows_from_name[name] = np.flatnonzero(is_seen)
    assert places_by_rare_points(model_of(poses, points, rows_from_name)) == []


def test_an_image_with_rare_points_of_two_places_is_in_none() -> None:
    """In folded shelves, both ends have something in common that the bays between them lack."""
    rng, num_twins, num_own = np.random.default_rng(0), 400, 120
    points = rng.uniform(-0.5, 0.5, (num_twins + 4 * num_own, 3)) * np.array([10.0, 1.0, 6.0])
    poses, rows_from_name = {}, {}
    for house, number in product(range(4), range(4)):
        x, name = 2.0 * number - 3.0 + rng.normal(0, 0.1), f"{house}-{number}.jpg"
        poses[name] = Rigid3.look_at(np.array([x, -9.0, 0.2]), np.array([x + 0.3, 0, 0]), UP)
        of_both = [0, 3] if name == "3-2.jpg" else [house]
        own = [num_twins + one * num_own + np.arange(num_own) for one in of_both]
        rows = np.concatenate([np.arange(num_twins), *own])
        rows_from_name[name] = rows[rng.random(len(rows)) < 0.8]
    found = places_by_rare_points(model_of(poses, points, rows_from_name))
    assert found == [*houses(4, 4)[:3], ("3-0.jpg", "3-1.jpg", "3-3.jpg")]


def test_an_image_without_a_place_joins_the_only_one_with_which_it_stands_out() -> None:
    evidence = np.full((8, 8), -1.0)
    for rows in ([0, 1, 2], [3, 4, 5], [6, 7]):
        evidence[np.ix_(rows, rows)] = 1.0
    evidence[6, 3:6] = evidence[3:6, 6] = 0.8, np.nan, 0.4
    evidence[7, :6] = evidence[:6, 7] = 0.5
    assert rare_points._told_apart([[0, 1, 2], [3, 4, 5]], evidence) == [[0, 1, 2], [3, 4, 5, 6]]
    evidence[3, 6] = evidence[6, 3] = 0.2
    assert rare_points._told_apart([[0, 1, 2], [3, 4, 5]], evidence) == [[0, 1, 2], [3, 4, 5]], "hardly more than usual"
    evidence[3, 6] = evidence[6, 3] = 0.8
    evidence[4:6, 6] = evidence[6, 4:6] = np.nan
    assert rare_points._told_apart([[0, 1, 2], [3, 4, 5]], evidence) == [[0, 1, 2], [3, 4, 5]], "one pair is too few"


def test_the_weights_of_common_points_are_added() -> None:
    arrays = SparseModel.from_model(street_model(True, 2, 3))
    num_points = len(arrays.points)
    assert np.allclose(arrays.weighted_common(np.full(num_points, 2.0)), 2.0 * arrays.num_common() / arrays.step)
    one = np.zeros(num_points)
    one[arrays.point_rows[0]] = 3.0
    observers = arrays.image_rows[arrays.point_rows == arrays.point_rows[0]]
    assert arrays.weighted_common(one).sum() == pytest.approx(3.0 * len(observers) ** 2)


def test_each_point_has_the_images_with_and_without_it() -> None:
    arrays = SparseModel.from_model(street_model(True, 2, 4, **MOST_COMMON))
    counts = shared_points(arrays)
    assert counts.num_with.tolist() == np.bincount(arrays.point_rows, minlength=len(arrays.points)).tolist()
    assert (counts.num_with + counts.num_without).max() <= len(arrays.names)
    is_own = counts.num_with <= 4  # of one of both houses: the images of the other one lack it
    assert np.median(counts.num_without[is_own]) >= 3
