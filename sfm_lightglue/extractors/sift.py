"""SIFT features as RootSIFT, one keypoint per pixel."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, IndexArray, UInt8Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.blocks import borrowed_block
from sfm_lightglue.extractors.base import (
    Detection,
    UprightExtractor,
    options_of_identity,
    require_dense_limit,
)
from sfm_lightglue.extractors.scale_space import LAYERS, BlobLimits, Blobs, find_blobs, scale_space_size
from sfm_lightglue.extractors.sift_descriptors import describe, orientations
from sfm_lightglue.features import best_spread
from sfm_lightglue.identity import Identity

MAX_IMAGE_SIZE = 16000
"""Longer side in pixels of the largest image; OpenCV samples from images of less than 32,767 pixels, and the first
octave is doubled."""


@dataclass(frozen=True, slots=True)
class SiftConfig:
    """Options of the SIFT detector."""

    max_keypoints: int = 1536
    """Largest number of keypoints per image; they are spread over the image. The time of matching grows with its
    square."""

    max_image_size: int = 1600
    """Longer side in pixels to which larger images are shrunk for detection."""

    contrast_threshold: float = 0.02
    """Threshold on the contrast of a blob, as in OpenCV; a lower value finds fainter blobs."""

    edge_threshold: float = 10.0
    """Threshold on the ratio of curvatures, as in OpenCV; a higher value keeps more edges."""

    max_keypoints_dense: int = 8192
    """Number of places per image of the dense layer, which densifies a finished model; 0 for none. The level of the
    scale space at which it is reached is kept as a whole, as COLMAP does, but for at most half as many places more. A
    place with two orientations has a keypoint for each."""

    def __post_init__(self) -> None:
        if self.max_keypoints < 1 or self.max_image_size < 1:
            raise ConfigError("`extractor.max_keypoints` and `extractor.max_image_size` must be positive")
        if self.max_image_size > MAX_IMAGE_SIZE:
            raise ConfigError(f"`extractor.max_image_size` must be at most {MAX_IMAGE_SIZE}, got {self.max_image_size}")
        if self.contrast_threshold < 0 or self.edge_threshold <= 0:
            raise ConfigError(
                "`extractor.contrast_threshold` must not be negative, `extractor.edge_threshold` must be positive"
            )
        require_dense_limit(self.max_keypoints_dense)


class SiftExtractor(UprightExtractor):
    """RootSIFT features with scale and orientation.

    Source: Lowe, Distinctive image features from scale-invariant keypoints, 2004; Arandjelović and Zisserman,
    Three things everyone should know to improve object retrieval, 2012 (RootSIFT).
    """

    def __init__(self, config: SiftConfig | None = None) -> None:
        self.config = config or SiftConfig()
        self.max_image_size = self.config.max_image_size

    @property
    def identity(self) -> Identity:
        """Name, options of the sparse layer and the version of OpenCV, which blurs the images."""
        options = type(self.config).__qualname__, options_of_identity(self.config)
        return Identity(f"sift-opencv-{cv2.__version__}", 2, options)

    def detect(self, pixels: UInt8Array) -> Detection:
        """Finds features in a grey image [H, W]."""
        return self.detect_layers(pixels, None, 0)[0]

    def detect_layers(self, pixels: UInt8Array, allowed: BoolArray | None, max_keypoints: int) -> tuple[Detection, int]:
        """Finds the features of both layers in a grey image [H, W]; the dense layer has fainter ones too."""
        config = self.config
        is_dense = max_keypoints > config.max_keypoints
        # With a mask, the best of all may lie outside of it.
        numbers = [2 * config.max_keypoints, max_keypoints] if allowed is None else [pixels.size, pixels.size]
        limits = BlobLimits(config.contrast_threshold, numbers[0])
        faint = BlobLimits(_DENSE_CONTRAST * config.contrast_threshold, max(numbers))
        with borrowed_block(scale_space_size(*pixels.shape)) as memory:
            blobs, space = find_blobs(pixels, config.edge_threshold, limits, faint if is_dense else None, memory)
            if allowed is not None:
                columns, rows = np.floor(blobs.keypoints).astype(np.int64).T
                blobs = blobs.rows(allowed[rows, columns])
            chosen = self._sparse(blobs, (pixels.shape[1], pixels.shape[0]))
            num_sparse = len(chosen)
            if is_dense:
                chosen = np.concatenate([chosen, _others(blobs, chosen, max_keypoints)])
            blobs = blobs.rows(chosen)
            angles, others = orientations(space, blobs)
            if is_dense:  # a matcher that uses positions cannot distinguish both, guided matching can
                twins = np.flatnonzero(np.isfinite(others))
                blobs = blobs.rows(np.concatenate([np.arange(len(blobs)), twins]))
                angles = np.concatenate([angles, others[twins]])
            descriptors = root_sift(describe(space, blobs, angles))
            return Detection(blobs.keypoints, blobs.contrasts, descriptors, blobs.scales, angles), num_sparse

    def _sparse(self, blobs: Blobs, size: tuple[int, int]) -> IndexArray:
        """Indices of the blobs that matchers see, one of each pixel, spread over the image, best first."""
        rows = np.flatnonzero(~blobs.is_faint)
        # The spread takes the best of each part of the image, but not of all blobs, as faint as they may be.
        rows = rows[_highest(blobs.contrasts[rows], 2 * self.config.max_keypoints)]
        rows = rows[one_per_pixel(blobs.keypoints[rows], blobs.contrasts[rows])]
        return rows[best_spread(blobs.keypoints[rows], blobs.contrasts[rows], self.config.max_keypoints, size)]


_DENSE_CONTRAST = 1 / 3
"""Factor of the threshold on contrast for the dense layer; with the default threshold, it is that of COLMAP."""
_MOST_OF_WANTED = 1.5
"""The dense layer has at most so many times the wanted places."""
_MAX_WIDTH_PX = 1 << 24


def _highest(scores: Float32Array, limit: int) -> IndexArray:
    """Indices of the highest scores, ascending; more than the limit if the lowest of them are equal."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    return np.flatnonzero(scores >= np.partition(scores, -limit)[-limit])


