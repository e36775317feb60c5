"""Corners of a grey image, described by the smoothed pixels around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import Detection, UprightExtractor
from sfm_lightglue.features import best_spread
from sfm_lightglue.identity import Identity
from sfm_lightglue.types import Float32Array, IndexArray, UInt8Array

_MARGIN_PX = 8
_OFFSETS_PX = np.arange(-7, 8, 2)


@dataclass(frozen=True, slots=True)
class CornersConfig:
    """Options of the corner extractor."""

    max_keypoints: int = 1024
    """Maximum number of keypoints of an image."""

    max_image_size: int = 800
    """Longer side in pixels to which larger images are resized for detection."""

    sharpness: float = 0.04
    """Weight of the squared trace in the corner measure; a larger weight rejects more edges."""

    def __post_init__(self) -> None:
        if self.max_keypoints < 1 or self.max_image_size < 1:
            raise ConfigError("corners: max_keypoints and max_image_size must be positive")


class CornersExtractor(UprightExtractor):
    """Corners of one size and one orientation, for images from nearby viewpoints.

    Source: Harris and Stephens, A combined corner and edge detector, 1988.
    """

    def __init__(self, config: CornersConfig | None = None) -> None:
        self.config = config or CornersConfig()
        self.max_image_size = self.config.max_image_size

    @property
    def identity(self) -> Identity:
        """Name and configuration."""
        return Identity("corners", 1, self.config)

    def detect(self, picture: UInt8Array) -> Detection:
        """Detect corners in a grey image [H, W]."""
        smooth = _blurred(picture.astype(np.float32))
        measure = _corner_measure(smooth, self.config.sharpness)
        rows, columns = _peaks(measure)
        scores = measure[rows, columns]
        keypoints = np.stack([columns, rows], axis=1).astype(np.float32) + np.float32(0.5)
        size = (picture.shape[1], picture.shape[0])
        kept = best_spread(keypoints, scores, self.config.max_keypoints, size)
        return Detection(keypoints[kept], scores[kept], _patches(smooth, rows[kept], columns[kept]))


def _blurred(values: Float32Array) -> Float32Array:
    """Smoothed values [H, W]: twice the weighted mean with the neighbours."""
    for axis in (0, 1, 0, 1):
        padded = np.pad(values, [(1, 1) if one == axis else (0, 0) for one in (0, 1)], mode="edge")
        before, after = (np.take(padded, np.arange(values.shape[axis]) + shift, axis) for shift in (0, 2))
        values = (before + 2 * values + after) / np.float32(4)
    return values


def _corner_measure(smooth: Float32Array, sharpness: float) -> Float32Array:
    if min(smooth.shape) < 2:
        return np.zeros_like(smooth)
    dy, dx = np.gradient(smooth)
    xx, xy, yy = _blurred(dx * dx), _blurred(dx * dy), _blurred(dy * dy)
    measure: Float32Array = xx * yy - xy * xy - np.float32(sharpness) * (xx + yy) ** 2
    return measure


def _peaks(measure: Float32Array) -> tuple[IndexArray, IndexArray]:
    """Rows and columns [N] of local maxima away from the border."""
    if min(measure.shape) <= 2 * _MARGIN_PX:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    inner = slice(_MARGIN_PX, -_MARGIN_PX)
    centre = measure[inner, inner]
    is_peak = centre > 0
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dy or dx:
                is_peak &= centre > np.roll(measure, (dy, dx), (0, 1))[inner, inner]
    rows, columns = np.nonzero(is_peak)
    return rows + _MARGIN_PX, columns + _MARGIN_PX


def _patches(smooth: Float32Array, rows: IndexArray, columns: IndexArray) -> Float32Array:
    """Pixels around each corner [N, 64], with mean 0 and length 1."""
    around = smooth[rows[:, None, None] + _OFFSETS_PX[:, None], columns[:, None, None] + _OFFSETS_PX]
    flat = around.reshape(len(rows), _OFFSETS_PX.size**2)
    flat = flat - flat.mean(axis=1, keepdims=True)
    unit: Float32Array = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.float32(1e-6))
    return unit
