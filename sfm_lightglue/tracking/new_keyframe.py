"""A keyframe from the points that are followed, with additional corners."""

from __future__ import annotations

from itertools import count

import numpy as np

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.geometry.epipolar import triangulate
from sfm_lightglue.geometry.transforms import Rigid3, direction_angles_deg
from sfm_lightglue.tracking.absolute_pose import reprojection_errors
from sfm_lightglue.tracking.config import FlowConfig
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.frame_tracker import LiveTracks
from sfm_lightglue.tracking.optical_flow import FlowImage, new_corners
from sfm_lightglue.tracking.projection import focal_length_px, normalized_from_pixels
from sfm_lightglue.tracking.reference import Reference, RelativePose
from sfm_lightglue.tracking.slam_map import SlamMap
from sfm_lightglue.types import Camera

_MIN_ANGLE_DEG = 1.0
"""Smallest angle between the rays of a point that is triangulated for the front end."""

_MAX_ERROR_PX = 2.0


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

    def first(self, frame: Frame, image: FlowImage, pixels: Float64Array | None = None) -> Reference:
        """A keyframe whose tracks all begin there.

        Args:
            frame: its image.
            image: the same for optical flow.
            pixels: [N, 2] where tracks begin besides corners.
        """
        none = np.zeros((0, 2)) if pixels is None else pixels
        return self._with_corners(frame, image, none, np.full(len(none), -1), np.full(len(none), -1), None)

    def second(
        self, frame: Frame, image: FlowImage, first: Reference, slots: IndexArray, pixels: Float64Array
    ) -> Reference:
        """The second keyframe of a map, which continues tracks of the first.

        Args:
            frame: its image.
            image: the same for optical flow.
            first: keyframe before.
            slots: [N] slots of the first keyframe that continue.
            pixels: [N, 2] where they are.
        """
        return self._with_corners(frame, image, pixels, slots, np.full(len(slots), -1), first)

    def following(self, frame: Frame, live: LiveTracks, slam_map: SlamMap, cam_from_world: Rigid3) -> Reference:
        """A keyframe that continues the tracks of the one before.

        Args:
            frame: its image.
            live: the tracks.
            slam_map: with their points.
            cam_from_world: pose of the frame.
        """
        before = live.reference
        reference = self._with_corners(
            frame, live.image, live.pixels, live.slots, before.known_points(slam_map, live.slots), before
        )
        known = len(live.slots)
        reference.local_xyz[:known] = self._local_points(live, slam_map, cam_from_world)
        reference.relative = live.relative
        return reference

    def found(
        self, frame: Frame, image: FlowImage, pixels: Float64Array, point_ids: IndexArray, relative: RelativePose
    ) -> Reference:
        """A keyframe of a camera that was found again: its tracks begin at features that see known points.

        Args:
            frame: its image.
            image: the same for optical flow.
            pixels: [N, 2] of the features.
            point_ids: [N] their points.
            relative: its pose.
        """
        reference = self._with_corners(frame, image, pixels, np.full(len(pixels), -1), point_ids, None)
        reference.relative = relative
        return reference

    def _with_corners(
        self,
        frame: Frame,
        image: FlowImage,
        pixels: Float64Array,
        slots: IndexArray,
        point_ids: IndexArray,
        before: Reference | None,
    ) -> Reference:
        corners = new_corners(image, pixels, self._config.max_corners - len(pixels), self._config.spacing_px)
        number = len(pixels) + len(corners)
        is_new = np.concatenate([slots < 0, np.ones(len(corners), np.bool_)])
        track_ids = np.zeros(number, np.int64)
        track_ids[is_new] = self.num_tracks + np.arange(is_new.sum())
        self.num_tracks += int(is_new.sum())
        if before is not None:
            track_ids[~is_new] = before.track_ids[slots[slots >= 0]]
        return Reference(
            next(self._keyframe_idxs),
            frame,
            np.concatenate([pixels, corners]),
            track_ids,
            np.concatenate([point_ids, np.full(len(corners), -1)]),
            np.full((number, 3), np.nan),
            before,
            np.concatenate([slots, np.full(len(corners), -1)]),
        )

    def _local_points(self, live: LiveTracks, slam_map: SlamMap, cam_from_world: Rigid3) -> Float64Array:
        """Points [N, 3] of the live tracks that the map does not have yet: those known before, and triangulated ones."""
        before = live.reference
        with slam_map.lock:
            base, known, camera = before.place(slam_map), before.xyz(slam_map, live.slots), slam_map.camera
        unknown = np.isnan(known[:, 0])
        if base is not None and unknown.any():
            known[unknown] = two_view_points(
                camera, base.cam_from_world, cam_from_world, before.pixels[live.slots[unknown]], live.pixels[unknown]
            )
        return known


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
