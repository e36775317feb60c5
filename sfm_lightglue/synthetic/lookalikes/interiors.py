"""Interiors that look alike: shelves with equal boxes, a corridor, a symmetric object on a table, two equal rooms."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.facades import Opening, Placed, paint_opening, paint_wall
from sfm_lightglue.synthetic.lookalikes.layout import Layout, Request, aimed, ring, there_and_back
from sfm_lightglue.synthetic.lookalikes.things import (
    STONE,
    board,
    crate,
    distinct_material,
    fixed,
    painted_alike,
    poster_image,
    random_color,
)
from sfm_lightglue.synthetic.rays import Shape
from sfm_lightglue.synthetic.shapes import Cylinder
from sfm_lightglue.synthetic.solids import Solid, box, painted
from sfm_lightglue.synthetic.textures import Material

_CONCRETE = Material((142, 140, 136), ((112, 110, 106), (168, 166, 160), (120, 96, 80)), 0, 6, 1.5, 6, 0, 16)
_PARQUET = Material((150, 122, 92), ((120, 92, 66), (176, 148, 116)), 10, 0, 0, 14, 0, 14)
_PLAIN = Material((200, 198, 190), ((172, 170, 162), (218, 216, 210)), 0, 2.0, 0.8, 3.0, 0, 10)
_STEEL = Material((70, 90, 130), ((50, 64, 96), (110, 130, 170)), 0, 0, 0, 4, 0, 8)


def shelves(request: Request) -> Layout:
    """A shelf whose bays all hold the same boxes, on a floor with marks and before a wall with a frieze."""
    rng, texels = request.rng, request.texels_per_m
    bay, count, levels = 1.8, 5, 3
    looks = [distinct_material(rng) for _ in range(4)]
    widths, seed = rng.uniform(0.18, 0.26, 4), int(rng.integers(1 << 30))
    solids: list[Solid] = []
    for idx in range(count):
        equal = np.random.default_rng(seed)
        for level in range(levels):
            z = 0.15 + 0.75 * level
            middle = (idx + 0.5) * bay
            solids.append(painted_alike(box((middle, 0, z), (bay / 2, 0.3, 0.03)), _STEEL, texels, equal))
            for place in range(3):
                width = float(widths[(place + level) % 4])
                height, back = float(equal.uniform(0.14, 0.26)), float(equal.uniform(0, 0.12))
                thing = box((middle + 0.55 * (place - 1), back, z + 0.03 + height), (width, 0.2, height))
                solids.append(painted_alike(thing, looks[(place + level) % 4], texels, equal))
    for idx in range(count + 1):
        solids.append(painted(box((idx * bay, 0, 1.2), (0.04, 0.32, 1.2)), _STEEL, texels, (0, 1, 2)))
    length = count * bay
    frieze = Material((176, 168, 150), ((120, 110, 96), (204, 196, 180), (150, 90, 70)), 0, 2, 3, 5, 0.8, 18)
    solids.append(painted(box((length / 2, 0.45, 2.0), (length / 2 + 3, 0.1, 2.0)), frieze, texels * 0.6, (2,)))
    solids.append(painted(box((length / 2, -2, -0.2), (length / 2 + 3, 4, 0.2)), _CONCRETE, texels * 0.5, (5,)))
    if request.difference:
        for x, z in ((0.7 * bay, 0.0), (2.6 * bay, 2.41), (3.8 * bay, 0.0)):
            solids.append(crate(x, -0.5 if z == 0 else 0.0, 0.14, texels, rng, z))
        label = poster_image((0.3, 0.2), texels, rng)
        solids.append(board(1.5 * bay, -0.34, 0.9, (0.15, 0.1), 0, label, 0.01))
    number = request.count(20, 14)
    number = round(0.68 * number) if request.revisit else number
    places = there_and_back(np.linspace(0.3, length - 0.5, number).tolist(), request.revisit)
    return Layout(solids, [aimed((x, -2.5, 1.5), (x + 0.2, 0, 1.25), rng, 0.05) for x in places])


def corridor(request: Request) -> Layout:
    """A corridor with equal doors on both sides and different things at its ends."""
    rng, texels = request.rng, request.texels_per_m
    pitch, count, half_width, height = 2.6, 5, 1.7, 2.7
    length, wood = pitch * count, random_color(rng, 60, 170)
    leaf = Opening((1.1, 2.15), 0.1, 0.08, (2, 3), STONE, wood, random_color(rng, 60, 190), sill=False)
    door = paint_opening(leaf, texels, rng)
    notice = poster_image((0.45, 0.6), texels, rng)
    wainscot = Material((186, 176, 150), ((150, 140, 116), (206, 198, 176)), 0, 0.8, 0.3, 1.5, 0, 12)
    solids: list[Solid] = []
    for side, yaw in ((1.0, 0.0), (-1.0, 180.0)):
        placed = []
        for idx in range(count):
            left = idx * pitch + 0.6
            placed += [Placed(door, (left, height - 2.15)), Placed(notice, (left + 1.35, 0.8))]
        face = paint_wall(wainscot, (length, height), texels, placed, rng)
        wall = box((length / 2, side * (half_width + 0.1), height / 2), (length / 2, 0.1, height / 2), yaw)
        solids.append(Solid(wall, {2: fixed(face)}))
    for x, patch in ((-0.1, 1), (length + 0.1, 0)):
        end = box((x, 0, height / 2), (0.1, half_width, height / 2))
        solids.append(painted(end, distinct_material(rng), texels, (patch,)))
    solids.append(painted(box((length / 2, 0, -0.1), (length / 2, half_width, 0.1)), _PARQUET, texels * 0.5, (5,)))
    ceiling = box((length / 2, 0, height + 0.1), (length / 2, half_width, 0.1))
    solids.append(painted(ceiling, _PLAIN, texels * 0.3, (4,)))
    if request.difference:
        for idx in (0, 2, 3):
            solids.append(crate((idx + 0.93) * pitch, half_width - 0.25, 0.18, texels, rng))
        poster = poster_image((0.5, 0.7), texels, rng)
        solids.append(board(3.3 * pitch, half_width - 0.02, 1.5, (0.25, 0.35), 0, poster, 0.02))
    number = request.count(20, 15)
    number = round(0.68 * number) if request.revisit else number
    places = there_and_back(np.linspace(0.4, length - 1.8, number).tolist(), request.revisit)
    return Layout(solids, [aimed((x, -1.2, 1.55), (x + 1.3, half_width, 1.3), rng, 0.06) for x in places])


def table(request: Request) -> Layout:
    """An object with equal opposite sides on a table in a room of different walls, walked around."""
    rng, texels = request.rng, request.texels_per_m
    looks = [distinct_material(rng) for _ in range(3)]
    seed = int(rng.integers(1 << 30))
    equal = np.random.default_rng(seed)
    solids = [
        _two_fold(box((0, 0, 0.93), (0.24, 0.16, 0.18)), looks[0], texels, equal),
        _two_fold(box((0, 0, 1.17), (0.14, 0.11, 0.06)), looks[1], texels, equal),
    ]
    can = Cylinder(Rigid3(np.eye(3), np.array([0, 0, 1.33])), 0.08, 0.1)
    width, tall = can.patch_sizes_m[0]
    half = poster_image((width / 2, tall), texels, rng)
    solids.append(Solid(can, {0: fixed(np.tile(half, (1, 2, 1)))}))
    top = Material((168, 140, 108), ((150, 122, 92), (182, 156, 124)), 0, 0, 0, 6, 0, 9)
    solids.append(painted(box((0, 0, 0.72), (0.7, 0.55, 0.03)), top, texels * 0.5))
    solids.append(painted(box((0, 0, -0.1), (4, 4, 0.1)), _PARQUET, texels * 0.15, (5,)))
    for side in range(4):
        yaw = np.radians(90 * side)
        x, y = 3.2 * np.sin(yaw), -3.2 * np.cos(yaw)
        wall = box((x, y, 1.3), (3.2, 0.1, 1.3), 90 * side + 180)
        solids.append(painted(wall, distinct_material(rng), texels * 0.2, (2, 3)))
    if request.difference:
        solids.append(crate(0.45, 0.25, 0.05, texels, rng, 0.75))
        cup = Cylinder(Rigid3(np.eye(3), np.array([-0.42, -0.3, 0.8])), 0.04, 0.05)
        solids.append(painted(cup, distinct_material(rng), texels))
    turn = 500.0 if request.revisit else 360.0
    poses = ring(
        request.count(25 if request.revisit else 22, 24 if request.revisit else 16), 1.15, 1.4, 1.02, turn, rng
    )
    return Layout(solids, poses)


def _two_fold(shape: Shape, look: Material, texels_per_m: float, rng: np.random.Generator) -> Solid:
    """A box whose opposite sides are equal."""
    solid = painted_alike(shape, look, texels_per_m, rng)
    painters = dict(solid.painters)
    painters[1], painters[3] = painters[0], painters[2]
    return Solid(solid.shape, painters)


def rooms(request: Request) -> Layout:
    """Two equal rooms. If dense, the camera goes from one to the other through a wide opening; else none shows both."""
    rng, texels = request.rng, request.texels_per_m
    width, depth, height = 4.6, 4.0, 2.6
    posters = [poster_image((0.7, 0.9), texels, rng) for _ in range(3)]
    look, seed = distinct_material(rng), int(rng.integers(1 << 30))
    solids: list[Solid] = []
    for left in (0.0, width):
        equal = np.random.default_rng(seed)
        placed = [Placed(image, (0.5 + 1.35 * idx, 0.5)) for idx, image in enumerate(posters)]
        face = paint_wall(_PLAIN, (width, height), texels, placed, equal)
        north = box((left + width / 2, depth + 0.1, height / 2), (width / 2, 0.1, height / 2))
        solids.append(Solid(north, {2: fixed(face)}))
        for x in (1.0, 2.6):
            cabinet = box((left + x, depth - 0.25, 0.4), (0.5, 0.25, 0.4))
            solids.append(painted_alike(cabinet, look, texels, equal))
        floor = box((left + width / 2, depth / 2, -0.1), (width / 2, depth / 2, 0.1))
        solids.append(painted(floor, _PARQUET, texels * 0.5, (5,)))
        thing = crate(left + rng.uniform(0.5, 4), depth - 1.0, 0.12, texels, rng)
        solids += [thing] if request.difference else []
    for x, patch in ((-0.1, 1), (2 * width + 0.1, 0)):
        outer = box((x, depth / 2, height / 2), (0.1, depth / 2, height / 2))
        solids.append(painted(outer, distinct_material(rng), texels, (patch,)))
    jamb = box((width, depth - 0.3, height / 2), (0.08, 0.3, height / 2))
    solids.append(painted(jamb, distinct_material(rng), texels, (0, 1, 2)))
    ceiling = box((width, depth / 2, height + 0.1), (width, depth / 2, 0.1))
    solids.append(painted(ceiling, _PLAIN, texels * 0.3, (4,)))
    return Layout(solids, _through_rooms(request, width, depth))


def _through_rooms(request: Request, width: float, depth: float) -> list[Rigid3]:
    rng = request.rng
    if request.dense:
        number = 14 if request.revisit else 20
        places = there_and_back(np.linspace(0.8, 2 * width - 0.8, number).tolist(), request.revisit)
        return [aimed((x, 0.6, 1.5), (x + 0.2, depth, 1.2), rng, 0.06) for x in places]
    poses = []
    for left in (0.0, width):
        for x in np.linspace(1.3, width - 1.5, 8):
            poses.append(aimed((left + x, 1.2, 1.5), (left + 0.3 * x + 0.7 * width / 2, depth, 1.2), rng, 0.06))
    return poses
