"""Scenes with repeated structure: exact truth, equal windows, and the same bytes from the same seed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.geometry.transforms import rotation_angle_deg
from sfm_lightglue.images.image import Image
from sfm_lightglue.synthetic import (
    SyntheticScene,
    corresponding_points,
    courtyard,
    render_courtyard,
    render_room,
    render_street,
    street,
    write_scene,
)
from sfm_lightglue.synthetic.facades import Opening, Placed, grid_m, paint_opening, paint_wall
from sfm_lightglue.synthetic.solids import Enclosure, Solid, solid_world
from sfm_lightglue.synthetic.textures import Material

SIZE = (200, 150)
RENDERERS = (render_courtyard, render_street, render_room)
Renderer = Callable[..., SyntheticScene]


@pytest.fixture(scope="module", params=RENDERERS, ids=lambda renderer: renderer.__name__)
def scene(request: pytest.FixtureRequest) -> SyntheticScene:
    return request.param(6, SIZE, seed=3)


def test_correspondences_obey_the_epipolar_geometry_and_have_one_colour(scene: SyntheticScene) -> None:
    name0, name1 = scene.names[:2]
    pixels0, pixels1 = corresponding_points(scene, name0, name1, step=2)
    assert len(pixels0) > 1000, "neighbouring views do not overlap"
    K_inv = np.linalg.inv(scene.K)
    poses = scene.cam_from_world_from_name
    F = K_inv.T @ essential_from_pose(poses[name1] @ poses[name0].inverse()) @ K_inv
    assert np.sqrt(squared_sampson_errors(F, pixels0, pixels1)).max() < 2e-3

    def smooth(name: str) -> np.ndarray:
        return cv2.GaussianBlur(scene.images[name].astype(np.float32), (0, 0), 1.5)

    def colors(name: str, pixels: np.ndarray) -> np.ndarray:
        x, y = (pixels - 0.5).astype(np.float32).T
        return cv2.remap(smooth(name), x[None], y[None], cv2.INTER_LINEAR)[0].mean(1)

    same = np.corrcoef(colors(name0, pixels0), colors(name1, pixels1))[0, 1]
    shifted = np.corrcoef(colors(name0, pixels0), colors(name1, pixels1 + np.array([8.0, 0.0])))[0, 1]
    assert same > 0.9, "exposure may differ, what is seen may not"
    assert shifted < same - 0.1


def test_every_view_shows_surface_at_finite_depth(scene: SyntheticScene) -> None:
    for name in scene.names:
        depth = scene.depths[name]
        assert np.isfinite(depth).all()
        assert (depth > 0).mean() > 0.6
        assert depth[depth > 0].min() > 0.3, "a camera stands in or at a thing"


def test_images_are_written_with_exact_focal_length(scene: SyntheticScene, tmp_path: Path) -> None:
    write_scene(scene, tmp_path)
    exif = Image.read(tmp_path / "images" / scene.names[0]).exif
    assert exif.focal_length_px == pytest.approx(scene.camera.params[0], rel=1e-9)


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda renderer: renderer.__name__)
def test_same_seed_same_bytes(renderer: Renderer) -> None:
    def rendered(seed: int) -> list[bytes]:
        scene = renderer(2, (96, 72), seed)
        return [array.tobytes() for view in (scene.images, scene.depths) for array in view.values()]

    first = rendered(1)
    assert rendered(1) == first
    assert all(a != b for a, b in zip(rendered(2), first, strict=True))


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda renderer: renderer.__name__)
def test_limits(renderer: Renderer) -> None:
    with pytest.raises(ValueError, match="2 images"):
        renderer(1)
    with pytest.raises(ValueError, match="64"):
        renderer(2, (63, 200))


@pytest.mark.parametrize("seed", range(4))
def test_neighbouring_cameras_of_a_courtyard_have_wide_baselines(seed: int) -> None:
    poses = list(render_courtyard(10, (64, 64), seed).cam_from_world_from_name.values())
    steps = [rotation_angle_deg(b.R @ a.R.T) for a, b in pairwise(poses)]
    assert 14 < np.median(steps) < 35
    distances = [float(np.linalg.norm(b.center - a.center)) for a, b in pairwise(poses)]
    assert min(distances) > 0.5
    assert rotation_angle_deg(poses[-1].R @ poses[0].R.T) > 90, "opposite walls are not both seen"


def painted_fronts(solids: list[Solid], num: int) -> list[UInt8Array]:
    """The textures of face 2 of the first solids, without lighting."""
    shapes = [solid.shape for solid in solids[:num]]
    return [
        solid.painters[2](shape.patch_sizes_m[2], np.random.default_rng(idx))
        for idx, (solid, shape) in enumerate(zip(solids, shapes, strict=False))
    ]


def num_places(wall: UInt8Array, patch: UInt8Array) -> int:
    """Number of places at which a wall contains exactly these texels."""
    scores = cv2.matchTemplate(wall, patch, cv2.TM_SQDIFF)
    places = np.argwhere(scores < 1.0 + 1e-6 * patch.size * 255**2)
    height, width = patch.shape[:2]
    return sum(np.array_equal(wall[y : y + height, x : x + width], patch) for y, x in places)


def test_all_walls_of_a_courtyard_have_the_same_windows() -> None:
    rng = np.random.default_rng(0)
    plan = courtyard._plan(rng)
    window, *_ = openings = courtyard._paint_openings(plan, 40.0, np.random.default_rng(5))
    walls = painted_fronts(courtyard._solids(plan, 40.0, np.random.default_rng(5)), 4)
    for wall in walls:
        assert sum(num_places(wall, opening) for opening in openings[:2]) >= 9
        assert num_places(wall, window) >= 3
    assert sum(num_places(wall, openings[2]) for wall in walls) == 3, "three walls have the same door"
    plasters = [wall[: round(0.1 * 40), :400] for wall in walls]
    assert not any(np.array_equal(plasters[0], other) for other in plasters[1:]), "the plaster is not individual"


def test_every_third_house_of_a_street_has_the_same_design() -> None:
    solids = street._solids(30.0, 40.0, 0, np.random.default_rng(0))
    houses = painted_fronts(solids, 7)
    for idx in range(4):
        twin = houses[idx + street.NUM_DESIGNS]
        assert houses[idx].shape == twin.shape
        assert np.abs(houses[idx].astype(int) - twin).mean() < 15
        assert not np.array_equal(houses[idx], twin), "the plaster is not individual"
    assert all(
        houses[0].shape != other.shape or np.abs(houses[0].astype(int) - other).mean() > 15 for other in houses[1:3]
    )


def test_copies_of_a_window_are_equal_and_cut_at_the_border() -> None:
    stone = Material((180, 170, 160), ((150, 140, 130),), contrast=10)
    window = paint_opening(
        Opening((1.2, 1.8), 0.15, 0.08, (2, 3), stone, (220, 220, 210), (50, 60, 70)),
        50,
        rng := np.random.default_rng(0),
    )
    placed = [Placed(window, corner) for corner in ((0.33, 0.4), (2.51, 0.4), (4.4, 1.1))]
    wall = paint_wall(Material((200, 190, 170), ((190, 180, 160),), contrast=8), (5.0, 2.5), 50, placed, rng)
    assert wall.shape == (125, 250, 3)
    assert num_places(wall, window) == 2, "the third window is cut off"


def test_grid_has_equal_spacing_and_margins() -> None:
    places = grid_m(20.0, 3.0, 1.6)
    assert np.allclose(np.diff(places), 3.0)
    assert places[0] >= 1.6
    assert places[0] == pytest.approx(20.0 - places[-1])


def test_places_of_an_enclosure_lie_before_their_wall() -> None:
    walls = Enclosure(10.0, 6.0)
    assert np.allclose(walls.place(0, 1.0, 0.5, 2.0), (-1.0, -2.5, 2.0))
    assert np.allclose(walls.place(1, 1.0, 0.5, 2.0), (4.5, -1.0, 2.0))
    assert np.allclose(walls.place(2, 1.0, 0.5, 2.0), (1.0, 2.5, 2.0))
    assert np.allclose(walls.place(3, 1.0, 0.5, 2.0), (-4.5, 1.0, 2.0))


def test_world_does_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    solids = courtyard._solids(courtyard._plan(rng), 15.0, rng)

    def levels(num_threads: int) -> list[bytes]:
        with ThreadPoolExecutor(num_threads) as executor:
            world = solid_world(solids, 1, executor)
        return [texture.levels[0].tobytes() for row in world.textures for texture in row]

    assert levels(1) == levels(3)


def test_a_longer_lens_leaves_fewer_common_views() -> None:
    """The layout and the poses stay; the focal length is the given one."""
    wide, narrow = (render_courtyard(6, (96, 72), seed=3, focal_35mm_mm=focal) for focal in (28, 60))
    assert narrow.camera.params[0] == pytest.approx(60 / 28 * wide.camera.params[0])
    assert all(
        np.allclose(narrow.cam_from_world_from_name[n].t, wide.cam_from_world_from_name[n].t) for n in wide.names
    )
    counts = [
        sum(len(corresponding_points(scene, *names, 2)[0]) for names in combinations(scene.names, 2))
        for scene in (wide, narrow)
    ]
    assert counts[1] < 0.6 * counts[0]
