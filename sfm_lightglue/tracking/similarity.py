"""The similarity between two places of the map, from matches of two keyframes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.geometry.transforms import (
    Rigid3,
    Sim3,
    project_to_rotation,
    rotation_angle_deg,
    rotation_from_rotvec,
)
from sfm_lightglue.tracking.absolute_pose import absolute_pose, reprojection_errors
from sfm_lightglue.tracking.projection import focal_length_px, normalized_from_pixels
from sfm_lightglue.types import Camera

_DEPTH_ERROR = 0.1
"""Relative error of a depth that counts as much as a reprojection error at the scale of the loss."""

_NUM_STEPS = 10
_SMALL_STEP = 1e-8
MIN_PAIRS = 6
"""Fewest pairs of points of a similarity."""

_MIN_OF_SIDE = 15
"""Fewest points of each side, if fewer pairs have two points."""

_MIN_BASELINE = 0.02
"""Smallest distance of the cameras then, as a fraction of the median depth: it gives the scale."""

_MAX_DISAGREEMENT = 0.15
"""Largest difference of the two directions between the cameras then, and of the two rotations, in radians."""


@dataclass(frozen=True, slots=True, eq=False)
class PointPairs:
    """Matched keypoints of two keyframes of which one or both have a point.

    Args:
        pixels0: [N, 2] keypoints of the first keyframe.
        pixels1: [N, 2] of the second.
        xyz0: [N, 3] points in the frame of the first camera, NaN without.
        xyz1: [N, 3] points in the frame of the second camera, NaN without.
    """

    pixels0: Float64Array
    pixels1: Float64Array
    xyz0: Float64Array
    xyz1: Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class Similarity:
    """A similarity between two cameras.

    Args:
        cam1_from_cam0: each camera in its own unit of length.
        inliers: [M] pairs that fit in each image where the other one has a point.
    """

    cam1_from_cam0: Sim3
    inliers: IndexArray


def estimate_similarity(pairs: PointPairs, camera: Camera, seed: int, max_error_px: float) -> Similarity | None:
    """Estimate the similarity between two cameras that see the same points at two scales, with wrong pairs.

    The pose of the first camera among the points of the second comes from RANSAC. The scale is the median ratio of
    depths. Without pairs that have two points, it is the ratio of the distances between the cameras that the points of
    each side give. Then the reprojection errors in both images are minimised, with the errors of the depths: without
    these, two cameras at the same position have no scale.

    Args:
        pairs: matched keypoints and points.
        camera: intrinsics of both.
        seed: of RANSAC.
        max_error_px: largest reprojection error of an inlier, in each image.

    Returns:
        None if fewer than six pairs with two points fit, and fewer than 15 points of each side or the cameras have
        nearly the same position.
    """
    known = np.flatnonzero(np.isfinite(pairs.xyz1[:, 0]))
    pose = absolute_pose(pairs.pixels0[known], pairs.xyz1[known], camera, seed, max_error_px)
    if pose is None:
        return None
    fitting = known[pose.inlier_mask]
    in_cam0 = pose.cam_from_world @ pairs.xyz1[fitting]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = in_cam0[:, 2] / pairs.xyz0[fitting, 2]
    usable = np.isfinite(ratios) & (ratios > 0)
    unscaled = pose.cam_from_world.inverse()
    if usable.sum() >= MIN_PAIRS:
        scale = float(np.median(ratios[usable]))
    else:
        scale = _scale_of_baselines(unscaled, pairs, camera, seed, max_error_px)
    if scale <= 0:
        return None
    similarity = Sim3(scale, unscaled.R, unscaled.t)
    return _refined(similarity, pairs, camera, max_error_px / focal_length_px(camera))


def _scale_of_baselines(cam1_from_cam0: Rigid3, pairs: PointPairs, camera: Camera, seed: int, limit_px: float) -> float:
    """The scale at which the pose by the points of the second camera is that by the points of the first; 0 without."""
    known = np.flatnonzero(np.isfinite(pairs.xyz0[:, 0]))
    pose = absolute_pose(pairs.pixels1[known], pairs.xyz0[known], camera, seed, limit_px)
    if pose is None:
        return 0.0
    there, here = cam1_from_cam0.t, pose.cam_from_world.t
    lengths = float(np.linalg.norm(there)), float(np.linalg.norm(here))
    if min(lengths) == 0:
        return 0.0
    angle_deg = rotation_angle_deg(cam1_from_cam0.R @ pose.cam_from_world.R.T)
    difference = float(np.linalg.norm(there / lengths[0] - here / lengths[1]))
    is_same = max(np.radians(angle_deg), difference) <= _MAX_DISAGREEMENT
    return lengths[0] / lengths[1] if is_same else 0.0


def _refined(similarity: Sim3, pairs: PointPairs, camera: Camera, max_error: float) -> Similarity | None:
    points0, points1 = (normalized_from_pixels(camera, pixels) for pixels in (pairs.pixels0, pairs.pixels1))
    # The scale from depths is less exact than the pose: pairs within twice the limit take part in the first round.
    for factor in (2.0, 1.0, 1.0):
        fits = _fits(similarity, pairs, points0, points1, factor * max_error)
        if not _has_scale(similarity, pairs, np.flatnonzero(fits)):
            return None
        similarity = _minimised(similarity, pairs, points0, points1, fits, factor * max_error / 2)
    inliers = np.flatnonzero(_fits(similarity, pairs, points0, points1, max_error))
    return Similarity(similarity, inliers) if _has_scale(similarity, pairs, inliers) else None


def _has_scale(similarity: Sim3, pairs: PointPairs, rows: IndexArray) -> bool:
    """Whether some rows determine the scale: by pairs with two points, or by those of each side and the baseline."""
    is_known0, is_known1 = (np.isfinite(xyz[rows, 0]) for xyz in (pairs.xyz0, pairs.xyz1))
    if (is_known0 & is_known1).sum() >= MIN_PAIRS:
        return True
    if min(is_known0.sum(), is_known1.sum()) < _MIN_OF_SIDE:
        return False
    depth = float(np.median(pairs.xyz1[rows[is_known1], 2]))
    return bool(np.linalg.norm(similarity.t) >= _MIN_BASELINE * depth)


def _fits(similarity: Sim3, pairs: PointPairs, points0: Float64Array, points1: Float64Array, limit: float) -> BoolArray:
    identity = Rigid3.identity()
    with np.errstate(invalid="ignore"):
        errors1 = reprojection_errors(identity, points1, similarity @ pairs.xyz0)
        errors0 = reprojection_errors(identity, points0, similarity.inverse() @ pairs.xyz1)
    is_known0, is_known1 = np.isfinite(pairs.xyz0[:, 0]), np.isfinite(pairs.xyz1[:, 0])
    fits: BoolArray = ((errors0 <= limit) | ~is_known1) & ((errors1 <= limit) | ~is_known0) & (is_known0 | is_known1)
    return fits


def _minimised(
    similarity: Sim3, pairs: PointPairs, points0: Float64Array, points1: Float64Array, fits: BoolArray, loss: float
) -> Sim3:
    """Minimise errors of reprojection and depth with the Cauchy loss, by Gauss-Newton."""
    xyz0, xyz1, points0, points1 = pairs.xyz0[fits], pairs.xyz1[fits], points0[fits], points1[fits]
    for _ in range(_NUM_STEPS):
        in_cam1, in_cam0 = similarity @ xyz0, similarity.inverse() @ xyz1
        J1 = _derivatives(in_cam1)
        J0 = -(similarity.R.T / similarity.scale) @ _derivatives(xyz1)
        normal, gradient = np.zeros((7, 7)), np.zeros(7)
        for residuals, J in (
            _projected(in_cam1, points1, J1),
            _projected(in_cam0, points0, J0),
            _depths(in_cam1, xyz1, J1, loss / _DEPTH_ERROR),
        ):
            known = np.isfinite(residuals[:, 0])
            residuals, J = residuals[known], J[known]
            weights = 1 / (1 + (residuals**2).sum(axis=1) / loss**2)
            weighted = (J * weights[:, None, None]).reshape(-1, 7)
            normal += weighted.T @ J.reshape(-1, 7)
            gradient += weighted.T @ residuals.ravel()
        damping = 1e-9 * np.diag(np.diag(normal)) + 1e-15 * np.eye(7)
        step = np.asarray(-np.linalg.solve(normal + damping, gradient), np.float64)
        similarity = _stepped(similarity, step)
        if np.abs(step).max() < _SMALL_STEP:
            break
    return similarity


def _stepped(similarity: Sim3, step: Float64Array) -> Sim3:
    turn, growth = rotation_from_rotvec(step[:3]), float(np.exp(step[6]))
    t = growth * turn @ similarity.t + step[3:6]
    return Sim3(growth * similarity.scale, project_to_rotation(turn @ similarity.R), t)


def _projected(
    in_cam: Float64Array, points: Float64Array, derivative: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Residuals [N, 2] on the plane z = 1 and their derivatives [N, 2, 7], from those of the points [N, 3, 7]."""
    depth = np.maximum(in_cam[:, 2:], 1e-9)
    projected = in_cam[:, :2] / depth
    J = (derivative[:, :2] - projected[:, :, None] * derivative[:, 2:]) / depth[:, :, None]
    return projected - points, J


def _depths(
    in_cam: Float64Array, expected: Float64Array, derivative: Float64Array, weight: float
) -> tuple[Float64Array, Float64Array]:
    """Weighted logarithms [N, 1] of the ratio of depths, and their derivatives [N, 1, 7]."""
    depth = np.maximum(in_cam[:, 2:], 1e-9)
    residuals = weight * np.log(depth / np.maximum(expected[:, 2:], 1e-9))
    return residuals, weight * derivative[:, 2:] / depth[:, :, None]


def _derivatives(xyz: Float64Array) -> Float64Array:
    """Derivatives [N, 3, 7] of points [N, 3] by a step: rotation, translation and logarithm of scale."""
    J = np.zeros((len(xyz), 3, 7))
    for row, column, entry in ((2, 1, 0), (0, 2, 1), (1, 0, 2)):
        J[:, row, column] = -xyz[:, entry]
        J[:, column, row] = xyz[:, entry]
    J[:, :, 3:6] = np.eye(3)
    J[:, :, 6] = xyz
    return J
