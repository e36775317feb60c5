"""What is kept in memory of the features of every image: where its keypoints are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sfm_lightglue.arrays import Float32Array
from sfm_lightglue.types import Features


class HasKeypoints(Protocol):
    """`Features`, or their keypoints alone: all that pairs need whose matches are known."""

    @property
    def keypoints(self) -> Float32Array:
        """[N, 2] (x, y) in pixels."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) in pixels."""

    @property
    def digest(self) -> str:
        """That of the features."""

    def __len__(self) -> int:
        """Number N of keypoints."""


@dataclass(frozen=True, eq=False, slots=True)
class ImageKeypoints:
    """The keypoints of the features of an image, 8 bytes each.

    Args:
        keypoints: [N, 2] float32 (x, y) in pixels.
        image_size: (width, height) in pixels.
        digest: of the features.
    """

    keypoints: Float32Array
    image_size: tuple[int, int]
    digest: str

    @classmethod
    def of(cls, features: Features) -> ImageKeypoints:
        """Those of features, which are not kept in memory by them."""
        keypoints = features.keypoints
        return cls(keypoints if keypoints.base is None else keypoints.copy(), features.image_size, features.digest)

    def __len__(self) -> int:
        return len(self.keypoints)
