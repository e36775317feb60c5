"""Textures of walls with equal windows and doors.

A window is painted once and copied to all its places at whole texels, so that all its copies have the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from sfm_lightglue.arrays import Float64Array, UInt8Array
from sfm_lightglue.synthetic.textures import Color, Material, paint

_SHIFT = 4
"""Fractional bits of coordinates in the drawing functions of cv2."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Look of a window, a door or a cabinet front: a surround, a frame, and panes or panels.

    Args:
        size_m: (width, height) with the surround.
        surround_m: width of the surround.
        frame_m: width of the frame and of the bars.
        panes: numbers of panes (across, down).
        surround: of the surround.
        frame: colour of the frame.
        pane: colour of the panes; they get brighter or darker by chance.
        sill: whether a sill stands out below and a moulding above.
    """

    size_m: tuple[float, float]
    surround_m: float
    frame_m: float
    panes: tuple[int, int]
    surround: Material
    frame: Color
    pane: Color
    sill: bool = True


@dataclass(frozen=True, eq=False)
class Placed:
    """A painted patch at a place of a wall.

    Args:
        image: uint8 [h, w, 3].
        corner_m: (u, v) of its upper left corner on the wall, which is rounded to whole texels.
    """

    image: UInt8Array
    corner_m: tuple[float, float]


def paint_opening(opening: Opening, texels_per_m: float, rng: np.random.Generator) -> UInt8Array:
    """Paint a window or door.

    Args:
        opening: its look.
        texels_per_m: resolution.
        rng: source of random numbers: blocks of the surround, shades of the panes, grain.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    canvas = paint(opening.surround, opening.size_m, texels_per_m, rng)
    width, height = opening.size_m
    border = opening.surround_m
    _draw_blocks(canvas, border, texels_per_m, rng)
    bottom = height - (0.6 * border if opening.sill else 0.0)
    _rectangle(canvas, (border, border, width - border, bottom), _shade(opening.frame, 0.45), texels_per_m)
    reveal = 0.04
    _rectangle(
        canvas, (border + reveal, border + 2 * reveal, width - border - reveal, bottom), opening.frame, texels_per_m
    )
    _draw_panes(
        canvas, opening, (border + reveal, border + 2 * reveal, width - border - reveal, bottom), texels_per_m, rng
    )
    if opening.sill:
        for top, end in ((bottom, height), (0.0, 0.35 * border)):
            _rectangle(canvas, (0, top, width, end), _shade(opening.surround.base, 1.12), texels_per_m)
            _rectangle(canvas, (0, end - 0.03, width, end), _shade(opening.surround.base, 0.5), texels_per_m)
    grain = rng.normal(1.0, 0.01, canvas.shape[:2])[..., None]
    return np.clip(canvas * grain, 0, 255).astype(np.uint8)


