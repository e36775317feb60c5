"""The protocol of estimators of two-view matrices, and loading an estimator by name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array

EstimatorName = Literal["opencv-magsac", "opencv-ransac", "poselib"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Options of the random sampling.

    Args:
        max_error_px: largest distance of an inlier to its epipolar line, or to its transferred point by a homography.
        confidence: probability that the best model is found.
        max_iterations: largest number of samples.
        seed: below 2^31; the same seed gives the same result.
        highest_first: whether the points are sorted by their scores, highest first. The first points are then drawn
            first (PROSAC), where the estimator can do that.
    """

    max_error_px: float
    confidence: float
    max_iterations: int
    seed: int
    highest_first: bool = False


class MatrixEstimator(Protocol):
    """Estimates the matrix with the most inliers.

    Points are [M, 2] in pixels relative to the principal point, undistorted. Every method returns a finite matrix
    [3, 3] of any scale, or None if none is found. Degenerate points raise no exception.
    """

    @property
    def version(self) -> str:
        """Library and version, for the keys of the store. It changes when the same input may give another result."""

    def essential(
        self, points0: Float64Array, points1: Float64Array, focal_px: float, sampling: Sampling
    ) -> Float64Array | None:
        """Estimate E on normalised points, for two cameras with the given focal length."""

    def fundamental(self, points0: Float64Array, points1: Float64Array, sampling: Sampling) -> Float64Array | None:
        """Estimate F on the given points."""

    def homography(self, points0: Float64Array, points1: Float64Array, sampling: Sampling) -> Float64Array | None:
        """Estimate H from points of image 0 to points of image 1."""


def usable_matrix(matrix: AnyArray | None) -> Float64Array | None:
    """The matrix as float64, or None if it has another shape, is not finite, or is zero."""
    if matrix is None or matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not matrix.any():
        return None
    return np.asarray(matrix, dtype=np.float64)


_LOCATION_FROM_NAME = {
    "opencv-magsac": ("sfm_lightglue.two_view.estimators.opencv", "MagsacEstimator"),
    "opencv-ransac": ("sfm_lightglue.two_view.estimators.opencv", "RansacEstimator"),
    "poselib": ("sfm_lightglue.two_view.estimators.poselib", "PoselibEstimator"),
}

ESTIMATOR_NAMES = tuple(_LOCATION_FROM_NAME)


def load_estimator(name: EstimatorName) -> MatrixEstimator:
    """Load an estimator by its name.

    Raises:
        ConfigError: if its library is not installed.
    """
    module, attribute = _LOCATION_FROM_NAME[name]
    estimator: MatrixEstimator = getattr(importlib.import_module(module), attribute)()
    return estimator
