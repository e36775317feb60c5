"""Whether so many inliers can be the result of chance: the expected number of false alarms of a geometry."""

from __future__ import annotations

import math

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.geometry.epipolar import homogeneous
from sfm_lightglue.two_view.correspondences import HOMOGRAPHY_ERROR_RATIO, Correspondences

_MAX_SAMPLED = 256
"""Number of matches from which the chance of a random match to be an inlier is measured."""

_MIN_CHANCE = 1e-3
"""Smallest chance that is used: the measurement from few matches can give zero."""

ESSENTIAL_SAMPLE, FUNDAMENTAL_SAMPLE, HOMOGRAPHY_SAMPLE = 5, 7, 4
"""Number of matches that determine a matrix."""


def log10_false_alarms(num_matches: int, num_inliers: int, chance: float, sample_size: int) -> float:
    """Decimal logarithm of the number of geometries with at least as many inliers that random matches would give.

    Args:
        num_matches: M.
        num_inliers: of the geometry.
        chance: probability that a random match is an inlier of a given geometry.
        sample_size: number of matches that determine a geometry; they are always inliers.

    Source: Moisan and Stival, A probabilistic criterion to detect rigid point matches between two images, 2004,
        equation 11.
    """
    if num_inliers <= sample_size:
        return math.inf
    natural = (
        math.log(max(num_matches - sample_size, 1))
        + _log_binomial(num_matches, num_inliers)
        + _log_binomial(num_inliers, sample_size)
        + (num_inliers - sample_size) * math.log(min(max(chance, _MIN_CHANCE), 1.0))
    )
    return natural / math.log(10)


def epipolar_chance(matrix: Float64Array, data: Correspondences) -> float:
    """Probability that points of two different matches are an inlier of an epipolar geometry.

    Points of other matches lie where the matches lie: the result includes the spread of the matches over the images
    and the width of the band.

    Args:
        matrix: E or F [3, 3] on normalised points.
        data: all matches.
    """
    points0, points1 = (homogeneous(points) for points in _sampled(data))
    lines1, lines0 = points0 @ matrix.T, points1 @ matrix
    # Single precision, and few arrays [M, M]: their memory takes longer than their values.
    limits1, limits0 = (
        (data.max_error**2 * (lines[:, :2] ** 2).sum(axis=1)).astype(np.float32) for lines in (lines1, lines0)
    )
    products = lines1.astype(np.float32) @ points1.T.astype(np.float32)
    products *= products
    return _share_of_others(products <= limits1[:, None] + limits0)


def homography_chance(H: Float64Array, data: Correspondences) -> float:
    """Probability that points of two different matches are an inlier of a homography [3, 3]."""
    points0, points1 = _sampled(data)
    mapped = homogeneous(points0) @ H.T
    with np.errstate(divide="ignore", invalid="ignore"):
        mapped = mapped[:, :2] / mapped[:, 2:]
        squared = ((mapped[:, None] - points1) ** 2).sum(axis=2)
    return _share_of_others(squared <= (HOMOGRAPHY_ERROR_RATIO * data.max_error) ** 2)


def _sampled(data: Correspondences) -> tuple[Float64Array, Float64Array]:
    """Points of at most `_MAX_SAMPLED` matches, evenly chosen by their order."""
    step = max(1, math.ceil(len(data.points0) / _MAX_SAMPLED))
    return data.points0[::step], data.points1[::step]


def _share_of_others(inliers: BoolArray) -> float:
    """Fraction of inliers [M, M] off the diagonal, which holds the real matches."""
    num = len(inliers)
    if num < 2:
        return 1.0
    return float(np.count_nonzero(inliers) - np.trace(inliers)) / (num * (num - 1))


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