def paint_wall(
    plaster: Material,
    size_m: tuple[float, float],
    texels_per_m: float,
    placed: Iterable[Placed],
    rng: np.random.Generator,
) -> UInt8Array:
    """Paint a wall: plaster with stains, and patches on it, of which later ones cover earlier ones.

    Args:
        plaster: the wall between the patches.
        size_m: (width, height) of the wall.
        texels_per_m: resolution.
        placed: the patches; parts outside of the wall are cut off.
        rng: source of random numbers.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    canvas = paint(plaster, size_m, texels_per_m, rng)
    _stain(canvas, size_m, texels_per_m, rng)
    for one in placed:
        x, y = (round(value * texels_per_m) for value in one.corner_m)
        height, width = one.image.shape[:2]
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + width, canvas.shape[1]), min(y + height, canvas.shape[0])
        if x0 < x1 and y0 < y1:
            canvas[y0:y1, x0:x1] = one.image[y0 - y : y1 - y, x0 - x : x1 - x]
    return canvas


def grid_m(length_m: float, spacing_m: float, margin_m: float) -> Float64Array:
    """Places at a regular spacing, as many as fit between the margins, with equal rests on both sides."""
    count = int((length_m - 2 * margin_m) / spacing_m) + 1
    first_m = (length_m - (count - 1) * spacing_m) / 2
    return first_m + spacing_m * np.arange(count, dtype=np.float64)


def _draw_blocks(canvas: UInt8Array, border_m: float, texels_per_m: float, rng: np.random.Generator) -> None:
    """Blocks of the surround in different shades, left and right, with joints."""
    height_m, width_m = (length / texels_per_m for length in canvas.shape[:2])
    top = 0.0
    while top < height_m:
        end = top + rng.uniform(0.35, 0.6)
        for left in (0.0, width_m - border_m):
            rows = slice(round(top * texels_per_m), round(end * texels_per_m))
            columns = slice(round(left * texels_per_m), round((left + border_m) * texels_per_m))
            block = canvas[rows, columns]
            canvas[rows, columns] = np.clip(block * rng.normal(1.0, 0.05), 0, 255).astype(np.uint8)
            _rectangle(canvas, (left, end - 0.015, left + border_m, end), (90, 84, 76), texels_per_m)
        top = end


def _draw_panes(
    canvas: UInt8Array,
    opening: Opening,
    box_m: tuple[float, float, float, float],
    texels_per_m: float,
    rng: np.random.Generator,
) -> None:
    left, top, right, bottom = box_m
    across, down = opening.panes
    step_x, step_y = (right - left) / across, (bottom - top) / down
    half = opening.frame_m / 2
    for row in range(down):
        for column in range(across):
            x, y = left + column * step_x, top + row * step_y
            color = _shade(opening.pane, rng.uniform(0.7, 1.35))
            _rectangle(canvas, (x + half, y + half, x + step_x - half, y + step_y - half), color, texels_per_m)
            if rng.random() < 0.5:
                continue
            # A reflection, or a raised panel: a brighter part with a slanted border.
            split = rng.uniform(0.2, 0.8, 2) * (step_x - 2 * half)
            corners = np.array(
                [
                    (x + half, y + half),
                    (x + half + split[0], y + half),
                    (x + half + split[1], y + step_y - half),
                    (x + half, y + step_y - half),
                ]
            )
            points = np.rint((corners * texels_per_m - 0.5) * 2**_SHIFT).astype(np.int32)
            cv2.fillPoly(canvas, [points], _shade(color, rng.uniform(1.1, 1.5)), cv2.LINE_AA, _SHIFT)


def _stain(canvas: UInt8Array, size_m: tuple[float, float], texels_per_m: float, rng: np.random.Generator) -> None:
    """Soft darker and brighter streaks of low contrast, different on each wall."""
    scale = 8.0
    width, height = (max(2, round(length * scale)) for length in size_m)
    factor = np.ones((height, width), np.float32)
    for _ in range(rng.poisson(0.15 * size_m[0] * size_m[1])):
        x, y = rng.random(2) * (width, height)
        axes = (max(1, round(rng.uniform(0.1, 0.6) * scale)), max(1, round(rng.uniform(0.3, 1.5) * scale)))
        shade = float(rng.normal(1.0, 0.06))
        mask = np.zeros((height, width), np.float32)
        cv2.ellipse(mask, (int(x), int(y)), axes, 0, 0, 360, 1.0, cv2.FILLED)
        factor *= 1 + (shade - 1) * mask
    factor = np.asarray(cv2.GaussianBlur(factor, (0, 0), 1.5), np.float32)
    fine = np.asarray(cv2.resize(factor, canvas.shape[1::-1], interpolation=cv2.INTER_LINEAR))
    canvas[:] = np.clip(canvas * fine[..., None], 0, 255).astype(np.uint8)


def _rectangle(canvas: UInt8Array, box_m: tuple[float, float, float, float], color: Color, texels_per_m: float) -> None:
    """Fill (left, top, right, bottom) in metres, rounded to whole texels; at least one texel."""
    left, top, right, bottom = (round(value * texels_per_m) for value in box_m)
    canvas[top : max(bottom, top + 1), left : max(right, left + 1)] = color


def _shade(color: Color, factor: float) -> Color:
    red, green, blue = (min(255, round(channel * factor)) for channel in color)
    return red, green, blue
