"""Walls, doors, pictures and furniture of the corridor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.synthetic.facades import Opening, Placed, paint_opening, paint_wall
from sfm_lightglue.synthetic.shapes import Box
from sfm_lightglue.synthetic.solids import Enclosure, Painter, Point, Solid, box, painted
from sfm_lightglue.synthetic.textures import Color, Material, paint

_SEGMENT_M = 2.0
"""Largest length of a piece of wall of one colour."""

_WALL_M, _HEIGHT_M = 0.1, 2.6
_WALLPAPERS: tuple[Color, ...] = (
    (206, 198, 180),
    (176, 190, 196),
    (196, 176, 160),
    (184, 196, 170),
    (210, 190, 140),
    (160, 168, 184),
)
_MARKS: tuple[tuple[Color, ...], ...] = (
    ((150, 60, 40), (60, 70, 60), (226, 206, 150)),
    ((40, 56, 82), (190, 86, 60), (230, 230, 220)),
    ((70, 100, 60), (200, 180, 140), (110, 60, 90)),
)
_FLOORS: tuple[Color, ...] = ((146, 118, 88), (128, 124, 120), (110, 96, 84))
_CEILING = Material((222, 222, 218), ((190, 190, 186), (236, 236, 232)), 0, 3.0, 1.5, 4.0, 0, 14)
_BEECH = Material((186, 152, 108), ((160, 126, 86), (204, 172, 130)), 0, 0, 0, 6, 0, 12)
_LAMP = Material((236, 236, 226), ((120, 120, 118), (250, 250, 244)), 0, 0, 10, 10, 0, 10)


@dataclass(frozen=True, slots=True)
class CorridorPlan:
    """Sizes of a corridor around a rectangular block.

    Args:
        outer_m: (width, depth) between the outer walls, along x and y.
        width_m: of the corridor.
    """

    outer_m: tuple[float, float]
    width_m: float

    @property
    def inner_m(self) -> tuple[float, float]:
        """(width, depth) of the block."""
        return self.outer_m[0] - 2 * self.width_m, self.outer_m[1] - 2 * self.width_m


def corridor_solids(plan: CorridorPlan, texels_per_m: float, seed: int) -> list[Solid]:
    """Everything in the corridor: walls, floor, ceiling, and what stands out from them.

    Args:
        plan: sizes.
        texels_per_m: resolution of the textures.
        seed: of colours, places and sizes.
    """
    rng = np.random.default_rng([seed, 1 << 26])
    outer, inner = Enclosure(*plan.outer_m), Enclosure(*plan.inner_m)
    solids = []
    for side in range(4):
        for along, length in _segments(outer.length(side)):
            solids += _wall(outer, side, (along, length), 1, texels_per_m, rng)
        for along, length in _segments(inner.length(side)):
            solids += _wall(inner, side, (along, length), -1, texels_per_m, rng)
    return solids + _floor_and_ceiling(plan, texels_per_m, rng) + _lamps(plan, texels_per_m, rng)


def _segments(length_m: float) -> list[tuple[float, float]]:
    """(middle relative to that of the wall, length) of equal pieces of a wall."""
    count = int(np.ceil(length_m / _SEGMENT_M))
    step = length_m / count
    return [((idx + 0.5) * step - length_m / 2, step) for idx in range(count)]


def _wall(
    walls: Enclosure, side: int, segment: tuple[float, float], way: int, texels_per_m: float, rng: np.random.Generator
) -> list[Solid]:
    """A piece of wall with what hangs and stands there; `way` is 1 if it is seen from the middle, else -1."""
    along, length = segment
    yaw = walls.yaw_deg(side) + (0 if way == 1 else 180)
    center = walls.place(side, along, -way * _WALL_M, _HEIGHT_M / 2)
    pictures = _pictures(length, texels_per_m, rng) if length > 0.6 else []
    marks = _MARKS[int(rng.integers(len(_MARKS)))]
    base = _varied(_WALLPAPERS, rng)
    pebbles, polygons, strokes, words = rng.uniform((2, 0.5, 2, 0), (8, 4, 8, 1.5)).tolist()
    paper = Material(base, marks, 0, pebbles, polygons, strokes, words, 22)
    wall = box(center, (length / 2, _WALL_M, _HEIGHT_M / 2), yaw)
    solids = [Solid(wall, {2: _wall_painter(paper, pictures, texels_per_m)})]
    if length < 1.2:
        return solids
    kind = str(rng.choice(["door", "cabinet", "board", "pillar"]))
    at = along + way * rng.uniform(-0.15, 0.15) * length

    def before_wall(beside: float, half: Point, height: float) -> Box:
        return box(walls.place(side, at + beside, way * half[1], height), half, yaw)

    if kind == "door":
        return [*solids, _door(before_wall(0.0, (0.475, 0.03, 1.025), 1.025), texels_per_m, rng)]
    half = {
        "cabinet": (rng.uniform(0.3, 0.55), rng.uniform(0.12, 0.18), rng.uniform(0.35, 0.8)),
        "board": (rng.uniform(0.3, 0.6), 0.025, rng.uniform(0.3, 0.45)),
        "pillar": (rng.uniform(0.1, 0.16), rng.uniform(0.06, 0.12), _HEIGHT_M / 2),
    }[kind]
    things = [before_wall(0.0, half, 1.5 if kind == "board" else half[2])]
    if kind == "cabinet":
        small = (rng.uniform(0.08, 0.16), half[1] / 2, rng.uniform(0.08, 0.2))
        things.append(before_wall(rng.uniform(-0.15, 0.15), small, 2 * half[2] + small[2]))
    return [*solids, *(painted(thing, _thing(rng), texels_per_m, (0, 1, 2, 5)) for thing in things)]


def _door(leaf: Box, texels_per_m: float, rng: np.random.Generator) -> Solid:
    """A closed door with panels, which stands out from the wall."""
    panels = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    frame, pane = _varied(((128, 96, 62), (96, 110, 120)), rng), _varied(((178, 140, 96),), rng)
    image = paint_opening(Opening((0.95, 2.05), 0.06, 0.05, panels, _BEECH, frame, pane, sill=False), texels_per_m, rng)
    sides = dict(painted(leaf, _BEECH, texels_per_m, (0, 1, 5)).painters)
    return Solid(leaf, sides | {2: lambda size_m, _: image})


def _wall_painter(paper: Material, pictures: list[Placed], texels_per_m: float) -> Painter:
    return lambda size_m, rng: paint_wall(paper, size_m, texels_per_m, pictures, rng)


def _pictures(length_m: float, texels_per_m: float, rng: np.random.Generator) -> list[Placed]:
    """One to three pictures in dark frames, at the height of the eyes and above the floor."""
    placed = []
    for _ in range(int(rng.integers(1, 4))):
        width, height = rng.uniform(0.25, min(0.8, 0.7 * length_m)), rng.uniform(0.25, 0.7)
        image = paint(_thing(rng), (width, height), texels_per_m, rng)
        border = max(1, round(0.02 * texels_per_m))
        for rows in (slice(0, border), slice(-border, None)):
            image[rows] = 50
            image[:, rows] = 50
        corner = rng.uniform(0, length_m - width), rng.uniform(0.4, 1.6)
        placed.append(Placed(image, corner))
    return placed


def _thing(rng: np.random.Generator) -> Material:
    """A material of a picture or a piece of furniture, unlike the others."""
    marks = tuple(_varied(group, rng) for group in _MARKS)
    red, green, blue = rng.integers(60, 220, 3).tolist()
    pebbles, polygons, strokes, words = rng.uniform((10, 10, 8, 0), (60, 40, 30, 10)).tolist()
    return Material((red, green, blue), marks, 0, pebbles, polygons, strokes, words, 36)


def _varied(colors: tuple[Color, ...], rng: np.random.Generator) -> Color:
    """One of some colours, a little different each time."""
    chosen = np.array(colors[int(rng.integers(len(colors)))]) + rng.integers(-18, 19, 3)
    red, green, blue = np.clip(chosen, 0, 255).tolist()
    return red, green, blue


def _floor_and_ceiling(plan: CorridorPlan, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """Pieces of floor and ceiling of about two metres, also within the block, where nobody sees them."""
    solids = []
    (width, depth), (inner_width, inner_depth) = plan.outer_m, plan.inner_m
    for x, length in _segments(width):
        for y, breadth in _segments(depth):
            if abs(x) + length / 2 < inner_width / 2 and abs(y) + breadth / 2 < inner_depth / 2:
                continue
            half = (length / 2, breadth / 2, 0.1)
            marks = _MARKS[int(rng.integers(len(_MARKS)))]
            floor = Material(_varied(_FLOORS, rng), marks, rng.uniform(6, 14), 6, 1.5, 14, 0, 24)
            solids.append(painted(box((x, y, -0.1), half), floor, 0.8 * texels_per_m, (5,)))
            solids.append(painted(box((x, y, _HEIGHT_M + 0.1), half), _CEILING, 0.5 * texels_per_m, (4,)))
    return solids


def _lamps(plan: CorridorPlan, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """Lamps below the ceiling along the middle of the corridor."""
    middle = Enclosure(plan.outer_m[0] - plan.width_m, plan.outer_m[1] - plan.width_m)
    solids = []
    for side in range(4):
        for along, length in _segments(middle.length(side)):
            place = middle.place(side, along + rng.uniform(-0.2, 0.2) * length, 0.0, _HEIGHT_M - 0.05)
            lamp = box(place, (rng.uniform(0.2, 0.5), 0.1, 0.05), middle.yaw_deg(side) + rng.uniform(-5, 5))
            solids.append(painted(lamp, _LAMP, texels_per_m, (0, 1, 2, 3, 4)))
    return solids
