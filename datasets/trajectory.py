"""Where a camera was at which time: TUM's and KITTI's files, and which poses of two trajectories belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.text import finite_numbers, word_lines
from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.types import Trajectory


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
