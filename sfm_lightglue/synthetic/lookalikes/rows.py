"""Equal things in a row, walked along: pillars, parked cars, posters on a fence, and the floors of a tower block."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.lookalikes.layout import Layout, Request, aimed, there_and_back
from sfm_lightglue.synthetic.lookalikes.things import (
    GRASS,
    PAVING,
    STONE,
    board,
    car,
    crate,
    distinct_material,
    facade_image,
    fixed,
    ground,
    painted_alike,
    poster_image,
    random_color,
    tree,
)
from sfm_lightglue.synthetic.shapes import Cylinder, Sphere
from sfm_lightglue.synthetic.solids import Solid, box, painted
from sfm_lightglue.synthetic.textures import Material


def pillars(request: Request) -> Layout:
    """Equal statues, each a ball on a pillar on a pedestal, before a row of different houses."""
    rng, texels = request.rng, request.texels_per_m
    pitch, count = float(rng.uniform(3.2, 3.8)), 5
    look, seed = _statue_material(rng), int(rng.integers(1 << 30))
    solids: list[Solid] = []
    for idx in range(count):
        solids += _statue(idx * pitch, look, texels, seed)
    solids += _houses_behind(-8, count * pitch + 8, 15, texels * 0.5, rng)
    solids.append(ground((30, 25), GRASS, texels * 0.3, 2 * pitch))
    if request.difference:
        solids.append(crate(0.4 * pitch, -0.6, 0.3, texels, rng))
        solids += tree(1.5 * pitch, 1.5, texels, rng)
        plate = poster_image((0.5, 0.5), texels, rng)
        solids.append(board(3 * pitch, -0.83, 0.5, (0.25, 0.25), 0, plate))
    return Layout(solids, _walk(request, -0.3 * pitch, (count - 0.7) * pitch, -4.2, 1.3, (20, 14)))


def _statue_material(rng: np.random.Generator) -> Material:
    base = random_color(rng, 150, 220)
    return Material(base, (random_color(rng, 80, 180), random_color(rng, 90, 200)), 0, 10, 12, 20, 2, 30)


def _statue(x: float, look: Material, texels_per_m: float, seed: int) -> list[Solid]:
    rng = np.random.default_rng(seed)
    shapes = (
        box((x, 0, 0.5), (0.8, 0.8, 0.5)),
        Cylinder(Rigid3(np.eye(3), np.array([x, 0, 1.8])), 0.5, 0.8),
        box((x, 0, 2.7), (0.65, 0.65, 0.1)),
        Sphere(Rigid3(np.eye(3), np.array([x, 0, 3.3])), 0.5),
    )
    return [painted_alike(shape, look, texels_per_m, rng) for shape in shapes]


def cars(request: Request) -> Layout:
    """Equal cars, parked side by side before a row of different houses."""
    rng, texels = request.rng, request.texels_per_m
    pitch, count, seed = float(rng.uniform(2.7, 3.1)), 6, int(rng.integers(1 << 30))
    solids: list[Solid] = []
    for idx in range(count):
        solids += car(idx * pitch, 0, 90, texels, np.random.default_rng(seed))
    solids += _houses_behind(-8, count * pitch + 8, 10, texels * 0.5, rng)
    solids.append(ground((30, 25), PAVING, texels * 0.35, 2.5 * pitch))
    if request.difference:
        solids.append(crate(0.5 * pitch, -1.5, 0.2, texels, rng))
        solids.append(crate(3 * pitch, 0, 0.25, texels, rng, 1.48))
        solids += tree(4.5 * pitch, 3, texels, rng)
    return Layout(solids, _walk(request, -0.4 * pitch, (count - 0.6) * pitch, -5.4, 0.9, (20, 14)))


def fence(request: Request) -> Layout:
    """A fence with three posters that repeat, and trees and different houses behind it."""
    rng, texels = request.rng, request.texels_per_m
    images = [poster_image((1.3, 1.8), texels, rng) for _ in range(3)]
    pitch, count = 1.45, 12
    planks = Material((132, 112, 88), ((100, 82, 62), (160, 140, 114)), 0, 0.5, 0.5, 6, 0, 14)
    solids = [painted(box((7.5 * 1.45, 0.06, 1.05), (11, 0.05, 1.05)), planks, texels * 0.6, (2,))]
    for idx in range(count):
        solids.append(board((idx + 2) * pitch, 0, 1.1, (0.65, 0.9), 0, images[idx % 3], 0.02))
    solids += _houses_behind(-8, 32, 12, texels * 0.5, rng)
    for _ in range(4):
        solids += tree(rng.uniform(0, 22), rng.uniform(1.5, 4), texels, rng, rng.uniform(1, 1.5))
    solids.append(ground((30, 25), PAVING, texels * 0.35, 10))
    if request.difference:
        solids.append(crate(rng.uniform(4, 7), -0.6, 0.3, texels, rng))
        solids.append(board(10.4, -0.05, 1.5, (0.3, 0.4), 0, poster_image((0.6, 0.8), texels, rng)))
        solids.append(crate(rng.uniform(14, 17), -0.6, 0.25, texels, rng))
    return Layout(solids, _walk(request, 2.5, 19, -3.6, 1.3, (22, 15)))


def floors(request: Request) -> Layout:
    """Equal floors with landings and stairs above each other, seen from a lift; both sides are different walls."""
    rng, texels = request.rng, request.texels_per_m
    storey, count, width = 3.0, 5, 7.0
    front = facade_image((width, storey), texels, rng)
    rail = Material(random_color(rng, 60, 200), (random_color(rng), random_color(rng)), 0, 0, 6, 10, 2, 20)
    seed = int(rng.integers(1 << 30))
    solids: list[Solid] = []
    for idx in range(count):
        z, equal = idx * storey, np.random.default_rng(seed)
        solids.append(Solid(box((0, 1.5, z + storey / 2), (width / 2, 0.2, storey / 2)), {2: fixed(front)}))
        solids.append(painted_alike(box((0, 0.6, z + 0.05), (width / 2, 0.7, 0.1)), STONE, texels, equal))
        solids.append(painted_alike(box((-1.2, -0.1, z + 0.6), (1.6, 0.05, 0.4)), rail, texels, equal))
        for step in range(8):
            tread = box((0.9 + 0.3 * step, 0.2, z + 0.3 + 0.36 * step), (0.2, 0.4, 0.08))
            solids.append(painted_alike(tread, rail, texels, equal))
    for x, yaw in ((-4.2, 90), (4.2, -90)):
        for z in np.arange(0.6, count * storey, 1.2):
            wall = box((x, 0, z), (1.6, 0.2, 0.6), yaw)
            solids.append(painted(wall, distinct_material(rng), texels * 0.5, (2, 3)))
    solids.append(ground((20, 20), PAVING, texels * 0.35))
    if request.difference:
        for idx, x in ((0, -2.0), (2, 2.2), (3, -2.4)):
            solids.append(crate(x, 0.5, 0.25, texels, rng, idx * storey + 0.15))
    heights = np.linspace(
        1.5, (count - 0.5) * storey, request.count(14, 10) if request.revisit else request.count(20, 14)
    )
    poses = [aimed((0.4, -6.5, z), (0, 1, z + 0.1), rng) for z in there_and_back(heights.tolist(), request.revisit)]
    return Layout(solids, poses)


def _walk(
    request: Request, start: float, end: float, y: float, target_z: float, counts: tuple[int, int]
) -> list[Rigid3]:
    """A walk along x; `counts` are the numbers of images if dense and if not, of which a third is the way back."""
    count = request.count(*counts)
    count = round(0.68 * count) if request.revisit else count
    places = there_and_back(np.linspace(start, end, count).tolist(), request.revisit)
    return [aimed((x, y, 1.6), (x + 0.5, 0, target_z), request.rng, 0.1) for x in places]


def _houses_behind(start: float, end: float, y: float, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """A row of different houses."""
    solids, x = [], start
    while x < end:
        half, height = float(rng.uniform(1.5, 2.5)), float(rng.uniform(4, 8))
        face = facade_image((2 * half, height), texels_per_m, rng)
        front = box((x + half, y + rng.uniform(0, 1.5), height / 2), (half, 1, height / 2))
        solids.append(Solid(front, {2: fixed(face)}))
        x += 2 * half + rng.uniform(0, 1)
    return solids
