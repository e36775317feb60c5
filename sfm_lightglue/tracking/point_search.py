"""Find points of the map in a keyframe: a feature near the projection of a point with a similar descriptor.

Source: Mur-Artal, Montiel and Tardós, ORB-SLAM, 2015, section V, D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.tracking.projection import is_inside, project
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap

_MIN_SIMILARITY = 0.8
"""Smallest cosine of two descriptors of one point."""


class FoundPoints(NamedTuple):
    """Features [M] of a keyframe that show points of the map, and these points' ids [M]."""

    rows: IndexArray
    point_ids: IndexArray


def find_points(slam_map: SlamMap, keyframe: Keyframe, idxs: Sequence[int], radius_px: float) -> FoundPoints:
    """Find points of other keyframes that a keyframe does not observe yet.

    Args:
        slam_map: read only.
        keyframe: of the map, with a good pose.
        idxs: keyframes whose features with points are compared; the descriptor of the first one counts.
        radius_px: largest distance of a feature from the projected point.

    Returns:
        Pairs that are the best ones for both, in the order of the rows.
    """
    point_ids, descriptors = _points_with_descriptors(slam_map, idxs)
    is_unseen = ~np.isin(point_ids, keyframe.point_ids)
    point_ids, descriptors = point_ids[is_unseen], descriptors[is_unseen]
    projected, _ = project(slam_map.camera, keyframe.cam_from_world, slam_map.xyz(point_ids))
    visible = np.flatnonzero(is_inside(slam_map.camera, projected))
    points, rows = _neighbours(projected[visible], keyframe.features.keypoints, radius_px)
    points = visible[points]
    similarities = np.einsum("md,md->m", descriptors[points], keyframe.features.descriptors[rows])
    similar = similarities >= _MIN_SIMILARITY
    points, rows, similarities = points[similar], rows[similar], similarities[similar]
    mutual = _is_best_of(points, similarities) & _is_best_of(rows, similarities)
    order = np.flatnonzero(mutual)[np.argsort(rows[mutual])]
    return FoundPoints(rows[order], point_ids[points[order]])


def _points_with_descriptors(slam_map: SlamMap, idxs: Sequence[int]) -> tuple[IndexArray, Float32Array]:
    """Ids [P] of points that are seen in features, and the descriptors [P, D] in the first of the keyframes."""
    ids, descriptors = [], []
    for idx in idxs:
        keyframe = slam_map.keyframes[idx]
        of_features = keyframe.point_ids[: len(keyframe.features)]
        rows = np.flatnonzero(of_features >= 0)
        ids.append(of_features[rows])
        descriptors.append(keyframe.features.descriptors[rows])
    if not ids:
        return np.zeros(0, np.int64), np.zeros((0, 1), np.float32)
    unique, first = np.unique(np.concatenate(ids), return_index=True)
    return unique, np.concatenate(descriptors)[first]


def _neighbours(points: Float64Array, keypoints: Float32Array, radius_px: float) -> tuple[IndexArray, IndexArray]:
    """Pairs of rows of points [P, 2] and keypoints [N, 2] that are close."""
    order = np.argsort(keypoints[:, 0], kind="stable")
    x = keypoints[order, 0]
    first, last = np.searchsorted(x, points[:, 0] - radius_px), np.searchsorted(x, points[:, 0] + radius_px)
    counts = last - first
    rows = np.repeat(np.arange(len(points)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = order[np.repeat(first, counts) + within]
    close = ((points[rows] - keypoints[columns]) ** 2).sum(axis=1) <= radius_px**2
    return rows[close], columns[close]


def _is_best_of(groups: IndexArray, values: Float64Array) -> BoolArray:
    """Whether each value [M] is the largest of its group, the first one of equal values."""
    order = np.lexsort((-values, groups))
    is_first = np.ones(len(groups), bool)
    is_first[1:] = groups[order][1:] != groups[order][:-1]
    is_best = np.zeros(len(groups), bool)
    is_best[order] = is_first
    return is_best
