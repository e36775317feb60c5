"""How far estimated camera poses are from true ones, after the best similarity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.geometry import Float64Array, Rigid3, Sim3, rotation_angle_deg, umeyama


@dataclass(frozen=True, eq=False, slots=True)
class AlignedPoses:
    """Errors of poses; the arrays are in the order of the names.

    Args:
        names: of the images that both sides know, sorted.
        truth_from_estimate: the similarity that was taken out.
        center_errors: [N] distances of camera centres in the unit of the truth.
        rotation_errors_deg: [N] angles between orientations.
        extent: largest distance between two true camera centres.
    """

    names: tuple[str, ...]
    truth_from_estimate: Sim3
    center_errors: Float64Array
    rotation_errors_deg: Float64Array
    extent: float


def align_poses(estimate: Mapping[str, Rigid3], truth: Mapping[str, Rigid3]) -> AlignedPoses:
    """Align camera centres in the least-squares sense, and measure what is left.

    Args:
        estimate: `cam_from_world` by name, in any unit.
        truth: `cam_from_world` by name.

    Raises:
        ValueError: where fewer than three names are on both sides, or all centres coincide.
    """
    names = tuple(sorted(estimate.keys() & truth.keys()))
    if len(names) < 3:
        raise ValueError(f"align_poses: {len(names)} common images; a similarity needs three")
    centers = np.array([estimate[name].center for name in names])
    true_centers = np.array([truth[name].center for name in names])
    truth_from_estimate = umeyama(centers, true_centers)
    center_errors = np.linalg.norm(truth_from_estimate @ centers - true_centers, axis=1)
    rotation_errors = [
        rotation_angle_deg(estimate[name].R @ truth_from_estimate.R.T @ truth[name].R.T) for name in names
    ]
    distances = np.linalg.norm(true_centers[:, None] - true_centers[None], axis=2)
    return AlignedPoses(names, truth_from_estimate, center_errors, np.array(rotation_errors), float(distances.max()))
