"""Matches of many image pairs -> tracks and triangulated points, in whole arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.geometry.point_positions import PointViews, best_positions
from sfm_lightglue.mapping.observers import Observers

_MAX_HYPOTHESES = 12
"""Matches of a track from which a point is tried at most."""

_MAX_ROUNDS = 2
"""A track of several points is divided so many times at most."""

_ROWS_AT_A_TIME = 1 << 18
"""Matches, or pairs of hypothesis and keypoint, that are computed at once."""

_NUM_PARTS = 12
"""Matches are joined to tracks in so many parts, the surest first."""

_MAX_MARKS = 1 << 26
"""Largest number of tracks times images, of a byte each, for which marks tell what images a track sees."""

_NUM_TRIALS = 2
"""Matches of a part that would give a track two keypoints of one image are tried so often, each time the surer half."""

_NUM_STEPS = 3
"""Gauss-Newton steps of a point by observations that fit it."""


@dataclass(frozen=True, eq=False, slots=True)
class DensePoints:
    """Triangulated points with their tracks.

    Args:
        xyz: [P, 3] in the world.
        point: [O] point of each observation.
        keypoint: [O] number of the observed keypoint; each keypoint has one point at most.
    """

    xyz: Float64Array
    point: IndexArray
    keypoint: IndexArray

    @property
    def num_observations(self) -> IndexArray:
        """[P] of each point."""
        return np.bincount(self.point, minlength=len(self.xyz))

    def chosen(self, mask: BoolArray) -> DensePoints:
        """The points of a mask [P], numbered anew."""
        kept = mask[self.point]
        number = np.cumsum(mask) - 1
        return DensePoints(self.xyz[mask], number[self.point[kept]], self.keypoint[kept])


def triangulate_matches(
    matches: IndexArray, observers: Observers, min_angle_deg: float, min_views: int = 3
) -> DensePoints:
    """Join matches to tracks, and triangulate each track robustly.

    The matches of a track are hypotheses of its point. The point with the most keypoints within their limits is kept
    and refined; the other keypoints of the track can become points of their own.

    Args:
        matches: [M, 2] numbers of keypoints of different images, the surest first.
        observers: poses and keypoints.
        min_angle_deg: points with a smaller triangulation angle are left out.
        min_views: smallest number of images of a point.

    Source: Schönberger and Frahm, Structure-from-Motion Revisited, 2016, section 4.3 (robust triangulation of tracks).
    """
    found = []
    usable: BoolArray = np.asarray(np.isfinite(observers.points).all(axis=1))
    for _ in range(_MAX_ROUNDS):
        matches = matches[usable[matches].all(axis=1)]
        tracks = _Tracks.from_matches(matches, observers, min_views)
        if len(tracks.keypoint) == 0:
            break
        points = _robust_points(tracks, observers, min_angle_deg, min_views)
        found.append(points)
        usable = usable.copy()
        usable[points.keypoint] = False
        if len(points.xyz) < 0.01 * sum(len(each.xyz) for each in found):
            break
    return joined_points(found)


def joined_points(parts: Sequence[DensePoints]) -> DensePoints:
    """All points of several parts, which have no keypoint in common."""
    if not parts:
        return DensePoints(np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0, np.int64))
    offsets = np.cumsum([0, *(len(part.xyz) for part in parts[:-1])])
    return DensePoints(
        np.concatenate([part.xyz for part in parts]),
        np.concatenate([part.point + offset for part, offset in zip(parts, offsets, strict=True)]),
        np.concatenate([part.keypoint for part in parts]),
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Tracks:
    """Connected keypoints.

    Args:
        keypoint: [K] numbers of the keypoints, sorted by track.
        starts: [T + 1] where the keypoints of each track begin.
        matches: [M, 2] the matches, sorted by track.
        track: [M] track of each match.
    """

    keypoint: IndexArray
    starts: IndexArray
    matches: IndexArray
    track: IndexArray

    @classmethod
    def from_matches(cls, matches: IndexArray, observers: Observers, min_views: int) -> _Tracks:
        """Join matches, the first ones first, where no track gets two keypoints of one image."""
        matched, position = _numbered(matches, len(observers.image))  # an extension matches few of all keypoints
        label, image = np.arange(len(matched)), observers.image[matched]
        joined = [np.zeros((0, 2), np.int64)]
        for part in np.array_split(position, _NUM_PARTS):
            pending = part
            for _ in range(_NUM_TRIALS):
                label, accepted = _joined_labels(label, pending, image)
                joined.append(pending[accepted])
                pending = pending[~accepted][: len(pending) // 2]
                if len(pending) == 0:
                    break
        kept = np.concatenate(joined)
        sizes = np.bincount(label, minlength=len(matched))
        keypoint = np.flatnonzero(sizes[label] >= min_views)
        keypoint = keypoint[np.argsort(label[keypoint], kind="stable")]
        names, counts = np.unique(label[keypoint], return_counts=True)
        number_from_label = np.full(len(matched), -1)
        number_from_label[names] = np.arange(len(names))
        track = number_from_label[label[kept[:, 0]]]
        rows = np.flatnonzero(track >= 0)
        rows = rows[np.argsort(track[rows], kind="stable")]
        ends = np.concatenate([[0], np.cumsum(counts)])
        return cls(matched[keypoint], ends, matched[kept[rows]], track[rows])


def _joined_labels(label: IndexArray, matches: IndexArray, image: IndexArray) -> tuple[IndexArray, BoolArray]:
    """Labels [K] of tracks after matches were joined, without tracks that would see an image twice.

    Returns:
        The labels, and which matches [M] have both keypoints in one track.
    """
    old, position = _numbered(label[matches], len(label))
    graph = coo_array((np.ones(len(matches), np.int8), position.T), shape=(len(old), len(old)))
    num_components, component = connected_components(graph, directed=False)
    component_from_old = np.full(len(label), -1)
    component_from_old[old] = component
    rows = np.flatnonzero(component_from_old[label] >= 0)
    of_row = component_from_old[label[rows]]
    is_single = _sees_images_once(of_row, image[rows], num_components)
    first = np.empty(num_components, np.int64)
    first[component[::-1]] = old[::-1]  # the first label of each component is written last
    result = label.copy()
    kept = is_single[of_row]
    result[rows[kept]] = first[of_row[kept]]
    accepted: BoolArray = result[matches[:, 0]] == result[matches[:, 1]]
    return result, accepted


def _sees_images_once(track: IndexArray, image: IndexArray, num_tracks: int) -> BoolArray:
    """Which tracks [T] have no two keypoints of one image, by the track and image of each keypoint [K]."""
    num_images = int(image.max(initial=0)) + 1
    codes = track * num_images + image
    if num_tracks * num_images <= _MAX_MARKS:  # marks take less time than sorting, and memory for each track and image
        sees = np.zeros((num_tracks, num_images), np.bool_)
        sees.reshape(-1)[codes] = True
        return np.asarray(np.count_nonzero(sees, axis=1) == np.bincount(track, minlength=num_tracks))
    codes.sort()  # np.unique of integers hashes them, which takes longer
    twice = codes[1:][codes[1:] == codes[:-1]] // num_images
    return np.asarray(np.bincount(twice, minlength=num_tracks) == 0)


def _numbered(values: IndexArray, end: int) -> tuple[IndexArray, IndexArray]:
    """The distinct values below `end`, ascending, and the position of each value among them, without sorting."""
    is_there = np.zeros(end, np.bool_)
    is_there[values] = True
    distinct = np.flatnonzero(is_there)
    position = np.empty(end, np.int64)
    position[distinct] = np.arange(len(distinct))
    return distinct, position[values]


def _robust_points(tracks: _Tracks, observers: Observers, min_angle_deg: float, min_views: int) -> DensePoints:
    hypothesis, track = _hypotheses(tracks, observers, min_angle_deg)
    best, chosen = _best_hypotheses(hypothesis, track, tracks, observers)
    sizes = np.diff(tracks.starts)[chosen]
    keypoint = tracks.keypoint[ranges(tracks.starts[chosen], sizes)]
    point = np.repeat(np.arange(len(chosen)), sizes)
    return refine_points(DensePoints(best, point, keypoint), observers, min_angle_deg, min_views)


def refine_points(points: DensePoints, observers: Observers, min_angle_deg: float, min_views: int) -> DensePoints:
    """Move points to the minimum of their reprojection errors, and leave out observations beyond their limits.

    Args:
        points: may have several observations of a point in one image; the most exact one is kept.
        observers: poses and keypoints.
        min_angle_deg: points with a smaller triangulation angle are left out.
        min_views: smallest number of images of a point.
    """
    xyz, point, keypoint = points.xyz, points.point, points.keypoint
    inliers = _inliers(xyz, point, keypoint, observers)
    for _ in range(2):
        xyz = adjusted_positions(xyz, point[inliers], keypoint[inliers], observers)
        inliers = _inliers(xyz, point, keypoint, observers)
    refined = DensePoints(xyz, point[inliers], keypoint[inliers])
    enough: BoolArray = refined.num_observations >= min_views
    enough &= triangulation_angles_deg(xyz, refined.point, refined.keypoint, observers) >= min_angle_deg
    return refined.chosen(enough)


def _hypotheses(tracks: _Tracks, observers: Observers, min_angle_deg: float) -> tuple[Float64Array, IndexArray]:
    """Points [H, 3] of single matches with parallax, and the tracks [H] that they belong to, sorted."""
    found = [_intersections(tracks.matches[:0], observers, min_angle_deg)]
    for begin in range(0, len(tracks.matches), _ROWS_AT_A_TIME):
        xyz, rows = _intersections(tracks.matches[begin : begin + _ROWS_AT_A_TIME], observers, min_angle_deg)
        found.append((xyz, begin + rows))
    xyz, usable = (np.concatenate(parts) for parts in zip(*found, strict=True))
    # Matches come sorted by their similarity within a track: the first ones are the surest.
    track = tracks.track[usable]
    is_used = np.arange(len(usable)) - np.searchsorted(track, track) < _MAX_HYPOTHESES
    return xyz[is_used], track[is_used]


def _intersections(matches: IndexArray, observers: Observers, min_angle_deg: float) -> tuple[Float64Array, IndexArray]:
    """Points [N, 3] in the middle of the rays of those matches [M, 2] that have parallax, and their rows [N]."""
    first, second = matches.T
    rays0, rays1 = observers.rays(first), observers.rays(second)
    cosine = (rays0 * rays1).sum(axis=1)
    centers = observers.centers()
    origin = centers.take(observers.image.take(first), axis=0)
    baseline = centers.take(observers.image.take(second), axis=0) - origin
    along0, along1 = (baseline * rays0).sum(axis=1), (baseline * rays1).sum(axis=1)
    determinant = np.maximum(1 - cosine**2, 1e-15)
    depth0 = (along0 - cosine * along1) / determinant
    depth1 = (cosine * along0 - along1) / determinant
    xyz = origin + (depth0[:, None] * rays0 + baseline + depth1[:, None] * rays1) / 2
    usable = np.flatnonzero((depth0 > 0) & (depth1 > 0) & (cosine <= np.cos(np.radians(min_angle_deg))))
    return xyz[usable], usable


def _best_hypotheses(
    hypothesis: Float64Array, track: IndexArray, tracks: _Tracks, observers: Observers
) -> tuple[Float64Array, IndexArray]:
    """The hypothesis of each track that fits the most keypoints, [T', 3], and these tracks [T']."""
    sizes = np.diff(tracks.starts)[track]
    scores = np.empty(len(track))
    ends = np.cumsum(sizes)
    first = 0
    while first < len(track):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _ROWS_AT_A_TIME, side="right")))
        number = np.repeat(np.arange(first, last), sizes[first:last])
        keypoint = tracks.keypoint[ranges(tracks.starts[track[first:last]], sizes[first:last])]
        squared, depth = observers.squared_errors(hypothesis, number, keypoint)
        value = np.where(depth > 0, np.maximum(1 - squared, 0), 0)
        scores[first:last] = np.bincount(number - first, value, minlength=last - first)
        first = last
    order = np.lexsort((np.arange(len(track)), -scores, track))
    best = order[np.flatnonzero(np.diff(track[order], prepend=-1))]
    return hypothesis[best], track[best]


def _inliers(xyz: Float64Array, point: IndexArray, keypoint: IndexArray, observers: Observers) -> IndexArray:
    """Observations within the limit, in front of their cameras; of one image only the most exact one."""
    squared, depth = observers.squared_errors(xyz, point, keypoint)
    rows = np.flatnonzero((squared <= 1) & (depth > 0))
    image = observers.image[keypoint[rows]]
    codes = np.sort(point[rows] * len(observers.R) + image)
    if not (codes[1:] == codes[:-1]).any():
        return rows
    order = np.lexsort((keypoint[rows], squared[rows], image, point[rows]))
    pairs = np.stack([point[rows], image], axis=1)[order]
    is_first = np.concatenate([[True], np.diff(pairs, axis=0).any(axis=1)])[: len(order)]
    return np.sort(rows[order[is_first]])


def adjusted_positions(
    xyz: Float64Array,
    point: IndexArray,
    keypoint: IndexArray,
    observers: Observers,
    loss: float | None = None,
    max_steps: int = _NUM_STEPS,
) -> Float64Array:
    """Points after Gauss-Newton steps on the reprojection errors of their observations.

    Args:
        xyz: [P, 3] from which the search begins.
        point: [O] point of each observation.
        keypoint: [O] number of its keypoint, whose normalised image point is finite.
        observers: poses and keypoints.
        loss: scale of a soft L1 loss as a part of the limit; None for squared errors.
        max_steps: of a point.
    """
    image = observers.image.take(keypoint)
    scale = (observers.focal_px / observers.limits_px).take(image)
    views = PointViews.of(point, image, observers.R, observers.t, observers.points.take(keypoint, axis=0), scale)
    return best_positions(views, xyz, loss, max_steps)


def triangulation_angles_deg(
    xyz: Float64Array, point: IndexArray, keypoint: IndexArray, observers: Observers
) -> Float64Array:
    """A large angle [P] between rays of each point: from the ray that is farthest from the first, to the farthest."""
    rays = xyz.take(point, axis=0) - observers.centers().take(observers.image.take(keypoint), axis=0)
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
    reference = np.zeros((len(xyz), 3))
    reference[point[::-1]] = rays[::-1]  # the first observation of each point is written last
    smallest = np.ones(len(xyz))
    for _ in range(2):
        cosine = (rays * reference.take(point, axis=0)).sum(axis=1)
        order = np.argsort(-cosine, kind="stable")
        reference[point[order]] = rays[order]
        smallest[point[order]] = np.minimum(smallest[point[order]], cosine[order])
    angles: Float64Array = np.degrees(np.arccos(np.clip(smallest, -1, 1)))
    return angles


def ranges(starts: IndexArray, sizes: IndexArray) -> IndexArray:
    """The numbers starts[i], ..., starts[i] + sizes[i] - 1 of all i, one after the other."""
    offsets = np.cumsum(sizes) - sizes
    numbers: IndexArray = np.arange(int(sizes.sum())) - np.repeat(offsets - starts, sizes)
    return numbers


def first_occurrences(values: IndexArray) -> IndexArray:
    """Ascending rows of the first occurrence of each value of [N]."""
    rows: IndexArray = np.sort(np.unique(values, return_index=True)[1])
    return rows
