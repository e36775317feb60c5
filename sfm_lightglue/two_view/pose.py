"""The relative pose of two calibrated cameras: candidates from matrices, cheirality, refinement on the inliers."""

from __future__ import annotations

import cv2
import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3, project_to_rotation
from sfm_lightglue.two_view.correspondences import Correspondences, rays_of
from sfm_lightglue.two_view.residuals import EpipolarResiduals

LOSS_SCALE = 0.5
"""Residual at which the soft L1 loss of the refinement changes from quadratic to linear, as a fraction of the error
limit."""


def poses_from_homography(H: Float64Array) -> list[Rigid3]:
    """The poses that are consistent with the homography [3, 3] of a plane, with t of length 1.

    Source: Malis and Vargas, Deeper understanding of the homography decomposition, 2007 (by OpenCV).
    """
    _, rotations, translations, _ = cv2.decomposeHomographyMat(H, np.eye(3))
    return [
        Rigid3(project_to_rotation(R), t[:, 0] / np.linalg.norm(t))
        for R, t in zip(rotations, translations, strict=True)
        if np.linalg.norm(t) > 1e-9 and np.linalg.det(R) > 0
    ]


def recover_pose(data: Correspondences, matrix: Float64Array, mask: BoolArray) -> Rigid3 | None:
    """Of the four poses of an essential matrix, the one with most points in front of both cameras.

    `cv2.recoverPose` ignores points beyond 50 baselines, and so fails for small parallax.

    Args:
        data: matches.
        matrix: [3, 3] on normalised points.
        mask: [M] the matches to count.

    Returns:
        The pose with t of length 1, or None if no point lies in front of both cameras.
    """
    if mask.sum() < 5:
        return None
    R0, R1, t = cv2.decomposeEssentialMat(matrix)
    if not all(np.isfinite(part).all() for part in (R0, R1, t)):
        return None
    direction = t[:, 0] / np.linalg.norm(t)
    poses = [Rigid3(project_to_rotation(R), sign * direction) for R in (R0, R1) for sign in (1, -1)]
    inliers = data.rows(mask)
    counts = [int(_before_both(*_rays_in_camera1(inliers, pose), pose.t).sum()) for pose in poses]
    return poses[int(np.argmax(counts))] if max(counts) > 0 else None


def _rays_in_camera1(data: Correspondences, pose: Rigid3) -> tuple[Float64Array, Float64Array]:
    """Unit directions [M, 3] of the points of image 0 and of image 1, both in the frame of camera 1."""
    return rays_of(data.points0) @ pose.R.T, rays_of(data.points1)


def _before_both(rays0: Float64Array, rays1: Float64Array, t: Float64Array) -> BoolArray:
    """[M] whether the triangulated point lies in front of both cameras.

    With both rays in the frame of camera 1, r1 and R r0, the signs of the depths are those of
    (t × r1)·(r1 × R r0) and (t × R r0)·(r1 × R r0).
    """
    normal = np.cross(rays1, rays0)
    depth0 = np.einsum("ni,ni->n", np.cross(t, rays1), normal)
    depth1 = np.einsum("ni,ni->n", np.cross(t, rays0), normal)
    mask: BoolArray = (depth0 > 0) & (depth1 > 0)
    return mask


def _in_front(data: Correspondences, pose: Rigid3) -> BoolArray:
    """[M] whether a point lies in front of both cameras, or its rays are parallel within the error limit."""
    rays0, rays1 = _rays_in_camera1(data, pose)
    nearly_parallel = np.linalg.norm(np.cross(rays1, rays0), axis=1) <= 2 * data.max_error
    same_direction = np.einsum("ni,ni->n", rays0, rays1) > 0
    mask: BoolArray = _before_both(rays0, rays1, pose.t) | (nearly_parallel & same_direction)
    return mask


def inliers_of_pose(data: Correspondences, pose: Rigid3) -> BoolArray:
    """[M] whether a match lies near its epipolar line and in front of both cameras."""
    errors = squared_sampson_errors(essential_from_pose(pose), data.points0, data.points1)
    mask: BoolArray = (errors <= data.max_error**2) & _in_front(data, pose)
    return mask


def refine_pose(data: Correspondences, pose: Rigid3) -> Rigid3:
    """Minimise the Sampson errors of the inliers over rotation and direction of translation.

    The loss is soft L1. The refinement is repeated once with the inliers of the refined pose.
    """
    for _ in range(2):
        mask = inliers_of_pose(data, pose)
        if mask.sum() < 8:
            return pose
        pose = _refine_on(data.rows(mask), pose)
    return pose


def _refine_on(data: Correspondences, pose: Rigid3) -> Rigid3:
    model = EpipolarResiduals(data, pose)

    def residuals(step: Float64Array) -> Float64Array:
        return model.at(step).ravel() / model.limit

    from scipy.optimize import least_squares  # half a second, so only when a pair is refined

    solution = least_squares(
        residuals,
        np.zeros(model.num_parameters),
        loss="soft_l1",
        f_scale=LOSS_SCALE,
        max_nfev=20,
        x_scale=1e-2,
        ftol=1e-4,
        xtol=1e-5,
    )
    return model.pose_after(solution.x)
