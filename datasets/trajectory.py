"""Read trajectories in TUM's and KITTI's formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.text import finite_numbers, word_lines
from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.types import Trajectory


def read_trajectory(path: Path) -> Trajectory:
    """Read a file in TUM's or KITTI's format, detected by the number of words in its first line.

    Raises:
        DataError: if the format is neither, or the file is damaged, with file and line.
    """
    location, words = next(iter(word_lines(path)), (str(path), []))
    if len(words) == 8:
        return read_tum_trajectory(path)
    if len(words) == 12:
        return read_kitti_poses(path)
    raise DataError(
        f"{location}: expected a trajectory of 8 (TUM) or 12 (KITTI) numbers a line, got {len(words)} words"
    )


def read_tum_trajectory(path: Path) -> Trajectory:
    """Read lines of `timestamp tx ty tz qx qy qz qw`, the pose world_from_cam of a camera with y down and z forward.

    Raises:
        DataError: if a line does not have this format, with file and line.

    Source: Sturm et al., A Benchmark for the Evaluation of RGB-D SLAM Systems, 2012, file formats.
    """
    rows = []
    for location, words in word_lines(path):
        values = finite_numbers(location, words, 8, "timestamp tx ty tz qx qy qz qw")
        norm = np.linalg.norm(values[4:])
        # With four decimals in the file, the norm differs from 1.
        if not 0.9 < norm < 1.1:
            raise DataError(f"{location}: the quaternion has length {norm:.3g}, expected 1")
        rows.append((values[0], Rigid3(rotation_from_xyzw(values[4:] / norm), values[1:4])))
    if not rows:
        raise DataError(f"{path}: contains no pose")
    stamps_s = np.array([stamp for stamp, _ in rows])
    if (np.diff(stamps_s) < 0).any():
        order = np.argsort(stamps_s, kind="stable")
        return Trajectory(stamps_s[order], tuple(rows[i][1] for i in order))
    return Trajectory(stamps_s, tuple(pose for _, pose in rows))


def read_kitti_poses(path: Path) -> Trajectory:
    """Read a line of 12 numbers per frame: world_from_cam [3, 4] by rows, of the left grey camera.

    Raises:
        DataError: if a line does not have this format, with file and line.

    Source: Geiger, Lenz and Urtasun, Are we ready for Autonomous Driving?, 2012, development kit of odometry.
    """
    poses = []
    for location, words in word_lines(path):
        matrix = finite_numbers(location, words, 12, "a pose [3, 4] by rows").reshape(3, 4)
        try:
            poses.append(Rigid3.from_matrix(matrix))
        except ValueError as error:
            raise DataError(f"{location}: {error}") from error
    if not poses:
        raise DataError(f"{path}: contains no pose")
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
