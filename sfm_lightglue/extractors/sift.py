"""SIFT of OpenCV as RootSIFT, one keypoint per place."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sfm_lightglue.arrays import Float32Array, IndexArray, UInt8Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import Detection, UprightExtractor, best_spread
from sfm_lightglue.identity import Identity


@dataclass(frozen=True, slots=True)
class SiftConfig:
    """Options of the SIFT detector."""

    max_keypoints: int = 1536
    """At most so many per image, spread over the picture; more cost time squared in matching."""

    max_image_size: int = 1600
    """Longer side in pixels to which larger pictures are shrunk for detection."""

    contrast_threshold: float = 0.02
    """OpenCV's threshold on the contrast of a blob; lower finds fainter ones."""

    edge_threshold: float = 10.0
    """OpenCV's threshold on the ratio of curvatures; higher lets more edges through."""

    def __post_init__(self) -> None:
        if self.max_keypoints < 1 or self.max_image_size < 1:
            raise ConfigError("sift: max_keypoints and max_image_size must be positive")
        if self.contrast_threshold < 0 or self.edge_threshold <= 0:
            raise ConfigError("sift: contrast_threshold must not be negative, edge_threshold must be positive")


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
        """Name and configuration, with the version of OpenCV that computes."""
        return Identity(f"sift-opencv-{cv2.__version__}", 1, self.config)

    def detect(self, picture: UInt8Array) -> Detection:
        """Find features in a grey picture [H, W]."""
        # Twins are removed and the limit is applied afterwards, so more are asked for than are kept.
        sift = cv2.SIFT.create(
            nfeatures=2 * self.config.max_keypoints,
            contrastThreshold=self.config.contrast_threshold,
            edgeThreshold=self.config.edge_threshold,
            enable_precise_upscale=True,  # otherwise all keypoints lie a quarter of a pixel off
        )
        found, descriptors = sift.detectAndCompute(picture, None)
        if not found:
            return Detection(
                np.zeros((0, 2), np.float32),
                np.zeros(0, np.float32),
                np.zeros((0, 128), np.float32),
                np.zeros(0, np.float32),
                np.zeros(0, np.float32),
            )
        # OpenCV has the centre of the first pixel at 0, we have it at 0.5.
        keypoints = np.array([keypoint.pt for keypoint in found], dtype=np.float32) + np.float32(0.5)
        angles_deg = np.array([keypoint.angle for keypoint in found], dtype=np.float32)
        detection = Detection(
            keypoints,
            np.array([keypoint.response for keypoint in found], dtype=np.float32),
            np.asarray(descriptors, dtype=np.float32),
            np.array([keypoint.size for keypoint in found], dtype=np.float32),
            np.radians(angles_deg),
        )
        detection = detection.rows(one_per_place(keypoints, detection.scores, angles_deg))
        size = (picture.shape[1], picture.shape[0])
        kept = detection.rows(best_spread(detection.keypoints, detection.scores, self.config.max_keypoints, size))
        return Detection(kept.keypoints, kept.scores, root_sift(kept.descriptors), kept.scales, kept.orientations)


def one_per_place(keypoints: Float32Array, scores: Float32Array, angles_deg: Float32Array) -> IndexArray:
    """One keypoint of each pixel: the highest score, then the lowest angle.

    SIFT emits several keypoints at one place where several orientations are as good; a matcher that looks at
    positions cannot tell such twins apart.

    Args:
        keypoints: [N, 2] in pixels.
        scores: [N].
        angles_deg: [N].

    Returns:
        Indices of the kept ones, ascending.
    """
    pixels = np.floor(keypoints).astype(np.int64)
    order = np.lexsort((angles_deg, -scores, pixels[:, 0], pixels[:, 1]))
    changes = np.diff(pixels[order], axis=0).any(axis=1)
    first = np.concatenate([[True], changes])
    return np.sort(order[first])


def root_sift(descriptors: Float32Array) -> Float32Array:
    """Square root of the descriptors' shares [N, D]: their dot product is then the Hellinger kernel."""
    shares = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-12)
    roots: Float32Array = np.sqrt(shares).astype(np.float32, copy=False)
    return roots
