"""Two pictures side by side with their matches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw
from torch import Tensor

Array = np.ndarray[Any, Any]

_LINE_WIDTH = 3
_DOT_RADIUS = 2


def draw_pair(pictures: tuple[Array, Array], matches: Mapping[str, Tensor]) -> PilImage.Image:
    """The first picture at the left, the second at the right, both in their sizes.

    Args:
        pictures: [1 or 3, H, W], uint8, or floats from 0 to 1 or to 255.
        matches: `keypoints0`, `keypoints1` [M, 2] in pixels whose first centre is at 0, `matching_scores` [M].

    Returns:
        An RGB picture.
    """
    shown = [_as_pil(picture) for picture in pictures]
    offset = shown[0].width
    canvas = PilImage.new("RGB", (offset + shown[1].width, max(picture.height for picture in shown)))
    canvas.paste(shown[0], (0, 0))
    canvas.paste(shown[1], (offset, 0))
    draw = ImageDraw.Draw(canvas)
    points0, points1, scores = (
        matches[name].detach().float().cpu().numpy() for name in ("keypoints0", "keypoints1", "matching_scores")
    )
    points1 = points1 + np.array((offset, 0))
    for index in np.argsort(scores, kind="stable"):  # the surest on top
        score = float(np.clip(scores[index], 0, 1))
        ends = [tuple(points0[index]), tuple(points1[index])]
        draw.line(ends, fill=(round(255 * (1 - score)), round(255 * score), 0), width=_LINE_WIDTH)
        for x, y in ends:
            box = (x - _DOT_RADIUS, y - _DOT_RADIUS, x + _DOT_RADIUS, y + _DOT_RADIUS)
            draw.ellipse(box, fill="black")
    return canvas


def _as_pil(picture: Array) -> PilImage.Image:
    if picture.dtype != np.uint8:
        factor = 255.0 if picture.max(initial=0) <= 1 else 1.0
        picture = np.clip(picture * factor, 0, 255).astype(np.uint8)
    return PilImage.fromarray(np.repeat(picture, 3, 0).transpose(1, 2, 0) if len(picture) == 1 else _last(picture))


def _last(picture: Array) -> Array:
    """[3, H, W] -> [H, W, 3]."""
    return np.ascontiguousarray(picture.transpose(1, 2, 0))
