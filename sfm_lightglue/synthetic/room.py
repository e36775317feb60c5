"""A room with equal cabinets and posters on opposite walls, rendered from inside."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.synthetic.camera_paths import RingPath, ring_poses
from sfm_lightglue.synthetic.facades import Opening, Placed, grid_m, paint_opening, paint_wall
from sfm_lightglue.synthetic.render import SyntheticScene, check_size, exif_camera, render_world
from sfm_lightglue.synthetic.solids import Enclosure, Painter, Solid, box, painted, solid_world, with_exposure
from sfm_lightglue.synthetic.textures import Material, paint

_NEAREST_VIEW_M = 3.0
_HEIGHT_M = 2.9
_PATH = RingPath(24.0, 320.0, (0.35, 0.55), (1.3, 1.8), (-8.0, -2.0), 12.0)
_WALLPAPER = Material((206, 204, 196), ((180, 178, 168), (222, 220, 214)), 0, 2.0, 0.6, 2.0, 0, 8)
_FLOOR = Material((146, 118, 88), ((120, 92, 66), (172, 144, 112)), 8, 0, 0, 20, 0, 20)
_CEILING = Material((222, 222, 218), ((204, 204, 200), (232, 232, 230)), 0, 1.0, 0.4, 1.0, 0, 6)
_POSTER = Material((92, 124, 150), ((226, 206, 150), (40, 56, 82), (190, 86, 60)), 0, 10, 14, 8, 5, 20)
_BEECH = Material((186, 152, 108), ((160, 126, 86), (204, 172, 130)), 0, 0, 0, 6, 0, 12)
_PAINTING = Material((150, 130, 96), ((60, 70, 60), (200, 180, 140), (150, 60, 40)), 0, 60, 40, 30, 0, 40)


def render_room(
    num_images: int = 16,
    size: tuple[int, int] = (800, 600),
    seed: int = 0,
    progress: Progress = silent,
) -> SyntheticScene:
    """Render a room with equal cabinets and posters on all walls, from an irregular ring of cameras inside.

    Args:
        num_images: at least 2; neighbouring cameras differ by about 24 degrees up to 14 images, then by less.
        size: (width, height) in pixels, at least 64 each.
        seed: of furniture, sizes, camera path and exposure. The same seed gives the same bytes on one machine with
            one version of numpy and OpenCV.
        progress: called after every image, with stage "render".

    Raises:
        ValueError: if `num_images` or `size` is too small.
    """
    check_size("render_room", num_images, size)
    rng = np.random.default_rng([seed, 1 << 24])
    camera = exif_camera(size, int(rng.integers(24, 29)))
    texels_per_m = camera.params[0] / _NEAREST_VIEW_M
    walls = Enclosure(rng.uniform(7.5, 9.0), rng.uniform(6.0, 7.0))
    solids = _solids(walls, texels_per_m, seed, rng)
    poses = ring_poses(num_images, walls, _PATH, rng)
    scene = render_world(lambda executor: solid_world(solids, seed, executor), camera, poses, progress)
    return with_exposure(scene, seed)


def _solids(walls: Enclosure, texels_per_m: float, seed: int, rng: np.random.Generator) -> list[Solid]:
    """The walls first, then floor, ceiling, cabinets, tables and individual things."""
    poster = paint(_POSTER, (0.7, 1.0), texels_per_m, np.random.default_rng([seed, 1]))
    front = Opening((1.0, 1.1), 0.04, 0.05, (2, 3), _BEECH, (128, 96, 62), (178, 140, 96), sill=False)
    cabinet_front = paint_opening(front, texels_per_m, np.random.default_rng([seed, 2]))
    spacing = rng.uniform(1.5, 1.9)
    solids = []
    for side in range(4):
        length, yaw = walls.length(side), walls.yaw_deg(side)
        posters = [Placed(poster, (column - 0.35, 0.55)) for column in grid_m(length, spacing, 0.8).tolist()]
        wall = box(walls.place(side, 0, -0.1, _HEIGHT_M / 2), (length / 2, 0.1, _HEIGHT_M / 2), yaw)
        solids.append(Solid(wall, {2: _wall_painter(posters, texels_per_m)}))
    half = (walls.width / 2, walls.depth / 2, 0.1)
    solids.append(painted(box((0, 0, -0.1), half), _FLOOR, texels_per_m * 0.6, (5,)))
    solids.append(painted(box((0, 0, _HEIGHT_M + 0.1), half), _CEILING, texels_per_m * 0.4, (4,)))
    for side in range(4):
        solids += _cabinets(walls, side, cabinet_front, spacing, texels_per_m, rng)
    return solids + _things(walls, texels_per_m, rng)


def _wall_painter(placed: list[Placed], texels_per_m: float) -> Painter:
    return lambda size_m, rng: paint_wall(_WALLPAPER, size_m, texels_per_m, placed, rng)


def _cabinets(
    walls: Enclosure, side: int, front: UInt8Array, spacing_m: float, texels_per_m: float, rng: np.random.Generator
) -> list[Solid]:
    """Equal cabinets under the posters of a wall; one of them is missing."""
    length, yaw = walls.length(side), walls.yaw_deg(side)
    columns = (grid_m(length, spacing_m, 0.8) - length / 2).tolist()
    missing = int(rng.integers(len(columns)))
    solids = []
    for idx, column in enumerate(columns):
        if idx != missing:
            cabinet = box(walls.place(side, column, 0.22, 0.55), (0.5, 0.2, 0.55), yaw)
            sides = painted(cabinet, _BEECH, texels_per_m, (0, 1, 5)).painters
            solids.append(Solid(cabinet, {**sides, 2: lambda size_m, rng: front}))
    return solids


def _things(walls: Enclosure, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """Two equal tables, and things that occur once: boxes on the floor and on cabinets, and a painting."""
    solids = []
    for x in (-0.9, 0.9):
        table = box((x + rng.uniform(-0.2, 0.2), rng.uniform(-0.3, 0.3), 0.7), (0.6, 0.4, 0.03), rng.uniform(-10, 10))
        solids.append(painted(table, _BEECH, texels_per_m, (0, 1, 2, 3, 5)))
    for side in range(4):
        for _ in range(rng.integers(1, 3)):
            along = rng.uniform(-0.4, 0.4) * walls.length(side)
            half = (rng.uniform(0.12, 0.3), 0.14, rng.uniform(0.1, 0.3))
            thing = box(walls.place(side, along, 0.25, 1.1 + half[2]), half, walls.yaw_deg(side) + rng.uniform(-20, 20))
            solids.append(painted(thing, _PAINTING, texels_per_m, (0, 1, 2, 5)))
    side = int(rng.integers(4))
    canvas = box(walls.place(side, rng.uniform(-1, 1), 0.03, 1.95), (0.6, 0.03, 0.4), walls.yaw_deg(side))
    solids.append(painted(canvas, _PAINTING, texels_per_m, (2,)))
    return solids
