"""A keyframe from the points that are followed, with additional corners."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.features import Features
from sfm_lightglue.geometry.epipolar import triangulate
from sfm_lightglue.geometry.transforms import Rigid3, direction_angles_deg
from sfm_lightglue.tracking.absolute_pose import reprojection_errors
from sfm_lightglue.tracking.config import FlowConfig
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.frame_tracker import LiveTracks
from sfm_lightglue.tracking.optical_flow import FlowImage, new_corners
from sfm_lightglue.tracking.projection import focal_length_px, normalized_from_pixels
from sfm_lightglue.tracking.reference import Reference, moved_with
from sfm_lightglue.tracking.slam_map import ReferencePose, SlamMap
from sfm_lightglue.types import Camera

_MIN_ANGLE_DEG = 1.0
"""Smallest angle between the rays of a point that is triangulated for the front end."""

_MAX_ERROR_PX = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Tracks of a keyframe.

    Args:
        pixels: [N, 2] in its frame.
        slots: [N] slot of the keyframe before that they continue, -1 for those that begin.
        point_ids: [N] their points, -1 without.
        feature_rows: [N] features at which they are, -1 for corners.
    """

    pixels: Float64Array
    slots: IndexArray
    point_ids: IndexArray
    feature_rows: IndexArray

    @classmethod
    def none(cls) -> Tracks:
        """No tracks."""
        return cls(np.zeros((0, 2)), *(np.zeros(0, np.int64) for _ in range(3)))

    @classmethod
    def of_features(cls, features: Features, rows: IndexArray, point_ids: IndexArray | None = None) -> Tracks:
        """Tracks that begin at features, with points [N] if they are known."""
        nothing = np.full(len(rows), -1)
        pixels = features.keypoints[rows].astype(np.float64)
        return cls(pixels, nothing, nothing if point_ids is None else point_ids, rows)


class ReferenceFactory:
    """Makes keyframes for the front end, with running numbers of keyframes and tracks.

    Args:
        config: of optical flow.
    """

    def __init__(self, config: FlowConfig) -> None:
        self._config = config
        self._keyframe_idxs = count()
        self.num_tracks = 0
        """Tracks that were begun so far."""

    def first(self, frame: Frame, image: FlowImage) -> Reference:
        """A keyframe whose tracks begin at corners."""
        return self._with_corners(frame, image, Tracks.none())

    def at_features(self, frame: Frame, image: FlowImage, features: Features, tracks: Tracks) -> Reference:
        """A keyframe with tracks of some of its features, and corners.

        Args:
            frame: its image.
            image: the same for optical flow.
            features: of the frame.
            tracks: at features.
        """
        reference = self._with_corners(frame, image, tracks)
        reference.features = features
        return reference

    def second(self, frame: Frame, image: FlowImage, first: Reference, tracks: Tracks) -> Reference:
        """The second keyframe of a map.

        Args:
            frame: its image.
            image: the same for optical flow.
            first: keyframe before.
            tracks: that continue those of the first.
        """
        return self._with_corners(frame, image, tracks, first)

    def following(self, frame: Frame, live: LiveTracks, slam_map: SlamMap) -> Reference:
        """A keyframe that continues the tracks of the one before.

        Args:
            frame: its image.
            live: the tracks in the frame, with its pose.
            slam_map: with their points.
        """
        before, known = live.reference, len(live.slots)
        with slam_map.lock:  # a loop that is closed meanwhile would move some of these values
            point_ids = before.known_points(slam_map, live.slots)
            base, xyz, camera = before.place(slam_map), before.xyz(slam_map, live.slots), slam_map.camera
        tracks = Tracks(live.pixels, live.slots, point_ids, np.full(known, -1))
        reference = self._with_corners(frame, live.image, tracks, before)
        reference.local_xyz[:known] = _local_points(live, base, xyz, camera)
        reference.local_xyz[:known][point_ids >= 0] = np.nan  # the map has these, until it removes them
        reference.relative = live.relative
        return reference

    def _with_corners(
        self, frame: Frame, image: FlowImage, tracks: Tracks, before: Reference | None = None
    ) -> Reference:
        number = self._config.max_corners - len(tracks.pixels)
        corners = new_corners(image, tracks.pixels, number, self._config.spacing_px)
        none = np.full(len(corners), -1)
        slots = np.concatenate([tracks.slots, none])
        track_ids = np.zeros(len(slots), np.int64)
        is_new = slots < 0
        track_ids[is_new] = self.num_tracks + np.arange(is_new.sum())
        self.num_tracks += int(is_new.sum())
        if before is not None:
            track_ids[~is_new] = before.track_ids[slots[~is_new]]
        return Reference(
            next(self._keyframe_idxs),
            frame,
            np.concatenate([tracks.pixels, corners]),
            track_ids,
            np.concatenate([tracks.point_ids, none]),
            np.full((len(slots), 3), np.nan),
            np.concatenate([tracks.feature_rows, none]),
            previous=before,
            previous_slots=slots,
        )


def _local_points(live: LiveTracks, base: ReferencePose | None, xyz: Float64Array, camera: Camera) -> Float64Array:
    """Points [N, 3] of the live tracks in the frame of the camera, and in the unit of its relative pose.

    They are those known before, and triangulated ones.
    """
    if base is None:
        return np.full_like(xyz, np.nan)
    (pose, _, growth), unknown = moved_with(base, live.relative), np.isnan(xyz[:, 0])
    if unknown.any():
        then = live.reference.pixels[live.slots[unknown]]
        xyz[unknown] = two_view_points(camera, base.cam_from_world, pose, then, live.pixels[unknown])
    return (pose @ xyz) / growth


def two_view_points(
    camera: Camera, cam0_from_world: Rigid3, cam1_from_world: Rigid3, pixels0: Float64Array, pixels1: Float64Array
) -> Float64Array:
    """Points [N, 3] in the world from two observations; NaN for those with little parallax or large errors."""
    motion = cam1_from_world @ cam0_from_world.inverse()
    points0, points1 = (normalized_from_pixels(camera, pixels) for pixels in (pixels0, pixels1))
    usable = np.isfinite(points0).all(axis=1) & np.isfinite(points1).all(axis=1)
    xyz = np.full((len(pixels0), 3), np.nan)
    xyz[usable] = triangulate(motion, points0[usable], points1[usable])
    limit = _MAX_ERROR_PX / focal_length_px(camera)
    with np.errstate(invalid="ignore"):
        is_good = (
            (direction_angles_deg(xyz, xyz - motion.center) >= _MIN_ANGLE_DEG)
            & (reprojection_errors(Rigid3.identity(), points0, xyz) <= limit)
            & (reprojection_errors(motion, points1, xyz) <= limit)
        )
    xyz[~is_good] = np.nan
    return cam0_from_world.inverse() @ xyz
