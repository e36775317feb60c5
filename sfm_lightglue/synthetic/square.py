"""A town square, photographed by people with different cameras: near and far, wide and long lenses, none known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.facades import Opening, Placed, grid_m, paint_opening, paint_wall
from sfm_lightglue.synthetic.render import (
    DIAGONAL_35MM_MM,
    SyntheticPhotos,
    check_size,
    image_names,
    render_photos,
)
from sfm_lightglue.synthetic.shapes import Box, Cylinder, Sphere
from sfm_lightglue.synthetic.solids import Enclosure, Painter, Solid, box, exposed, painted, solid_world
from sfm_lightglue.synthetic.textures import Color, Material
from sfm_lightglue.types import Camera

_SQUARE = Enclosure(34.0, 30.0)
"""Houses stand on its sides 1, 2 and 3; side 0, towards -y, is open."""

_TEXELS_PER_PX_M = 60 / 800
"""Texels per metre for each pixel of the longer side of the images."""

_MIN_DISTANCE_M = 7.0
"""Smallest distance of a camera from what it looks at."""

_RADIAL_SIGMA, _MAX_RADIAL = 0.05, 0.12
_HEIGHTS_M = (1.4, 2.0)
_FOCALS_INSIDE_MM, _FOCALS_OUTSIDE_MM = (22.0, 38.0), (30.0, 75.0)
"""35 mm equivalent focal lengths of cameras on the square, and of those outside of it."""

_FRACTION_OUTSIDE = 0.4
_FRACTION_PORTRAIT = 0.25

_STONE = Material((190, 182, 168), ((150, 140, 128), (212, 204, 192)), 8, 0, 0, 6, 0, 20)
_PAVING = Material((140, 134, 126), ((104, 98, 92), (166, 160, 152)), 4, 1, 0, 1, 0, 16)
_BRONZE = Material((86, 108, 92), ((52, 66, 58), (132, 146, 120), (110, 84, 56)), 0, 14, 10, 20, 0, 32)
_ROOF = Material((136, 74, 56), ((110, 58, 44), (164, 100, 76)), 25, 0, 0, 4, 0, 18)
_AWNING = Material((176, 60, 52), ((226, 214, 190), (120, 36, 34)), 0, 0, 6, 20, 4, 20)
_PAINTS: tuple[Color, ...] = ((224, 220, 210), (120, 74, 48), (66, 92, 80), (96, 104, 120), (150, 60, 52))
_BASES: tuple[Color, ...] = ((206, 196, 170), (182, 128, 98), (188, 186, 180), (212, 178, 120), (156, 172, 168))


@dataclass(frozen=True, slots=True)
class _House:
    """One house of a row.

    Args:
        side: of the square.
        along_m: of its middle, to the right of the middle of the side.
        size_m: (width, height) of its facade.
        recess_m: of the facade behind the line of the side.
    """

    side: int
    along_m: float
    size_m: tuple[float, float]
    recess_m: float


def render_square(
    num_images: int = 40, size: tuple[int, int] = (800, 600), seed: int = 0, progress: Progress = silent
) -> SyntheticPhotos:
    """Render a town square from the square and from outside, each image by a camera of its own.

    Each camera has its own focal length and radial distortion; the principal point is the centre of the image. A
    quarter of the images is upright.

    Args:
        num_images: at least 2.
        size: (width, height) in pixels, at least 64 each; upright images have them exchanged.
        seed: of houses, cameras and exposure. The same seed gives the same bytes on one machine with one version of
            numpy and OpenCV.
        progress: called after every image, with stage "render".

    Raises:
        ValueError: if `num_images` or `size` is too small.
    """
    check_size("render_square", num_images, size)
    rng = np.random.default_rng([seed, 1 << 24])
    solids = _solids(_TEXELS_PER_PX_M * max(size), rng)
    cameras, poses = {}, {}
    for name in image_names(num_images):
        is_outside = rng.random() < _FRACTION_OUTSIDE
        cameras[name] = _camera(size, _FOCALS_OUTSIDE_MM if is_outside else _FOCALS_INSIDE_MM, rng)
        poses[name] = _pose(is_outside, rng)
    photos = render_photos(lambda executor: solid_world(solids, seed, executor), cameras, poses, progress)
    return replace(photos, images=exposed(photos.images, seed))


def _camera(size: tuple[int, int], focals_mm: tuple[float, float], rng: np.random.Generator) -> Camera:
    width, height = size[::-1] if rng.random() < _FRACTION_PORTRAIT else size
    focal_px = np.exp(rng.uniform(*np.log(focals_mm))) / DIAGONAL_35MM_MM * np.hypot(width, height)
    radial = np.clip(rng.normal(-0.02, _RADIAL_SIGMA), -_MAX_RADIAL, _MAX_RADIAL)
    return Camera("SIMPLE_RADIAL", width, height, (float(focal_px), width / 2, height / 2, float(radial)))


def _pose(is_outside: bool, rng: np.random.Generator) -> Rigid3:
    """A person who looks at a house or at the monument; most look at the houses opposite of the open side."""
    while True:
        if is_outside:
            center = np.array([rng.uniform(-16, 16), rng.uniform(-42, -18), rng.uniform(*_HEIGHTS_M)])
        else:
            center = np.array([rng.uniform(-12, 12), rng.uniform(-14, 5), rng.uniform(*_HEIGHTS_M)])
        side = int(rng.choice([1, 2, 3], p=(0.15, 0.7, 0.15)))
        along = rng.uniform(-0.35, 0.35) * _SQUARE.length(side)
        target = np.array(_SQUARE.place(side, along, 0.0, rng.uniform(3.0, 6.0)))
        near_monument = np.hypot(*center[:2]) < 3.0
        if np.linalg.norm(target - center) > _MIN_DISTANCE_M and not near_monument:
            return Rigid3.look_at(center, target, np.array([*rng.normal(0, 0.03, 2), 1.0]))


def _solids(texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """Houses first, then the ground, the monument and things on the square."""
    solids = []
    for side in (1, 2, 3):
        for house in _row(side, rng):
            solids += _house(house, texels_per_m, rng)
    ground = Box(Rigid3(np.eye(3), np.array([0, -14, -0.25])), (_SQUARE.width / 2 + 4, 34, 0.25))
    solids.append(painted(ground, _PAVING, texels_per_m * 0.5, (5,)))
    pedestal = box((0, 0, 1.0), (1.1, 1.1, 1.0), rng.uniform(0, 45))
    column = Cylinder(Rigid3(np.eye(3), np.array([0, 0, 3.6])), 0.5, 1.6)
    solids += [painted(pedestal, _STONE, texels_per_m, (0, 1, 2, 3, 5)), painted(column, _BRONZE, texels_per_m, (0,))]
    solids.append(painted(Sphere(Rigid3(np.eye(3), np.array([0, 0, 5.8])), 0.7), _BRONZE, texels_per_m * 0.7))
    for _ in range(14):
        x, y = rng.uniform(-15, 15), rng.uniform(-13, 13)
        half = tuple(rng.uniform(0.25, 0.7, 3).tolist())
        material = _BRONZE if rng.random() < 0.4 else _STONE
        if np.hypot(x, y) > 4:
            bench = box((x, y, half[2]), half, rng.uniform(0, 90))
            solids.append(painted(bench, material, texels_per_m * 0.8, (0, 1, 2, 3, 5)))
    return solids


def _row(side: int, rng: np.random.Generator) -> list[_House]:
    """Houses of different widths that fill a side; the middle one of side 2 is a town hall."""
    length = _SQUARE.length(side)
    weights = rng.uniform(0.8, 1.25, 3) * (np.array([0.9, 1.4, 0.9]) if side == 2 else 1.0)
    widths = length * weights / weights.sum()
    ends = np.cumsum(widths) - length / 2
    houses = []
    for idx, (width, end) in enumerate(zip(widths.tolist(), ends.tolist(), strict=True)):
        height = rng.uniform(12.5, 14.0) if side == 2 and idx == 1 else rng.uniform(7.5, 11.0)
        houses.append(_House(side, end - width / 2, (width, height), float(rng.uniform(0.0, 1.2))))
    return houses


def _house(house: _House, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """The facade with what stands out of it: a bay, balconies, awnings, and a roof."""
    width, height = house.size_m
    side, yaw = house.side, _SQUARE.yaw_deg(house.side)

    def place(along: float, before: float, at_height: float) -> tuple[float, float, float]:
        return _SQUARE.place(side, house.along_m + along, before - house.recess_m, at_height)

    body = box(place(0, -3, height / 2), (width / 2, 3, height / 2), yaw)
    base = _BASES[rng.integers(len(_BASES))]
    solids = [
        Solid(body, {2: _facade(base, texels_per_m, rng), 0: _plain(base, texels_per_m), 1: _plain(base, texels_per_m)})
    ]
    roof = box(place(0, -2.6, height + 1.6), (width / 2, 3.2, 0.1), yaw, 35)
    solids.append(painted(roof, _ROOF, texels_per_m * 0.5, (2, 5)))
    bay_half = (rng.uniform(0.7, 1.1), rng.uniform(0.3, 0.6), rng.uniform(1.2, 2.0))
    bay = box(place(rng.uniform(-0.3, 0.3) * width, bay_half[1], rng.uniform(4.5, 5.5)), bay_half, yaw)
    solids.append(painted(bay, _STONE, texels_per_m, (0, 1, 2, 4)))
    for _ in range(2):
        half = (rng.uniform(0.6, 1.3), 0.35, 0.3)
        balcony = box(place(rng.uniform(-0.4, 0.4) * width, half[1], rng.uniform(3.2, height - 2)), half, yaw)
        solids.append(painted(balcony, _BRONZE, texels_per_m, (0, 1, 2, 4)))
    half = (rng.uniform(0.8, 1.5), rng.uniform(0.4, 0.8), 0.12)
    awning = box(place(rng.uniform(-0.35, 0.35) * width, half[1], rng.uniform(2.5, 2.9)), half, yaw, -12)
    solids.append(painted(awning, _AWNING, texels_per_m, (2, 4)))
    return solids


def _plaster(base: Color) -> Material:
    marks = tuple(tuple(min(255, round(channel * factor)) for channel in base) for factor in (0.7, 0.88, 1.14))
    return Material(base, marks, 3, 2, 1, 2, 0, 18)  # type: ignore[arg-type]


def _plain(base: Color, texels_per_m: float) -> Painter:
    def painter(size_m: tuple[float, float], rng: np.random.Generator) -> UInt8Array:
        return paint_wall(_plaster(base), size_m, texels_per_m * 0.5, (), rng)

    return painter


def _facade(base: Color, texels_per_m: float, rng: np.random.Generator) -> Painter:
    """Windows of one look at irregular places, each with its own curtain or none, and a door."""
    size = (float(rng.uniform(0.9, 1.4)), float(rng.uniform(1.5, 2.1)))
    frame, pane = _PAINTS[rng.integers(len(_PAINTS))], (52, 60, 70)
    window = Opening(size, rng.uniform(0.12, 0.22), 0.08, (2, int(rng.integers(2, 5))), _STONE, frame, pane)
    spacing, storey = rng.uniform(2.0, 3.0), rng.uniform(2.9, 3.4)

    def painter(size_m: tuple[float, float], patch_rng: np.random.Generator) -> UInt8Array:
        placed = []
        for sill in np.arange(1.0, size_m[1] - size[1] - 0.3, storey).tolist():
            for column in grid_m(size_m[0], spacing, 1.2).tolist():
                left = column + patch_rng.normal(0, 0.15) - size[0] / 2
                shade = tuple(int(channel) for channel in patch_rng.integers(40, 190, 3))
                look = paint_opening(replace(window, pane=shade), texels_per_m, patch_rng)  # type: ignore[arg-type]
                placed.append(Placed(look, (left, size_m[1] - sill - size[1] + patch_rng.normal(0, 0.1))))
        return paint_wall(_plaster(base), size_m, texels_per_m, placed, patch_rng)

    return painter
