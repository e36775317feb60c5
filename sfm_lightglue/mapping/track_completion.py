"""Points -> further observations: keypoints near their projections that look like what other images see there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.execution.progress import Progress, reporting, silent
from sfm_lightglue.mapping.dense_keypoints import DenseKeypoints
from sfm_lightglue.mapping.dense_tracks import (
    DensePoints,
    first_occurrences,
    joined_points,
    ranges,
    refine_points,
    triangulate_matches,
)
from sfm_lightglue.mapping.depth_agreement import agrees_with_surface, surface_of
from sfm_lightglue.mapping.observers import Observers
from sfm_lightglue.mapping.track_merging import merge_points
from sfm_lightglue.two_view.guided import GuidedView

_MAX_SEED_DISTANCE = 0.65
"""Largest distance of descriptors for points of two observations, which only become points by a third one, and for
points that only look like one."""

_NUM_SURE = 4
"""Points whose matches are in so many images are the surface that points of two observations are compared with. An
image that sees too few of them has all points as its surface."""

_NUM_NEAREST = 2
"""Keypoints that are compared at each projection."""

_MAX_ANGLE_DEG = 45.0
"""Largest angle between the rays of two images to a point whose descriptors are compared."""

_NUM_IN_MEMORY = 48
"""Images whose rows of descriptors are kept by keypoint: as many as have their descriptors in memory."""


@dataclass(frozen=True, eq=False, slots=True)
class _Candidates:
    """Keypoints that may observe a point.

    Args:
        point: [C] points.
        keypoint: [C] numbers of keypoints without a point.
        similarity: [C] float32 cosine of the descriptors of the keypoint and of an observation of the point.
    """

    point: IndexArray
    keypoint: IndexArray
    similarity: Float32Array

    @classmethod
    def joined(cls, parts: Sequence[_Candidates]) -> _Candidates:
        """All candidates, the most similar ones first."""
        none = cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        point, keypoint, similarity = (
            np.concatenate([getattr(part, name) for part in (none, *parts)])
            for name in ("point", "keypoint", "similarity")
        )
        order = np.argsort(-similarity, kind="stable")
        return cls(point[order], keypoint[order], similarity[order])


@dataclass(frozen=True, eq=False, slots=True)
class _Seen:
    """What an image observes and what it could.

    Args:
        point: [O] observed points, ascending.
        keypoint: [O] numbers of the keypoints that observe them.
        free: [F] numbers of the keypoints without a point.
        tree: of their normalised image points.
    """

    point: IndexArray
    keypoint: IndexArray
    free: IndexArray
    tree: cKDTree


@dataclass(frozen=True, eq=False, slots=True)
class _Near:
    """Free keypoints of an image near projections of points.

    Args:
        point: [C] points, ascending.
        keypoint: [C] numbers of the keypoints; of one point the nearest comes first.
    """

    point: IndexArray
    keypoint: IndexArray


class TrackCompletion:
    """Finds further observations of triangulated points.

    A keypoint without a point is added to a point if it lies within its limit around the projection, if its descriptor
    resembles that of an observation in an image that sees the same surface, and if neither the keypoint nor the point
    has a more similar candidate. So tracks grow over keypoints that matching leaves out, because a similar keypoint
    lies on the same epipolar line.

    Args:
        keypoints: of a model.
        observers: poses and keypoints.
        view: descriptors of an image, by its position; safe to call from several threads.
        pairs: (i, j) of positions of images that see the same surface.
        max_distance: largest distance of the descriptors, of length 1, of a keypoint and of an observation of the
            point that it is added to.
        executor: works on several images at a time.
        progress: called with the stage "complete tracks" after each image.

    Source: Schönberger and Frahm, Structure-from-Motion Revisited, 2016, section 4.4 (completion of tracks), here with
        projections and descriptors instead of given matches.
    """

    def __init__(
        self,
        keypoints: DenseKeypoints,
        observers: Observers,
        view: Callable[[int], GuidedView],
        pairs: Sequence[tuple[int, int]],
        max_distance: float,
        executor: Executor,
        progress: Progress = silent,
    ) -> None:
        self._keypoints, self._observers, self._view, self._executor = keypoints, observers, view, executor
        self._max_distance, self._progress = max_distance, progress
        self._partners: list[list[int]] = [[] for _ in keypoints.image_ids]
        for first, second in sorted({*pairs, *((second, first) for first, second in pairs)}):
            self._partners[second].append(first)
        self._centers = observers.centers()
        self._row_from_index: LruCache[int, IndexArray] = LruCache(_NUM_IN_MEMORY)

    def grown(self, points: DensePoints, matches: IndexArray, min_angle_deg: float, min_views: int) -> DensePoints:
        """Points with further observations, and further points whose matches are in fewer than `min_views` images.

        Points that are one are merged, also where images that were not matched with each other observe them.

        The further points must have the depth of the surface around them: three of four of them would be wrong on
        lawns and trees, where keypoints look alike and a third one is found by chance.

        Args:
            points: triangulated from the matches.
            matches: [M, 2] numbers of keypoints, the surest first.
            min_angle_deg: points with a smaller triangulation angle are left out.
            min_views: smallest number of images of a point.
        """
        num_images = len(self._observers.R)
        surface = surface_of(points, min(max(_NUM_SURE, min_views), num_images), self._observers)
        points = self.completed(points, self._max_distance)
        if min_views <= 2:
            return self._merged(points, matches)
        is_free = np.ones(len(self._observers.image), np.bool_)
        is_free[points.keypoint] = False
        seeds = triangulate_matches(matches[is_free[matches].all(axis=1)], self._observers, min_angle_deg, 2)
        seeds = self.completed(seeds, min(_MAX_SEED_DISTANCE, self._max_distance), points.keypoint)
        seeds = refine_points(seeds, self._observers, min_angle_deg, min_views)
        seeds = seeds.chosen(agrees_with_surface(seeds, surface, self._observers))
        return self._merged(joined_points([points, seeds]), matches)

    def _merged(self, points: DensePoints, matches: IndexArray) -> DensePoints:
        """Points that are one become one: those with matched keypoints, and those that look alike at one place.

        Images that are not matched with each other know a point only by its place and look. Each of two such points
        must lie near the other one in an image of it: only distant images show two points of a fine pattern so near.
        """
        first = np.empty(len(points.xyz), np.int64)
        first[points.point[::-1]] = points.keypoint[::-1]
        point_of = np.full(len(self._observers.image), -1)
        point_of[points.keypoint] = points.point
        found = self._found(points, point_of >= 0, min(_MAX_SEED_DISTANCE, self._max_distance))
        point, keypoint = (np.concatenate(parts) for parts in zip(*found, strict=True))
        other = point_of[keypoint]
        is_mutual = np.isin(point * len(points.xyz) + other, other * len(points.xyz) + point)
        links = np.stack([first[point[is_mutual]], keypoint[is_mutual]], axis=1)
        return merge_points(points, np.concatenate([matches, links]), self._observers)

    def completed(self, points: DensePoints, max_distance: float, taken: IndexArray | None = None) -> DensePoints:
        """The points with further observations; positions and existing observations stay.

        Args:
            points: triangulated points.
            max_distance: largest distance of two descriptors of length 1.
            taken: [T] numbers of further keypoints that observe other points.
        """
        is_free: BoolArray = np.asarray(np.isfinite(self._observers.points).all(axis=1))
        is_free[points.keypoint] = False
        if taken is not None:
            is_free[taken] = False
        found = self._found(points, is_free, max_distance)
        return DensePoints(
            points.xyz,
            np.concatenate([points.point, *(point for point, _ in found)]),
            np.concatenate([points.keypoint, *(keypoint for _, keypoint in found)]),
        )

    def _found(
        self, points: DensePoints, is_free: BoolArray, max_distance: float
    ) -> list[tuple[IndexArray, IndexArray]]:
        """For each image, points that it does not observe, and keypoints of a mask [K] that may observe them.

        Each point and each keypoint is there once.
        """
        seen = self._seen(points, is_free)

        def found_in(image: int) -> tuple[IndexArray, IndexArray]:
            candidates = self._candidates(points.xyz, seen, image, max_distance)
            rows = first_occurrences(candidates.keypoint)  # the most similar one of each keypoint
            point, keypoint = candidates.point[rows], candidates.keypoint[rows]
            rows = first_occurrences(point)
            return point[rows], keypoint[rows]

        results = self._executor.map(found_in, range(len(seen)))
        return list(reporting(results, "complete tracks", len(seen), self._progress))

    def _seen(self, points: DensePoints, is_free: BoolArray) -> list[_Seen]:
        image, starts = self._observers.image[points.keypoint], self._keypoints.starts
        order = np.lexsort((points.point, image))
        bounds = np.searchsorted(image[order], np.arange(len(starts)))
        found = []
        for position in range(len(starts) - 1):
            rows = order[bounds[position] : bounds[position + 1]]
            free = starts[position] + np.flatnonzero(is_free[starts[position] : starts[position + 1]])
            tree = cKDTree(self._observers.points[free])
            found.append(_Seen(points.point[rows], points.keypoint[rows], free, tree))
        return found

    def _candidates(self, xyz: Float64Array, seen: Sequence[_Seen], image: int, max_distance: float) -> _Candidates:
        """Free keypoints of an image for the points that it does not observe, but its partners do."""
        partners = [source for source in self._partners[image] if len(seen[source].point) > 0]
        if len(seen[image].free) == 0 or not partners or len(self._view(image).rows) == 0:  # no dense layer
            return _Candidates.joined([])
        is_wanted = np.zeros(len(xyz), np.bool_)
        for source in partners:
            is_wanted[seen[source].point] = True
        is_wanted[seen[image].point] = False
        near = self._near_keypoints(xyz, np.flatnonzero(is_wanted), image, seen[image])
        is_wanted[:] = False
        is_wanted[near.point] = True
        found = []
        for source in partners:
            rows = np.flatnonzero(is_wanted[seen[source].point])
            rows = rows[self._is_similar_side(xyz[seen[source].point[rows]], source, image)]
            if len(rows) > 0 and len(self._view(source).rows) > 0:
                point, own = seen[source].point[rows], seen[source].keypoint[rows]
                found.append(self._compared(near, point, source, own, image, max_distance))
        return _Candidates.joined(found)

    def _near_keypoints(self, xyz: Float64Array, point: IndexArray, image: int, target: _Seen) -> _Near:
        """The keypoints of an image near the projections of points [N] of the ascending numbers `point`."""
        observers = self._observers
        in_camera = xyz[point] @ observers.R[image].T + observers.t[image]
        is_front = np.flatnonzero(in_camera[:, 2] > 0)
        projected = in_camera[is_front, :2] / in_camera[is_front, 2:]
        radius = observers.limits_px[image] / observers.focal_px[image]
        free = observers.points[target.free]
        is_inside = (projected >= free.min(axis=0) - radius) & (projected <= free.max(axis=0) + radius)
        inside = np.flatnonzero(is_inside.all(axis=1))
        found = target.tree.query(projected[inside], k=_NUM_NEAREST, distance_upper_bound=radius)
        distance, nearest = np.asarray(found[0], np.float64), np.asarray(found[1], np.int64)
        row, column = np.nonzero(np.isfinite(distance))
        return _Near(point[is_front[inside[row]]], target.free[nearest[row, column]])

    def _is_similar_side(self, positions: Float64Array, first: int, second: int) -> BoolArray:
        """Whether the rays of two images to points [N, 3] have a small angle."""
        rays = [positions - self._centers[image] for image in (first, second)]
        squared, other_squared, products = (
            np.einsum("nd,nd->n", rays[i], rays[j]) for i, j in ((0, 0), (1, 1), (0, 1))
        )
        return np.asarray(products >= np.cos(np.radians(_MAX_ANGLE_DEG)) * np.sqrt(squared * other_squared))

    def _compared(
        self, near: _Near, point: IndexArray, source: int, own: IndexArray, image: int, max_distance: float
    ) -> _Candidates:
        """The keypoints of an image near points that look like the keypoints `own` [N] of another image do.

        Args:
            near: keypoints of the image.
            point: [N] points, each of which has some of them.
            source: the other image.
            own: [N] its keypoints that observe the points.
            image: the image.
            max_distance: largest distance of two descriptors of length 1.
        """
        first, end = (np.searchsorted(near.point, point, side=side) for side in ("left", "right"))
        row = np.repeat(np.arange(len(point)), end - first)
        other = near.keypoint[ranges(first, end - first)]
        rows, other_rows = self._rows(source, own)[row], self._rows(image, other)
        descriptors = self._view(source).descriptors.take(rows, axis=0)
        similarity = np.einsum("cd,cd->c", descriptors, self._view(image).descriptors.take(other_rows, axis=0))
        similarity[(rows < 0) | (other_rows < 0)] = 0  # like no other
        good = np.flatnonzero(2 * (1 - similarity) <= max_distance**2)
        return _Candidates(point[row[good]], other[good], similarity[good])

    def _rows(self, image: int, numbers: IndexArray) -> IndexArray:
        """Rows [K] of the descriptors of keypoints of an image; -1 for those that the dense layer lacks."""
        start = self._keypoints.starts[image]
        row_from_index = self._row_from_index.get(image)
        if row_from_index is None:
            view = self._view(image)
            row_from_index = np.full(self._keypoints.starts[image + 1] - start, -1)
            row_from_index[self._keypoints.number_from_row[image][view.rows] - start] = np.arange(len(view.rows))
            self._row_from_index.put(image, row_from_index)
        found: IndexArray = row_from_index.take(numbers - start)
        return found
