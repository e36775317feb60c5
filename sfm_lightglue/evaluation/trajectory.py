"""Associate the poses of two trajectories by their time stamps."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.types import Trajectory

MAX_DIFFERENCE_S = 0.02
"""Largest time difference of associated poses; the default of TUM's tools."""


def associate(
    stamps_s: Float64Array, others_s: Float64Array, max_difference_s: float = MAX_DIFFERENCE_S
) -> list[tuple[int, int]]:
    """Associate each time stamp with its nearest in the other list, which is used at most once.

    Args:
        stamps_s: [N], in any order.
        others_s: [M], in any order.
        max_difference_s: largest time difference.

    Returns:
        Indices (into `stamps_s`, into `others_s`), in the order of `stamps_s`.
    """
    if len(stamps_s) == 0 or len(others_s) == 0:
        return []
    order = np.argsort(others_s, kind="stable")
    ordered = others_s[order]
    after = np.clip(np.searchsorted(ordered, stamps_s), 0, len(ordered) - 1)
    before = np.maximum(after - 1, 0)
    is_before = np.abs(ordered[before] - stamps_s) <= np.abs(ordered[after] - stamps_s)
    nearest = order[np.where(is_before, before, after)]
    differences = np.abs(others_s[nearest] - stamps_s)
    chosen: dict[int, int] = {}
    for index in np.argsort(differences, kind="stable"):
        if differences[index] <= max_difference_s:
            chosen.setdefault(int(nearest[index]), int(index))
    return sorted((index, other) for other, index in chosen.items())


def matching_poses(
    reference: Trajectory, estimate: Trajectory, max_difference_s: float = MAX_DIFFERENCE_S
) -> tuple[list[Rigid3], list[Rigid3]]:
    """The associated poses world_from_cam of two trajectories, in the order of time.

    Raises:
        DataError: if only one has time stamps, both have none and their lengths differ, or no poses are associated.
    """
    if reference.is_timed != estimate.is_timed:
        raise DataError("one trajectory has time stamps (TUM), the other has none (KITTI): they cannot be compared")
    if not reference.is_timed and len(reference) != len(estimate):
        raise DataError(
            f"the trajectories have no time stamps, and {len(reference)} and {len(estimate)} poses; without time stamps"
            " both need the same number of poses"
        )
    pairs = associate(estimate.stamps_s, reference.stamps_s, max_difference_s)
    if not pairs:
        raise DataError(f"no poses of the two trajectories are within {max_difference_s:g} s of each other")
    return (
        [reference.world_from_cam[other] for _, other in pairs],
        [estimate.world_from_cam[index] for index, _ in pairs],
    )
