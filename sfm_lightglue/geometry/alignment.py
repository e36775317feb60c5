"""How far estimated camera poses are from true ones, after the best similarity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_angle_deg, rotation_from_rotvec, umeyama

MIN_ALIGNED = 3
"""A similarity has seven unknowns, three camera centres have nine coordinates."""

_COLLINEAR_RATIO = 0.1
"""Centres count as being on a line where they stray from it by less than this share of its length: the turn
around it is then known ten times worse than any other, and would be blamed on all orientations."""


@dataclass(frozen=True, slots=True)
class AlignedPoses:
    """Errors of absolute poses after a similarity alignment of the camera centres.

    Args:
        truth_from_estimate: the alignment.
        center_errors: distance of camera centres in the unit of the truth, by name.
        rotation_errors_deg: angle between orientations, by name.
        is_collinear: whether the cameras stand nearly on a line. Their centres hardly tell the turn around
            it; the rotation errors are then those after the turn that fits the orientations best.
    """

    truth_from_estimate: Sim3
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

    @property
    def max_rotation_error_deg(self) -> float:
        """In degrees."""
        return max(self.rotation_errors_deg.values())


def align_poses(estimate: Mapping[str, Rigid3], truth: Mapping[str, Rigid3]) -> AlignedPoses:
    """Align camera centres in the least-squares sense, and measure what is left.

    Args:
        estimate: `cam_from_world` by name, in any unit.
        truth: `cam_from_world` by name.

    Raises:
        ValueError: where fewer than three names are on both sides, or all centres coincide.
    """
    names = sorted(estimate.keys() & truth.keys())
    if len(names) < MIN_ALIGNED:
        raise ValueError(f"{len(names)} registered images with truth; an alignment needs {MIN_ALIGNED}")
    centers = np.array([estimate[name].center for name in names])
    true_centers = np.array([truth[name].center for name in names])
    try:
        truth_from_estimate = umeyama(centers, true_centers)
    except ValueError as error:
        raise ValueError("all camera centres coincide: there is no scale") from error
    errors = np.linalg.norm(truth_from_estimate @ centers - true_centers, axis=1)
    spread, axes = np.linalg.svd(true_centers - true_centers.mean(axis=0))[1:]
    is_collinear = bool(spread[1] <= _COLLINEAR_RATIO * spread[0])
    R = truth_from_estimate.R
    if is_collinear:
        R = _turned_around(axes[0], R, {name: estimate[name] for name in names}, truth)
    return AlignedPoses(
        truth_from_estimate,
        dict(zip(names, errors.tolist(), strict=True)),
        {name: rotation_angle_deg(estimate[name].R @ R.T @ truth[name].R.T) for name in names},
        is_collinear,
    )


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
