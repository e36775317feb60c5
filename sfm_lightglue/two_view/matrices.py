"""Matches -> an essential, a fundamental and a homography matrix, and which matches agree with each."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array
from sfm_lightglue.geometry.epipolar import squared_sampson_errors
from sfm_lightglue.two_view.correspondences import HOMOGRAPHY_ERROR_RATIO, Correspondences, homography_errors
from sfm_lightglue.two_view.estimators.base import MatrixEstimator, Sampling

Model = tuple[Float64Array, BoolArray]
"""A matrix [3, 3] on normalised points, and the mask [M] of those that agree with it."""

_SURE_SHARES = (0.8, 0.65, 0.5, 0.4, 0.3, 0.2)
"""Shares of the matches, the surest ones, among which a geometry is looked for where all together agree too little."""

_AGREEING_SHARE = 0.8
"""Where so many of all matches agree on a geometry, no part of them can tell better."""


def estimate_epipolar(
    data: Correspondences,
    scores: Float32Array,
    calibrated: bool,
    estimator: MatrixEstimator,
    sampling: Sampling,
    min_inliers: int,
) -> Model | None:
    """E where the cameras are calibrated, else F in the same normalised coordinates.

    A robust estimator counts inliers, and counts a doubtful match like a sure one. Where most matches are wrong,
    chance finds as many inliers among the wrong ones as there are right ones. So where fewer than four fifths of the
    matches agree, geometries are estimated from the surest matches alone too, and of those that have enough inliers
    among all matches the one wins whose inliers have the largest sum of scores.

    Args:
        data: the matches.
        scores: [M] float32 of the matcher, in [0, 1].
        calibrated: whether to estimate an essential matrix.
        estimator: finds the matrices.
        sampling: limits of its search.
        min_inliers: so many are enough; no part of the matches is searched that has fewer.
    """
    best = _epipolar_of(data, data, calibrated, estimator, sampling)
    all_agree = best is not None and best[1].mean() >= _AGREEING_SHARE
    if all_agree or scores.min() == scores.max():
        return best

    def worth(model: Model) -> tuple[bool, float]:
        return bool(model[1].sum() >= min_inliers), float(scores[model[1]].sum())

    surest_first = np.argsort(-scores, kind="stable")
    for share in _SURE_SHARES:
        num_sure = round(share * len(scores))
        if num_sure < min_inliers:
            break
        chosen = np.zeros(len(scores), dtype=np.bool_)
        chosen[surest_first[:num_sure]] = True
        model = _epipolar_of(data.rows(chosen), data, calibrated, estimator, sampling)
        if model is not None and (best is None or worth(model) > worth(best)):
            best = model
    return best


def _epipolar_of(
    some: Correspondences, data: Correspondences, calibrated: bool, estimator: MatrixEstimator, sampling: Sampling
) -> Model | None:
    """The matrix of some matches, and which of all matches agree with it."""
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
    """H of determinant 1 from all matches, on normalised points."""
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
