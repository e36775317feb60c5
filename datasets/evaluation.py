"""How far poses are from the truth: after a similarity alignment, and pair by pair without any."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datasets.ground_truth import SceneTruth, poses_from_model
from sfm_lightglue.geometry import (
    Float64Array,
    Rigid3,
    Sim3,
    pose_auc,
    rotation_angle_deg,
    rotation_from_rotvec,
    umeyama,
)
from sfm_lightglue.mapping.model import Reconstruction

AUC_THRESHOLDS_DEG = (1.0, 5.0, 10.0, 20.0)

MIN_ALIGNED = 3
"""A similarity has seven unknowns, three camera centres have nine coordinates."""

_COLLINEAR_RATIO = 0.1
"""Centres count as being on a line where they stray from it by less than this share of its length: the turn
around it is then known ten times worse than any other, and would be blamed on all orientations."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Errors of absolute poses after a similarity alignment of the camera centres.

    Args:
        truth_from_model: the alignment.
        center_errors: distance of camera centres in the unit of the truth, by name.
        rotation_errors_deg: angle between orientations, by name.
        is_collinear: whether the cameras stand nearly on a line. Their centres hardly tell the turn around
            it; the rotation errors are then those after the turn that fits the orientations best.
    """

    truth_from_model: Sim3
    center_errors: Mapping[str, float]
    rotation_errors_deg: Mapping[str, float]
    is_collinear: bool = False

    @property
    def mean_center_error(self) -> float:
        """In the unit of the truth."""
        return float(np.mean(list(self.center_errors.values())))

    @property
    def median_center_error(self) -> float:
        """In the unit of the truth."""
        return float(np.median(list(self.center_errors.values())))

    @property
    def max_center_error(self) -> float:
        """In the unit of the truth."""
        return max(self.center_errors.values())

    @property
    def median_rotation_error_deg(self) -> float:
        """In degrees."""
        return float(np.median(list(self.rotation_errors_deg.values())))


@dataclass(frozen=True, slots=True)
class NotAligned:
    """Why there are no errors of absolute poses."""

    reason: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A reconstruction against the truth.

    Args:
        num_images: images with truth.
        num_registered: those of them that the reconstruction has.
        num_without_truth: registered images of which no truth is known; they count nowhere.
        accuracy: errors of absolute poses of the registered images, or why there are none.
        pair_errors_deg: [num_images (num_images - 1) / 2] of all pairs with truth, the larger of the errors
            of rotation and of direction of translation; infinity where one of the two is not registered.
    """

    num_images: int
    num_registered: int
    num_without_truth: int
    accuracy: Accuracy | NotAligned
    pair_errors_deg: Float64Array

    @property
    def num_unregistered(self) -> int:
        """Images with truth that the reconstruction does not have."""
        return self.num_images - self.num_registered

    def auc(self, thresholds_deg: tuple[float, ...] = AUC_THRESHOLDS_DEG) -> tuple[float, ...]:
        """Area under the cumulative curve of the pair errors, one value in [0, 1] per threshold."""
        return pose_auc(self.pair_errors_deg, thresholds_deg)


def evaluate_model(model: Reconstruction, truth: SceneTruth) -> Evaluation:
    """Compare a reconstruction with the truth."""
    return evaluate_poses(poses_from_model(model), truth)


def evaluate_poses(cam_from_world_from_name: Mapping[str, Rigid3], truth: SceneTruth) -> Evaluation:
    """Compare poses with the truth.

    Args:
        cam_from_world_from_name: poses in any world frame and unit.
        truth: of the same images; missing ones count as not registered.
    """
    names = [name for name in truth.names if name in cam_from_world_from_name]
    return Evaluation(
        num_images=len(truth.names),
        num_registered=len(names),
        num_without_truth=len(cam_from_world_from_name) - len(names),
        accuracy=_accuracy({name: cam_from_world_from_name[name] for name in names}, truth),
        pair_errors_deg=_pair_errors(cam_from_world_from_name, truth),
    )


