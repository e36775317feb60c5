"""The pose of an image somewhere in the map: where a lost camera is."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import IndexArray
from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_angle_deg
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.tracking.absolute_pose import absolute_pose
from sfm_lightglue.tracking.config import TrackerConfig, pixel_factor
from sfm_lightglue.tracking.feature_matching import FoundFrame
from sfm_lightglue.tracking.guided_matching import match_by_projection, place_points
from sfm_lightglue.tracking.place_matching import (
    PlaceMatch,
    distinct_places,
    match_with_keyframe,
    place_of,
    rows_to_match,
    share_of_cells,
)
from sfm_lightglue.tracking.place_recognition import PlaceRecognition
from sfm_lightglue.tracking.pose_from_matches import MatchesWithPoints, pose_from_matches
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap

_NUM_CANDIDATES = 10
_MIN_SIMILARITY = 0.04
"""Fraction of the largest keypoints that match, of a keyframe that is worth matching."""

_MIN_INLIERS = 12
"""Fewest matches with one keyframe that fit a pose."""

_MIN_INLIERS_OF_PLACE = 25
"""Fewest points of the keyframe and of its covisible ones that fit the final pose."""

_MIN_FOUND_SHARE = 0.12
"""Fraction of the points that the image must show whose features are found in it, at least."""

_MIN_CELL_SHARE = 0.35
"""Fraction of the cells of the image with points of the place in which some are found, at least."""

_MIN_MATCHES = 80
_MIN_MATCH_SHARE = 0.8
"""Matches with one keyframe, and fraction of them, that must fit a pose by too few points."""

_PLACE_SIZE = 6
"""Keyframes of a place."""

_RIVAL_SHARE = 0.7
"""A second pose with this fraction of the inliers makes the first one doubtful."""

_SAME_POSE = (5.0, 0.2)
"""Largest difference of equal poses: degrees, and fraction of the distance to the points."""


class Relocalizer:
    """Finds images in the map by the look of their place.

    Args:
        slam_map: the map.
        places: its keyframes.
        matcher: of features.
        config: options.
        seed: of RANSAC.
    """

    def __init__(
        self, slam_map: SlamMap, places: PlaceRecognition, matcher: Matcher, config: TrackerConfig, seed: int
    ) -> None:
        self._map, self._places, self._matcher, self._config, self._seed = slam_map, places, matcher, config, seed

    def relocalize(self, features: Features, size: tuple[int, int]) -> FoundFrame | None:
        """Find the pose of an image.

        Args:
            features: of the image.
            size: (width, height) of the image in pixels.

        Returns:
            None if the map does not show the place, or shows two places that look like it.
        """
        similar = self._places.query(features, _NUM_CANDIDATES)
        limit_px = self._config.pose.max_error_px * pixel_factor(size)
        tried = [self._at(features, idx, limit_px) for idx in distinct_places(self._map, similar, _MIN_SIMILARITY)]
        found = sorted((one for one in tried if one is not None), key=lambda one: -len(one.rows))
        if not found or (len(found) == 2 and self._is_ambiguous(*found)):
            return None
        return found[0]

    def _at(self, features: Features, idx: int, limit_px: float) -> FoundFrame | None:
        """The pose of an image at the place of one keyframe."""
        with self._map.lock:
            keyframe, camera = self._map.keyframes.get(idx), self._map.camera
        if keyframe is None:
            return None
        chosen = rows_to_match(features, np.ones(len(features), np.bool_))
        match = match_with_keyframe(self._matcher, self._map, features.rows(chosen), keyframe)
        rows, has_point = chosen[match.rows], match.point_ids >= 0
        pose = absolute_pose(features.keypoints[rows[has_point]], match.xyz[has_point], camera, self._seed, limit_px)
        found = None
        if pose is not None and pose.num_inliers >= _MIN_INLIERS:
            found = self._among_all_points(features, idx, pose.cam_from_world, limit_px, match.max_distance)
        return found or self._by_all_matches(features, rows, keyframe, match, limit_px)

    def _by_all_matches(
        self, features: Features, rows: IndexArray, keyframe: Keyframe, match: PlaceMatch, limit_px: float
    ) -> FoundFrame | None:
        """The pose by a few points, which nearly all matches with one keyframe confirm."""
        if len(rows) < _MIN_MATCHES:
            return None
        pixels = features.keypoints[rows].astype(np.float64)
        with self._map.lock:
            matches = MatchesWithPoints(
                self._map.camera,
                keyframe.cam_from_world,
                keyframe.keypoints[match.other_rows].astype(np.float64),
                pixels,
                match.xyz,
                limit_px,
            )
        found = pose_from_matches(matches, self._config.pose.min_inliers, self._seed)
        if found is None or found.num_inliers < max(_MIN_MATCHES, _MIN_MATCH_SHARE * len(rows)):
            return None
        fits = found.inlier_mask
        if share_of_cells(matches.camera, pixels[fits], features.keypoints) < _MIN_CELL_SHARE:
            return None
        return FoundFrame(
            keyframe.map_id,
            found.cam_from_world,
            rows[fits],
            match.point_ids[fits],
            keyframe.idx,
            match.other_rows[fits],
        )

    def _among_all_points(
        self, features: Features, idx: int, guess: Rigid3, limit_px: float, max_distance: float
    ) -> FoundFrame | None:
        """The pose by all points of the place, which are searched near their projections."""
        with self._map.lock:
            if idx not in self._map.keyframes:
                return None
            map_id, camera = self._map.keyframes[idx].map_id, self._map.camera
            points = place_points(self._map, place_of(self._map, idx, _PLACE_SIZE))
        cam_from_world = Sim3(1.0, guess.R, guess.t)
        found = match_by_projection(camera, features, cam_from_world, points, 3 * limit_px, max_distance)
        keypoints, xyz = features.keypoints[found.rows], points.xyz[found.points]
        pose = absolute_pose(keypoints, xyz, camera, self._seed, limit_px, guess)
        if pose is None:
            return None
        rows, fitting = found.rows[pose.inlier_mask], found.points[pose.inlier_mask]
        spread = share_of_cells(camera, found.pixels[fitting], found.pixels[found.is_visible])
        if len(rows) < max(_MIN_INLIERS_OF_PLACE, _MIN_FOUND_SHARE * found.num_visible) or spread < _MIN_CELL_SHARE:
            return None
        return FoundFrame(map_id, pose.cam_from_world, rows, points.point_ids[fitting])

    def _is_ambiguous(self, best: FoundFrame, second: FoundFrame) -> bool:
        """Whether two places of one map explain the image about equally well."""
        if best.map_id != second.map_id or len(second.rows) < _RIVAL_SHARE * len(best.rows):
            return False
        depths = (best.cam_from_world @ self._map.xyz(best.point_ids))[:, 2]
        max_angle_deg, max_distance = _SAME_POSE
        distance = np.linalg.norm(best.cam_from_world.center - second.cam_from_world.center)
        angle_deg = rotation_angle_deg(best.cam_from_world.R @ second.cam_from_world.R.T)
        return bool(angle_deg > max_angle_deg or distance > max_distance * np.nanmedian(depths))
