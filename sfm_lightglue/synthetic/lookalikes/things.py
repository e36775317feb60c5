"""Parts of scenes with look-alikes: equal facades, distinct surroundings, small things that tell twins apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.facades import Opening, Placed, grid_m, paint_opening, paint_wall
from sfm_lightglue.synthetic.rays import Shape
from sfm_lightglue.synthetic.shapes import Cylinder, Sphere
from sfm_lightglue.synthetic.solids import Painter, Solid, box, painted
from sfm_lightglue.synthetic.textures import Color, Material, paint

STONE = Material((188, 180, 166), ((150, 140, 128), (212, 204, 192)), 0, 0, 0, 2, 0, 8)
BARK = Material((104, 88, 70), ((74, 62, 48), (140, 124, 100)), 0, 10, 4, 60, 0, 34)
LEAVES = Material((84, 112, 62), ((58, 84, 44), (130, 150, 90), (104, 124, 60)), 0, 60, 30, 40, 0, 40)
GRASS = Material((112, 124, 78), ((84, 96, 58), (146, 150, 100), (160, 140, 110)), 0, 6, 0.6, 0.8, 0, 28)
PAVING = Material((134, 130, 124), ((102, 98, 92), (160, 156, 148)), 3, 4, 0.5, 0.6, 0, 18)
TYRE = Material((34, 34, 36), ((60, 60, 62),), 0, 0, 0, 4, 0, 8)


def fixed(image: UInt8Array) -> Painter:
    """A painter that paints the same bytes on each of its patches."""
    return lambda size_m, rng: image


def marks(base: Color, factors: tuple[float, ...] = (0.6, 0.85, 1.25)) -> tuple[Color, ...]:
    """Darker and brighter variations of a colour."""
    return tuple(tuple(min(255, round(channel * factor)) for channel in base) for factor in factors)  # type: ignore[misc]


def random_color(rng: np.random.Generator, low: int = 60, high: int = 215) -> Color:
    """A colour with each channel between the limits."""
    red, green, blue = rng.integers(low, high, 3).tolist()
    return red, green, blue


def distinct_material(rng: np.random.Generator) -> Material:
    """A material that nothing else in the scene has."""
    base = random_color(rng)
    words = float(rng.choice([0.0, 0.0, 1.5, 4.0]))
    return Material(base, (*marks(base), random_color(rng)), 0, rng.uniform(0, 8), rng.uniform(1, 8), 6, words, 26)


def facade_image(
    size_m: tuple[float, float], texels_per_m: float, rng: np.random.Generator, door: bool = True
) -> UInt8Array:
    """A facade whose windows have curtains of their own, so that it matches its twins only without a shift."""
    base = random_color(rng, 140, 220)
    plaster = Material(base, marks(base, (0.75, 0.9, 1.12)), 0, 1.5, 0.6, 1.2, 0, 16)
    frame = random_color(rng, 40, 230)
    width, height = float(rng.uniform(0.9, 1.2)), float(rng.uniform(1.3, 1.6))
    window = Opening((width, height), 0.14, 0.07, (2, int(rng.integers(2, 4))), STONE, frame, (52, 60, 70))
    placed = []
    for sill in np.arange(0.9, size_m[1] - height - 0.2, 2.6).tolist():
        for column in grid_m(size_m[0], rng.uniform(1.9, 2.4), 0.9).tolist():
            look = paint_opening(replace(window, pane=random_color(rng, 40, 190)), texels_per_m, rng)
            left = column + rng.normal(0, 0.12) - width / 2
            placed.append(Placed(look, (left, size_m[1] - sill - height + rng.normal(0, 0.08))))
    if door:
        wood = random_color(rng, 40, 150)
        leaf = Opening((1.3, 2.3), 0.16, 0.08, (2, 3), STONE, wood, wood, sill=False)
        left = rng.uniform(0.25, 0.6) * size_m[0]
        placed.append(Placed(paint_opening(leaf, texels_per_m, rng), (left, size_m[1] - 2.3)))
    return paint_wall(plaster, size_m, texels_per_m, placed, rng)


def ground(half_m: tuple[float, float], material: Material, texels_per_m: float, x: float = 0, y: float = 0) -> Solid:
    """A level ground whose upper side is at z = 0; its texture does not repeat."""
    return painted(box((x, y, -0.2), (*half_m, 0.2)), material, texels_per_m, (5,))


def backdrop(
    radius_m: float, count: int, texels_per_m: float, rng: np.random.Generator, height_m: tuple[float, float] = (4, 9)
) -> list[Solid]:
    """Different houses and trees in a ring around the scene."""
    solids: list[Solid] = []
    for idx in range(count):
        angle = 2 * np.pi * (idx + rng.uniform(-0.25, 0.25)) / count
        x, y = radius_m * rng.uniform(0.92, 1.15) * np.cos(angle), radius_m * rng.uniform(0.92, 1.15) * np.sin(angle)
        if rng.random() < 0.3:
            solids += tree(x, y, texels_per_m, rng, rng.uniform(1.6, 2.4))
            continue
        height = rng.uniform(*height_m)
        half = (rng.uniform(0.5, 0.9) * np.pi * radius_m / count, rng.uniform(1.5, 3), height / 2)
        body = box((x, y, height / 2), half, np.degrees(angle) + 90 + rng.uniform(-15, 15))
        face = facade_image((2 * half[0], height), texels_per_m, rng)
        solids.append(Solid(body, {2: fixed(face), 3: fixed(face)}))
    return solids


def tree(x: float, y: float, texels_per_m: float, rng: np.random.Generator, size: float = 1.0) -> list[Solid]:
    """A trunk and a round crown; `size` 1 is 3.8 m high."""
    trunk = Cylinder(Rigid3(np.eye(3), np.array([x, y, 1.2 * size])), float(rng.uniform(0.1, 0.16)) * size, 1.2 * size)
    crown = Sphere(Rigid3(np.eye(3), np.array([x, y, 3.0 * size])), float(rng.uniform(0.65, 0.9)) * size)
    return [painted(trunk, BARK, texels_per_m, (0,)), painted(crown, LEAVES, texels_per_m * 0.7)]


def crate(x: float, y: float, half_m: float, texels_per_m: float, rng: np.random.Generator, z: float = 0) -> Solid:
    """A box with a look of its own that stands at height z."""
    half = tuple((half_m * rng.uniform(0.6, 1.4, 3)).tolist())
    return painted(box((x, y, z + half[2]), half, rng.uniform(0, 90)), distinct_material(rng), texels_per_m)


def poster_image(size_m: tuple[float, float], texels_per_m: float, rng: np.random.Generator) -> UInt8Array:
    """A colourful poster with words."""
    base = random_color(rng)
    material = Material(base, (random_color(rng), random_color(rng), random_color(rng)), 0, 6, 14, 8, 14, 18)
    return paint(material, size_m, texels_per_m, rng)


def board(
    x: float, y: float, z: float, half_m: tuple[float, float], yaw_deg: float, image: UInt8Array, depth_m: float = 0.03
) -> Solid:
    """A thin upright board with the image on its face 2, which looks to -y before it is turned by `yaw_deg`."""
    return Solid(box((x, y, z), (half_m[0], depth_m, half_m[1]), yaw_deg), {2: fixed(image)})


def car(x: float, y: float, yaw_deg: float, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """A parked car whose length is along x before it is turned; equal random numbers give equal cars."""
    base = random_color(rng)
    paintwork = Material(base, (*marks(base), (20, 20, 24), (230, 230, 226)), 0, 1, 2, 3, 1.5, 10)
    glass = Material((52, 60, 70), ((120, 130, 140), (30, 36, 44), base), 0, 0, 4, 8, 0, 12)
    lower, upper = box((x, y, 0.62), (2.0, 0.85, 0.38), yaw_deg), box((x, y, 1.22), (1.1, 0.75, 0.26), yaw_deg)
    solids = [painted_alike(lower, paintwork, texels_per_m, rng), painted_alike(upper, glass, texels_per_m, rng)]
    cosine, sine = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    for along in (-1.25, 1.25):
        place = (x + cosine * along, y + sine * along, 0.32)
        solids.append(painted_alike(box(place, (0.32, 0.88, 0.32), yaw_deg), TYRE, texels_per_m, rng))
    return solids


def painted_alike(shape: Shape, material: Material, texels_per_m: float, rng: np.random.Generator) -> Solid:
    """A solid whose texture depends on the random numbers alone, not on its place among the solids."""
    images = [paint(material, size, texels_per_m, rng) for size in shape.patch_sizes_m]
    return Solid(shape, {patch: fixed(image) for patch, image in enumerate(images)})
