"""Matches -> an essential or fundamental matrix and a homography, each with its inliers."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array
from sfm_lightglue.geometry.epipolar import squared_sampson_errors
from sfm_lightglue.two_view.correspondences import HOMOGRAPHY_ERROR_RATIO, Correspondences, homography_errors
from sfm_lightglue.two_view.estimators.base import MatrixEstimator, Sampling

Model = tuple[Float64Array, BoolArray]
"""A matrix [3, 3] on normalised points, and the mask [M] of its inliers."""

_HIGHEST_SCORING_FRACTIONS = (0.8, 0.65, 0.5, 0.4, 0.3, 0.2)
"""Fractions of the highest-scoring matches that are tried alone when too few of all matches are inliers."""

_ENOUGH_INLIERS = 0.8
"""Fraction of inliers among all matches from which no fraction of them is tried alone."""


def estimate_epipolar(
    data: Correspondences,
    scores: Float32Array,
    calibrated: bool,
    estimator: MatrixEstimator,
    sampling: Sampling,
    min_inliers: int,
) -> Model | None:
    """Estimate E if the cameras are calibrated, else F, on normalised points.

    A robust estimator counts a low-scoring inlier like a high-scoring one. If most matches are wrong, a wrong geometry
    can have as many inliers by chance as the correct one. So if fewer than four fifths of the matches are inliers,
    geometries are also estimated from the highest-scoring matches alone. Of the geometries with enough inliers among
    all matches, the one whose inliers have the largest sum of scores is returned.

    Args:
        data: the matches.
        scores: [M] float32 of the matcher, in [0, 1].
        calibrated: whether to estimate an essential matrix.
        estimator: robust estimator of the matrices.
        sampling: limits of its search.
        min_inliers: number of inliers that are enough, and smallest number of matches that are tried alone.

    Returns:
        The matrix and its inliers among all matches, or None if there is none.
    """
    best = _epipolar_of(data, data, calibrated, estimator, sampling)
    is_enough = best is not None and best[1].mean() >= _ENOUGH_INLIERS
    if is_enough or scores.min() == scores.max():
        return best

    def quality(model: Model) -> tuple[bool, float]:
        return bool(model[1].sum() >= min_inliers), float(scores[model[1]].sum())

    highest_first = np.argsort(-scores, kind="stable")
    for fraction in _HIGHEST_SCORING_FRACTIONS:
        num_chosen = round(fraction * len(scores))
        if num_chosen < min_inliers:
            break
        chosen = np.zeros(len(scores), dtype=np.bool_)
        chosen[highest_first[:num_chosen]] = True
        model = _epipolar_of(data.rows(chosen), data, calibrated, estimator, sampling)
        if model is not None and (best is None or quality(model) > quality(best)):
            best = model
    return best


def _epipolar_of(
    some: Correspondences, data: Correspondences, calibrated: bool, estimator: MatrixEstimator, sampling: Sampling
) -> Model | None:
    """Estimate a matrix from some of the matches; its mask is over all of them."""
    pixels0, pixels1 = some.points0 * data.focal_px, some.points1 * data.focal_px
    if calibrated:
        matrix = estimator.essential(pixels0, pixels1, data.focal_px, sampling)
    else:
        matrix = estimator.fundamental(pixels0, pixels1, sampling)
    if matrix is None:
        return None
    K = np.diag([data.focal_px, data.focal_px, 1.0])
    normalized = matrix if calibrated else K @ matrix @ K
    normalized = normalized / np.linalg.norm(normalized)
    errors = squared_sampson_errors(normalized, data.points0, data.points1)
    return normalized, errors <= data.max_error**2


def estimate_homography(data: Correspondences, estimator: MatrixEstimator, sampling: Sampling) -> Model | None:
    """Estimate H from all matches, on normalised points, with determinant 1."""
    matrix = estimator.homography(data.points0 * data.focal_px, data.points1 * data.focal_px, sampling)
    if matrix is None:
        return None
    K = np.diag([data.focal_px, data.focal_px, 1.0])
    normalized = np.linalg.inv(K) @ matrix @ K
    determinant = np.linalg.det(normalized)
    if abs(determinant) < 1e-12:
        return None
    normalized /= np.cbrt(determinant)
    errors = homography_errors(normalized, data.points0, data.points1)
    return normalized, errors <= HOMOGRAPHY_ERROR_RATIO * data.max_error
