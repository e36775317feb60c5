"""Points that matches connect become one point where one point explains all of their observations."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from sfm_lightglue.arrays import BoolArray, IndexArray
from sfm_lightglue.mapping.dense_tracks import (
    DensePoints,
    adjusted_positions,
    first_occurrences,
    joined_points,
)
from sfm_lightglue.mapping.observers import Observers

_MAX_ROUNDS = 3
"""A point is compared with one other in each round."""


def merge_points(points: DensePoints, matches: IndexArray, observers: Observers) -> DensePoints:
    """Merge points that have matched keypoints and no image in common.

    All observations of a merged point lie within their limits; otherwise both points stay as they are.

    Args:
        points: triangulated points.
        matches: [M, 2] numbers of keypoints.
        observers: poses and keypoints.

    Source: Schönberger and Frahm, Structure-from-Motion Revisited, 2016, section 4.4 (merging of tracks).
    """
    for _ in range(_MAX_ROUNDS):
        pairs = _pairs(points, matches, observers)
        if len(pairs) == 0:
            break
        union = _union(points, pairs)
        xyz = adjusted_positions(union.xyz, union.point, union.keypoint, observers)
        squared, depth = observers.squared_errors(xyz, union.point, union.keypoint)
        is_bad = ~((squared <= 1) & (depth > 0))
        accepted = np.bincount(union.point, is_bad, len(pairs)) == 0
        matches = _without(matches, points, pairs[~accepted], observers)  # another pair of these points may be right
        is_left = np.ones(len(points.xyz), np.bool_)
        is_left[pairs[accepted]] = False
        merged = DensePoints(xyz, union.point, union.keypoint).chosen(accepted)
        points = joined_points([points.chosen(is_left), merged])
    return points


def _pairs(points: DensePoints, matches: IndexArray, observers: Observers) -> IndexArray:
    """Pairs [P, 2] of points that may be one, those with the most matches first chosen; no point is in two pairs."""
    num = len(points.xyz)
    ends = np.sort(_ends(matches, points, observers), axis=1)
    ends = ends[(ends[:, 0] >= 0) & (ends[:, 0] != ends[:, 1])]
    codes, counts = np.unique(ends[:, 0] * num + ends[:, 1], return_counts=True)
    pairs = np.stack([codes // num, codes % num], axis=1)[np.argsort(-counts, kind="stable")]
    ones = np.ones(len(points.point), np.int32)
    seen = csr_array((ones, (points.point, observers.image[points.keypoint])), shape=(num, len(observers.R)))
    is_apart: BoolArray = np.asarray(seen[pairs[:, 0]].multiply(seen[pairs[:, 1]]).sum(axis=1) == 0)
    pairs = pairs[is_apart]
    is_first = np.zeros(2 * len(pairs), np.bool_)
    is_first[first_occurrences(pairs.reshape(-1))] = True
    return pairs[is_first.reshape(-1, 2).all(axis=1)]


def _ends(matches: IndexArray, points: DensePoints, observers: Observers) -> IndexArray:
    """The points [M, 2] of matched keypoints, -1 for a keypoint without a point."""
    point_of = np.full(len(observers.image), -1)
    point_of[points.keypoint] = points.point
    return np.asarray(point_of[matches])


def _without(matches: IndexArray, points: DensePoints, pairs: IndexArray, observers: Observers) -> IndexArray:
    """The matches but those between the points of pairs [P, 2], which have no point in common."""
    other = np.full(len(points.xyz) + 1, -2)  # the last one is for keypoints without a point
    other[pairs] = pairs[:, ::-1]
    ends = _ends(matches, points, observers)
    is_kept: BoolArray = other[ends[:, 0]] != ends[:, 1]
    return matches[is_kept]


def _union(points: DensePoints, pairs: IndexArray) -> DensePoints:
    """A point for each pair, in the mean of both, with the observations of both."""
    number = np.full(len(points.xyz), -1)
    number[pairs] = np.arange(len(pairs))[:, None]
    rows = np.flatnonzero(number[points.point] >= 0)
    weights = points.num_observations[pairs][:, :, None]
    xyz = (points.xyz[pairs] * weights).sum(axis=1) / weights.sum(axis=1)
    return DensePoints(xyz, number[points.point[rows]], points.keypoint[rows])
