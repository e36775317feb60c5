"""A walk along a row of houses with equal windows, of which every third is the same but for its plaster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.camera_paths import walk_poses
from sfm_lightglue.synthetic.facades import Opening, Placed, grid_m, paint_opening, paint_wall
from sfm_lightglue.synthetic.render import SyntheticScene, check_size, exif_camera, render_world
from sfm_lightglue.synthetic.shapes import Cylinder
from sfm_lightglue.synthetic.solids import Painter, Solid, box, painted, solid_world, with_exposure
from sfm_lightglue.synthetic.textures import Color, Material

NUM_DESIGNS = 3
"""Houses whose places differ by a multiple of this number have the same design: openings and colour of the plaster."""

_NEAREST_VIEW_M = 8.0
_DISTANCE_M, _STEP_M = 9.0, 1.8
_PAVEMENT = Material((128, 126, 122), ((100, 98, 94), (150, 148, 144)), 4, 6, 0, 4, 0, 10)
_STONE = Material((186, 178, 164), ((150, 140, 128), (206, 198, 186)), 0, 0, 0, 2, 0, 6)
_NUMBER = Material((60, 76, 120), ((230, 230, 226), (210, 206, 196)), 0, 0, 0, 2, 30, 8)
_METAL = Material((88, 92, 94), ((70, 74, 76), (120, 124, 126)), 0, 0, 4, 10, 3, 12)
_BARK = Material((104, 88, 70), ((74, 62, 48), (140, 124, 100)), 0, 10, 4, 60, 0, 34)
_PLASTERS: tuple[Color, ...] = ((206, 190, 160), (170, 120, 96), (186, 188, 182))
_WOODS: tuple[Color, ...] = ((112, 66, 44), (60, 88, 78), (96, 100, 112))


def render_street(
    num_images: int = 20,
    size: tuple[int, int] = (800, 600),
    seed: int = 0,
    progress: Progress = silent,
) -> SyntheticScene:
    """Render a walk along houses with equal windows; every third house has the same design.

    Args:
        num_images: at least 2; neighbouring cameras are about 1.8 m apart.
        size: (width, height) in pixels, at least 64 each.
        seed: of windows, houses, camera path and exposure. The same seed gives the same bytes on one machine with
            one version of numpy and OpenCV.
        progress: called after every image, with stage "render".

    Raises:
        ValueError: if `num_images` or `size` is too small.
    """
    check_size("render_street", num_images, size)
    rng = np.random.default_rng([seed, 1 << 23])
    camera = exif_camera(size, int(rng.integers(26, 31)))
    texels_per_m = camera.params[0] / _NEAREST_VIEW_M
    solids = _solids(_STEP_M * num_images, texels_per_m, seed, rng)
    poses = walk_poses(num_images, _STEP_M, _DISTANCE_M, rng)
    scene = render_world(lambda executor: solid_world(solids, seed, executor), camera, poses, progress)
    return with_exposure(scene, seed)


def _solids(length_m: float, texels_per_m: float, seed: int, rng: np.random.Generator) -> list[Solid]:
    """Houses from before the first camera to behind what the last one sees, pavement, and individual things."""
    pane = (52, 60, 70)
    window = Opening((1.3, 1.9), 0.16, 0.08, (2, int(rng.integers(2, 5))), _STONE, (224, 220, 210), pane)
    openings = [(window, paint_opening(window, texels_per_m, np.random.default_rng([seed, 1])))]
    for design, wood in enumerate(_WOODS):
        door = Opening((1.4, 2.5), 0.18, 0.1, (2, 2 + design), _STONE, wood, wood, sill=False)
        openings.append((door, paint_opening(door, texels_per_m, np.random.default_rng([seed, 2, design]))))
    width_m, spacing = rng.uniform(7.0, 9.0), rng.uniform(2.0, 2.4)
    heights, recesses = rng.uniform(6.8, 9.8, NUM_DESIGNS), rng.uniform(0.0, 0.8, NUM_DESIGNS)
    start, end = -2 * width_m, length_m + 4 * width_m
    solids = []
    for idx in range(int((end - start) / width_m) + 1):
        design = idx % NUM_DESIGNS
        height = float(heights[design])
        house = box(
            (start + (idx + 0.5) * width_m, float(recesses[design]) + 4, height / 2), (width_m / 2, 4, height / 2)
        )
        solids.append(Solid(house, {2: _facade(design, openings, spacing, texels_per_m)}))
    ground = box((length_m / 2, -6, -0.2), (length_m / 2 + 60, 14, 0.2))
    solids.append(painted(ground, _PAVEMENT, texels_per_m * 0.4, (5,)))
    return solids + _things(start, end, texels_per_m, rng)


def _facade(
    design: int, openings: Sequence[tuple[Opening, UInt8Array]], spacing_m: float, texels_per_m: float
) -> Painter:
    """Paints a facade of a design: equal windows and a door at its place; only the plaster is of each house alone."""
    base = _PLASTERS[design]
    marks = tuple(tuple(round(channel * factor) for channel in base) for factor in (0.78, 1.12))
    plaster = Material(base, marks, 0, 0.6, 0.2, 0.6, 0, 9)  # type: ignore[arg-type]

    def painter(size_m: tuple[float, float], rng: np.random.Generator) -> UInt8Array:
        (window, window_image), (door, door_image) = openings[0], openings[1 + design]
        columns = grid_m(size_m[0], spacing_m, 1.0)
        placed = [
            Placed(window_image, (column - window.size_m[0] / 2, size_m[1] - sill - window.size_m[1]))
            for sill in np.arange(0.9, size_m[1] - window.size_m[1] - 0.2, 2.9).tolist()
            for column in columns.tolist()
        ]
        entry = float(columns[design % len(columns)])
        behind = Placed(
            np.full((round(3.0 * texels_per_m), round(1.4 * texels_per_m), 3), base, np.uint8),
            (entry - 0.7, size_m[1] - 2.95),
        )
        front = Placed(door_image, (entry - door.size_m[0] / 2, size_m[1] - door.size_m[1]))
        return paint_wall(plaster, size_m, texels_per_m, [*placed, behind, front], rng)

    return painter


def _things(start_m: float, end_m: float, texels_per_m: float, rng: np.random.Generator) -> list[Solid]:
    """Things that differ along the street: lamp posts, trees, boxes and number plates."""
    solids = []
    x = start_m
    while x < end_m:
        x += rng.uniform(3.0, 7.0)
        kind = rng.integers(4)
        if kind < 2:
            radius, half, material = ((0.07, 2.5, _METAL), (rng.uniform(0.12, 0.25), 2.0, _BARK))[kind]
            center = np.array([x, -rng.uniform(1.0, 2.5), half])
            solids.append(painted(Cylinder(Rigid3(np.eye(3), center), radius, half), material, texels_per_m, (0,)))
        elif kind == 2:
            half_size = (rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.4), rng.uniform(0.4, 0.7))
            crate = box((x, -rng.uniform(0.5, 1.5), half_size[2]), half_size, rng.uniform(-15, 15))
            solids.append(painted(crate, _METAL, texels_per_m, (0, 1, 2, 5)))
        else:
            sign = box((x, -0.15, rng.uniform(1.8, 3.2)), (0.35, 0.05, 0.25))
            solids.append(painted(sign, _NUMBER, texels_per_m, (2,)))
    return solids
