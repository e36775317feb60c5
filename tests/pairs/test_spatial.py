"""Neighbours by position: distance, number, altitude, direction, views of the ground, and images without position."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.pair_sets import AllPairs, IndexedPairs
from sfm_lightglue.pairs.spatial import SpatialConfig, SpatialPairs
from sfm_lightglue.types import Camera, ImagePair, Scene, SceneImage

CAMERA = Camera("SIMPLE_PINHOLE", 60, 80, (100, 30, 40))


def scene_of(positions: Sequence[tuple[float, float, float] | None], **details: object) -> Scene:
    images = (
        SceneImage(f"{i:04d}.jpg", Path(), CAMERA, 0, "", xyz_m=position, **details)  # type: ignore[arg-type]
        for i, position in enumerate(positions)
    )
    return Scene(Path("photos"), tuple(images))


def select(scene: Scene, **options: float) -> IndexedPairs:
    return SpatialPairs(SpatialConfig(**options)).select(PairContext(scene))  # type: ignore[arg-type]


def rows(pairs: IndexedPairs) -> set[tuple[int, int]]:
    return {(i, j) for i, j in pairs.rows.tolist()}


def grid(side: int, step_m: float = 10.0) -> list[tuple[float, float, float] | None]:
    return [(step_m * x, step_m * y, 0.0) for x in range(side) for y in range(side)]


def test_each_image_is_paired_with_the_nearest_ones() -> None:
    positions = np.random.default_rng(0).uniform(0, 100, (60, 3))
    pairs = select(scene_of([(x, y, z) for x, y, z in positions.tolist()]), num_neighbors=4)
    distances = np.linalg.norm(positions[:, None] - positions, axis=2)
    nearest = np.argsort(distances, axis=1)[:, 1:5]
    assert rows(pairs) == {(min(i, j), max(i, j)) for i in range(60) for j in nearest[i].tolist()}


def test_the_number_that_is_told_before_is_an_upper_bound() -> None:
    for num_neighbors in (1, 3, 100):
        scene, selector = scene_of([*grid(5), None]), SpatialPairs(SpatialConfig(num_neighbors))
        assert len(selector.select(PairContext(scene))) <= selector.num_pairs(scene) <= 25 * 24 // 2


def test_images_beyond_the_largest_distance_are_not_paired() -> None:
    pairs = select(scene_of(grid(6)), num_neighbors=30, max_distance_m=10.5)
    assert len(pairs) == 2 * 6 * 5  # the neighbours in rows and columns
    assert len(select(scene_of(grid(6)), num_neighbors=30)) > len(pairs)


def test_the_altitude_counts() -> None:
    scene = scene_of([(0, 0, 0), (3, 0, 50), (4, 0, 0), (7, 0, 50)])
    assert rows(select(scene, num_neighbors=1)) == {(0, 2), (1, 3)}


def test_the_date_line_separates_no_neighbours() -> None:
    longitudes = [179.9998, 179.9999, -179.9999, -179.9998, 179.0, -179.0]
    images = [
        dataclasses.replace(image, gps_position=(10.0, longitude, 0.0))
        for image, longitude in zip(scene_of([None] * 6).images, longitudes, strict=True)
    ]
    pairs = select(Scene(Path(), tuple(images)), num_neighbors=3, max_distance_m=100)
    assert rows(pairs) == {(i, j) for i in range(4) for j in range(i + 1, 4)}


def test_images_at_one_place_are_chained_by_their_names() -> None:
    """Any choice among equal distances could leave groups of images without a pair between them."""
    pairs = select(scene_of([(1.0, 2.0, 3.0)] * 300), num_neighbors=4)
    assert {(i, i + 1) for i in range(299)} <= rows(pairs)
    assert max(j - i for i, j in rows(pairs)) <= 4


def test_of_two_images_at_the_same_distance_the_one_that_looks_the_same_way_is_nearer() -> None:
    scene = scene_of([(0, 0, 0), (0.5, 0, 0), (1, 0, 0), (-40, 0, 0)])
    headings = [10.0, 190.0, 350.0, None]
    images = [dataclasses.replace(image, heading_deg=h) for image, h in zip(scene.images, headings, strict=True)]
    turned = Scene(scene.root, tuple(images))
    assert (0, 1) in rows(select(turned, num_neighbors=1, heading_m=0))
    assert (0, 2) in rows(select(turned, num_neighbors=1)) and (0, 1) not in rows(select(turned, num_neighbors=1))


def strip(gap_m: float) -> list[tuple[float, float, float] | None]:
    """Two groups of six images each, 2 m apart, 10 m up."""
    return [(2.0 * i + (gap_m - 2.0) * (i >= 6), 0.0, 10.0) for i in range(12)]


def test_views_of_the_ground_that_cannot_meet_are_no_pair(caplog: pytest.LogCaptureFixture) -> None:
    """From 10 m up, a camera with a half diagonal of 50 px and a focal length of 100 px sees 5 m far."""
    apart = rows(select(scene_of(strip(15.1), height_above_ground_m=10.0)))
    assert apart == {(i, j) for i in range(12) for j in range(i + 1, 12) if (i < 6) == (j < 6)}
    assert rows(select(scene_of(strip(14.9), height_above_ground_m=10.0))) == apart | {(5, 6)}
    assert len(select(scene_of(strip(15.1)))) == 12 * 11 // 2
    caplog.clear()
    select(scene_of(strip(2.0), height_above_ground_m=10.0))
    assert not caplog.text


def test_heights_above_a_hill_leave_the_four_nearest_images_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    scene = scene_of(grid(6), height_above_ground_m=0.5)
    assert rows(select(scene, num_neighbors=20)) == rows(select(scene_of(grid(6)), num_neighbors=4))
    assert "the views of the ground leave out 576 of 720 pairs of near images" in caplog.text
    assert len(select(scene, num_neighbors=20, max_distance_m=5)) == 0


def test_images_without_a_position_get_no_pair_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    pairs = select(scene_of([(0, 0, 0), None, (1, 0, 0), None]))
    assert list(pairs) == [ImagePair("0000.jpg", "0002.jpg")]
    assert "2 of 4 images have no position, so they get no pair by position: 0001.jpg, 0003.jpg" in caplog.text


@pytest.mark.parametrize("positions", [[None, None], [(0.0, 0.0, 0.0), None, None]])
def test_a_scene_with_fewer_than_two_positions_is_refused_early(positions: list[None]) -> None:
    scene = scene_of(positions)
    with pytest.raises(DataError, match=r"photos: \d of \d images have a position.* `positions`"):
        SpatialPairs().check(scene)
    with pytest.raises(DataError):
        select(scene)


@pytest.mark.parametrize("positions", [[], [None], [(0.0, 0.0, 0.0)]])
def test_fewer_than_two_images_have_no_pair(positions: list[None]) -> None:
    assert len(select(scene_of(positions))) == 0


def test_more_neighbours_than_images_are_all_pairs() -> None:
    scene = scene_of(grid(3))
    assert select(scene, num_neighbors=50) == AllPairs(scene.names)


@pytest.mark.parametrize("options", [{"num_neighbors": 0}, {"max_distance_m": -1.0}, {"heading_m": float("inf")}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"pairs.{next(iter(options))}"):
        SpatialConfig(**options)  # type: ignore[arg-type]
