"""A picture of two photos side by side with their matches."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw

from sfm_lightglue.arrays import Float32Array, Float64Array
from sfm_lightglue.image_pair.matching import ImagePairResult
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.orientation import quarter_turned, turn_forward
from sfm_lightglue.types import TwoViewGeometry
from sfm_lightglue.version import __version__

INLIER_COLOUR = (40, 200, 80)
OUTLIER_COLOUR = (225, 60, 50)


MAX_WIDTH = 4000
"""Of one photo in the picture; wider ones make it less high."""


def draw_matches(result: ImagePairResult, height: int = 800, max_lines: int = 400) -> PilImage.Image:
    """Both photos upright and equally high; inliers green over outliers red.

    Args:
        result: of `match_images`.
        height: of the picture in pixels, at most.
        max_lines: of each kind; of more, every n-th is drawn, so that the photos remain visible.

    Returns:
        An RGB picture.
    """
    widest = max(_upright_size(image)[0] / _upright_size(image)[1] for image in result.images)
    height = max(1, min(height, round(MAX_WIDTH / widest)))
    pictures = [_upright(image, height) for image in result.images]
    offset = pictures[0].width + 8
    canvas = PilImage.new("RGB", (offset + pictures[1].width, height), (255, 255, 255))
    canvas.paste(pictures[0], (0, 0))
    canvas.paste(pictures[1], (offset, 0))
    points = [
        _to_picture(image, features.keypoints[result.matches.indices[:, side]], picture)
        for side, (image, features, picture) in enumerate(zip(result.images, result.features, pictures, strict=True))
    ]
    geometry = result.geometry
    inliers = geometry.inlier_mask if isinstance(geometry, TwoViewGeometry) else np.zeros(len(result.matches), np.bool_)
    draw = ImageDraw.Draw(canvas)
    for mask, colour in ((~inliers, OUTLIER_COLOUR), (inliers, INLIER_COLOUR)):
        chosen = np.flatnonzero(mask)
        for row in chosen[:: max(1, -(-len(chosen) // max_lines))]:
            (x0, y0), (x1, y1) = points[0][row], points[1][row]
            draw.line([(x0, y0), (x1 + offset, y1)], fill=colour, width=1)
            for x, y in ((x0, y0), (x1 + offset, y1)):
                draw.ellipse([x - 2, y - 2, x + 2, y + 2], outline=colour)
    return canvas


def save_drawing(picture: PilImage.Image, file: IO[bytes], file_format: str) -> None:
    """Write a picture of matches, with a mark by which `is_drawing` knows it.

    Args:
        picture: of `draw_matches`.
        file: open for writing.
        file_format: Pillow's name, such as "PNG"; one that holds EXIF data.
    """
    exif = PilImage.Exif()
    exif[_SOFTWARE_TAG] = f"{_SOFTWARE} {__version__}"
    picture.save(file, file_format, exif=exif)


def is_drawing(path: Path) -> bool:
    """Whether a file was written by `save_drawing`."""
    try:
        with PilImage.open(path) as picture:
            return str(picture.getexif().get(_SOFTWARE_TAG, "")).startswith(_SOFTWARE)
    except (OSError, ValueError, SyntaxError, PilImage.DecompressionBombError):
        return False  # no picture at all


_SOFTWARE_TAG, _SOFTWARE = 0x0131, "sfm_lightglue matches"
"""The EXIF tag of the program that made a picture, and ours."""


def _upright(image: Image, height: int) -> PilImage.Image:
    picture = PilImage.fromarray(quarter_turned(image.rgb(), image.quarter_turns))
    return picture.resize((max(1, round(picture.width * height / picture.height)), height))


def _upright_size(image: Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if image.quarter_turns % 2 else (width, height)


def _to_picture(image: Image, keypoints: Float32Array, picture: PilImage.Image) -> Float64Array:
    """Keypoints [M, 2] of the stored image -> pixels [M, 2] of the upright, shrunk picture."""
    upright = turn_forward(keypoints.astype(np.float64), image.quarter_turns, image.size)
    width, height = _upright_size(image)
    scaled: Float64Array = upright * (picture.width / width, picture.height / height)
    return scaled
