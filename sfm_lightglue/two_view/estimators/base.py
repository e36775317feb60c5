"""What an estimator of two-view matrices is, and how one is found by its name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array

EstimatorName = Literal["opencv-magsac", "opencv-ransac", "poselib"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How matches are sampled.

    Args:
        max_error_px: largest distance of an inlier to its epipolar line, or to where a homography puts it.
        confidence: probability that the best model was found.
        max_iterations: upper limit on the samples.
        seed: below 2^31; the same seed gives the same result.
    """

    max_error_px: float
    confidence: float
    max_iterations: int
    seed: int


class MatrixEstimator(Protocol):
    """Finds the matrix that most correspondences agree with.

    Points are [M, 2] in pixels from the principal point, undistorted. Every method returns a finite matrix
    [3, 3] of any length, or None where there is no such matrix: bad points raise nothing.
    """

    @property
    def version(self) -> str:
        """What computes, for the keys of the store; changes whenever the same input may give something else."""

    def essential(
        self, points0: Float64Array, points1: Float64Array, focal_px: float, sampling: Sampling
    ) -> Float64Array | None:
        """E on normalised points, for cameras of the given focal length."""

    def fundamental(self, points0: Float64Array, points1: Float64Array, sampling: Sampling) -> Float64Array | None:
        """F on the points as they are."""

    def homography(self, points0: Float64Array, points1: Float64Array, sampling: Sampling) -> Float64Array | None:
        """H from points of image 0 to points of image 1."""


def usable_matrix(matrix: AnyArray | None) -> Float64Array | None:
    """What a library returned as a matrix, None where it is none: of another shape, not finite, or all zeros."""
    if matrix is None or matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not matrix.any():
        return None
    return np.asarray(matrix, dtype=np.float64)


_PLACE_FROM_NAME = {
    "opencv-magsac": ("sfm_lightglue.two_view.estimators.opencv", "MagsacEstimator"),
    "opencv-ransac": ("sfm_lightglue.two_view.estimators.opencv", "RansacEstimator"),
    "poselib": ("sfm_lightglue.two_view.estimators.poselib", "PoselibEstimator"),
}

ESTIMATOR_NAMES = tuple(_PLACE_FROM_NAME)


def load_estimator(name: EstimatorName) -> MatrixEstimator:
    """The estimator of a name.

    Raises:
        ConfigError: where its library is not installed.
    """
    module, attribute = _PLACE_FROM_NAME[name]
    estimator: MatrixEstimator = getattr(importlib.import_module(module), attribute)()
    return estimator
