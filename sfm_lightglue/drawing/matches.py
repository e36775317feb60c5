"""Two images side by side with their matches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.orientation import quarter_turned, turn_forward
from sfm_lightglue.version import __version__

INLIER_COLOUR = (40, 200, 80)
OUTLIER_COLOUR = (225, 60, 50)

MAX_WIDTH = 4000
"""Width of one image in the drawing, in pixels; wider images reduce the height."""

DOT_RADIUS = 2
"""Radius of the dot at each end of a match, in pixels."""

Colour = tuple[int, int, int]


def draw_matches(
    images: tuple[Image, Image],
    matched_keypoints: tuple[Float32Array, Float32Array],
    inlier_mask: BoolArray,
    height: int = 800,
    max_lines: int = 400,
) -> PilImage.Image:
    """Draw both images upright and equally high, with inliers in green over outliers in red.

    Args:
        images: both.
        matched_keypoints: [M, 2] in each image, in pixels of the stored image; equal rows are a match.
        inlier_mask: [M].
        height: of the drawing in pixels, at most.
        max_lines: of inliers, and of outliers; of more, evenly spaced ones are drawn, so that the images remain
            visible.

    Returns:
        An RGB image.
    """
    pair = PairCanvas(images, height)
    for mask, colour in ((~inlier_mask, OUTLIER_COLOUR), (inlier_mask, INLIER_COLOUR)):
        chosen = evenly_chosen(mask, max_lines)
        pair.connect(matched_keypoints[0][chosen], matched_keypoints[1][chosen], [colour] * len(chosen))
    return pair.canvas


def evenly_chosen(mask: BoolArray, max_lines: int) -> IndexArray:
    """The rows of a mask [M], or `max_lines` of them at equal distances if there are more."""
    chosen = np.flatnonzero(mask)
    if len(chosen) <= max_lines:
        return chosen
    return chosen[np.linspace(0, len(chosen) - 1, max_lines).round().astype(np.int64)]


class PairCanvas:
    """Two images side by side, upright and equally high, to draw on in pixels of the stored images.

    Args:
        images: both.
        height: of the drawing in pixels, at most.
    """

    def __init__(self, images: tuple[Image, Image], height: int = 800) -> None:
        widest = max(_upright_size(image)[0] / _upright_size(image)[1] for image in images)
        height = max(1, min(height, round(MAX_WIDTH / widest)))
        self._images = images
        self._drawn = [_upright(image, height) for image in images]
        self.canvas, self._offset = side_by_side(self._drawn, gap_px=8, background=(255, 255, 255))

    def place(self, side: int, keypoints: AnyArray) -> Float64Array:
        """Keypoints [M, 2] of a stored image -> pixels [M, 2] of the drawing."""
        shift = np.array([self._offset * side, 0.0])
        places: Float64Array = _to_drawing(self._images[side], keypoints, self._drawn[side]) + shift
        return places

    def connect(self, keypoints0: AnyArray, keypoints1: AnyArray, colours: Sequence[Colour]) -> None:
        """Draw a line from each keypoint [M, 2] of the first image to that of the second."""
        connect(self.canvas, self.place(0, keypoints0), self.place(1, keypoints1), colours)


def side_by_side(
    images: Sequence[PilImage.Image], gap_px: int = 0, background: Colour = (0, 0, 0)
) -> tuple[PilImage.Image, int]:
    """Paste two images into a new one.

    Returns:
        The RGB image, and the column at which the second image begins.
    """
    first, second = images
    offset = first.width + gap_px
    canvas = PilImage.new("RGB", (offset + second.width, max(first.height, second.height)), background)
    canvas.paste(first, (0, 0))
    canvas.paste(second, (offset, 0))
    return canvas, offset


def connect(
    canvas: PilImage.Image,
    points0: AnyArray,
    points1: AnyArray,
    colours: Sequence[Colour],
    line_width: int = 1,
    dot_colour: Colour | None = None,
) -> None:
    """Draw lines between points of an image, with a dot at each end; later rows are drawn over earlier ones.

    Args:
        canvas: RGB image that is drawn into.
        points0: [M, 2] in its pixels.
        points1: [M, 2] in its pixels.
        colours: of each line.
        line_width: in pixels.
        dot_colour: None draws circles in the colour of the line.
    """
    draw = ImageDraw.Draw(canvas)
    for start, end, colour in zip(points0, points1, colours, strict=True):
        draw.line([tuple(start), tuple(end)], fill=colour, width=line_width)
        for x, y in (start, end):
            box = [x - DOT_RADIUS, y - DOT_RADIUS, x + DOT_RADIUS, y + DOT_RADIUS]
            draw.ellipse(box, fill=dot_colour, outline=colour if dot_colour is None else None)


def save_drawing(drawing: PilImage.Image, file: IO[bytes], file_format: str) -> None:
    """Write a drawing of matches, with an EXIF tag that `is_drawing` recognises.

    Args:
        drawing: of `draw_matches`.
        file: open for writing.
        file_format: Pillow's name of a format that holds EXIF data, such as "PNG".
    """
    exif = PilImage.Exif()
    exif[_SOFTWARE_TAG] = f"{_SOFTWARE} {__version__}"
    drawing.save(file, file_format, exif=exif)


def is_drawing(path: Path) -> bool:
    """Whether a file was written by `save_drawing`."""
    try:
        with PilImage.open(path) as drawing:
            return str(drawing.getexif().get(_SOFTWARE_TAG, "")).startswith(_SOFTWARE)
    except (OSError, ValueError, SyntaxError, PilImage.DecompressionBombError):
        return False  # not an image


_SOFTWARE_TAG, _SOFTWARE = 0x0131, "sfm_lightglue matches"
"""The EXIF tag `Software`, and its value in our drawings."""


def _upright(image: Image, height: int) -> PilImage.Image:
    upright = PilImage.fromarray(quarter_turned(image.rgb(), image.quarter_turns))
    return upright.resize((max(1, round(upright.width * height / upright.height)), height))


def _upright_size(image: Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if image.quarter_turns % 2 else (width, height)


def _to_drawing(image: Image, keypoints: AnyArray, drawn: PilImage.Image) -> Float64Array:
    """Keypoints [M, 2] of the stored image -> pixels [M, 2] of the upright, resized image."""
    upright = turn_forward(keypoints.astype(np.float64), image.quarter_turns, image.size)
    width, height = _upright_size(image)
    scaled: Float64Array = upright * (drawn.width / width, drawn.height / height)
    return scaled
