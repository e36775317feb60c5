"""An enclosed courtyard whose walls have equal windows, rendered from inside with wide baselines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.facades import Opening, Placed, grid_m, paint_opening, paint_wall
from sfm_lightglue.synthetic.render import SyntheticScene, check_size, exif_camera, image_names, render_world
from sfm_lightglue.synthetic.shapes import Box, Cylinder
from sfm_lightglue.synthetic.solids import Point, Solid, box, painted, solid_world, with_exposure
from sfm_lightglue.synthetic.textures import Color, Material

_NEAREST_VIEW_M = 8.0
"""Distance at which texels are as large as pixels; textures of nearer surfaces are magnified."""

_COBBLES = Material((132, 126, 118), ((96, 90, 84), (160, 154, 146)), 30, 10, 0, 4, 0, 16)
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

    width: float
    depth: float
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

    Raises:
        ValueError: if `num_images` or `size` is too small.
    """
    check_size("render_courtyard", num_images, size)
    rng = np.random.default_rng([seed, 1 << 22])
    camera = exif_camera(size, int(rng.integers(28, 33)))
    texels_per_m = camera.params[0] / _NEAREST_VIEW_M
    plan = _plan(rng)
    solids = _solids(plan, texels_per_m, rng)
    poses = _camera_poses(plan, num_images, rng)
    scene = render_world(lambda executor: solid_world(solids, seed, executor), camera, poses, progress)
    return with_exposure(scene, seed)


def _plan(rng: np.random.Generator) -> _Plan:
    spacing = rng.uniform(2.5, 3.4)
    stone = Material((186, 178, 164), ((150, 140, 128), (206, 198, 186)), 0, 0, 0, 8, 0, rng.uniform(10, 20))
    frame = _PAINTS[rng.integers(len(_PAINTS))]
    panes = (int(rng.integers(2, 4)), int(rng.integers(3, 5)))
    size = (rng.uniform(0.42, 0.52) * spacing, rng.uniform(1.75, 2.15))
    window = Opening(size, rng.uniform(0.14, 0.22), 0.08, panes, stone, frame, (52, 60, 70))
    wood = _PAINTS[rng.integers(1, len(_PAINTS))]
    door = Opening((1.5, 2.6), 0.2, 0.1, (2, 3), stone, wood, wood, sill=False)
    gate = Opening((3.0, 3.2), 0.3, 0.12, (4, 3), stone, wood, (96, 70, 48), sill=False)
    base = _PLASTERS[rng.integers(len(_PLASTERS))]
    marks = tuple(tuple(round(channel * factor) for channel in base) for factor in (0.9, 1.06))
    plaster = Material(base, marks, 0, 0.3, 0.05, 0.5, 0, 7)  # type: ignore[arg-type]
    heights = tuple(rng.choice([9.2, 9.6, 10.0, 10.4], 4).tolist())
    return _Plan(rng.uniform(22, 26), rng.uniform(18, 22), heights, spacing, 3.0, window, door, gate, plaster)


