"""Whether two keyframes show the same place, and by which similarity their surroundings fit together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Rigid3, Sim3
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.tracking.config import TrackerConfig, pixel_factor
from sfm_lightglue.tracking.guided_matching import GuidedMatches, PlacePoints, match_by_projection, place_points
from sfm_lightglue.tracking.place_matching import distance_limit, place_of, rows_to_match, share_of_cells
from sfm_lightglue.tracking.similarity import PointPairs, Similarity, estimate_similarity
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap

_MIN_INLIERS = 20
"""Fewest pairs of points that fit the similarity."""

_MIN_INLIER_SHARE = 0.4
"""Fraction of the matched pairs of points that fit it, at least."""

_MIN_CELL_SHARE = 0.35
"""Fraction of the cells of the image with points of the place in which some are found, at least."""

_MIN_FOUND = 30
"""Points of the place that are found in the keyframe, at least."""

_MIN_FOUND_SHARE = 0.15
"""Fraction of the points of the place that the keyframe must show and that are found, at least."""

_MIN_FOUND_BY_OTHERS = 15
"""Points of the place that are found in another keyframe which confirms the similarity."""

_MAX_MISSED = 0.03
"""A keyframe that must show many points of the place and shows a smaller fraction contradicts the similarity."""

_MANY = 100
_PLACE_SIZE = 6
"""Keyframes on each side that take part."""

_ERROR_FACTOR = 1.5
"""Limits of reprojection errors are larger by this factor than those of tracking: both sides have drifted."""


@dataclass(frozen=True, slots=True, eq=False)
class VerifiedPlace:
    """Two keyframes that show the same place.

    Args:
        idx: keyframe.
        other_idx: the other one.
        other_from_cam: similarity between the two cameras.
        place_from_world: similarity from the world around the keyframe to the world around the other one.
        center: [3] position of the keyframe in the world around the other one.
        distance: median distance of the points of the place from it.
        num_inliers: points of the place that are found in the keyframe.
        links: (keyframe, row, point) that belong together: keyframes around the first, points around the other one.
    """

    idx: int
    other_idx: int
    other_from_cam: Sim3
    place_from_world: Sim3
    center: Float64Array
    distance: float
    num_inliers: int
    links: tuple[tuple[int, int, int], ...]

    @property
    def point_ids(self) -> frozenset[int]:
        """Points of the place that are found in the keyframe itself."""
        return frozenset(point_id for idx, _, point_id in self.links if idx == self.idx)


class PlaceVerifier:
    """Compares keyframes that look alike.

    Args:
        slam_map: the map.
        matcher: of features.
        config: options.
        seed: of RANSAC.
    """

    def __init__(self, slam_map: SlamMap, matcher: Matcher, config: TrackerConfig, seed: int) -> None:
        self._map, self._matcher, self._config, self._seed = slam_map, matcher, config, seed

    def verify(self, idx: int, other_idx: int) -> VerifiedPlace | None:
        """The similarity by which the surroundings of two keyframes fit.

        Pairs of matched points give it. Then all points around the other keyframe must be found where they project to
        in the keyframe, and in at least one more keyframe near it.

        Args:
            idx: keyframe.
            other_idx: keyframe of the place that it looks like.
        """
        with self._map.lock:
            keyframe, other = self._map.keyframes[idx], self._map.keyframes[other_idx]
            limit_px = _ERROR_FACTOR * self._config.pose.max_error_px * pixel_factor(self._map.camera.size)
        found, max_distance = self._similarity(keyframe, other, limit_px)
        if found is None:
            return None
        cam_from_world, other_cam_from_world = _as_sim3(keyframe.cam_from_world), _as_sim3(other.cam_from_world)
        cam_from_place = found.cam1_from_cam0.inverse() @ other_cam_from_world
        points = place_points(self._map, place_of(self._map, other_idx, _PLACE_SIZE))
        matches = self._search(keyframe, cam_from_place, points, limit_px, max_distance)
        if (
            len(matches.rows) < _MIN_FOUND
            or matches.share < _MIN_FOUND_SHARE
            or share_of_cells(self._map.camera, matches.pixels[matches.points], matches.pixels[matches.is_visible])
            < _MIN_CELL_SHARE
        ):
            return None
        place_from_world = cam_from_place.inverse() @ cam_from_world
        links = _links(idx, points, matches)
        confirmed = self._confirmed(idx, place_from_world, points, limit_px, max_distance)
        if confirmed is None:
            return None
        center = place_from_world @ keyframe.cam_from_world.center
        distances = np.linalg.norm(points.xyz[matches.points] - center, axis=1)
        return VerifiedPlace(
            idx,
            other_idx,
            found.cam1_from_cam0,
            place_from_world,
            center,
            float(np.median(distances)),
            len(links),
            (*links, *confirmed),
        )

    def _similarity(self, keyframe: Keyframe, other: Keyframe, limit_px: float) -> tuple[Similarity | None, float]:
        sides = [self._features_with_points(one) for one in (keyframe, other)]
        found_rows = self._matcher.match(sides[0][0], sides[1][0]).indices.astype(np.int64).T
        features, other_features = (side[0].rows(rows) for side, rows in zip(sides, found_rows, strict=True))
        xyz, other_xyz = (side[1][rows] for side, rows in zip(sides, found_rows, strict=True))
        max_distance = distance_limit(features.descriptors, other_features.descriptors)
        pixels, other_pixels = (one.keypoints.astype(np.float64) for one in (features, other_features))
        pairs = PointPairs(pixels, other_pixels, keyframe.cam_from_world @ xyz, other.cam_from_world @ other_xyz)
        found = estimate_similarity(pairs, self._map.camera, self._seed, limit_px)
        num_known = int((np.isfinite(xyz[:, 0]) | np.isfinite(other_xyz[:, 0])).sum())
        if found is None or len(found.inliers) < max(_MIN_INLIERS, _MIN_INLIER_SHARE * num_known):
            return None, max_distance
        return found, max_distance

    def _features_with_points(self, keyframe: Keyframe) -> tuple[Features, Float64Array]:
        """Features of a keyframe, first of all those with a point, and the points [N, 3], NaN without."""
        with self._map.lock:
            ids = self._map.resolve(keyframe.point_ids[: len(keyframe.features)])
            rows = rows_to_match(keyframe.features, ids >= 0)
            return keyframe.features.rows(rows), self._map.xyz(ids[rows])

    def _search(
        self, keyframe: Keyframe, cam_from_place: Sim3, points: PlacePoints, limit_px: float, max_distance: float
    ) -> GuidedMatches:
        return match_by_projection(
            self._map.camera, keyframe.features, cam_from_place, points, 2 * limit_px, max_distance
        )

    def _confirmed(
        self, idx: int, place_from_world: Sim3, points: PlacePoints, limit_px: float, max_distance: float
    ) -> list[tuple[int, int, int]] | None:
        """Links of the keyframes around one; None if none of them confirms the similarity, or one contradicts it."""
        world_from_place = place_from_world.inverse()
        links: list[tuple[int, int, int]] = []
        is_confirmed = False
        for near in place_of(self._map, idx, _PLACE_SIZE)[1:]:
            keyframe = self._map.keyframes[near]
            if keyframe.num_features == 0:
                continue  # it was mapped by optical flow alone, and cannot show that points are missing
            cam_from_place = _as_sim3(keyframe.cam_from_world) @ world_from_place
            matches = self._search(keyframe, cam_from_place, points, 1.5 * limit_px, max_distance)
            if matches.num_visible >= _MANY and matches.share < _MAX_MISSED:
                return None
            if len(matches.rows) >= _MIN_FOUND_BY_OTHERS and matches.share >= _MIN_FOUND_SHARE / 2:
                is_confirmed = True
                links.extend(_links(near, points, matches))
        return links if is_confirmed else None


def _links(idx: int, points: PlacePoints, matches: GuidedMatches) -> list[tuple[int, int, int]]:
    point_ids = points.point_ids[matches.points]
    return [(idx, row, point_id) for row, point_id in zip(matches.rows.tolist(), point_ids.tolist(), strict=True)]


def _as_sim3(pose: Rigid3) -> Sim3:
    return Sim3(1.0, pose.R, pose.t)
