"""The relative pose of two calibrated cameras: candidates from matrices, cheirality, refinement on the inliers."""

from __future__ import annotations

import cv2
import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.geometry.transforms import Rigid3, project_to_rotation
from sfm_lightglue.two_view.correspondences import Correspondences
from sfm_lightglue.two_view.pose_batch import PointPairs, Poses, fit_poses, inlier_masks, poses_from_essentials

_NUM_STEPS = 6
"""Most steps of each of the two rounds of the refinement."""

_MIN_REFINED = 8
"""A pose with fewer inliers is not refined."""


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
    if mask.sum() < 5 or not np.isfinite(matrix).all():
        return None
    poses, num_in_front = poses_from_essentials(PointPairs.of(data.rows(mask)), matrix[None])
    return poses[0] if num_in_front[0] > 0 else None


def inliers_of_pose(data: Correspondences, pose: Rigid3) -> BoolArray:
    """[M] whether a match lies near its epipolar line and in front of both cameras."""
    mask: BoolArray = inlier_masks(PointPairs.of(data), Poses.of(pose))[0]
    return mask


def refine_pose(data: Correspondences, pose: Rigid3) -> Rigid3:
    """Minimise the Sampson errors of the inliers over rotation and direction of translation.

    The loss is soft L1. The refinement is repeated once with the inliers of the refined pose.
    """
    return refine_poses(PointPairs.of(data), Poses.of(pose))[0]


def refine_poses(points: PointPairs, poses: Poses) -> Poses:
    """`refine_pose` for several poses."""
    for _ in range(2):
        masks = inlier_masks(points, poses)
        enough = masks.sum(axis=1) >= _MIN_REFINED
        if not enough.any():
            return poses
        poses = fit_poses(points, poses, masks, num_steps=_NUM_STEPS).where(enough, poses)
    return poses
