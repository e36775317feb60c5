"""The pose of a frame from points of the map: refinement of a guess, else RANSAC first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray, BoolArray, Float64Array
from sfm_lightglue.geometry.transforms import Rigid3, project_to_rotation, rotation_from_rotvec
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.tracking.projection import focal_length_px, normalized_from_pixels
from sfm_lightglue.types import Camera

MIN_POINTS = 6
"""Fewest inliers of a pose."""

_MIN_GUESSED_SHARE = 0.5
"""A refined guess with a smaller fraction of inliers is not trusted: RANSAC searches the pose."""

_NUM_STEPS = 10
_SMALL_STEP = 1e-7
"""Length of a step, in radians and relative to the median depth, at which the refinement ends."""


@dataclass(frozen=True, slots=True, eq=False)
class AbsolutePose:
    """A pose that was estimated from points of the map.

    Args:
        cam_from_world: the pose.
        inlier_mask: [N] which observations fit it.
    """

    cam_from_world: Rigid3
    inlier_mask: BoolArray

    @property
    def num_inliers(self) -> int:
        """Number of observations that fit the pose."""
        return int(self.inlier_mask.sum())


def absolute_pose(
    keypoints: AnyArray,
    xyz: AnyArray,
    camera: Camera,
    seed: int,
    max_error_px: float,
    guess: Rigid3 | None = None,
) -> AbsolutePose | None:
    """Estimate the pose of a camera from observations of known points, with outliers.

    Args:
        keypoints: [N, 2] observations in pixels.
        xyz: [N, 3] points in the world.
        camera: intrinsics.
        seed: of the random samples; the same seed gives the same pose.
        max_error_px: largest reprojection error of an inlier.
        guess: a pose nearby. If half of the observations fit it after refinement, there is no search.

    Returns:
        None if no pose fits six observations.
    """
    if len(keypoints) < MIN_POINTS:
        return None
    xyz = np.asarray(xyz, dtype=np.float64)
    points = normalized_from_pixels(camera, keypoints)
    points[~np.isfinite(points).all(axis=1)] = np.inf
    max_error = max_error_px / focal_length_px(camera)
    if guess is not None:
        found = _refined(guess, points, xyz, max_error)
        if found.num_inliers >= max(MIN_POINTS, _MIN_GUESSED_SHARE * len(xyz)):
            return found
    start = _searched(np.asarray(keypoints, dtype=np.float64), xyz, camera, seed, max_error_px)
    if start is None:
        return None
    found = _refined(start, points, xyz, max_error)
    return found if found.num_inliers >= MIN_POINTS else None


def _searched(keypoints: Float64Array, xyz: Float64Array, camera: Camera, seed: int, error_px: float) -> Rigid3 | None:
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error = error_px
    options.ransac.min_inlier_ratio = 0.15
    options.ransac.max_num_trials = 2000
    options.ransac.random_seed = seed
    found = pycolmap.estimate_absolute_pose(keypoints, xyz, as_pycolmap(camera), options)
    return None if found is None else Rigid3.from_matrix(found["cam_from_world"].matrix())


def _refined(pose: Rigid3, points: Float64Array, xyz: Float64Array, max_error: float) -> AbsolutePose:
    """A pose refined on all observations with a robust loss, then on its inliers."""
    pose = refine_pose(pose, points, xyz, max_error)
    inliers = reprojection_errors(pose, points, xyz) <= max_error
    if inliers.sum() >= MIN_POINTS:
        pose = refine_pose(pose, points[inliers], xyz[inliers], max_error / 2)
        inliers = reprojection_errors(pose, points, xyz) <= max_error
    return AbsolutePose(pose, inliers)


def reprojection_errors(cam_from_world: Rigid3, points: Float64Array, xyz: Float64Array) -> Float64Array:
    """Distances [N] between observations [N, 2] and points [N, 3] on the plane z = 1; infinite for points behind."""
    in_cam = cam_from_world @ xyz
    before = in_cam[:, 2] > 1e-9
    depth = np.where(before, in_cam[:, 2], 1.0)
    errors = np.linalg.norm(in_cam[:, :2] / depth[:, None] - points, axis=1)
    return np.where(before, errors, np.inf)


def refine_pose(cam_from_world: Rigid3, points: Float64Array, xyz: Float64Array, scale: float) -> Rigid3:
    """Minimise the reprojection errors of points with the Cauchy loss, by Gauss-Newton.

    Args:
        cam_from_world: start.
        points: [N, 2] observations on the plane z = 1 of the camera.
        xyz: [N, 3] points in the world.
        scale: error at which an observation counts half.

    Source: Triggs et al., Bundle adjustment: a modern synthesis, 2000 (iteratively reweighted least squares).
    """
    R, t = cam_from_world.R, cam_from_world.t
    for _ in range(_NUM_STEPS):
        in_cam = xyz @ R.T + t
        usable = (in_cam[:, 2] > 1e-9) & np.isfinite(points[:, 0])
        if usable.sum() < MIN_POINTS:
            break
        step = _step(in_cam[usable], points[usable], scale)
        turn = rotation_from_rotvec(step[:3])
        R, t = turn @ R, turn @ t + step[3:]
        depth = float(np.median(in_cam[usable, 2]))
        if np.linalg.norm(step[:3]) + np.linalg.norm(step[3:]) / depth < _SMALL_STEP:
            break
    return Rigid3(project_to_rotation(R), t)


def _step(in_cam: Float64Array, points: Float64Array, scale: float) -> Float64Array:
    """The Gauss-Newton step [6], rotation and translation in the frame of the camera."""
    inverse = 1.0 / in_cam[:, 2]
    x, y = in_cam[:, 0] * inverse, in_cam[:, 1] * inverse
    residuals = np.stack([x, y], axis=1) - points
    J = np.zeros((len(x), 2, 6))
    J[:, 0, 0], J[:, 0, 1], J[:, 0, 2] = -x * y, 1 + x * x, -y
    J[:, 1, 0], J[:, 1, 1], J[:, 1, 2] = -(1 + y * y), x * y, x
    J[:, 0, 3], J[:, 0, 5] = inverse, -x * inverse
    J[:, 1, 4], J[:, 1, 5] = inverse, -y * inverse
    weights = 1.0 / (1.0 + (residuals**2).sum(axis=1) / scale**2)
    weighted = (J * weights[:, None, None]).reshape(-1, 6)
    normal = weighted.T @ J.reshape(-1, 6)
    damping = 1e-9 * np.diag(np.diag(normal)) + 1e-15 * np.eye(6)
    step: Float64Array = -np.linalg.solve(normal + damping, weighted.T @ residuals.ravel())
    return step
