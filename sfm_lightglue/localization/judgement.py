"""Whether a pose is sure enough to be told: a query of another place, or of one of two equal places, is refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import rotation_angle_deg
from sfm_lightglue.localization.config import PoseLimits
from sfm_lightglue.localization.matching import PointMatches
from sfm_lightglue.localization.pose import MIN_MATCHES, EstimatedPose, estimate_pose, position_covariance
from sfm_lightglue.localization.result import Reason
from sfm_lightglue.two_view.a_contrario import log10_false_alarms
from sfm_lightglue.types import Camera

_NUM_CELLS = 8
"""Cells per side of a grid over the image."""

_MAX_LOG10_FALSE_ALARMS = -4.0
"""Random matches must give so many inliers less often than in one of 10,000 images."""

_SAMPLE_SIZE = 4
"""Matches that determine a pose together with a focal length."""

_SAME_POSE = (5.0, 0.2)
"""Largest difference of equal poses: degrees, and fraction of the distance to the points."""


@dataclass(frozen=True, eq=False, slots=True)
class JudgedPose:
    """The best pose of an image, and why it is refused.

    Args:
        pose: None if no pose fits six matches.
        reason: None if the pose is accepted.
        num_inliers: number of keypoints that fit the pose.
    """

    pose: EstimatedPose | None
    reason: Reason | None
    num_inliers: int


def judged_pose(
    matches: PointMatches, features: Features, camera: Camera, limits: PoseLimits, seed: int = 0
) -> JudgedPose:
    """Estimate the pose of an image and judge it.

    Args:
        matches: of the image with points of the map.
        features: of the image.
        camera: intrinsics, and where they are from.
        limits: that it must keep.
        seed: of the random samples.
    """
    if matches.num_keypoints < max(MIN_MATCHES, limits.min_inliers):
        return JudgedPose(None, "too_few_matches", 0)
    pixels = features.keypoints[matches.rows].astype(np.float64)
    max_error_px = inlier_limit_px(camera, limits)
    pose = estimate_pose(pixels, matches.xyz, camera, max_error_px, seed)
    if pose is None:
        return JudgedPose(None, "too_few_inliers", 0)
    num_inliers = matches.num_keypoints_of(pose.inlier_mask)
    reason = _reason_against(pose, matches, pixels, num_inliers, max_error_px, limits)
    if reason is None and _has_rival(pose, matches, pixels, max_error_px, limits, seed):
        reason = "ambiguous"
    return JudgedPose(pose, reason, num_inliers)


def inlier_limit_px(camera: Camera, limits: PoseLimits) -> float:
    """Largest reprojection error of an inlier in an image of this size."""
    return limits.max_error_px * max(0.5, max(camera.size) / 1600)


def _reason_against(
    pose: EstimatedPose,
    matches: PointMatches,
    pixels: Float64Array,
    num_inliers: int,
    max_error_px: float,
    limits: PoseLimits,
) -> Reason | None:
    camera = pose.camera
    if num_inliers < limits.min_inliers or _may_be_chance(pixels, pose.inlier_mask, camera, max_error_px):
        return "too_few_inliers"
    best = matches.supporting(pose.inlier_mask)[0]
    if best.num_inliers < limits.min_inlier_share * best.num_matches:
        return "low_inlier_share"
    if _num_cells(pixels[pose.inlier_mask], camera.size, _NUM_CELLS) < limits.min_cells:
        return "not_spread"
    return None if is_certain(pose, matches.xyz[pose.inlier_mask], limits) else "uncertain"


def _may_be_chance(pixels: Float64Array, fits: BoolArray, camera: Camera, max_error_px: float) -> bool:
    """Whether random matches may give so many inliers; inliers that lie close together count once."""
    cells_px = 4 * max_error_px
    num_matches = len(np.unique(np.floor(pixels / cells_px), axis=0))
    num_inliers = len(np.unique(np.floor(pixels[fits] / cells_px), axis=0))
    chance = np.pi * max_error_px**2 / (camera.width * camera.height)
    return log10_false_alarms(num_matches, num_inliers, chance, _SAMPLE_SIZE) > _MAX_LOG10_FALSE_ALARMS


def _num_cells(pixels: Float64Array, size: tuple[int, int], cells_per_side: int) -> int:
    """Number of the cells of a grid over the image in which pixels [M, 2] are."""
    return len(np.unique(np.floor(pixels / size * cells_per_side).clip(0, cells_per_side - 1), axis=0))


def is_certain(pose: EstimatedPose, xyz: Float64Array, limits: PoseLimits) -> bool:
    """Whether the position is well determined, compared with the distance of the points.

    Args:
        pose: with its covariance.
        xyz: [K, 3] points that fit it.
        limits: that it must keep.
    """
    if pose.covariance is None:
        return False
    variance = np.linalg.eigvalsh(position_covariance(pose.cam_from_world, pose.covariance))[-1]
    return bool(np.sqrt(max(variance, 0.0)) <= limits.max_position_uncertainty * _median_distance(pose, xyz))


def _median_distance(pose: EstimatedPose, xyz: Float64Array) -> float:
    return float(np.median(np.linalg.norm(pose.cam_from_world @ xyz, axis=1)))


def _has_rival(
    pose: EstimatedPose,
    matches: PointMatches,
    pixels: Float64Array,
    max_error_px: float,
    limits: PoseLimits,
    seed: int,
) -> bool:
    """Whether the matches that do not fit the pose give another one that is nearly as good, at an equal place."""
    others = ~pose.inlier_mask
    least = limits.max_rival_share * len(np.unique(matches.rows[pose.inlier_mask]))
    if len(np.unique(matches.rows[others])) <= max(least, MIN_MATCHES):
        return False
    second = estimate_pose(pixels[others], matches.xyz[others], pose.camera, max_error_px, seed)
    if second is None or len(np.unique(matches.rows[others][second.inlier_mask])) <= least:
        return False
    first, other = pose.cam_from_world, second.cam_from_world
    max_angle_deg, max_distance = _SAME_POSE
    limit = max_distance * _median_distance(pose, matches.xyz[pose.inlier_mask])
    is_far = np.linalg.norm(first.center - other.center) > limit
    return bool(is_far or rotation_angle_deg(first.R @ other.R.T) > max_angle_deg)
