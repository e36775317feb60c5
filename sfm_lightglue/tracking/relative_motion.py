"""The motion between two frames from corresponding pixels."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.features import Features
from sfm_lightglue.geometry.epipolar import essential_from_pose, homogeneous, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3, direction_angles_deg
from sfm_lightglue.tracking.absolute_pose import reprojection_errors
from sfm_lightglue.tracking.projection import focal_length_px, normalized_from_pixels
from sfm_lightglue.two_view.relative_pose import RelativePose, relative_pose_from_matches
from sfm_lightglue.types import Camera, Matches

_MIN_SCALED_POINTS = 5
_MIN_SCALED_SHARE = 0.4
"""Number and fraction of the known points that must agree about the distance of two frames."""

_LIMIT_FACTOR = 3.0
"""Factor on the limit of these points: rotation and direction of two frames are less exact than a pose."""

_MIN_RELATIVE_INLIERS = 40


def parallax_deg(relative: RelativePose) -> float:
    """Median angle between the two rays to the points of a pair, 0 without points."""
    pose = relative.cam1_from_cam0
    if pose is None or len(relative.points) == 0:
        return 0.0
    return float(np.median(direction_angles_deg(relative.points, relative.points - pose.center)))


def relative_pose_of(pixels0: Float64Array, pixels1: Float64Array, camera: Camera, seed: int) -> RelativePose:
    """The relative pose of two frames from corresponding pixels [N, 2]."""
    number = len(pixels0)
    features0, features1 = (_without_descriptors(pixels, camera.size) for pixels in (pixels0, pixels1))
    rows = np.arange(number, dtype=np.int32)
    matches = Matches(np.stack([rows, rows], axis=1), np.ones(number, np.float32))
    return relative_pose_from_matches(features0, features1, matches, camera, camera, seed=seed, is_same_camera=True)


def _without_descriptors(pixels: Float64Array, size: tuple[int, int]) -> Features:
    """Features at some pixels. Their descriptors are numbers, so that no two are alike."""
    number = len(pixels)
    keypoints = np.clip(pixels, 0, np.nextafter(np.array(size, np.float32), np.float32(0))).astype(np.float32)
    return Features(keypoints, np.ones(number, np.float32), np.arange(number, dtype=np.float32)[:, None] * 10.0, size)


def scaled_pose(
    relative: RelativePose, camera: Camera, xyz_in_cam0: Float64Array, pixels1: Float64Array, limit_px: float
) -> Rigid3 | None:
    """A relative pose with the distance that known points agree upon.

    Args:
        relative: pose of two frames, with translation 1.
        camera: intrinsics.
        xyz_in_cam0: [N, 3] known points in the frame of the first camera.
        pixels1: [N, 2] where the second one sees them.
        limit_px: largest reprojection error.

    Returns:
        `cam1_from_cam0`; None if the pair has no pose or fewer than 40 inliers, or fewer than five known points or 40 %
        of them agree.
    """
    pose = relative.cam1_from_cam0
    if pose is None or relative.num_inliers < _MIN_RELATIVE_INLIERS or len(xyz_in_cam0) < _MIN_SCALED_POINTS:
        return None
    points1, limit = normalized_from_pixels(camera, pixels1), _LIMIT_FACTOR * limit_px / focal_length_px(camera)
    # The point R X + s t lies on the ray x: x × (R X + s t) = 0.
    rays = homogeneous(points1)
    a, b = np.cross(rays, xyz_in_cam0 @ pose.R.T), np.cross(rays, pose.t)
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = -(a * b).sum(axis=1) / (b * b).sum(axis=1)
    candidates = [Rigid3(pose.R, scale * pose.t) for scale in scales[np.isfinite(scales) & (scales > 0)].tolist()]
    counts = [int((reprojection_errors(one, points1, xyz_in_cam0) <= limit).sum()) for one in candidates]
    if not counts or max(counts) < max(_MIN_SCALED_POINTS, _MIN_SCALED_SHARE * len(xyz_in_cam0)):
        return None
    inliers = reprojection_errors(candidates[int(np.argmax(counts))], points1, xyz_in_cam0) <= limit
    scale = float(np.median(scales[inliers]))
    return Rigid3(pose.R, scale * pose.t) if scale > 0 else None


def epipolar_errors_px(
    camera: Camera, cam1_from_cam0: Rigid3, pixels0: Float64Array, pixels1: Float64Array
) -> Float64Array:
    """Sampson errors [N] in pixels of corresponding pixels [N, 2]."""
    points0, points1 = (normalized_from_pixels(camera, pixels) for pixels in (pixels0, pixels1))
    with np.errstate(invalid="ignore"):
        squared = squared_sampson_errors(essential_from_pose(cam1_from_cam0), points0, points1)
    errors: Float64Array = np.sqrt(squared) * focal_length_px(camera)
    return errors
