"""SIFT of OpenCV as RootSIFT, one keypoint per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, IndexArray, UInt8Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import (
    Detection,
    UprightExtractor,
    best_spread,
    options_of_identity,
    require_dense_limit,
)
from sfm_lightglue.identity import Identity


@dataclass(frozen=True, slots=True)
class SiftConfig:
    """Options of the SIFT detector."""

    max_keypoints: int = 1536
    """Largest number of keypoints per image; they are spread over the image. The time of matching grows with its
    square."""

    max_image_size: int = 1600
    """Longer side in pixels to which larger images are shrunk for detection."""

    contrast_threshold: float = 0.02
    """OpenCV's threshold on the contrast of a blob; a lower value finds fainter blobs."""

    edge_threshold: float = 10.0
    """OpenCV's threshold on the ratio of curvatures; a higher value keeps more edges."""

    max_keypoints_dense: int = 8192
    """Largest number of keypoints per image of the dense layer, which densifies a finished model; 0 for none."""

    def __post_init__(self) -> None:
        if self.max_keypoints < 1 or self.max_image_size < 1:
            raise ConfigError("`extractor.max_keypoints` and `extractor.max_image_size` must be positive")
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
        """Name, options of the sparse layer and the version of OpenCV."""
        options = type(self.config).__qualname__, options_of_identity(self.config)
        return Identity(f"sift-opencv-{cv2.__version__}", 1, options)

    def detect(self, pixels: UInt8Array) -> Detection:
        """Finds features in a grey image [H, W]."""
        # Duplicates are removed and the limit is applied afterwards, so request more keypoints than are kept.
        return self._best(*self._detect(pixels, 2 * self.config.max_keypoints), pixels)

    def detect_within(self, pixels: UInt8Array, allowed: BoolArray) -> Detection:
        """Finds features in the allowed part of a grey image [H, W]."""
        # OpenCV applies its limit before the mask, so it gets none, and the same limit is applied here.
        found, descriptors = self._detect(pixels, 0, allowed.astype(np.uint8))
        kept = _highest(_responses(found), 2 * self.config.max_keypoints)
        return self._best([found[int(i)] for i in kept], descriptors[kept], pixels)

    def detect_layers(self, pixels: UInt8Array, allowed: BoolArray | None, max_keypoints: int) -> tuple[Detection, int]:
        """Finds the features of both layers in a grey image [H, W]; the dense layer has fainter ones too."""
        if max_keypoints <= self.config.max_keypoints:
            return super().detect_layers(pixels, allowed, max_keypoints)
        threshold = self.config.contrast_threshold
        sift = self._sift(0, threshold * _DENSE_CONTRAST)
        found = sift.detect(pixels, None if allowed is None else allowed.astype(np.uint8))
        everything = _as_detection(found, np.zeros((len(found), 0), np.float32))
        # The test by which OpenCV rejects faint blobs, in the same arithmetic.
        visible = np.flatnonzero(everything.scores * np.float32(_OCTAVE_LAYERS) >= np.float32(threshold))
        visible = visible[_highest(everything.scores[visible], 2 * self.config.max_keypoints)]
        sparse = visible[self._selected(everything.rows(visible), pixels)]
        rows = np.concatenate([sparse, _others(everything, sparse, max_keypoints - len(sparse))])
        # With a keypoint of the finest octave, OpenCV computes the same pyramid as in detection.
        finest = cv2.KeyPoint(0, 0, 1, 0, 0, _FINEST_OCTAVE)
        _, descriptors = sift.compute(pixels, [*(found[int(row)] for row in rows), finest])
        kept = replace(everything.rows(rows), descriptors=root_sift(descriptors[:-1]))
        return kept, len(sparse)

    def _sift(self, limit: int, contrast_threshold: float) -> cv2.SIFT:
        return cv2.SIFT.create(
            nfeatures=limit,
            nOctaveLayers=_OCTAVE_LAYERS,
            contrastThreshold=contrast_threshold,
            edgeThreshold=self.config.edge_threshold,
            enable_precise_upscale=True,  # otherwise all keypoints are wrong by a quarter of a pixel
        )

    def _detect(
        self, pixels: UInt8Array, limit: int, allowed: UInt8Array | None = None
    ) -> tuple[Sequence[cv2.KeyPoint], AnyArray]:
        found, descriptors = self._sift(limit, self.config.contrast_threshold).detectAndCompute(pixels, allowed)
        return found, np.zeros((0, 128), np.float32) if descriptors is None else descriptors

    def _best(self, found: Sequence[cv2.KeyPoint], descriptors: AnyArray, pixels: UInt8Array) -> Detection:
        """One keypoint of each pixel, spread over the image, with RootSIFT descriptors."""
        detection = _as_detection(found, descriptors)
        kept = detection.rows(self._selected(detection, pixels))
        return replace(kept, descriptors=root_sift(kept.descriptors))

    def _selected(self, detection: Detection, pixels: UInt8Array) -> IndexArray:
        """Indices of one keypoint of each pixel, spread over the image, best first."""
        rows = one_per_pixel(detection)
        size = (pixels.shape[1], pixels.shape[0])
        kept = detection.rows(rows)
        return rows[best_spread(kept.keypoints, kept.scores, self.config.max_keypoints, size)]


