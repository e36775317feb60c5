"""Pairs by overlapping fields of view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.pairs import frusta
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.frusta import FrustaConfig, FrustaPairs
from sfm_lightglue.scene.cameras import make_camera
from sfm_lightglue.types import Scene, SceneImage

CAMERA = make_camera("PINHOLE", (320, 240), (290, 290, 160, 120))
UP = np.array([0.0, 0, 1])


def scene_of(poses: list[Rigid3]) -> Scene:
    images = tuple(
        SceneImage(f"{idx:02d}.png", Path(f"{idx:02d}.png"), CAMERA, 0, "", cam_from_world=pose)
        for idx, pose in enumerate(poses)
    )
    return Scene(Path(), images)


def pairs_of(poses: list[Rigid3], **options) -> set[tuple[int, int]]:
    selector = FrustaPairs(FrustaConfig(**options))
    scene = scene_of(poses)
    found = list(selector.select(PairContext(scene)))
    assert found == sorted(set(found))
    assert len(found) <= selector.num_pairs(scene)
    return {(int(pair.name0[:2]), int(pair.name1[:2])) for pair in found}


def ring(num: int) -> list[Rigid3]:
    """Cameras around the origin, which they look at."""
    angles = np.arange(num) * 2 * np.pi / num
    centers = [5 * np.array([np.cos(angle), np.sin(angle), 0.2]) for angle in angles]
    return [Rigid3.look_at(center, np.zeros(3), UP) for center in centers]


def test_cameras_around_a_thing_match_those_from_similar_directions() -> None:
    found = pairs_of(ring(12), max_angle_deg=65)
    assert found == {(i, j) for i in range(12) for j in range(i + 1, 12) if min(j - i, 12 - j + i) <= 2}


def test_cameras_that_look_at_different_places_do_not_match() -> None:
    left = [Rigid3.look_at(np.array([x, 0.0, 0]), np.array([0.0, 5, 0]), UP) for x in (-1.0, 0, 1)]
    right = [Rigid3.look_at(np.array([x, 0.0, 0]), np.array([60.0, 5, 0]), UP) for x in (59.0, 60, 61)]
    assert pairs_of(left + right) == {(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)}


def test_cameras_in_a_row_match_their_neighbours() -> None:
    """Parallel axes never meet: the distance of the scene is taken from the extent of the cameras."""
    row = [Rigid3.look_at(np.array([x, 0.0, 0]), np.array([x, 5.0, 0]), UP) for x in np.arange(10.0)]
    found = pairs_of(row, num_neighbors=2)
    assert {(i, i + 1) for i in range(9)} <= found
    assert len(found) <= 20


def test_images_are_compared_with_cameras_near_them_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result of candidates is that of all images, and no image is compared with all others."""
    rows = [
        Rigid3.look_at(np.array([x, 3.0 * y, 0]), np.array([x, 3.0 * y, -5.0]), np.array([0.0, 1, 0]))
        for x in np.arange(30.0)
        for y in range(3)
    ]
    everything = pairs_of(rows, num_neighbors=6)
    num_compared = []
    original = frusta._visible
    monkeypatch.setattr(frusta, "_NUM_CANDIDATES", 24)
    monkeypatch.setattr(
        frusta, "_visible", lambda seen, limits: (num_compared.append(len(seen)), original(seen, limits))[1]
    )
    assert pairs_of(rows, num_neighbors=6) == everything
    assert len(num_compared) == len(rows)
    assert max(num_compared) == 24


def test_poses_are_needed() -> None:
    scene = Scene(Path(), (SceneImage("a.png", Path("a.png"), CAMERA, 0, ""),))
    with pytest.raises(ConfigError, match=r"`pairs\.name` frusta needs the poses of the images; give them by `poses`"):
        FrustaPairs().check(scene)
    assert not FrustaPairs().needs_features(scene)


@pytest.mark.parametrize("options", [{"num_neighbors": 0}, {"min_overlap": 1.5}, {"max_angle_deg": 0}])
def test_impossible_options_are_refused(options) -> None:
    with pytest.raises(ConfigError, match=r"`pairs\."):
        FrustaConfig(**options)
