"""Matches coloured by score, keypoints shaded by the layer that removed them, and epipolar lines."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import ImageDraw, ImageFont

from sfm_lightglue.arrays import AnyArray, Float64Array, IndexArray
from sfm_lightglue.drawing.matches import Colour, PairCanvas

_SCALE: tuple[Colour, ...] = ((225, 60, 50), (245, 190, 40), (40, 200, 80))
"""Red, yellow and green for scores 0, 0.5 and 1."""

_FIRST_LAYER: Colour = (70, 30, 110)
_LAST_LAYER: Colour = (255, 225, 90)
"""Points that the first layer removed are dark, those that reached the last one are bright."""


def score_colours(scores: AnyArray) -> list[Colour]:
    """Colours of scores [M] from 0, red, over yellow to 1, green."""
    return [_between(_SCALE, float(score)) for score in np.clip(np.nan_to_num(scores), 0, 1)]


def layer_colours(num_layers: AnyArray, stop_layer: int) -> list[Colour]:
    """Colours of points [N] by the number of layers that they went through, from dark to bright."""
    share = np.clip((np.asarray(num_layers) - 1) / max(stop_layer - 1, 1), 0, 1)
    return [_between((_FIRST_LAYER, _LAST_LAYER), float(one)) for one in share]


def draw_layers(pair: PairCanvas, side: int, keypoints: AnyArray, num_layers: AnyArray, stop_layer: int) -> None:
    """Draw the keypoints [N, 2] of an image as squares, shaded by layer [N]; those that were removed first lie below.

    Args:
        pair: that is drawn on.
        side: 0 or 1.
        keypoints: in pixels of the stored image.
        num_layers: of each keypoint.
        stop_layer: of the pair.
    """
    draw = ImageDraw.Draw(pair.canvas)
    order = np.argsort(num_layers, kind="stable")
    colours = layer_colours(num_layers, stop_layer)
    places = pair.place(side, keypoints)
    for row in order:
        x, y = places[row]
        draw.rectangle([x - 2, y - 2, x + 2, y + 2], outline=colours[row])


def draw_layer_legend(pair: PairCanvas, stop_layer: int, network_layers: int) -> None:
    """Write the colours of the layers, and where the network stopped, into the upper left corner."""
    draw = ImageDraw.Draw(pair.canvas)
    text = f"stopped after layer {stop_layer} of {network_layers}; keypoints by their last layer:"
    font = ImageFont.load_default(size=16)
    width = draw.textlength(text, font)
    draw.rectangle([0, 0, width + 26 * max(stop_layer, 1) + 20, 26], fill=(20, 20, 24))
    draw.text((8, 4), text, fill=(240, 240, 240), font=font)
    for row, colour in enumerate(layer_colours(np.arange(1, stop_layer + 1), stop_layer)):
        left = width + 16 + 26 * row
        draw.rectangle([left, 4, left + 22, 22], fill=colour)
        draw.text((left + 7, 4), str(row + 1), fill=(0, 0, 0) if row > stop_layer / 2 else (255, 255, 255), font=font)


def draw_epipolar_lines(
    pair: PairCanvas,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    F: Float64Array,
    keypoints: tuple[AnyArray, AnyArray],
    chosen: IndexArray,
) -> None:
    """Draw some keypoints in one colour each, and their epipolar lines in the other image.

    The lines are those of an image without lens distortion.

    Args:
        pair: that is drawn on.
        sizes: (width, height) of both stored images.
        F: fundamental matrix [3, 3]: x1^T F x0 = 0.
        keypoints: [M, 2] of both images; equal rows are a match.
        chosen: rows that are drawn.
    """
    draw = ImageDraw.Draw(pair.canvas)
    for colour, row in zip(distinct_colours(len(chosen)), chosen, strict=True):
        for side, matrix in ((1, F), (0, F.T)):
            line = matrix @ np.append(keypoints[1 - side][row], 1.0)
            ends = line_in_image(line, sizes[side])
            if ends is not None:
                start, end = pair.place(side, ends)
                draw.line([*start, *end], fill=colour, width=2)
        for side in (0, 1):
            x, y = pair.place(side, keypoints[side][row : row + 1])[0]
            draw.ellipse([x - 5, y - 5, x + 5, y + 5], fill=colour, outline=(255, 255, 255))


def line_in_image(line: Float64Array, size: tuple[int, int]) -> Float64Array | None:
    """The part of a line that lies in an image.

    Args:
        line: (a, b, c) with a x + b y + c = 0.
        size: (width, height) in pixels.

    Returns:
        Both ends [2, 2] on the border of the image; None if the line passes it by.
    """
    a, b, c = line
    width, height = size
    ends = [(x, -(a * x + c) / b) for x in (0.0, float(width)) if b != 0]
    ends += [(-(b * y + c) / a, y) for y in (0.0, float(height)) if a != 0]
    inside = [(x, y) for x, y in ends if -1e-9 <= x <= width + 1e-9 and -1e-9 <= y <= height + 1e-9]
    if len(inside) < 2:
        return None
    points = np.array(inside)
    first, last = np.argmin(points @ (b, -a)), np.argmax(points @ (b, -a))
    return points[[first, last]]


def distinct_colours(number: int) -> list[Colour]:
    """Colours that differ as much as possible."""
    colours = (colorsys.hsv_to_rgb(row / max(number, 1), 0.85, 1.0) for row in range(number))
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colours]


def _between(stops: Sequence[Colour], value: float) -> Colour:
    """The colour at a place, 0 to 1, between colours at equal distances."""
    place = value * (len(stops) - 1)
    low = min(int(place), len(stops) - 2)
    red, green, blue = (
        round(start + (end - start) * (place - low)) for start, end in zip(stops[low], stops[low + 1], strict=True)
    )
    return red, green, blue
