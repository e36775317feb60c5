"""Matches of an image with a keyframe of the map, restricted to what has a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array, IndexArray
from sfm_lightglue.features import Features
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap
from sfm_lightglue.types import Camera

_MAX_FEATURES = 512
"""Features with the highest scores that are matched: the time of the network grows with their number."""

_MIN_COVISIBLE = 15
"""Points that keyframes of one place share."""

_RIVAL_SHARE = 0.7
"""Another place that is nearly as similar is examined too: both can look the same."""

_ENOUGH_POINTS = 50
"""Features with a point of a keyframe that can be verified well."""

_MIN_SEPARATION = 10
"""Keyframes before one that are never a loop."""

_NUM_CELLS = 8
"""Cells per side of a grid over the image."""


class PlaceMatch(NamedTuple):
    """Rows [M] of the features of an image and of a keyframe that match, and points [M], -1 and NaN without."""

    rows: IndexArray
    other_rows: IndexArray
    point_ids: IndexArray
    xyz: Float64Array
    max_distance: float


def rows_to_match(features: Features, preferred: AnyArray) -> IndexArray:
    """Rows of the preferred features [N] and then of those with the highest scores, in order."""
    return np.sort(np.lexsort((-features.scores, ~np.asarray(preferred)))[:_MAX_FEATURES])


def match_with_keyframe(matcher: Matcher, slam_map: SlamMap, features: Features, keyframe: Keyframe) -> PlaceMatch:
    """Match an image with a keyframe, first of all with its features that have a point.

    Args:
        matcher: of features.
        slam_map: the map.
        features: of the image, those that shall be matched.
        keyframe: of the map.

    Returns:
        Rows of `features` and of the keyframe's features.
    """
    with slam_map.lock:
        ids = slam_map.resolve(keyframe.point_ids[: len(keyframe.features)])
    other = keyframe.features
    allowed = rows_to_match(other, ids >= 0)
    rows, found = matcher.match(features, other.rows(allowed)).indices.T.astype(np.int64)
    max_distance = distance_limit(features.descriptors[rows], other.descriptors[allowed[found]])
    point_ids = ids[allowed[found]]
    return PlaceMatch(rows, allowed[found], point_ids, slam_map.xyz(point_ids), max_distance)


def distance_limit(descriptors0: AnyArray, descriptors1: AnyArray) -> float:
    """Distance of descriptors [M, D] that nine tenths of matches do not exceed; 0 without matches."""
    distances = np.linalg.norm(descriptors0 - descriptors1, axis=1)
    return float(np.quantile(distances, 0.9)) + 1e-6 if len(distances) > 0 else 0.0


def distinct_places(slam_map: SlamMap, found: Sequence[tuple[int, float]], min_similarity: float) -> list[int]:
    """A keyframe of the most similar place, and one of another place that is nearly as similar.

    Of the keyframes of a place it is the most similar one, but few features with a point count against it: it cannot
    be verified.

    Args:
        slam_map: the map.
        found: (idx, similarity) of keyframes, most similar first.
        min_similarity: of a place.
    """
    with slam_map.lock:
        present = {idx: similarity for idx, similarity in found if idx in slam_map.keyframes}
        if not present or max(present.values()) < min_similarity:
            return []
        limit = max(min_similarity, _RIVAL_SHARE * max(present.values()))
        rates = {
            idx: similarity * _share_of_enough(slam_map.keyframes[idx])
            for idx, similarity in present.items()
            if similarity >= limit
        }
        chosen: list[int] = []
        while rates and len(chosen) < 2:
            most_similar = next(iter(rates))
            nearby = {most_similar, *(idx for idx, _ in slam_map.covisible(most_similar, min_shared=1))}
            chosen.append(max((idx for idx in rates if idx in nearby), key=lambda idx: (rates[idx], -idx)))
            rates = {idx: rate for idx, rate in rates.items() if idx not in nearby}
    return chosen


def _share_of_enough(keyframe: Keyframe) -> float:
    """Number of features of a keyframe that have a point as a fraction of `_ENOUGH_POINTS`, at most 1."""
    return min(1.0, int((keyframe.point_ids[: keyframe.num_features] >= 0).sum()) / _ENOUGH_POINTS)


def neighbourhood(slam_map: SlamMap, idx: int) -> set[int]:
    """Keyframes that share points with a keyframe or with one of those, and those that were made shortly before."""
    with slam_map.lock:
        near = {other for other, _ in slam_map.covisible(idx, min_shared=1)}
        further = {one for other in near for one, _ in slam_map.covisible(other, _MIN_COVISIBLE)}
        recent = {
            other for other in slam_map.members(slam_map.keyframes[idx].map_id) if abs(other - idx) <= _MIN_SEPARATION
        }
        return near | further | recent | {idx}


def place_of(slam_map: SlamMap, idx: int, size: int) -> list[int]:
    """A keyframe and its most covisible ones, `size` at most."""
    with slam_map.lock:
        return [idx, *(other for other, _ in slam_map.covisible(idx, _MIN_COVISIBLE))][:size]


def share_of_cells(camera: Camera, found: AnyArray, visible: AnyArray) -> float:
    """Fraction of the cells of the image with visible points in which points are found.

    Args:
        camera: of the image.
        found: [M, 2] pixels.
        visible: [P, 2] pixels.
    """
    return len(_cells(camera, found)) / max(1, len(_cells(camera, visible)))


def share_of_image(camera: Camera, pixels: AnyArray) -> float:
    """Fraction of all cells of the image in which pixels [M, 2] are."""
    return len(_cells(camera, pixels)) / _NUM_CELLS**2


def _cells(camera: Camera, pixels: AnyArray) -> IndexArray:
    """Numbers of the different cells of the image in which pixels [M, 2] are."""
    cells = np.floor(np.asarray(pixels) / camera.size * _NUM_CELLS).astype(np.int64)
    return np.unique(cells @ [_NUM_CELLS, 1])