_OCTAVE_LAYERS = 3
_DENSE_CONTRAST = 1 / 3
"""Factor of the threshold on contrast for the dense layer; with the default threshold, it is that of COLMAP."""
_FINEST_OCTAVE = 255 | 1 << 8
"""Octave -1 and layer 1, as OpenCV packs them."""


def _as_detection(found: Sequence[cv2.KeyPoint], descriptors: AnyArray) -> Detection:
    # The centre of the first pixel is at 0 in OpenCV, at 0.5 in COLMAP's convention.
    points = np.array([keypoint.pt for keypoint in found], dtype=np.float32).reshape(-1, 2) + np.float32(0.5)
    return Detection(
        points,
        _responses(found),
        np.asarray(descriptors, dtype=np.float32),
        np.array([keypoint.size for keypoint in found], dtype=np.float32),
        np.radians(np.array([keypoint.angle for keypoint in found], dtype=np.float32)),
    )


def _responses(found: Sequence[cv2.KeyPoint]) -> Float32Array:
    return np.array([keypoint.response for keypoint in found], dtype=np.float32)


def _highest(scores: Float32Array, limit: int) -> IndexArray:
    """Indices of the highest scores, ascending; more than the limit if the lowest of them are equal."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    return np.flatnonzero(scores >= np.partition(scores, -limit)[-limit])


def _others(detection: Detection, chosen: IndexArray, limit: int) -> IndexArray:
    """The best keypoints at other pixels than the chosen ones, one of each pixel, best first."""
    rows = one_per_pixel(detection)
    cells = np.floor(detection.keypoints).astype(np.int64) @ (1, _MAX_WIDTH_PX)
    rows = rows[~np.isin(cells[rows], cells[chosen])]
    points = detection.keypoints[rows]
    order = np.lexsort((points[:, 1], points[:, 0], -detection.scores[rows]))
    return rows[order[: max(0, limit)]]


_MAX_WIDTH_PX = 1 << 24


def one_per_pixel(detection: Detection) -> IndexArray:
    """Indices of one keypoint of each pixel, ascending: the one with the highest score, then the lowest angle.

    SIFT returns several keypoints at one position if several orientations are equally good. A matcher that uses
    positions cannot distinguish them.
    """
    assert detection.orientations is not None  # SIFT always has them
    pixels = np.floor(detection.keypoints).astype(np.int64)
    order = np.lexsort((detection.orientations, -detection.scores, pixels[:, 0], pixels[:, 1]))
    changes = np.diff(pixels[order], axis=0).any(axis=1)
    first = np.concatenate([[True], changes])[: len(order)]
    return np.sort(order[first])


def root_sift(descriptors: Float32Array) -> Float32Array:
    """Square root of L1-normalised descriptors [N, D]: their dot product is the Hellinger kernel."""
    shares = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-12)
    roots: Float32Array = np.sqrt(shares).astype(np.float32, copy=False)
    return roots
