"""Where a camera was at which time: TUM's and KITTI's files, and which poses of two trajectories belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.text import finite_numbers, word_lines
from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3

MAX_DIFFERENCE_S = 0.02
"""Poses farther apart in time do not belong together: the default of TUM's own tools."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Poses over time.

    Args:
        stamps_s: [N] seconds, increasing; the number of the frame where `is_timed` is False.
        world_from_cam: N poses.
        is_timed: whether the stamps are times.
    """

    stamps_s: Float64Array
    world_from_cam: tuple[Rigid3, ...]
    is_timed: bool = True

    def __len__(self) -> int:
        return len(self.world_from_cam)


def read_trajectory(path: Path) -> Trajectory:
    """A file in TUM's or KITTI's format; the number of words of its first line tells which.

    Raises:
        DataError: where it is neither, or damaged, with file and line.
    """
    place, words = next(iter(word_lines(path)), (str(path), []))
    if len(words) == 8:
        return read_tum_trajectory(path)
    if len(words) == 12:
        return read_kitti_poses(path)
    raise DataError(f"{place}: expected a trajectory of 8 (TUM) or 12 (KITTI) numbers a line, got {len(words)} words")


def read_tum_trajectory(path: Path) -> Trajectory:
    """Lines of `timestamp tx ty tz qx qy qz qw`: the pose world_from_cam of a camera that looks along z, y downwards.

    Raises:
        DataError: where a line is not of this format, with file and line.

    Source: Sturm et al., A Benchmark for the Evaluation of RGB-D SLAM Systems, 2012, file formats.
    """
    rows = []
    for place, words in word_lines(path):
        values = finite_numbers(place, words, 8, "timestamp tx ty tz qx qy qz qw")
        norm = np.linalg.norm(values[4:])
        # Files of four decimals leave a norm that is not quite 1.
        if not 0.9 < norm < 1.1:
            raise DataError(f"{place}: the quaternion has length {norm:.3g}, expected 1")
        rows.append((values[0], Rigid3(rotation_from_xyzw(values[4:] / norm), values[1:4])))
    if not rows:
        raise DataError(f"{path}: no pose in it")
    stamps_s = np.array([stamp for stamp, _ in rows])
    if (np.diff(stamps_s) < 0).any():
        order = np.argsort(stamps_s, kind="stable")
        return Trajectory(stamps_s[order], tuple(rows[i][1] for i in order))
    return Trajectory(stamps_s, tuple(pose for _, pose in rows))


def read_kitti_poses(path: Path) -> Trajectory:
    """Lines of 12 numbers, one a frame: world_from_cam [3, 4] by rows, of the left grey camera.

    Raises:
        DataError: where a line is not of this format, with file and line.

    Source: Geiger, Lenz and Urtasun, Are we ready for Autonomous Driving?, 2012, development kit of odometry.
    """
    poses = []
    for place, words in word_lines(path):
        matrix = finite_numbers(place, words, 12, "a pose [3, 4] by rows").reshape(3, 4)
        try:
            poses.append(Rigid3.from_matrix(matrix))
        except ValueError as error:
            raise DataError(f"{place}: {error}") from error
    if not poses:
        raise DataError(f"{path}: no pose in it")
    return Trajectory(np.arange(len(poses), dtype=np.float64), tuple(poses), is_timed=False)


def rotation_from_xyzw(quaternion: Float64Array) -> Float64Array:
    """The rotation [3, 3] of a unit quaternion [4], its real part last."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def associate(
    stamps_s: Float64Array, others_s: Float64Array, max_difference_s: float = MAX_DIFFERENCE_S
) -> list[tuple[int, int]]:
    """Which stamps belong together: each with its nearest, each other one at most once.

    Args:
        stamps_s: [N], in any order.
        others_s: [M], in any order.
        max_difference_s: largest difference.

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
    """The poses world_from_cam of two trajectories that belong together, in the order of time.

    Raises:
        DataError: where one has times and the other numbers of frames, frames are missing, or nothing belongs
            together.
    """
    if reference.is_timed != estimate.is_timed:
        raise DataError("one trajectory has times (TUM), the other has none (KITTI): they cannot be compared")
    if not reference.is_timed and len(reference) != len(estimate):
        raise DataError(
            f"the trajectories have no times, and {len(reference)} and {len(estimate)} poses: which belong together"
            " cannot be known"
        )
    pairs = associate(estimate.stamps_s, reference.stamps_s, max_difference_s)
    if not pairs:
        raise DataError(f"no poses of the two trajectories are within {max_difference_s:g} s of each other")
    return (
        [reference.world_from_cam[other] for _, other in pairs],
        [estimate.world_from_cam[index] for index, _ in pairs],
    )