def _others(blobs: Blobs, chosen: IndexArray, max_keypoints: int) -> IndexArray:
    """Blobs at other pixels than the chosen ones, one of each pixel: whole levels of the scale space, coarsest first.

    Large blobs are found again from more distant views, also faint ones. A part of a level would be another part in
    each image, so that images have fewer blobs in common. Of images with very many extrema, `find_blobs` leaves out
    the faintest of all levels before.
    """
    rows = one_per_pixel(blobs.keypoints, blobs.contrasts)
    pixels = np.floor(blobs.keypoints).astype(np.int64) @ (1, _MAX_WIDTH_PX)
    rows = rows[~np.isin(pixels[rows], pixels[chosen])]
    levels = LAYERS * blobs.octave_idxs[rows] + blobs.layer_idxs[rows]
    num_coarser = len(chosen) + len(rows) - np.searchsorted(np.sort(levels), levels, side="right")
    is_kept = num_coarser < max_keypoints
    rows, levels = rows[is_kept], levels[is_kept]
    points = blobs.keypoints[rows]
    order = np.lexsort((points[:, 1], points[:, 0], -blobs.contrasts[rows], -levels))
    return rows[order[: max(0, round(_MOST_OF_WANTED * max_keypoints) - len(chosen))]]


def one_per_pixel(keypoints: Float32Array, scores: Float32Array) -> IndexArray:
    """Indices of one keypoint of each pixel, ascending: the one with the highest score.

    A matcher that uses positions cannot distinguish several at one position.

    Args:
        keypoints: [N, 2] in pixels.
        scores: [N].
    """
    pixels = np.floor(keypoints).astype(np.int64)
    order = np.lexsort((-scores, pixels[:, 0], pixels[:, 1]))
    changes = np.diff(pixels[order], axis=0).any(axis=1)
    first = np.concatenate([[True], changes])[: len(order)]
    return np.sort(order[first])


def root_sift(descriptors: Float32Array) -> Float32Array:
    """Square root of L1-normalised descriptors [N, D]: their dot product is the Hellinger kernel."""
    shares = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-12)
    roots: Float32Array = np.sqrt(shares).astype(np.float32, copy=False)
    return roots
