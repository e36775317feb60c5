"""Errors of a trajectory: absolute trajectory error (ATE) and relative pose error (RPE)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_angle_deg, umeyama

Alignment = Literal["sim3", "se3", "none"]
"""Transform that is fitted before positions are compared: a similarity, since one camera does not determine the scale;
a rigid motion; or none."""


@dataclass(frozen=True, slots=True)
class TrajectoryErrors:
    """Errors of a trajectory, in the unit of the reference.

    Args:
        num_poses: number of compared poses.
        reference_from_estimate: the alignment.
        position_errors: [num_poses] distances after the alignment: ATE.
        step_errors: [S] lengths of the translations of the relative pose errors: RPE.
        step_errors_deg: [S] angles of their rotations.
    """

    num_poses: int
    reference_from_estimate: Sim3
    position_errors: Float64Array
    step_errors: Float64Array
    step_errors_deg: Float64Array

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; relative errors are None if there is no step."""
        return {
            "num_poses": self.num_poses,
            "ate_rmse": rmse(self.position_errors),
            "ate_mean": float(self.position_errors.mean()),
            "ate_median": float(np.median(self.position_errors)),
            "ate_max": float(self.position_errors.max()),
            "num_steps": len(self.step_errors),
            "rpe_rmse": rmse(self.step_errors) if len(self.step_errors) else None,
            "rpe_rmse_deg": rmse(self.step_errors_deg) if len(self.step_errors_deg) else None,
            "scale": self.reference_from_estimate.scale,
        }


def trajectory_errors(
    reference: Sequence[Rigid3],
    estimate: Sequence[Rigid3 | None],
    alignment: Alignment = "sim3",
    step: int = 1,
) -> TrajectoryErrors:
    """Compare the poses of one camera over time.

    With Q the reference and P the aligned estimate, the relative pose error of frame i is
    (Q_i⁻¹ Q_{i+step})⁻¹ (P_i⁻¹ P_{i+step}).

    Args:
        reference: N poses world_from_cam.
        estimate: N poses world_from_cam in any world frame; None for a frame without pose.
        alignment: transform that is fitted first.
        step: frames between the two poses of a relative error.

    Raises:
        DataError: if there are fewer than three poses to compare, or all coincide.

    Source: Sturm et al., A Benchmark for the Evaluation of RGB-D SLAM Systems, 2012, section V.
    """
    if len(reference) != len(estimate) or step < 1:
        raise ValueError(
            f"expected equal numbers of poses and a positive step, got {len(reference)}, {len(estimate)}, {step}"
        )
    found = {index: pose for index, pose in enumerate(estimate) if pose is not None}
    if len(found) < 3:
        raise DataError(f"{len(found)} poses to compare; an alignment needs 3")
    positions = np.array([pose.t for pose in found.values()])
    true_positions = np.array([reference[index].t for index in found])
    reference_from_estimate = _align(positions, true_positions, alignment)
    scale = reference_from_estimate.scale
    steps = [
        (reference[index].inverse() @ reference[index + step]).inverse()
        @ _scaled(pose.inverse() @ found[index + step], scale)
        for index, pose in found.items()
        if index + step in found
    ]
    return TrajectoryErrors(
        len(found),
        reference_from_estimate,
        np.linalg.norm(reference_from_estimate @ positions - true_positions, axis=1),
        np.array([np.linalg.norm(error.t) for error in steps]),
        np.array([rotation_angle_deg(error.R) for error in steps]),
    )


def rmse(errors: Float64Array) -> float:
    """Root mean square of errors [N], N > 0."""
    return math.sqrt(float((errors**2).mean()))


def _align(positions: Float64Array, true_positions: Float64Array, alignment: Alignment) -> Sim3:
    if alignment == "none":
        return Sim3.identity()
    try:
        return umeyama(positions, true_positions, with_scale=alignment == "sim3")
    except ValueError as error:
        raise DataError(f"the trajectory cannot be aligned: {error}") from error


def _scaled(pose: Rigid3, scale: float) -> Rigid3:
    return Rigid3(pose.R, scale * pose.t)
