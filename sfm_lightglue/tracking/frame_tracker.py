"""From frame to frame: follow the points of the reference keyframe, and find the pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.geometry.transforms import Rigid3, direction_angles_deg
from sfm_lightglue.tracking.absolute_pose import absolute_pose
from sfm_lightglue.tracking.config import TrackerConfig, pixel_factor
from sfm_lightglue.tracking.motion import expected_pixels
from sfm_lightglue.tracking.optical_flow import FlowImage, follow
from sfm_lightglue.tracking.reference import Reference, RelativePose, moved_with, relative_to
from sfm_lightglue.tracking.relative_motion import epipolar_errors_px
from sfm_lightglue.tracking.slam_map import ReferencePose, SlamMap

_MIN_FOLLOWED_SHARE = 0.3
"""If a smaller fraction of the points is found, they are searched again without the motion model."""

_MIN_INLIER_SHARE = 0.4
"""A pose that fits a smaller fraction of the followed points of the map is refused."""


@dataclass(slots=True, eq=False)
class LiveTracks:
    """The points that are followed, in the last frame.

    Args:
        image: the last frame.
        reference: keyframe of the slots.
        slots: [N] of the reference keyframe.
        pixels: [N, 2] in the last frame.
        relative: pose of the last frame.
        velocity: `cam_from_previous_cam` of the last two frames.
    """

    image: FlowImage
    reference: Reference
    slots: IndexArray
    pixels: Float64Array
    relative: RelativePose
    velocity: Rigid3

    @property
    def track_ids(self) -> IndexArray:
        """Running numbers [N] of the tracks."""
        return self.reference.track_ids[self.slots]


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFrame:
    """The pose of a frame, and what the decision on keyframes needs.

    Args:
        cam_from_world: the pose.
        base: the reference keyframe at present.
        num_inliers: points of the map that fit.
        parallax_deg: median angle between the rays to them from the frame and from the reference keyframe.
    """

    cam_from_world: Rigid3
    base: ReferencePose
    num_inliers: int
    parallax_deg: float


def track_frame(
    live: LiveTracks, image: FlowImage, slam_map: SlamMap, config: TrackerConfig, seed: int
) -> TrackedFrame | None:
    """Follow the points to the next frame, and find its pose.

    Args:
        live: of the last frame; it becomes that of the next one if there is a pose, else it stays.
        image: the next frame.
        slam_map: with the points.
        config: options.
        seed: of RANSAC.

    Returns:
        None if too few points fit a pose.
    """
    with slam_map.lock:
        base = live.reference.place(slam_map)
        xyz = live.reference.xyz(slam_map, live.slots)
        is_mapped = live.reference.known_points(slam_map, live.slots) >= 0
        camera = slam_map.camera
    if base is None or len(live.slots) == 0:
        return None
    before = moved_with(base, live.relative).cam_from_world
    predicted = live.velocity @ before
    guess = expected_pixels(camera, before, predicted, live.pixels, xyz)
    pixels, found = follow(live.image, image, live.pixels, guess, config.flow)
    if found.mean() < _MIN_FOLLOWED_SHARE:
        pixels, found = follow(live.image, image, live.pixels, live.pixels, config.flow)
    known = found & ~np.isnan(xyz[:, 0])
    limit_px = config.pose.max_error_px * pixel_factor(camera.size)
    pose = absolute_pose(pixels[known], xyz[known], camera, seed, limit_px, predicted)
    if pose is None or pose.num_inliers < max(config.pose.min_inliers, _MIN_INLIER_SHARE * known.sum()):
        return None
    outliers = np.flatnonzero(known)[~pose.inlier_mask]
    live.reference.forget_local(live.slots[outliers])
    kept = found.copy()
    kept[outliers[is_mapped[outliers]]] = False
    kept[kept] = _fits_reference(live, slam_map, pixels, kept, base, pose.cam_from_world, limit_px)
    points = xyz[known][pose.inlier_mask]
    live.slots, live.pixels, live.image = live.slots[kept], pixels[kept], image
    live.velocity = pose.cam_from_world @ before.inverse()
    live.relative = relative_to(live.reference.idx, base, pose.cam_from_world)
    parallax = np.median(direction_angles_deg(points - pose.cam_from_world.center, points - base.cam_from_world.center))
    return TrackedFrame(pose.cam_from_world, base, pose.num_inliers, float(parallax))


def _fits_reference(
    live: LiveTracks,
    slam_map: SlamMap,
    pixels: Float64Array,
    kept: BoolArray,
    base: ReferencePose,
    cam_from_world: Rigid3,
    limit_px: float,
) -> BoolArray:
    """Which of the kept tracks lie near their epipolar lines; they need no point for that."""
    then = live.reference.pixels[live.slots[kept]]
    motion = cam_from_world @ base.cam_from_world.inverse()
    fits: BoolArray = epipolar_errors_px(slam_map.camera, motion, then, pixels[kept]) <= limit_px
    return fits
