"""Grey values of an image on small grids around many keypoints."""

from __future__ import annotations

import cv2
import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray, UInt8Array

_BLUR_PX = 0.6
"""Of the whole image: interpolated values of a sharp image depend on the fraction of the position in pixels."""

_NUM_LEVELS = 4
_MIN_SIDE_PX = 32
_LEVEL_OFFSET = 0.1
"""In octaves: a level is used up to distances of samples that are 1.5 of its pixels."""

_MAX_ROWS = 30_000
"""`cv2.remap` makes images of fewer than 2**15 rows."""


def grid(size: int) -> Float32Array:
    """Offsets [size * size, 2] of the samples of a square patch from its middle, row by row."""
    steps = np.arange(size, dtype=np.float32) - (size - 1) / 2
    x, y = np.meshgrid(steps, steps)
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


class Pyramid:
    """An image in several resolutions, each half of the one before.

    Args:
        grey: [H, W].
        scale: pixels of the stored image per pixel of `grey`.
    """

    def __init__(self, grey: UInt8Array, scale: float = 1.0) -> None:
        levels = [cv2.GaussianBlur(grey, (0, 0), _BLUR_PX)]
        while len(levels) < _NUM_LEVELS and min(levels[-1].shape) >= 2 * _MIN_SIDE_PX:
            height, width = (side // 2 for side in levels[-1].shape)
            even = levels[-1][: 2 * height, : 2 * width]
            levels.append(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA))
        self._levels = [level.astype(np.uint8, copy=False) for level in levels]
        self._scale = scale

    @property
    def num_bytes(self) -> int:
        """Memory of all resolutions."""
        return sum(level.nbytes for level in self._levels)

    def contains(self, centers: Float64Array, warps: Float64Array, size: int) -> BoolArray:
        """Whether the image contains all samples of patches.

        Args:
            centers: [N, 2] pixels of the stored image, COLMAP convention.
            warps: [N, 2, 2] pixels from grid.
            size: samples along a side of the patch.
        """
        height, width = self._levels[0].shape
        margins = np.abs(warps).sum(axis=2) * ((size - 1) / 2)
        inside = (centers >= margins) & (centers + margins <= np.array([width, height]) * self._scale)
        return np.asarray(inside.all(axis=1))

    def sample(self, centers: Float64Array, warps: Float64Array, offsets: Float32Array) -> Float32Array:
        """Grey values on grids around centres.

        Args:
            centers: [N, 2] pixels of the stored image, COLMAP convention.
            warps: [N, 2, 2] pixels from grid; their size chooses the resolution.
            offsets: [S, 2] of the grid.

        Returns:
            [N, S]. Samples beyond the image are those of its nearest pixel.
        """
        levels = self._level_of(warps)
        if len(levels) > 0 and (levels == levels[0]).all():  # of most images
            return self._sampled(int(levels[0]), centers, warps, offsets)
        values = np.empty((len(centers), len(offsets)), np.float32)
        for level in np.flatnonzero(np.bincount(levels)).tolist():
            chosen = np.flatnonzero(levels == level)
            values[chosen] = self._sampled(level, centers[chosen], warps[chosen], offsets)
        return values

    def _sampled(self, level: int, centers: Float64Array, warps: Float64Array, offsets: Float32Array) -> Float32Array:
        """`sample` in one resolution."""
        flat = np.ascontiguousarray(offsets.T)
        factor = 1 / (self._scale * 2.0**level)
        warp = (warps * factor).astype(np.float32)
        middle = (centers * factor - 0.5).astype(np.float32)
        x = warp[:, 0] @ flat
        y = warp[:, 1] @ flat
        x += middle[:, :1]
        y += middle[:, 1:]
        parts = [
            cv2.remap(
                self._levels[level],
                x[start : start + _MAX_ROWS],
                y[start : start + _MAX_ROWS],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for start in range(0, len(x), _MAX_ROWS)
        ]
        return np.concatenate(parts) if len(parts) > 1 else np.asarray(parts[0], np.float32)

    def _level_of(self, warps: Float64Array) -> IndexArray:
        determinants = warps[:, 0, 0] * warps[:, 1, 1] - warps[:, 0, 1] * warps[:, 1, 0]
        spacings = np.sqrt(np.abs(determinants)) / self._scale
        octaves = np.log2(np.maximum(spacings, 1e-6)) - _LEVEL_OFFSET
        levels: IndexArray = np.clip(np.round(octaves), 0, len(self._levels) - 1).astype(np.int64)
        return levels
