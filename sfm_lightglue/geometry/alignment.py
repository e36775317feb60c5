"""Errors of estimated camera poses after a similarity alignment with the true poses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_angle_deg, rotation_from_rotvec, umeyama

MIN_ALIGNED = 3
"""Fewest camera centres for an alignment: a similarity has seven unknowns, three centres have nine coordinates."""

_COLLINEAR_RATIO = 0.1
"""Centres count as collinear if their spread across the line is at most this fraction of the spread along it. The
rotation around the line is then ten times less certain than any other, and would add an error to all orientations."""


@dataclass(frozen=True, slots=True)
class AlignedPoses:
    """Errors of absolute poses after a similarity alignment of the camera centres.

    Args:
        truth_from_estimate: the alignment.
        center_errors: distance between estimated and true camera centre in the unit of the truth, by image name.
        rotation_errors_deg: angle between estimated and true orientation, by image name.
        is_collinear: whether the camera centres lie nearly on a line. They do not determine the rotation around it
            well; the rotation errors are then computed after the rotation around it that best fits the orientations.
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
    """Align camera centres by least squares, and compute the remaining errors.

    Args:
        estimate: `cam_from_world` by image name, in any unit.
        truth: `cam_from_world` by image name.

    Raises:
        ValueError: if fewer than three names are in both mappings, or all centres coincide.
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
        R = _rotated_around(axes[0], R, {name: estimate[name] for name in names}, truth)
    return AlignedPoses(
        truth_from_estimate,
        dict(zip(names, errors.tolist(), strict=True)),
        {name: rotation_angle_deg(estimate[name].R @ R.T @ truth[name].R.T) for name in names},
        is_collinear,
    )


def _rotated_around(
    axis: Float64Array, R: Float64Array, poses: Mapping[str, Rigid3], true_poses: Mapping[str, Rigid3]
) -> Float64Array:
    """Rotate R [3, 3] around an axis [3] of the true world by the angle that best fits the orientations.

    With A(angle) the rotation around the axis and B = R Σ R_modelᵀ R_truth, the angle maximises tr(A B). By
    Rodrigues' formula tr(A B) = cos (tr B - axisᵀ B axis) + sin tr([axis]× B) + a constant.
    """
    B = R @ sum((pose.R.T @ true_poses[name].R for name, pose in poses.items()), np.zeros((3, 3)))
    sine = axis @ np.array([B[1, 2] - B[2, 1], B[2, 0] - B[0, 2], B[0, 1] - B[1, 0]])
    angle = math.atan2(sine, np.trace(B) - axis @ B @ axis)
    rotated: Float64Array = rotation_from_rotvec(angle * axis) @ R
    return rotated
