"""The geometry of a pair with a rotation that other pairs imply."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.epipolar import essential_from_pose
from sfm_lightglue.geometry.transforms import Rigid3, rotation_angle_deg
from sfm_lightglue.scene.cameras import calibration_matrix
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import Correspondences, MatchedPair, normalize_matches, rays_of
from sfm_lightglue.two_view.pose import inliers_of_pose, refine_pose
from sfm_lightglue.two_view.pose_batch import PointPairs, Poses, inlier_masks
from sfm_lightglue.types import TwoViewGeometry

_LOOSE = 5.0
"""Factor on the error limit while the pose starts from the given rotation, which may be off by degrees."""

_NUM_DIRECTIONS = 64
"""Number of directions of translation that are tried."""

_MIN_INLIERS = 0.75
"""Fraction of the pair's inliers that must fit the given rotation."""


def with_rotation(
    pair: MatchedPair,
    geometry: TwoViewGeometry,
    rotation: Float64Array,
    max_error_deg: float,
    config: TwoViewConfig,
) -> TwoViewGeometry | None:
    """The geometry of a pair with nearly a given rotation, if its inliers fit it as well as their own pose.

    Few, or nearly planar matches do not determine a pose well: the pair may be true although its pose is wrong.

    Args:
        pair: features, matches and cameras.
        geometry: the pair's own geometry, with a translation.
        rotation: [3, 3] of `cam1_from_cam0`, such as other pairs imply.
        max_error_deg: largest angle between this rotation and that of the fitted pose.
        config: error limits.

    Returns:
        The geometry with the fitted pose and its inliers; None if the matches do not fit the rotation.
    """
    data, usable = normalize_matches(pair, config)
    inliers = data.rows(geometry.inlier_mask & usable)
    loose = replace(inliers, max_error_px=_LOOSE * inliers.max_error_px)
    start = _best_translation(loose, rotation)
    if start is None:
        return None
    pose = refine_pose(inliers, refine_pose(loose, start))
    num_inliers = int(inliers_of_pose(inliers, pose).sum())
    if rotation_angle_deg(pose.R @ rotation.T) > max_error_deg or num_inliers < max(
        config.min_inliers, _MIN_INLIERS * len(inliers.points0)
    ):
        return None
    E = essential_from_pose(pose)
    K0, K1 = (calibration_matrix(camera) for camera in pair.cameras)
    return replace(
        geometry,
        inlier_mask=inliers_of_pose(data, pose) & usable,
        cam1_from_cam0=pose,
        E=E if geometry.E is not None else None,
        F=np.linalg.inv(K1).T @ E @ np.linalg.inv(K0),
    )


def _best_translation(data: Correspondences, rotation: Float64Array) -> Rigid3 | None:
    """The pose with a given rotation and the direction of translation that most matches agree with."""
    normals = np.cross(rays_of(data.points0) @ rotation.T, rays_of(data.points1))  # t is normal to all of them
    num = len(normals)
    if num < 2:
        return None
    first = np.arange(_NUM_DIRECTIONS) * num // _NUM_DIRECTIONS
    second = (first + 1 + np.arange(_NUM_DIRECTIONS) * 7 % max(num - 1, 1)) % num
    directions = np.cross(normals[first], normals[second])
    lengths = np.linalg.norm(directions, axis=1)
    directions = directions[lengths > 1e-12] / lengths[lengths > 1e-12, None]
    if len(directions) == 0:
        return None
    both = np.stack([directions, -directions], axis=1).reshape(-1, 3)
    poses = Poses(np.broadcast_to(rotation, (len(both), 3, 3)), both)
    num_inliers = inlier_masks(PointPairs.of(data), poses).sum(axis=1)
    best = int(num_inliers.argmax())
    return poses[best] if num_inliers[best] > 0 else None
