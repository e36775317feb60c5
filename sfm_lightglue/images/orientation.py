"""Rotate and resize images, and convert points between the original and the result."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from sfm_lightglue.arrays import UInt8Array


def quarter_turned(pixels: UInt8Array, quarter_turns: int) -> UInt8Array:
    """Rotate an image [H, W, ...] clockwise by quarter turns."""
    return np.ascontiguousarray(np.rot90(pixels, -quarter_turns))


def turn_back(points: np.ndarray[Any, Any], quarter_turns: int, upright_size: tuple[float, float]) -> Any:
    """Convert points of the upright image to the stored image.

    Args:
        points: [N, 2] (x, y) in the upright image, in pixels, COLMAP convention.
        quarter_turns: clockwise quarter turns that make the stored image upright, 0..3.
        upright_size: (width, height) of the upright image in pixels.

    Returns:
        [N, 2] (x, y) in the stored image, in pixels.
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
    """Convert points of the stored image to the upright image: the inverse of `turn_back`.

    Args:
        points: [N, 2] (x, y) in the stored image, in pixels, COLMAP convention.
        quarter_turns: clockwise quarter turns that make the stored image upright, 0..3.
        stored_size: (width, height) of the stored image in pixels.

    Returns:
        [N, 2] (x, y) in the upright image, in pixels.
    """
    return turn_back(points, -quarter_turns % 4, stored_size)


def resize_to_fit(pixels: UInt8Array, max_size: int) -> tuple[UInt8Array, tuple[float, float]]:
    """Shrink an image so that its longer side has at most `max_size` pixels. Smaller images stay as they are.

    Args:
        pixels: [H, W, ...] uint8.
        max_size: maximum length of the longer side in pixels.

    Returns:
        The resized image, and the factors (x, y) that convert its pixel coordinates to those of the input.
    """
    height, width = pixels.shape[:2]
    factor = max_size / max(width, height)
    if factor >= 1:
        return pixels, (1.0, 1.0)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False), (width / size[0], height / size[1])
