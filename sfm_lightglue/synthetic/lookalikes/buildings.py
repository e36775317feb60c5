"""Buildings that look alike: a house with equal sides, equal houses, equal facades across a square, a round tower."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.lookalikes.layout import Layout, Request, aimed, ring, there_and_back
from sfm_lightglue.synthetic.lookalikes.things import (
    GRASS,
    PAVING,
    backdrop,
    board,
    car,
    crate,
    facade_image,
    fixed,
    ground,
    poster_image,
    random_color,
    tree,
)
from sfm_lightglue.synthetic.shapes import Cylinder
from sfm_lightglue.synthetic.solids import Solid, box, painted
from sfm_lightglue.synthetic.textures import Material


def house(request: Request) -> Layout:
    """A house with four equal sides, walked around."""
    rng, texels = request.rng, request.texels_per_m
    half, height = 4.0, float(rng.uniform(4.6, 5.6))
    front = facade_image((2 * half, height), texels, rng)
    solids = [Solid(box((0, 0, height / 2), (half, half, height / 2)), dict.fromkeys(range(4), fixed(front)))]
    roof = Material(random_color(rng, 70, 160), (random_color(rng, 60, 180),), 20, 0, 0, 3, 0, 14)
    eaves = box((0, 0, height + 0.12), (half + 0.4, half + 0.4, 0.12))
    solids.append(painted(eaves, roof, texels * 0.3, (4, 5)))
    solids.append(ground((40, 40), GRASS, texels * 0.3))
    solids += backdrop(26, 14, texels * 0.4, rng)
    if request.difference:
        poster = poster_image((1.2, 1.6), texels, rng)
        solids.append(board(rng.uniform(-2, 2), -half - 0.04, 1.9, (0.6, 0.8), 0, poster))
        solids += car(half + 2.2, rng.uniform(-1.5, 1.5), 80, texels, rng)
        solids += tree(-rng.uniform(1, 3), half + 2, texels, rng)
        solids.append(crate(-half - 1.2, rng.uniform(-2, 2), 0.5, texels, rng))
    turn = 540.0 if request.revisit else 360.0
    poses = ring(request.count(25 if request.revisit else 20, 22 if request.revisit else 14), 13, 1.7, 2.4, turn, rng)
    return Layout(solids, poses)


def street(request: Request) -> Layout:
    """A row of equal houses with gaps between them, walked along."""
    rng, texels = request.rng, request.texels_per_m
    width, gap, height = float(rng.uniform(6.5, 7.5)), float(rng.uniform(1.6, 2.4)), float(rng.uniform(5, 6))
    front = facade_image((width, height), texels, rng)
    num_houses, pitch = 4, width + gap
    length = num_houses * pitch
    side = Material(random_color(rng, 120, 200), (random_color(rng),), 6, 0, 0, 3, 0, 14)
    solids: list[Solid] = []
    for idx in range(num_houses):
        shape = box(((idx + 0.5) * pitch, 4, height / 2), (width / 2, 4, height / 2))
        sides = painted(shape, side, texels * 0.5, (0, 1)).painters
        solids.append(Solid(shape, {**sides, 2: fixed(front)}))
    solids.append(ground((length / 2 + 15, 25), PAVING, texels * 0.35, length / 2))
    solids += [_shifted_backdrop(x, texels, rng) for x in np.arange(-6, length + 8, 3.2)]
    for end in (-2.5, length + 2.5):
        solids += tree(end, 1.5, texels, rng, 1.5)
        solids.append(crate(end, -0.6, 0.7, texels, rng))
    if request.difference:
        solids += car(0.6 * pitch, -1.6, 3, texels, rng)
        solids.append(board(1.5 * pitch, -0.04, 2.0, (0.5, 0.7), 0, poster_image((1.0, 1.4), texels, rng)))
        solids += tree(2.3 * pitch, -1.4, texels, rng)
        solids.append(crate(3.6 * pitch, -0.9, 0.5, texels, rng))
    count = request.count(16 if request.revisit else 20, 11 if request.revisit else 12)
    places = there_and_back(np.linspace(0.2 * pitch, length - 0.2 * pitch, count).tolist(), request.revisit)
    poses = [aimed((x, -8.5, 1.7), (x + 1.5, 0, 2.4), rng) for x in places]
    return Layout(solids, poses)


def _shifted_backdrop(x: float, texels: float, rng: np.random.Generator) -> Solid:
    """A part of the row of different houses behind the equal ones, seen through the gaps and above."""
    height = float(rng.uniform(6, 10))
    face = facade_image((3.1, height), texels * 0.5, rng, door=False)
    return Solid(box((x, 18, height / 2), (1.55, 1, height / 2)), {2: fixed(face)})


def square(request: Request) -> Layout:
    """Two equal facades face each other across a square; the other two sides are different houses."""
    rng, texels = request.rng, request.texels_per_m
    width, height = 12.0, float(rng.uniform(6, 7.5))
    front = facade_image((width, height), texels, rng)
    solids = []
    for y, yaw in ((12.0, 0.0), (-12.0, 180.0)):
        solids.append(Solid(box((0, y, height / 2), (width / 2, 1, height / 2), yaw), {2: fixed(front)}))
    for x in (-11.0, 11.0):
        for y in np.arange(-9, 10, 4.5):
            tall = float(rng.uniform(4, 9))
            face = facade_image((4.3, tall), texels, rng)
            solids.append(Solid(box((x, y, tall / 2), (2.15, 1, tall / 2), 90 * np.sign(-x)), {2: fixed(face)}))
    solids.append(ground((25, 25), PAVING, texels * 0.35))
    solids += backdrop(28, 12, texels * 0.4, rng, (8, 14))
    solids += [crate(x, y, 0.5, texels, rng) for x, y in ((-8, -8), (8, -7.5), (-7, 8), (8, 8))]
    if request.difference:
        solids.append(board(rng.uniform(-3, 3), 10.94, 2.0, (0.8, 1.0), 0, poster_image((1.6, 2.0), texels, rng)))
        solids += car(rng.uniform(-3, 3), -9.5, 175, texels, rng)
    turn = 500.0 if request.revisit else 360.0
    count = request.count(25 if request.revisit else 20, 22 if request.revisit else 16)
    start, poses = rng.uniform(0, 2 * np.pi), []
    for idx in range(count):
        angle = start + np.radians(turn) * idx / count
        center = (-4.2 * np.cos(angle), -4.2 * np.sin(angle), 1.7)
        poses.append(aimed(center, (10 * np.cos(angle), 10 * np.sin(angle), 3.2), rng, 0.25))
    return Layout(solids, poses)


def tower(request: Request) -> Layout:
    """A round tower with the same windows on all sides, walked around."""
    rng, texels = request.rng, request.texels_per_m
    radius, height, num_strips = 3.2, 7.5, int(rng.integers(4, 7))
    strip = facade_image((2 * np.pi * radius / num_strips, height), texels, rng)
    body = Cylinder(Rigid3(np.eye(3), np.array([0, 0, height / 2])), radius, height / 2)
    solids = [Solid(body, {0: fixed(np.tile(strip, (1, num_strips, 1)))})]
    solids.append(ground((40, 40), GRASS, texels * 0.3))
    solids += backdrop(26, 14, texels * 0.4, rng)
    if request.difference:
        for idx in range(3):
            angle = np.radians(idx * 120 + rng.uniform(0, 60))
            x, y = (radius + 0.9) * np.cos(angle), (radius + 0.9) * np.sin(angle)
            solids += [crate(x, y, 0.45, texels, rng)] if idx < 2 else tree(1.3 * x, 1.3 * y, texels, rng)
    turn = 540.0 if request.revisit else 360.0
    poses = ring(request.count(25 if request.revisit else 20, 24 if request.revisit else 16), 11, 1.7, 3.2, turn, rng)
    return Layout(solids, poses)
