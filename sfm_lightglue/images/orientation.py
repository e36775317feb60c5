"""Turned and resized pictures, and the way of points between them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from sfm_lightglue.arrays import UInt8Array


def quarter_turned(pixels: UInt8Array, quarter_turns: int) -> UInt8Array:
    """Turn a picture [H, W, ...] clockwise by quarter turns."""
    return np.ascontiguousarray(np.rot90(pixels, -quarter_turns))


def turn_back(points: np.ndarray[Any, Any], quarter_turns: int, upright_size: tuple[float, float]) -> Any:
    """Move points from the upright picture back into the stored one.

    Args:
        points: [N, 2] (x, y), COLMAP convention, in the upright picture.
        quarter_turns: clockwise turns that led from the stored to the upright picture.
        upright_size: (width, height) of the upright picture in pixels.

    Returns:
        [N, 2] in the stored picture.
    """
    x, y = points[:, 0], points[:, 1]
    width, height = upright_size
    turned = {
        0: (x, y),
        1: (y, width - x),
        2: (width - x, height - y),
        3: (height - y, x),
    }[quarter_turns]
    return np.stack(turned, axis=1)


def turn_forward(points: np.ndarray[Any, Any], quarter_turns: int, stored_size: tuple[float, float]) -> Any:
    """Move points from the stored picture into the upright one: the inverse of `turn_back`.

    Args:
        points: [N, 2] (x, y), COLMAP convention, in the stored picture.
        quarter_turns: clockwise turns that lead from the stored to the upright picture.
        stored_size: (width, height) of the stored picture in pixels.

    Returns:
        [N, 2] in the upright picture.
    """
    return turn_back(points, -quarter_turns % 4, stored_size)


def resize_to_fit(pixels: UInt8Array, max_size: int) -> tuple[UInt8Array, tuple[float, float]]:
    """Shrink a picture so that its longer side has at most `max_size` pixels; never enlarge it.

    Returns:
        The picture, and the factors (x, y) that lead from its pixels back to those of the input.
    """
    height, width = pixels.shape[:2]
    factor = max_size / max(width, height)
    if factor >= 1:
        return pixels, (1.0, 1.0)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False), (width / size[0], height / size[1])
