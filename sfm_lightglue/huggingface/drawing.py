"""Two images of a batch side by side with their matches, in the colours of `transformers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image as PilImage
from torch import Tensor

from sfm_lightglue.drawing.matches import connect, side_by_side

Array = np.ndarray[Any, Any]

_LINE_WIDTH = 3


def draw_pair(images: tuple[Array, Array], matches: Mapping[str, Tensor]) -> PilImage.Image:
    """The first image at the left, the second at the right, both in their sizes.

    Args:
        images: [1 or 3, H, W], uint8, or floats from 0 to 1 or to 255.
        matches: `keypoints0`, `keypoints1` [M, 2] in pixels, the centre of the first pixel at 0; `matching_scores` [M].

    Returns:
        An RGB image; lines are red for a score of 0 to green for 1.
    """
    canvas, offset = side_by_side([_as_pil(image) for image in images])
    points0, points1, scores = (
        matches[name].detach().float().cpu().numpy() for name in ("keypoints0", "keypoints1", "matching_scores")
    )
    order = np.argsort(scores, kind="stable")  # the highest-scoring matches are drawn last
    greens = [float(score) for score in np.clip(scores[order], 0, 1)]
    colours = [(round(255 * (1 - green)), round(255 * green), 0) for green in greens]
    connect(canvas, points0[order], points1[order] + (offset, 0), colours, _LINE_WIDTH, dot_colour=(0, 0, 0))
    return canvas


def _as_pil(image: Array) -> PilImage.Image:
    if image.dtype != np.uint8:
        factor = 255.0 if image.max(initial=0) <= 1 else 1.0
        image = np.clip(image * factor, 0, 255).astype(np.uint8)
    rgb = np.repeat(image, 3, axis=0) if len(image) == 1 else image
    return PilImage.fromarray(np.ascontiguousarray(rgb.transpose(1, 2, 0)))  # [3, H, W] -> [H, W, 3]
