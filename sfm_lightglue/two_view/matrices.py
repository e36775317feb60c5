"""Matches -> an essential or fundamental matrix and a homography, each with its inliers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.two_view.correspondences import HOMOGRAPHY_ERROR_RATIO, Correspondences, homography_errors
from sfm_lightglue.two_view.estimators.base import MatrixEstimator, Sampling
from sfm_lightglue.two_view.pose_batch import (
    PointPairs,
    fit_poses,
    in_front,
    model_qualities,
    poses_from_essentials,
    squared_errors,
)

Model = tuple[Float64Array, BoolArray]
"""A matrix [3, 3] on normalised points, and the mask [M] of its inliers."""

_NUM_SAMPLES = {True: 110, False: 500}
"""Most samples of a search, by whether it draws five matches (E) or seven (F). A sample of seven costs a fraction of
one of five, and F is not optimised afterwards. With 150 of five, poses are as exact, and a hundredth more of the pairs
of a quick walk indoors are verified."""

_MAX_HOMOGRAPHY_SAMPLES = 500
"""Most samples of the search for a homography."""

_HOMOGRAPHY_CONFIDENCE = 0.99
"""Probability that a homography with the fewest inliers that decide something is found; a plane has more."""

_MAX_SEARCHED = 256
"""Number of matches among which a homography is searched at most."""

_MIN_SEARCHED_RATIO = 0.5
"""A homography is searched among the inliers of an epipolar matrix if these are at least this fraction of the
matches."""

_HIGHEST_SCORING_FRACTION = 0.5
"""Fraction of the highest-scoring matches that the third search uses alone."""

_CLEAR_RATIO, _MAX_OF_PLANE = 0.6, 0.45
"""The first essential matrix is the answer if at least the first fraction of the matches are its inliers, and a plane
has less than the second fraction of these. On 241 pairs of four sets, poses are as exact as with all searches; with .6
for the plane, some of a flat door are wrong."""

_MIN_ROUGH = 0.5
"""Smallest fraction of the matches that are its inliers before the local optimisation."""

_NUM_STEPS = 4
"""Steps of the local optimisation."""

_OPTIMISED_ERRORS = 5**0.5
"""Largest error of the matches that enter the local optimisation, as a multiple of the error limit."""


def estimate_matrices(
    data: Correspondences,
    scores: Float32Array,
    calibrated: bool,
    estimator: MatrixEstimator,
    sampling: Sampling,
    min_inliers: int,
    min_plane: float,
) -> tuple[Model | None, Model | None]:
    """Estimate E if the cameras are calibrated, else F, and a homography, on normalised points.

    Three short searches give a candidate each: one that samples high-scoring matches first, one over all matches, one
    over the half with the higher scores. An essential matrix is then fitted to the matches near it. Of the candidates
    with enough inliers, the one with the largest sum of scores times (1 - squared error) is returned. A robust
    estimator alone would count a low-scoring inlier like a high-scoring one, and among many wrong matches a wrong
    geometry can have as many inliers as the correct one.

    If most matches fit the first essential matrix, and no plane has many of them, the other searches are spared. A
    plane alone fits several motions.

    Args:
        data: the matches.
        scores: [M] float32 of the matcher, in [0, 1].
        calibrated: whether to estimate an essential matrix.
        estimator: robust estimator of the matrices.
        sampling: limits of its search.
        min_inliers: number of inliers that are enough, and smallest number of matches that are tried alone.
        min_plane: a homography with a smaller fraction of the inliers of the epipolar matrix decides nothing.

    Returns:
        E or F, and the homography, each with its inliers among all matches; None for one that was not found, or that
        decides nothing.

    Source: Chum and Matas, Matching with PROSAC, 2005; Chum et al., Locally optimized RANSAC, 2003.
    """
    points, search = PointPairs.of(data), partial(_search, data, calibrated, estimator)
    limited = replace(sampling, max_iterations=min(sampling.max_iterations, _NUM_SAMPLES[calibrated]))
    candidates = _candidates(search, scores, limited, min_inliers)
    found, plane = list(islice(candidates, 1)), None
    rough = None if len(found) == 0 or not calibrated else (found[0], _inliers(points, found[0]))
    if rough is not None and rough[1].sum() >= max(_MIN_ROUGH * len(scores), min_inliers):
        most = _MAX_OF_PLANE * rough[1].sum()
        plane = estimate_homography(data, estimator, sampling, most, rough)
        if plane is None or plane[1].sum() < most:
            first, plane = _best_of(points, scores, found, calibrated, min_inliers), None
            if first is not None and first[1].sum() >= max(_CLEAR_RATIO * len(scores), min_inliers):
                return first, None
    found += candidates
    epipolar = _best_of(points, scores, found, calibrated, min_inliers)
    if plane is None:
        num_inliers = 0 if epipolar is None else int(epipolar[1].sum())
        least = min_plane * max(min_inliers, num_inliers)
        plane = estimate_homography(data, estimator, sampling, least, epipolar)
    return epipolar, plane


def _candidates(
    search: Callable[[IndexArray, Sampling], Float64Array | None],
    scores: Float32Array,
    sampling: Sampling,
    min_inliers: int,
) -> Iterator[Float64Array]:
    """The matrices of the three searches; see `estimate_matrices`."""
    order = np.argsort(-scores, kind="stable")
    has_order = scores.min() < scores.max()
    half = max(min_inliers, round(_HIGHEST_SCORING_FRACTION * len(scores))) if has_order else len(scores)
    for number, (rows, highest_first) in enumerate(((order, has_order), (order, False), (order[:half], False))):
        options = replace(sampling, seed=(sampling.seed + number) % (1 << 31), highest_first=highest_first)
        matrix = search(rows, options)
        if matrix is not None:
            yield matrix


def _search(
    data: Correspondences, calibrated: bool, estimator: MatrixEstimator, rows: IndexArray, sampling: Sampling
) -> Float64Array | None:
    """Estimate a matrix on normalised points, of length 1, from some of the matches in the order of `rows`."""
    pixels0, pixels1 = data.points0[rows] * data.focal_px, data.points1[rows] * data.focal_px
    if calibrated:
        matrix = estimator.essential(pixels0, pixels1, data.focal_px, sampling)
    else:
        matrix = estimator.fundamental(pixels0, pixels1, sampling)
    if matrix is None:
        return None
    scales = np.array([data.focal_px, data.focal_px, 1.0])
    normalized = matrix if calibrated else matrix * scales * scales[:, None]
    unit: Float64Array = normalized / np.linalg.norm(normalized)
    return unit


def _best_of(
    points: PointPairs, scores: Float32Array, matrices: Sequence[Float64Array], calibrated: bool, min_inliers: int
) -> Model | None:
    """The best of the matrices, essential ones after a local optimisation, with its inliers."""
    if len(matrices) == 0:
        return None
    stack = np.stack(matrices)
    counted: BoolArray | bool = True
    if calibrated:
        near = squared_errors(points, stack) <= (_OPTIMISED_ERRORS * points.max_error) ** 2
        poses, _ = poses_from_essentials(points, stack, near)
        poses = fit_poses(points, poses, near & in_front(points, poses), max_residual=1.0, num_steps=_NUM_STEPS)
        stack, counted = poses.essentials, in_front(points, poses)
    squared = squared_errors(points, stack) / points.max_error**2
    inliers = squared <= 1
    counted = counted & inliers
    qualities = model_qualities(squared, counted, scores)
    first = np.lexsort((-qualities, counted.sum(axis=1) < min_inliers))[0]
    return stack[first], inliers[first]


def _inliers(points: PointPairs, matrix: Float64Array) -> BoolArray:
    """The inliers [M] of a matrix."""
    inliers: BoolArray = squared_errors(points, matrix[None])[0] <= points.max_error**2
    return inliers


def estimate_homography(
    data: Correspondences,
    estimator: MatrixEstimator,
    sampling: Sampling,
    min_inliers: float,
    epipolar: Model | None = None,
) -> Model | None:
    """Estimate H on normalised points, with determinant 1.

    Args:
        data: the matches.
        estimator: robust estimator of the matrix.
        sampling: limits of its search.
        min_inliers: a homography with fewer inliers decides nothing, so it may be missed.
        epipolar: if most matches are its inliers, only these are searched: they contain the inliers of a plane.

    Returns:
        The matrix and its inliers among all matches, or None if there is none.
    """
    searched = np.arange(len(data.points0))
    if epipolar is not None and epipolar[1].mean() >= _MIN_SEARCHED_RATIO:
        searched = np.flatnonzero(epipolar[1])
    chance = min(min_inliers / len(searched), 0.99) ** 4  # that four matches are inliers
    enough = math.ceil(math.log(1 - _HOMOGRAPHY_CONFIDENCE) / math.log1p(-chance))
    limited = replace(sampling, max_iterations=min(sampling.max_iterations, max(enough, 20), _MAX_HOMOGRAPHY_SAMPLES))
    some = searched[:: math.ceil(len(searched) / _MAX_SEARCHED)]
    matrix = estimator.homography(data.points0[some] * data.focal_px, data.points1[some] * data.focal_px, limited)
    if matrix is None:
        return None
    scales = np.array([data.focal_px, data.focal_px, 1.0])
    normalized = matrix * scales / scales[:, None]
    determinant = np.linalg.det(normalized)
    if abs(determinant) < 1e-12:
        return None
    normalized = normalized / np.cbrt(determinant)
    errors = homography_errors(normalized, data.points0, data.points1)
    return normalized, errors <= HOMOGRAPHY_ERROR_RATIO * data.max_error