def _solids(plan: _Plan, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """The walls first, in the order -y, +x, +y, -x; then roofs, ground and individual things."""
    openings = tuple(
        paint_opening(opening, texels_per_m, np.random.default_rng([int(rng.integers(1 << 30)), 7]))
        for opening in (plan.window, plan.door, plan.gate)
    )
    special = int(rng.integers(4))
    solids = [_wall(plan, side, openings, side == special, texels_per_m, rng) for side in range(4)]
    for side in range(4):
        solids += _roof(plan, side, texels_per_m, rng)
    ground = Box(Rigid3(np.eye(3), np.array([0, 0, -0.25])), (plan.width / 2 + 1, plan.depth / 2 + 1, 0.25))
    solids.append(painted(ground, _COBBLES, texels_per_m * 0.7, (5,)))
    solids += _things(plan, texels_per_m, rng)
    return solids


def _side_frame(plan: _Plan, side: int) -> tuple[float, float, float]:
    """Length of a wall, its distance from the centre, and the yaw that turns local -y from the wall to the court."""
    length, distance = (plan.width, plan.depth / 2) if side % 2 == 0 else (plan.depth, plan.width / 2)
    return length, distance, 180.0 + 90.0 * side


def _at(plan: _Plan, side: int, along: float, before: float, height: float) -> Point:
    """A point at `along` metres from the middle of a wall, to the right, and `before` metres before it."""
    _, distance, yaw_deg = _side_frame(plan, side)
    yaw = np.radians(yaw_deg)
    x, y = along, distance - before
    return float(np.cos(yaw) * x - np.sin(yaw) * y), float(np.sin(yaw) * x + np.cos(yaw) * y), height


def _wall(
    plan: _Plan,
    side: int,
    openings: tuple[UInt8Array, ...],
    has_gate: bool,
    texels_per_m: float,
    rng: np.random.Generator,
) -> Solid:
    length, _, yaw = _side_frame(plan, side)
    height = plan.heights[side]
    window, door, gate = openings
    width_m, height_m = plan.window.size_m
    columns = grid_m(length, plan.spacing, 1.6)
    entry = int(rng.integers(1, len(columns) - 1))
    placed = []
    for row in range(3):
        sill = 0.95 + plan.storey * row
        for idx, column in enumerate(columns.tolist()):
            if row > 0 or abs(idx - entry) > (1 if has_gate else 0):
                placed.append(Placed(window, (column - width_m / 2, height - sill - height_m)))
    opening, look = (gate, plan.gate) if has_gate else (door, plan.door)
    placed.append(Placed(opening, (float(columns[entry]) - look.size_m[0] / 2, height - look.size_m[1])))

    def painter(size_m: tuple[float, float], patch_rng: np.random.Generator) -> UInt8Array:
        return paint_wall(plan.plaster, size_m, texels_per_m, placed, patch_rng)

    shape = box(_at(plan, side, 0, -0.25, height / 2), (length / 2 + 0.0, 0.25, height / 2), yaw)
    return Solid(shape, {2: painter})


def _roof(plan: _Plan, side: int, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """Eaves, a slanted roof, and up to two chimneys."""
    length, _, yaw = _side_frame(plan, side)
    height = plan.heights[side]
    eaves = box(_at(plan, side, 0, 0.1, height + 0.12), (length / 2, 0.35, 0.12), yaw)
    roof = box(_at(plan, side, 0, -2.4, height + 1.9), (length / 2 + 2, 3.2, 0.1), yaw, 35)
    solids = [painted(eaves, _ZINC, texels_per_m * 0.5, (2, 4)), painted(roof, _ROOF, texels_per_m * 0.5, (2, 5))]
    for _ in range(rng.integers(0, 3)):
        along = rng.uniform(-0.4, 0.4) * length
        half = (rng.uniform(0.3, 0.6), 0.35, 1.2)
        chimney = box(_at(plan, side, along, -2.2, height + 2.8), half, yaw)
        solids.append(painted(chimney, _STONE, texels_per_m * 0.6))
    return solids


def _things(plan: _Plan, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """Downpipes, plaques, a well, boxes and barrels."""
    solids = []
    for side in range(4):
        length, _, yaw = _side_frame(plan, side)
        columns = grid_m(length, plan.spacing, 1.6)
        gap = float(columns[rng.integers(len(columns) - 1)] + plan.spacing / 2 - length / 2)
        pipe_height = plan.heights[side] / 2
        pipe = Cylinder(Rigid3(np.eye(3), np.array(_at(plan, side, gap, 0.12, pipe_height))), 0.07, pipe_height)
        solids.append(painted(pipe, _ZINC, texels_per_m, (0,)))
        for _ in range(rng.integers(1, 4)):
            along, before = rng.uniform(-0.42, 0.42) * length, rng.uniform(0.7, 1.6)
            if rng.random() < 0.5:
                radius, half = rng.uniform(0.28, 0.4), rng.uniform(0.4, 0.55)
                barrel = Cylinder(Rigid3(np.eye(3), np.array(_at(plan, side, along, before, half))), radius, half)
                solids.append(painted(barrel, _WOOD, texels_per_m, (0, 1)))
            else:
                half_size = tuple(rng.uniform(0.25, 0.6, 3).tolist())
                crate = box(_at(plan, side, along, before, half_size[2]), half_size, yaw + rng.uniform(-30, 30))
                solids.append(painted(crate, _WOOD, texels_per_m, (0, 1, 2, 3, 5)))
        if side % 2 == 0:
            place = _at(plan, side, gap + rng.uniform(-0.2, 0.2), 0.03, rng.uniform(4.0, 5.0))
            solids.append(painted(box(place, (0.45, 0.03, 0.3), yaw), _PLAQUE, texels_per_m, (2,)))
    x, y = rng.uniform(-2, 2, 2)
    well = Cylinder(Rigid3(np.eye(3), np.array([x, y, 0.45])), 0.9, 0.45)
    solids.append(painted(well, _STONE, texels_per_m, (0, 1)))
    return solids


def _camera_poses(plan: _Plan, num_images: int, rng: np.random.Generator) -> dict[str, Rigid3]:
    """Poses on an irregular ring about two metres above the ground, which look across the court."""
    turn_deg = min(26.0 * (num_images - 1), 320.0) * rng.uniform(0.92, 1.08)
    start = rng.uniform(0, 360)
    way = 1 if rng.random() < 0.5 else -1
    jitter = 0.2 * turn_deg / (num_images - 1)
    poses = {}
    for idx, name in enumerate(image_names(num_images)):
        angle = np.radians(start + way * (turn_deg * idx / (num_images - 1) + rng.uniform(-jitter, jitter)))
        radius = rng.uniform(0.32, 0.46) * np.array([plan.width, plan.depth]) / 2
        center = np.array([*(radius * (np.cos(angle), np.sin(angle))), rng.uniform(1.6, 2.4)])
        heading = angle + np.pi + np.radians(rng.uniform(-10, 10))
        rise = np.tan(np.radians(rng.uniform(5, 10)))
        target = center + np.array([np.cos(heading), np.sin(heading), rise])
        poses[name] = Rigid3.look_at(center, target, np.array([*rng.normal(0, 0.02, 2), 1.0]))
    return poses