def _accuracy(poses: Mapping[str, Rigid3], truth: SceneTruth) -> Accuracy | NotAligned:
    if len(poses) < MIN_ALIGNED:
        return NotAligned(f"{len(poses)} registered images with truth; an alignment needs {MIN_ALIGNED}")
    true_poses = {name: truth.cam_from_world_from_name[name] for name in poses}
    centers = np.array([pose.center for pose in poses.values()])
    true_centers = np.array([pose.center for pose in true_poses.values()])
    try:
        truth_from_model = umeyama(centers, true_centers)
    except ValueError:
        return NotAligned("all camera centres coincide: there is no scale")
    errors = np.linalg.norm(truth_from_model @ centers - true_centers, axis=1)
    spread, axes = np.linalg.svd(true_centers - true_centers.mean(axis=0))[1:]
    is_collinear = bool(spread[1] <= _COLLINEAR_RATIO * spread[0])
    R = truth_from_model.R
    if is_collinear:
        R = _turned_around(axes[0], R, poses, true_poses)
    rotation_errors = {name: rotation_angle_deg(pose.R @ R.T @ true_poses[name].R.T) for name, pose in poses.items()}
    center_errors = dict(zip(poses, errors.tolist(), strict=True))
    return Accuracy(truth_from_model, center_errors, rotation_errors, is_collinear)


def _turned_around(
    axis: Float64Array, R: Float64Array, poses: Mapping[str, Rigid3], true_poses: Mapping[str, Rigid3]
) -> Float64Array:
    """R [3, 3] turned around an axis [3] of the truth's world by the angle that fits the orientations best.

    With A(angle) the turn and B = R Σ R_modelᵀ R_truth, tr(A B) is to be largest; by Rodrigues' formula it is
    cos (tr B - axisᵀ B axis) + sin tr([axis]× B) + a constant.
    """
    B = R @ sum((pose.R.T @ true_poses[name].R for name, pose in poses.items()), np.zeros((3, 3)))
    sine = axis @ np.array([B[1, 2] - B[2, 1], B[2, 0] - B[0, 2], B[0, 1] - B[1, 0]])
    angle = math.atan2(sine, np.trace(B) - axis @ B @ axis)
    turned: Float64Array = rotation_from_rotvec(angle * axis) @ R
    return turned


def _pair_errors(poses: Mapping[str, Rigid3], truth: SceneTruth) -> Float64Array:
    """The larger of the errors of `relative_pose_error_deg`, of one image with all later ones at a time."""
    names = truth.names
    # A missing image gets any pose; its errors are overwritten.
    found = [poses.get(name, Rigid3.identity()) for name in names]
    is_missing = np.array([name not in poses for name in names], dtype=np.bool_)
    R, true_R = (
        np.array([pose.R for pose in some]).reshape(-1, 3, 3)
        for some in (found, [truth.cam_from_world_from_name[name] for name in names])
    )
    centers, true_centers = np.array([pose.center for pose in found]).reshape(-1, 3), truth.centers
    # Below this distance two photos were taken from one point: there is no direction to compare.
    min_baseline = 1e-9 * truth.extent
    errors = [np.zeros(0)]
    for i in range(len(names) - 1):
        later = slice(i + 1, None)
        # R_j R_iᵀ (T_j T_iᵀ)ᵀ, and the translation R_j (c_i - c_j) of the pose of j relative to i
        rotations = R[later] @ (R[i].T @ true_R[i]) @ true_R[later].transpose(0, 2, 1)  # [J, 3, 3]
        t = np.einsum("jkl,jl->jk", R[later], centers[i] - centers[later])  # [J, 3]
        true_t = np.einsum("jkl,jl->jk", true_R[later], true_centers[i] - true_centers[later])
        rotation, direction = _rotation_angles_deg(rotations), _direction_angles_deg(t, true_t)
        has_direction = np.linalg.norm(true_t, axis=1) > min_baseline
        larger = np.where(has_direction, np.maximum(rotation, direction), rotation)
        errors.append(np.where(is_missing[i] | is_missing[later], np.inf, larger))
    return np.concatenate(errors)


def _rotation_angles_deg(R: Float64Array) -> Float64Array:
    """[N, 3, 3] -> [N]; `geometry.rotation_angle_deg` for many."""
    axis = np.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], axis=1)
    cosine = (np.trace(R, axis1=1, axis2=2) - 1) / 2
    angles: Float64Array = np.degrees(np.arctan2(np.linalg.norm(axis, axis=1) / 2, cosine))
    return angles


def _direction_angles_deg(a: Float64Array, b: Float64Array) -> Float64Array:
    """[N, 3] and [N, 3] -> [N]; `geometry.direction_angle_deg` for many."""
    sine, cosine = np.linalg.norm(np.cross(a, b), axis=1), np.einsum("nk,nk->n", a, b)
    angles = np.degrees(np.arctan2(sine, cosine))
    known: Float64Array = np.where(a.any(axis=1) & b.any(axis=1), angles, 90.0)
    return known
