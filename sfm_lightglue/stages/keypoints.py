"""What is kept in memory of the features of every image: all but its descriptors."""

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

    @property
    def scores(self) -> Float32Array:
        """[N], higher is better."""

    @property
    def scales(self) -> Float32Array | None:
        """[N] in pixels of the image that was searched; None for extractors without scales."""

    @property
    def shrink_factor(self) -> float | None:
        """Side of the image divided by that of the image that was searched; None if unknown."""

    def __len__(self) -> int:
        """Number N of keypoints."""


@dataclass(frozen=True, eq=False, slots=True)
class ImageKeypoints:
    """The keypoints of the features of an image, 16 bytes each.

    Args:
        keypoints: [N, 2] float32 (x, y) in pixels.
        scores: [N] float32.
        image_size: (width, height) in pixels.
        digest: of the features.
        scales: [N] float32, as in `Features`; None if there are none.
        shrink_factor: as in `Features`.
    """

    keypoints: Float32Array
    scores: Float32Array
    image_size: tuple[int, int]
    digest: str
    scales: Float32Array | None
    shrink_factor: float | None

    @classmethod
    def of(cls, features: Features) -> ImageKeypoints:
        """Those of features, which are not kept in memory by them."""
        return cls(
            _alone(features.keypoints),
            _alone(features.scores),
            features.image_size,
            features.digest,
            None if features.scales is None else _alone(features.scales),
            features.shrink_factor,
        )

    def __len__(self) -> int:
        return len(self.keypoints)


def _alone(array: Float32Array) -> Float32Array:
    """An array that keeps no other one in memory."""
    return array if array.base is None else array.copy()
