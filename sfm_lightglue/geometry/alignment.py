"""Errors of estimated camera poses after a similarity alignment with the true poses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import (
    Rigid3,
    Sim3,
    project_to_rotation,
    rotation_angle_deg,
    rotation_from_rotvec,
    umeyama,
)

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
    spread = np.linalg.svd(true_centers - true_centers.mean(axis=0), compute_uv=False)
    is_collinear = bool(spread[1] <= _COLLINEAR_RATIO * spread[0])
    R = truth_from_estimate.R
    if is_collinear:
        R = _rotated_around(_main_axis(true_centers), R, {name: estimate[name] for name in names}, truth)
    return AlignedPoses(
        truth_from_estimate,
        dict(zip(names, errors.tolist(), strict=True)),
        {name: rotation_angle_deg(estimate[name].R @ R.T @ truth[name].R.T) for name in names},
        is_collinear,
    )


@dataclass(frozen=True, slots=True)
class ConsistentPoses:
    """Errors of absolute poses after the similarity with which the most poses are right.

    Args:
        truth_from_estimate: the alignment, of the right poses only.
        center_errors: distance between estimated and true camera centre in the unit of the truth, by image name.
        rotation_errors_deg: angle between estimated and true orientation, by image name.
        right: names of the images within both limits, sorted; empty if there are fewer than three.
    """

    truth_from_estimate: Sim3
    center_errors: Mapping[str, float]
    rotation_errors_deg: Mapping[str, float]
    right: tuple[str, ...]

    @property
    def wrong(self) -> tuple[str, ...]:
        """Names of the other images, sorted."""
        return tuple(sorted(self.center_errors.keys() - set(self.right)))


def align_consistent_poses(
    estimate: Mapping[str, Rigid3],
    truth: Mapping[str, Rigid3],
    max_center_error: float,
    max_rotation_error_deg: float = 5.0,
) -> ConsistentPoses:
    """Align the largest subset of poses that fits the truth, so that wrong poses do not move the alignment.

    Every two images give a similarity: the rotation from their orientations, the scale from their distance. That with
    the most poses within the limits wins; each is refined on the poses within twice the limits, then on those within,
    unless less than half as many poses fit then: centres that lie nearly on a line tell little about the rotation
    around it.

    Args:
        estimate: `cam_from_world` by image name, in any unit.
        truth: `cam_from_world` by image name.
        max_center_error: limit of a right pose, in the unit of the truth.
        max_rotation_error_deg: limit of a right pose.

    Raises:
        ValueError: if fewer than three names are in both mappings, or all centres coincide.
    """
    names = sorted(estimate.keys() & truth.keys())
    if len(names) < MIN_ALIGNED:
        raise ValueError(f"{len(names)} registered images with truth; an alignment needs {MIN_ALIGNED}")
    best: tuple[int, float, ConsistentPoses] | None = None
    for pair in combinations(names, 2):
        similarity = _from_two_poses(pair, estimate, truth)
        if similarity is not None:
            found = _refined(similarity, estimate, truth, max_center_error, max_rotation_error_deg)
            cost = sum(min(error, max_center_error) for error in found.center_errors.values())
            if best is None or (len(found.right), -cost) > (best[0], -best[1]):
                best = len(found.right), cost, found
    if best is None:
        raise ValueError("all camera centres coincide: there is no scale")
    return best[2]


def _refined(
    similarity: Sim3,
    estimate: Mapping[str, Rigid3],
    truth: Mapping[str, Rigid3],
    max_center_error: float,
    max_rotation_error_deg: float,
) -> ConsistentPoses:
    tried = [_judge(similarity, estimate, truth, max_center_error, max_rotation_error_deg)]
    for factor in (2, 1):
        near = _judge(similarity, estimate, truth, factor * max_center_error, factor * max_rotation_error_deg)
        if len(near.right) >= MIN_ALIGNED:
            similarity = similarity_from_poses(near.right, estimate, truth)
            tried.append(_judge(similarity, estimate, truth, max_center_error, max_rotation_error_deg))
    most = max(tried, key=lambda each: len(each.right))
    return tried[-1] if 2 * len(tried[-1].right) >= len(most.right) else most


def _from_two_poses(names: Sequence[str], estimate: Mapping[str, Rigid3], truth: Mapping[str, Rigid3]) -> Sim3 | None:
    """The similarity `truth_from_estimate` of two poses; None if their centres coincide."""
    centers = np.array([estimate[name].center for name in names])
    true_centers = np.array([truth[name].center for name in names])
    length = float(np.linalg.norm(centers[1] - centers[0]))
    true_length = float(np.linalg.norm(true_centers[1] - true_centers[0]))
    if min(length, true_length) == 0:
        return None
    R = project_to_rotation(sum((truth[name].R.T @ estimate[name].R for name in names), np.zeros((3, 3))))
    scale = true_length / length
    return Sim3(scale, R, true_centers.mean(0) - scale * R @ centers.mean(0))


def similarity_from_poses(names: Sequence[str], estimate: Mapping[str, Rigid3], truth: Mapping[str, Rigid3]) -> Sim3:
    """The similarity of three or more poses by least squares; the orientations decide where centres are collinear.

    Args:
        names: of the images.
        estimate: `cam_from_world` by image name, in any unit.
        truth: `cam_from_world` by image name.

    Returns:
        `truth_from_estimate`.

    Raises:
        ValueError: if all centres coincide.
    """
    chosen = {name: estimate[name] for name in names}
    aligned = align_poses(chosen, truth)
    similarity = aligned.truth_from_estimate
    if not aligned.is_collinear:
        return similarity
    mean = np.mean([pose.center for pose in chosen.values()], axis=0)
    true_centers = np.array([truth[name].center for name in names])
    R = _rotated_around(_main_axis(true_centers), similarity.R, chosen, truth)
    return Sim3(similarity.scale, R, true_centers.mean(axis=0) - similarity.scale * R @ mean)


def _judge(
    truth_from_estimate: Sim3,
    estimate: Mapping[str, Rigid3],
    truth: Mapping[str, Rigid3],
    max_center_error: float,
    max_rotation_error_deg: float,
) -> ConsistentPoses:
    R = truth_from_estimate.R
    names = sorted(estimate.keys() & truth.keys())
    centers = {
        name: float(np.linalg.norm(truth_from_estimate @ estimate[name].center - truth[name].center)) for name in names
    }
    rotations = {name: rotation_angle_deg(estimate[name].R @ R.T @ truth[name].R.T) for name in names}
    right = [name for name in names if centers[name] <= max_center_error and rotations[name] <= max_rotation_error_deg]
    return ConsistentPoses(truth_from_estimate, centers, rotations, tuple(right) if len(right) >= MIN_ALIGNED else ())


def _main_axis(centers: Float64Array) -> Float64Array:
    """Direction [3] in which centres [N, 3] are spread most."""
    axis: Float64Array = np.linalg.svd(centers - centers.mean(axis=0))[2][0]
    return axis


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
