"""Altered copies of an image for matching: smaller, turned by any angle, or with equalised contrast."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from sfm_lightglue.arrays import Float64Array, UInt8Array
from sfm_lightglue.images.image import Image

ALTERATION_VERSION = 1
"""Number to raise when a change of the code changes the pixels of altered copies."""

_CLIP_LIMIT, _TILES = 4.0, (8, 8)
"""Of the contrast-limited adaptive histogram equalisation."""


@dataclass(frozen=True, slots=True)
class Alteration:
    """How a copy differs from an image.

    Args:
        scale: size of the copy, as a fraction of the size at which features are detected; at most 1.
        angle_deg: clockwise angle by which the upright image is turned.
        equalised: whether the contrast of its parts is equalised.

    Source: Zuiderveld, Contrast limited adaptive histogram equalization, 1994.
    """

    scale: float = 1.0
    angle_deg: float = 0.0
    equalised: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1 or not math.isfinite(self.angle_deg):
            raise ValueError(f"Alteration: expected a scale in (0, 1] and a finite angle, got {self}")

    def pixels(self, image: Image, max_size: int, colour: bool) -> UInt8Array:
        """The pixels of the copy: grey [H, W] or RGB [H, W, 3].

        Args:
            image: to decode.
            max_size: longer side in pixels to which larger images are shrunk, before the scale.
            colour: whether the pixels are RGB.

        Raises:
            DataError: if the image cannot be decoded.
        """
        size = self._small_size(image.size, max_size)
        pixels, _ = image.at_least(max(size), colour)
        if (pixels.shape[1], pixels.shape[0]) != size:
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        if self.equalised:
            pixels = _equalised(pixels)
        matrix, canvas = self._turn(size, image.quarter_turns)
        shift = matrix @ np.array([0.5, 0.5, 1.0]) - 0.5  # OpenCV's first pixel centre is at 0
        for_opencv = np.column_stack([matrix[:, :2], shift])
        turned = cv2.warpAffine(
            np.ascontiguousarray(pixels), for_opencv, canvas, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return turned.astype(np.uint8, copy=False)

    def stored_from_altered(self, size: tuple[int, int], quarter_turns: int, max_size: int) -> Float64Array:
        """The affine matrix [2, 3] from pixels of the copy to pixels of the stored image.

        Args:
            size: (width, height) of the stored image.
            quarter_turns: clockwise turns that make it upright.
            max_size: as for `pixels`.
        """
        small = self._small_size(size, max_size)
        matrix, _ = self._turn(small, quarter_turns)
        inverse = matrix[:, :2].T  # of a rotation
        factors = np.array([size[0] / small[0], size[1] / small[1]])
        stored: Float64Array = np.column_stack([inverse, -inverse @ matrix[:, 2]]) * factors[:, None]
        return stored

    def _small_size(self, size: tuple[int, int], max_size: int) -> tuple[int, int]:
        factor = min(1.0, max_size / max(size)) * self.scale
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))

    def _turn(self, size: tuple[int, int], quarter_turns: int) -> tuple[Float64Array, tuple[int, int]]:
        """The affine matrix [2, 3] of the turn, and the size of the picture that holds the whole turned one."""
        angle = math.radians(self.angle_deg + 90 * quarter_turns)
        cosine, sine = (0.0 if abs(value) < 1e-12 else value for value in (math.cos(angle), math.sin(angle)))
        R = np.array([[cosine, -sine], [sine, cosine]])  # clockwise, as y points down
        extent = np.abs(R) @ np.array(size, np.float64)
        canvas = math.ceil(extent[0] - 1e-6), math.ceil(extent[1] - 1e-6)
        return np.column_stack([R, np.array(canvas) / 2 - R @ np.array(size) / 2]), canvas


def _equalised(pixels: UInt8Array) -> UInt8Array:
    clahe = cv2.createCLAHE(_CLIP_LIMIT, _TILES)
    if pixels.ndim == 2:
        return clahe.apply(pixels).astype(np.uint8, copy=False)
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    lab[..., 0] = clahe.apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(np.uint8, copy=False)
