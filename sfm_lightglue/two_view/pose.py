"""The relative pose of two calibrated cameras: candidates from matrices, cheirality, refinement on the inliers."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.optimize import least_squares

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.geometry.epipolar import essential_from_pose, homogeneous, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3, project_to_rotation, rotation_from_rotvec
from sfm_lightglue.two_view.correspondences import Correspondences, rays_of

LOSS_SCALE = 0.5
"""Where the soft L1 loss of the refinement bends from squares to lengths, as a share of the error limit."""


def poses_from_homography(H: Float64Array) -> list[Rigid3]:
    """The poses that a plane's homography allows, by OpenCV (Malis and Vargas, 2007)."""
    _, rotations, translations, _ = cv2.decomposeHomographyMat(H, np.eye(3))
    return [
        Rigid3(project_to_rotation(R), t[:, 0] / np.linalg.norm(t))
        for R, t in zip(rotations, translations, strict=True)
        if np.linalg.norm(t) > 1e-9 and np.linalg.det(R) > 0
    ]


def recover_pose(data: Correspondences, matrix: Float64Array, mask: BoolArray) -> Rigid3 | None:
    """Of the four poses of an essential matrix the one with most points before both cameras.

    `cv2.recoverPose` counts no point beyond 50 baselines, so that it guesses where the parallax is small.
    """
    if mask.sum() < 5:
        return None
    R0, R1, t = cv2.decomposeEssentialMat(matrix)
    if not all(np.isfinite(part).all() for part in (R0, R1, t)):
        return None
    direction = t[:, 0] / np.linalg.norm(t)
    poses = [Rigid3(project_to_rotation(R), sign * direction) for R in (R0, R1) for sign in (1, -1)]
    inliers = data.rows(mask)
    counts = [int(_before_both(inliers, pose).sum()) for pose in poses]
    return poses[int(np.argmax(counts))] if max(counts) > 0 else None


def _before_both(data: Correspondences, pose: Rigid3) -> BoolArray:
    """[M] whether a point, triangulated, lies before both cameras.

    With both rays in the frame of camera 1, r1 and R r0, the signs of the depths are those of
    (t × r1)·(r1 × R r0) and (t × R r0)·(r1 × R r0).
    """
    rays1 = rays_of(data.points1)
    rays0 = rays_of(data.points0) @ pose.R.T
    normal = np.cross(rays1, rays0)
    depth0 = np.einsum("ni,ni->n", np.cross(pose.t, rays1), normal)
    depth1 = np.einsum("ni,ni->n", np.cross(pose.t, rays0), normal)
    mask: BoolArray = (depth0 > 0) & (depth1 > 0)
    return mask


def in_front(data: Correspondences, pose: Rigid3) -> BoolArray:
    """[M] as `_before_both`, but far points may be a little past infinity."""
    rays1 = rays_of(data.points1)
    rays0 = rays_of(data.points0) @ pose.R.T
    nearly_parallel = np.linalg.norm(np.cross(rays1, rays0), axis=1) <= 2 * data.max_error
    same_way = np.einsum("ni,ni->n", rays0, rays1) > 0
    mask: BoolArray = _before_both(data, pose) | (nearly_parallel & same_way)
    return mask


def num_supporting(data: Correspondences, pose: Rigid3) -> int:
    """How many matches lie near their epipolar line and before both cameras."""
    errors = squared_sampson_errors(essential_from_pose(pose), data.points0, data.points1)
    return int(((errors <= data.max_error**2) & in_front(data, pose)).sum())


def refine_pose(data: Correspondences, pose: Rigid3) -> Rigid3:
    """Least squares of the Sampson errors of the inliers over rotation and direction, five parameters."""
    for _ in range(2):
        errors = squared_sampson_errors(essential_from_pose(pose), data.points0, data.points1)
        mask = (errors <= data.max_error**2) & in_front(data, pose)
        if mask.sum() < 8:
            return pose
        pose = _refine_on(data.rows(mask), pose)
    return pose


def _refine_on(data: Correspondences, pose: Rigid3) -> Rigid3:
    x0, x1 = homogeneous(data.points0), homogeneous(data.points1)
    tangent = np.linalg.svd(pose.t[None])[2][1:]  # [2, 3] the directions in which t can turn

    def moved(parameters: Float64Array) -> Rigid3:
        t = pose.t + parameters[3:] @ tangent
        return Rigid3(rotation_from_rotvec(parameters[:3]) @ pose.R, t / np.linalg.norm(t))

    def residuals(parameters: Float64Array) -> Float64Array:
        E = essential_from_pose(moved(parameters))
        lines1, lines0 = x0 @ E.T, x1 @ E
        norms = np.sqrt((lines1[:, :2] ** 2).sum(1) + (lines0[:, :2] ** 2).sum(1))
        values: Float64Array = np.einsum("ni,ni->n", x1, lines1) / np.maximum(norms, 1e-12)
        return values / data.max_error

    solution = least_squares(
        residuals, np.zeros(5), loss="soft_l1", f_scale=LOSS_SCALE, max_nfev=20, x_scale=1e-2, ftol=1e-4, xtol=1e-5
    )
    return moved(solution.x)
