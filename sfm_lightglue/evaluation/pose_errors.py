"""Errors of camera poses: absolute after a similarity alignment, and relative for each pair of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.colmap.model import Reconstruction
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.geometry.alignment import AlignedPoses, align_poses
from sfm_lightglue.geometry.transforms import Rigid3, direction_angles_deg, rotation_angles_deg

AUC_THRESHOLDS_DEG = (1.0, 5.0, 10.0, 20.0)


@dataclass(frozen=True, slots=True)
class NotAligned:
    """The reason why there are no errors of absolute poses."""

    reason: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Errors of a reconstruction.

    Args:
        num_images: number of images with ground truth.
        num_registered: number of them with a pose in the reconstruction.
        num_without_truth: number of registered images without ground truth, which are ignored.
        accuracy: errors of the absolute poses of the registered images, or the reason why there are none.
        pair_errors_deg: [num_images (num_images - 1) / 2] for all pairs with ground truth, the larger of the errors
            of rotation and of direction of translation; infinity if one of the two images is not registered.
    """

    num_images: int
    num_registered: int
    num_without_truth: int
    accuracy: AlignedPoses | NotAligned
    pair_errors_deg: Float64Array

    @property
    def num_unregistered(self) -> int:
        """Number of images with ground truth that the reconstruction does not contain."""
        return self.num_images - self.num_registered

    def auc(self, thresholds_deg: tuple[float, ...] = AUC_THRESHOLDS_DEG) -> tuple[float, ...]:
        """Area under the cumulative curve of the pair errors, one value in [0, 1] per threshold."""
        return pose_auc(self.pair_errors_deg, thresholds_deg)


def evaluate_model(model: Reconstruction, truth: SceneTruth) -> Evaluation:
    """Compare a reconstruction with the ground truth."""
    return evaluate_poses(poses_of_model(model), truth)


def evaluate_poses(cam_from_world_from_name: Mapping[str, Rigid3], truth: SceneTruth) -> Evaluation:
    """Compare poses with the ground truth.

    Args:
        cam_from_world_from_name: poses in any world frame and unit.
        truth: of the same images; images without a pose count as not registered.
    """
    names = [name for name in truth.names if name in cam_from_world_from_name]
    accuracy: AlignedPoses | NotAligned
    try:
        accuracy = align_poses(cam_from_world_from_name, truth.cam_from_world_from_name)
    except ValueError as error:
        accuracy = NotAligned(str(error))
    return Evaluation(
        num_images=len(truth.names),
        num_registered=len(names),
        num_without_truth=len(cam_from_world_from_name) - len(names),
        accuracy=accuracy,
        pair_errors_deg=_pair_errors(cam_from_world_from_name, truth),
    )


def _pair_errors(poses: Mapping[str, Rigid3], truth: SceneTruth) -> Float64Array:
    """The larger of the two errors of `relative_pose_error_deg` for each pair, ordered by the first image."""
    names = truth.names
    # Missing images get a placeholder; their errors are overwritten below.
    found = [poses.get(name, Rigid3.identity()) for name in names]
    is_missing = np.array([name not in poses for name in names], dtype=np.bool_)
    R, true_R = (
        np.array([pose.R for pose in some]).reshape(-1, 3, 3)
        for some in (found, [truth.cam_from_world_from_name[name] for name in names])
    )
    centers, true_centers = np.array([pose.center for pose in found]).reshape(-1, 3), truth.centers
    # Images closer than this were taken from one point, so there is no direction to compare.
    min_baseline = 1e-9 * truth.extent
    errors = [np.zeros(0)]
    for i in range(len(names) - 1):
        later = slice(i + 1, None)
        # R_j R_iᵀ (T_j T_iᵀ)ᵀ, and the translation R_j (c_i - c_j) of the pose of j relative to i
        rotations = R[later] @ (R[i].T @ true_R[i]) @ true_R[later].transpose(0, 2, 1)  # [J, 3, 3]
        t = np.einsum("jkl,jl->jk", R[later], centers[i] - centers[later])  # [J, 3]
        true_t = np.einsum("jkl,jl->jk", true_R[later], true_centers[i] - true_centers[later])
        rotation, direction = rotation_angles_deg(rotations), direction_angles_deg(t, true_t)
        has_direction = np.linalg.norm(true_t, axis=1) > min_baseline
        larger = np.where(has_direction, np.maximum(rotation, direction), rotation)
        errors.append(np.where(is_missing[i] | is_missing[later], np.inf, larger))
    return np.concatenate(errors)


def pose_auc(errors_deg: AnyArray, thresholds_deg: tuple[float, ...] = (5.0, 10.0, 20.0)) -> tuple[float, ...]:
    """Area under the cumulative error curve up to each threshold, divided by the threshold.

    Args:
        errors_deg: [N] errors; infinity for a failed pair.
        thresholds_deg: upper limits.

    Returns:
        One value in [0, 1] per threshold; 0 if N is 0.

    Source: Sarlin et al., SuperGlue, 2020: the exact integral of the piecewise linear curve of its evaluation code.
    """
    errors = np.sort(np.asarray(errors_deg, dtype=np.float64))
    if len(errors) == 0:
        return (0.0,) * len(thresholds_deg)
    recall = np.arange(1, len(errors) + 1) / len(errors)
    areas = []
    for threshold in thresholds_deg:
        last = int(np.searchsorted(errors, threshold))
        x = np.concatenate([[0.0], errors[:last], [threshold]])
        y = np.concatenate([[0.0], recall[:last], [recall[last - 1] if last else 0.0]])
        areas.append(float(np.trapezoid(y, x) / threshold))
    return tuple(areas)
