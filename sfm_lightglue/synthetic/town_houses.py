"""The houses, the ground and the things of a town: every house has a look of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.facades import Opening, Placed, grid_m, paint_opening, paint_wall
from sfm_lightglue.synthetic.shapes import Box, Cylinder, Sphere
from sfm_lightglue.synthetic.solids import Painter, Point, Solid, painted
from sfm_lightglue.synthetic.textures import Color, Material
from sfm_lightglue.synthetic.town_walk import CROSSINGS, SPACING_M

_STREET_M = 9.0
"""Distance of the houses on both sides of a street."""

_HOUSES_PER_BLOCK = (3, 2)
_MAX_SHIFT_M = 0.7
"""A house stands up to this distance behind the line of the street."""

_STONE = Material((188, 180, 166), ((150, 140, 128), (212, 204, 192)), 8, 0, 0, 6, 0, 20)
_METAL = Material((88, 92, 94), ((70, 74, 76), (120, 124, 126)), 0, 0, 4, 10, 3, 12)
_BARK = Material((104, 88, 70), ((74, 62, 48), (140, 124, 100)), 0, 10, 4, 60, 0, 34)
_LEAVES = Material((84, 112, 62), ((58, 84, 44), (130, 150, 90), (104, 124, 60)), 0, 60, 30, 40, 0, 40)
_SIGN = Material((70, 90, 130), ((235, 235, 230), (210, 190, 90)), 0, 0, 4, 4, 14, 14)
_PAVINGS: tuple[Color, ...] = ((140, 134, 126), (122, 120, 118), (150, 138, 120), (116, 124, 128))


@dataclass(frozen=True, slots=True)
class _Wall:
    """One side of a house on a street: the patch of its box, the yaw of things on it, its middle and its length."""

    patch: int
    yaw_deg: float
    middle: tuple[float, float]
    length_m: float


def town_solids(texels_per_m: float, seed: int) -> list[Solid]:
    """All solids of the town. Their textures are painted later, when they are seen.

    Args:
        texels_per_m: resolution of the facades.
        seed: of everything.
    """
    solids: list[Solid] = []
    for column in range(-1, CROSSINGS[0]):
        for row in range(-1, CROSSINGS[1]):
            rng = np.random.default_rng([seed, 1 << 26, column + 1, row + 1])
            solids += _block((column, row), texels_per_m, rng)
    return solids


def _upright_box(center: Point, half_size_m: Point, yaw_deg: float = 0.0) -> Box:
    cosine, sine = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    R = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    return Box(Rigid3(R, np.array(center)), half_size_m)


def _block(place: tuple[int, int], texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """The houses between four streets, the ground below them, and things on the streets to its left and below."""
    corner = np.array(place, np.float64) * SPACING_M
    middle = corner + np.array(SPACING_M) / 2
    paving = _PAVINGS[rng.integers(len(_PAVINGS))]
    marks = _marks(paving, (0.72, 0.86, 1.14))
    material = Material(
        paving, marks, float(rng.choice([0, 6, 14])), rng.uniform(1, 6), rng.uniform(0.3, 1.5), 1, 0, 18
    )
    ground = _upright_box((*middle, -0.2), (SPACING_M[0] / 2, SPACING_M[1] / 2, 0.2))
    solids = [painted(ground, material, texels_per_m * 0.4, (5,))]
    inner = np.array(SPACING_M) - _STREET_M
    width, depth = inner / _HOUSES_PER_BLOCK
    for i in range(_HOUSES_PER_BLOCK[0]):
        for j in range(_HOUSES_PER_BLOCK[1]):
            center = corner + _STREET_M / 2 + np.array([(i + 0.5) * width, (j + 0.5) * depth])
            outer = (i == 0, i == _HOUSES_PER_BLOCK[0] - 1, j == 0, j == _HOUSES_PER_BLOCK[1] - 1)
            solids += _house(center, (float(width), float(depth)), outer, texels_per_m, rng)
    return solids + _things(corner, texels_per_m, rng)


def _house(
    center: np.ndarray,
    size_m: tuple[float, float],
    outer: tuple[bool, bool, bool, bool],
    texels_per_m: float,
    rng: np.random.Generator,
) -> list[Solid]:
    """A house with its own colours, windows and height; `outer` says which of the sides -x, +x, -y, +y see a street."""
    height = float(rng.uniform(6.5, 12.0))
    low, high = center - np.array(size_m) / 2, center + np.array(size_m) / 2
    for side in np.flatnonzero(outer).tolist():
        shift = rng.uniform(0, _MAX_SHIFT_M)
        (low if side % 2 == 0 else high)[side // 2] += shift if side % 2 == 0 else -shift
    middle, half = (low + high) / 2, (high - low) / 2
    facade = _facade(texels_per_m, rng)
    body = _upright_box((*middle, height / 2), (*half, height / 2))
    solids = [Solid(body, dict.fromkeys(np.flatnonzero(outer).tolist(), facade))]
    edge = _upright_box((*middle, height + 0.1), (half[0] + 0.25, half[1] + 0.25, 0.12))
    solids.append(painted(edge, _STONE, texels_per_m * 0.6, (0, 1, 2, 3, 4)))
    for side in np.flatnonzero(outer).tolist():
        sign = -1 if side % 2 == 0 else 1
        axis = side // 2
        at = middle.copy()
        at[axis] += sign * half[axis]
        yaw = (-90.0, 90.0, 0.0, 180.0)[side]
        wall = _Wall(side, yaw, (float(at[0]), float(at[1])), float(2 * half[1 - axis]))
        solids += _on_wall(wall, height, texels_per_m, rng)
    return solids


def _on_wall(wall: _Wall, height_m: float, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """What stands out of a facade: bays, balconies, awnings and signs."""
    yaw = np.radians(wall.yaw_deg)
    right, out = np.array([np.cos(yaw), np.sin(yaw)]), np.array([np.sin(yaw), -np.cos(yaw)])
    solids = []
    for _ in range(int(rng.integers(1, 4))):
        color = tuple(int(channel) for channel in rng.integers(50, 220, 3))
        material = Material(color, _marks(color, (0.6, 1.3)), 0, 4, 8, 16, rng.uniform(0, 4), 26)  # type: ignore[arg-type]
        half = ((0.8, 0.45, 1.3), (1.1, 0.4, 0.35), (1.2, 0.5, 0.1), (0.5, 0.05, 0.35))[int(rng.integers(4))]
        x, y = np.array(wall.middle) + right * rng.uniform(-0.35, 0.35) * wall.length_m + out * half[1]
        bay = _upright_box((float(x), float(y), rng.uniform(2.6, height_m - 1.8)), half, wall.yaw_deg)
        solids.append(painted(bay, material, texels_per_m, (0, 1, 2, 4)))
    return solids


def _marks(base: tuple[int, ...], factors: tuple[float, ...]) -> tuple[Color, ...]:
    return tuple(tuple(min(255, round(channel * factor)) for channel in base) for factor in factors)  # type: ignore[misc]


def _facade(texels_per_m: float, rng: np.random.Generator) -> Painter:
    """Windows of one look at irregular places, each with its own panes, and a door; no two houses are alike."""
    base = tuple(int(channel) for channel in rng.integers(110, 225) + rng.integers(-35, 30, 3))
    plaster = Material(
        tuple(np.clip(base, 60, 235).tolist()),
        _marks(base, (0.7, 0.88, 1.14)),
        float(rng.choice([0, 3, 18])),
        rng.uniform(0, 3),
        rng.uniform(0.3, 2),
        rng.uniform(0.5, 3),
        rng.choice([0.0, 0.1, 0.4]),
        18,
    )
    frame = tuple(int(channel) for channel in rng.integers(40, 235, 3))
    size = (float(rng.uniform(0.8, 1.5)), float(rng.uniform(1.3, 2.1)))
    panes = (int(rng.integers(1, 4)), int(rng.integers(1, 5)))
    window = Opening(size, rng.uniform(0.08, 0.24), 0.08, panes, _STONE, frame, (52, 60, 70))  # type: ignore[arg-type]
    door = Opening((1.5, 2.6), 0.2, 0.1, (2, int(rng.integers(2, 5))), _STONE, frame, frame, sill=False)  # type: ignore[arg-type]
    spacing, storey = rng.uniform(1.9, 3.2), rng.uniform(2.7, 3.4)

    def painter(size_m: tuple[float, float], patch_rng: np.random.Generator) -> UInt8Array:
        placed = []
        for sill in np.arange(1.0, size_m[1] - size[1] - 0.3, storey).tolist():
            for column in grid_m(size_m[0], spacing, 1.0).tolist():
                if patch_rng.random() < 0.85:
                    shade = tuple(int(channel) for channel in patch_rng.integers(40, 190, 3))
                    look = paint_opening(replace(window, pane=shade), texels_per_m, patch_rng)  # type: ignore[arg-type]
                    left = column + patch_rng.normal(0, 0.2) - size[0] / 2
                    placed.append(Placed(look, (left, size_m[1] - sill - size[1] + patch_rng.normal(0, 0.15))))
        entry = patch_rng.uniform(0.15, 0.85) * size_m[0]
        placed.append(Placed(paint_opening(door, texels_per_m, patch_rng), (entry - 0.75, size_m[1] - 2.6)))
        return paint_wall(plaster, size_m, texels_per_m, placed, patch_rng)

    return painter


def _things(corner: np.ndarray, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """Lamp posts, trees, boxes and signs along the two streets that begin at a crossing."""
    solids: list[Solid] = []
    for axis in (0, 1):
        for _ in range(int(rng.integers(4, 7))):
            along = rng.uniform(_STREET_M, SPACING_M[axis] - 2)
            aside = rng.choice([-1, 1]) * rng.uniform(2.6, 3.6)
            x, y = corner + (np.array([along, aside]) if axis == 0 else np.array([aside, along]))
            solids += _thing(float(x), float(y), texels_per_m, rng)
    return solids


def _thing(x: float, y: float, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    kind = int(rng.integers(4))
    if kind == 0:
        post = Cylinder(Rigid3(np.eye(3), np.array([x, y, 2.0])), 0.07, 2.0)
        return [painted(post, _METAL, texels_per_m, (0,))]
    if kind == 1:
        trunk = Cylinder(Rigid3(np.eye(3), np.array([x, y, 1.2])), rng.uniform(0.1, 0.2), 1.2)
        crown = Sphere(Rigid3(np.eye(3), np.array([x, y, 3.1])), rng.uniform(0.6, 0.95))
        return [painted(trunk, _BARK, texels_per_m, (0,)), painted(crown, _LEAVES, texels_per_m * 0.5)]
    color = tuple(int(channel) for channel in rng.integers(50, 220, 3))
    material = Material(color, _marks(color, (0.6, 1.3)), 0, 8, 10, 20, 3, 28)  # type: ignore[arg-type]
    if kind == 2:
        half = tuple(rng.uniform(0.25, 0.6, 3).tolist())
        crate = _upright_box((x, y, half[2]), half, rng.uniform(0, 90))
        return [painted(crate, material, texels_per_m, (0, 1, 2, 3, 5))]
    plate = _upright_box((x, y, rng.uniform(1.8, 2.8)), (0.35, 0.04, 0.3), rng.uniform(0, 180))
    return [painted(plate, _SIGN, texels_per_m, (2, 3))]
