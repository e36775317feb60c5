"""SIFT of OpenCV as RootSIFT, one keypoint per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, IndexArray, UInt8Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import Detection, UprightExtractor, best_spread
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

    def __post_init__(self) -> None:
        if self.max_keypoints < 1 or self.max_image_size < 1:
            raise ConfigError("`extractor.max_keypoints` and `extractor.max_image_size` must be positive")
        if self.contrast_threshold < 0 or self.edge_threshold <= 0:
            raise ConfigError(
                "`extractor.contrast_threshold` must not be negative, `extractor.edge_threshold` must be positive"
            )


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
        """Name, configuration and the version of OpenCV."""
        return Identity(f"sift-opencv-{cv2.__version__}", 1, self.config)

    def detect(self, pixels: UInt8Array) -> Detection:
        """Finds features in a grey image [H, W]."""
        # Duplicates are removed and the limit is applied afterwards, so request more keypoints than are kept.
        return self._best(*self._detect(pixels, 2 * self.config.max_keypoints), pixels)

    def detect_within(self, pixels: UInt8Array, allowed: BoolArray) -> Detection:
        """Finds features in the allowed part of a grey image [H, W]."""
        # OpenCV applies its limit before the mask, so it gets none, and the same limit is applied here.
        found, descriptors = self._detect(pixels, 0, allowed.astype(np.uint8))
        limit = 2 * self.config.max_keypoints
        if len(found) > limit:
            responses = np.array([keypoint.response for keypoint in found])
            kept = np.flatnonzero(responses >= np.partition(responses, -limit)[-limit])
            found, descriptors = [found[int(i)] for i in kept], descriptors[kept]
        return self._best(found, descriptors, pixels)

    def _detect(
        self, pixels: UInt8Array, limit: int, allowed: UInt8Array | None = None
    ) -> tuple[Sequence[cv2.KeyPoint], AnyArray]:
        sift = cv2.SIFT.create(
            nfeatures=limit,
            contrastThreshold=self.config.contrast_threshold,
            edgeThreshold=self.config.edge_threshold,
            enable_precise_upscale=True,  # otherwise all keypoints are wrong by a quarter of a pixel
        )
        return sift.detectAndCompute(pixels, allowed)

    def _best(self, found: Sequence[cv2.KeyPoint], descriptors: AnyArray, pixels: UInt8Array) -> Detection:
        """One keypoint of each pixel, spread over the image, with RootSIFT descriptors."""
        if not found:
            return Detection(
                np.zeros((0, 2), np.float32),
                np.zeros(0, np.float32),
                np.zeros((0, 128), np.float32),
                np.zeros(0, np.float32),
                np.zeros(0, np.float32),
            )
        # The centre of the first pixel is at 0 in OpenCV, at 0.5 in COLMAP's convention.
        keypoints = np.array([keypoint.pt for keypoint in found], dtype=np.float32) + np.float32(0.5)
        angles_deg = np.array([keypoint.angle for keypoint in found], dtype=np.float32)
        detection = Detection(
            keypoints,
            np.array([keypoint.response for keypoint in found], dtype=np.float32),
            np.asarray(descriptors, dtype=np.float32),
            np.array([keypoint.size for keypoint in found], dtype=np.float32),
            np.radians(angles_deg),
        )
        detection = detection.rows(one_per_pixel(keypoints, detection.scores, angles_deg))
        size = (pixels.shape[1], pixels.shape[0])
        kept = detection.rows(best_spread(detection.keypoints, detection.scores, self.config.max_keypoints, size))
        return Detection(kept.keypoints, kept.scores, root_sift(kept.descriptors), kept.scales, kept.orientations)


def one_per_pixel(keypoints: Float32Array, scores: Float32Array, angles_deg: Float32Array) -> IndexArray:
    """One keypoint of each pixel: the one with the highest score, then the lowest angle.

    SIFT returns several keypoints at one position if several orientations are equally good. A matcher that uses
    positions cannot distinguish them.

    Args:
        keypoints: [N, 2] in pixels.
        scores: [N].
        angles_deg: [N].

    Returns:
        Indices of the kept keypoints, ascending.
    """
    pixels = np.floor(keypoints).astype(np.int64)
    order = np.lexsort((angles_deg, -scores, pixels[:, 0], pixels[:, 1]))
    changes = np.diff(pixels[order], axis=0).any(axis=1)
    first = np.concatenate([[True], changes])
    return np.sort(order[first])


def root_sift(descriptors: Float32Array) -> Float32Array:
    """Square root of L1-normalised descriptors [N, D]: their dot product is the Hellinger kernel."""
    shares = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-12)
    roots: Float32Array = np.sqrt(shares).astype(np.float32, copy=False)
    return roots
