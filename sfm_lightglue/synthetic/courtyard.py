"""An enclosed courtyard whose walls have equal windows, rendered from inside with wide baselines."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.camera_paths import RingPath, ring_poses
from sfm_lightglue.synthetic.facades import Opening, Placed, grid_m, paint_opening, paint_wall
from sfm_lightglue.synthetic.render import SyntheticScene, check_size, exif_camera, render_world
from sfm_lightglue.synthetic.shapes import Box, Cylinder
from sfm_lightglue.synthetic.solids import Enclosure, Solid, box, painted, solid_world, with_exposure
from sfm_lightglue.synthetic.textures import Color, Material

_NEAREST_VIEW_M = 8.0
"""Distance at which texels are as large as pixels; textures of nearer surfaces are magnified."""

_WALL_SPACING, _SPACING_SIGMA_M = (0.9, 1.1), 0.08
"""Spacing of the windows of a wall, relative to that of the courtyard, and irregularity of their places.

Without it, whole walls match each other like two views of one wall.
"""

_CURTAIN: Color = (176, 170, 156)
_CURTAINED = 0.35
"""Fraction of the windows with curtains."""

_COBBLES = Material((132, 126, 118), ((96, 90, 84), (160, 154, 146)), 24, 4, 0, 2, 0, 10)
_STONE = Material((186, 178, 164), ((150, 140, 128), (206, 198, 186)), 6, 0, 0, 6, 0, 20)
_WOOD = Material((126, 92, 62), ((86, 60, 40), (166, 130, 92)), 0, 0, 2, 30, 0, 26)
_ROOF = Material((136, 74, 56), ((110, 58, 44), (160, 96, 74)), 25, 0, 0, 4, 0, 16)
_PLAQUE = Material((208, 200, 184), ((60, 52, 44), (96, 84, 70)), 0, 0, 0, 4, 14, 12)
_ZINC = Material((112, 118, 120), ((90, 96, 98), (140, 146, 148)), 0, 0, 0, 6, 0, 10)
_PAINTS: tuple[Color, ...] = ((224, 220, 210), (120, 74, 48), (66, 92, 80), (96, 104, 120), (150, 60, 52))
_PLASTERS: tuple[Color, ...] = ((206, 196, 170), (198, 178, 150), (188, 186, 180), (210, 192, 176), (176, 168, 152))


@dataclass(frozen=True, slots=True)
class _Plan:
    """Sizes of a courtyard, in metres, and the look of its parts."""

    court: Enclosure
    heights: tuple[float, ...]
    spacing: float
    storey: float
    window: Opening
    door: Opening
    gate: Opening
    plaster: Material


def render_courtyard(
    num_images: int = 10,
    size: tuple[int, int] = (800, 600),
    seed: int = 0,
    progress: Progress = silent,
    focal_35mm_mm: int | None = None,
) -> SyntheticScene:
    """Render a courtyard with equal windows on its four walls, from an irregular ring of cameras inside.

    Neighbouring cameras differ by 15 to 35 degrees at ten images, and less at more. Different walls look alike, and
    so does a wall shifted by one window: image pairs without common surface may have many consistent matches.

    Args:
        num_images: at least 2.
        size: (width, height) in pixels, at least 64 each.
        seed: of windows, sizes, layout, camera path and exposure. The same seed gives the same bytes on one machine
            with one version of numpy and OpenCV.
        progress: called after every image, with stage "render".
        focal_35mm_mm: 35 mm equivalent focal length; None for one between 28 and 32. A longer one shows less of the
            courtyard, so that fewer image pairs have a common view.

    Raises:
        ValueError: if `num_images` or `size` is too small.
    """
    check_size("render_courtyard", num_images, size)
    rng = np.random.default_rng([seed, 1 << 22])
    chosen_mm = int(rng.integers(28, 33))
    camera = exif_camera(size, chosen_mm if focal_35mm_mm is None else focal_35mm_mm)
    texels_per_m = camera.params[0] / _NEAREST_VIEW_M
    plan = _plan(rng)
    solids = _solids(plan, texels_per_m, rng)
    poses = ring_poses(num_images, plan.court, RingPath(), rng)
    scene = render_world(lambda executor: solid_world(solids, seed, executor), camera, poses, progress)
    return with_exposure(scene, seed)


def _plan(rng: np.random.Generator) -> _Plan:
    spacing = rng.uniform(2.5, 3.4)
    stone = Material((186, 178, 164), ((150, 140, 128), (206, 198, 186)), 0, 0, 0, 2, 0, rng.uniform(4, 8))
    frame = _PAINTS[rng.integers(len(_PAINTS))]
    panes = (2, int(rng.integers(2, 5)))
    size = (rng.uniform(0.42, 0.52) * spacing, rng.uniform(1.75, 2.15))
    window = Opening(size, rng.uniform(0.14, 0.22), 0.08, panes, stone, frame, (52, 60, 70))
    wood = _PAINTS[rng.integers(1, len(_PAINTS))]
    door = Opening((1.5, 2.6), 0.2, 0.1, (2, 3), stone, wood, wood, sill=False)
    gate = Opening((3.0, 3.2), 0.3, 0.12, (4, 3), stone, wood, (96, 70, 48), sill=False)
    base = _PLASTERS[rng.integers(len(_PLASTERS))]
    marks = tuple(tuple(round(channel * factor) for channel in base) for factor in (0.78, 1.12))
    plaster = Material(base, marks, 0, 0.9, 0.35, 0.9, 0, 10)  # type: ignore[arg-type]
    heights = tuple(rng.choice([9.2, 9.6, 10.0, 10.4], 4).tolist())
    court = Enclosure(rng.uniform(22, 26), rng.uniform(18, 22))
    return _Plan(court, heights, spacing, 3.0, window, door, gate, plaster)


def _solids(plan: _Plan, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """The walls first, in the order -y, +x, +y, -x; then roofs, ground and individual things."""
    openings = _paint_openings(plan, texels_per_m, rng)
    special = int(rng.integers(4))
    solids = [_wall(plan, side, openings, side == special, texels_per_m, rng) for side in range(4)]
    for side in range(4):
        solids += _roof(plan, side, texels_per_m, rng)
    ground = Box(Rigid3(np.eye(3), np.array([0, 0, -0.25])), (plan.court.width / 2 + 1, plan.court.depth / 2 + 1, 0.25))
    solids.append(painted(ground, _COBBLES, texels_per_m * 0.7, (5,)))
    solids += _things(plan, texels_per_m, rng)
    return solids


def _paint_openings(plan: _Plan, texels_per_m: float, rng: np.random.Generator) -> tuple[UInt8Array, ...]:
    """The window, the window with curtains, the door and the gate."""
    return tuple(
        paint_opening(opening, texels_per_m, np.random.default_rng([int(rng.integers(1 << 30)), 7]))
        for opening in (plan.window, replace(plan.window, pane=_CURTAIN), plan.door, plan.gate)
    )


def _wall(
    plan: _Plan,
    side: int,
    openings: tuple[UInt8Array, ...],
    has_gate: bool,
    texels_per_m: float,
    rng: np.random.Generator,
) -> Solid:
    length, yaw = plan.court.length(side), plan.court.yaw_deg(side)
    height = plan.heights[side]
    window, curtained, door, gate = openings
    width_m, height_m = plan.window.size_m
    columns = grid_m(length, plan.spacing * rng.uniform(*_WALL_SPACING), 1.6)
    columns += rng.normal(0, _SPACING_SIGMA_M, len(columns))
    entry = int(rng.integers(1, len(columns) - 1))
    placed = []
    for row in range(3):
        sill = 0.95 + plan.storey * row
        for idx, column in enumerate(columns.tolist()):
            if row > 0 or abs(idx - entry) > (1 if has_gate else 0):
                look = curtained if rng.random() < _CURTAINED else window
                placed.append(Placed(look, (column - width_m / 2, height - sill - height_m)))
    entrance, plan_of_entrance = (gate, plan.gate) if has_gate else (door, plan.door)
    width_m, height_m = plan_of_entrance.size_m
    placed.append(Placed(entrance, (float(columns[entry]) - width_m / 2, height - height_m)))

    def painter(size_m: tuple[float, float], patch_rng: np.random.Generator) -> UInt8Array:
        return paint_wall(plan.plaster, size_m, texels_per_m, placed, patch_rng)

    shape = box(plan.court.place(side, 0, -0.25, height / 2), (length / 2, 0.25, height / 2), yaw)
    return Solid(shape, {2: painter})


def _roof(plan: _Plan, side: int, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """Eaves, a slanted roof, and up to two chimneys."""
    length, yaw = plan.court.length(side), plan.court.yaw_deg(side)
    height = plan.heights[side]
    eaves = box(plan.court.place(side, 0, 0.1, height + 0.12), (length / 2, 0.35, 0.12), yaw)
    roof = box(plan.court.place(side, 0, -2.4, height + 1.9), (length / 2 + 2, 3.2, 0.1), yaw, 35)
    solids = [painted(eaves, _ZINC, texels_per_m * 0.5, (2, 4)), painted(roof, _ROOF, texels_per_m * 0.5, (2, 5))]
    for _ in range(rng.integers(0, 3)):
        along = rng.uniform(-0.4, 0.4) * length
        half = (rng.uniform(0.3, 0.6), 0.35, 1.2)
        chimney = box(plan.court.place(side, along, -2.2, height + 2.8), half, yaw)
        solids.append(painted(chimney, _STONE, texels_per_m * 0.6))
    return solids


def _things(plan: _Plan, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """Downpipes, plaques, a well, boxes and barrels."""
    solids = []
    for side in range(4):
        length, yaw = plan.court.length(side), plan.court.yaw_deg(side)
        columns = grid_m(length, plan.spacing, 1.6)
        gap = float(columns[rng.integers(len(columns) - 1)] + plan.spacing / 2 - length / 2)
        pipe_height = plan.heights[side] / 2
        pipe = Cylinder(Rigid3(np.eye(3), np.array(plan.court.place(side, gap, 0.12, pipe_height))), 0.07, pipe_height)
        solids.append(painted(pipe, _ZINC, texels_per_m, (0,)))
        for _ in range(rng.integers(1, 4)):
            along, before = rng.uniform(-0.42, 0.42) * length, rng.uniform(0.7, 1.6)
            if rng.random() < 0.5:
                radius, half = rng.uniform(0.28, 0.4), rng.uniform(0.4, 0.55)
                barrel = Cylinder(
                    Rigid3(np.eye(3), np.array(plan.court.place(side, along, before, half))), radius, half
                )
                solids.append(painted(barrel, _WOOD, texels_per_m, (0, 1)))
            else:
                half_size = tuple(rng.uniform(0.25, 0.6, 3).tolist())
                crate = box(plan.court.place(side, along, before, half_size[2]), half_size, yaw + rng.uniform(-30, 30))
                solids.append(painted(crate, _WOOD, texels_per_m, (0, 1, 2, 3, 5)))
        if side % 2 == 0:
            place = plan.court.place(side, gap + rng.uniform(-0.2, 0.2), 0.03, rng.uniform(4.0, 5.0))
            solids.append(painted(box(place, (0.45, 0.03, 0.3), yaw), _PLAQUE, texels_per_m, (2,)))
    x, y = rng.uniform(-2, 2, 2)
    well = Cylinder(Rigid3(np.eye(3), np.array([x, y, 0.45])), 0.9, 0.45)
    solids.append(painted(well, _STONE, texels_per_m, (0, 1)))
    return solids
