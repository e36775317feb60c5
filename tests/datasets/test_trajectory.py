"""Trajectories: files, association by time, and errors of known size."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from datasets.trajectory import read_kitti_poses, read_trajectory, read_tum_trajectory
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.trajectory import associate, matching_poses
from sfm_lightglue.evaluation.trajectory_errors import rmse, trajectory_errors
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_from_rotvec
from sfm_lightglue.types import Trajectory


def some_poses(num_poses: int, seed: int = 0) -> list[Rigid3]:
    """A random walk of world_from_cam."""
    generator = np.random.default_rng(seed)
    poses = [Rigid3.identity()]
    for _ in range(num_poses - 1):
        poses.append(poses[-1] @ Rigid3.from_rotvec(0.1 * generator.normal(size=3), generator.normal(size=3)))
    return poses


def in_another_world(poses: list[Rigid3], new_from_old: Sim3) -> list[Rigid3]:
    return [Rigid3(new_from_old.R @ pose.R, new_from_old @ pose.t) for pose in poses]


def tum_text(poses: list[Rigid3], stamps: list[float]) -> str:
    rows = [
        [stamp, *pose.t, *Rotation.from_matrix(pose.R).as_quat()] for stamp, pose in zip(stamps, poses, strict=True)
    ]
    return "# timestamp tx ty tz qx qy qz qw\n" + "\n".join(" ".join(f"{value:.9f}" for value in row) for row in rows)


def kitti_text(poses: list[Rigid3]) -> str:
    return "\n".join(" ".join(repr(float(value)) for value in pose.as_matrix()[:3].ravel()) for pose in poses) + "\n"


def test_files_of_both_formats_are_detected_and_read(tmp_path: Path) -> None:
    poses = some_poses(4)
    (tmp_path / "tum.txt").write_text(tum_text(poses, [3.0, 1.0, 2.0, 4.0]))
    (tmp_path / "kitti.txt").write_text(kitti_text(poses))
    tum, kitti = read_trajectory(tmp_path / "tum.txt"), read_trajectory(tmp_path / "kitti.txt")
    assert (tum.is_timed, kitti.is_timed, len(tum), len(kitti)) == (True, False, 4, 4)
    np.testing.assert_array_equal(tum.stamps_s, [1, 2, 3, 4])
    for got, index in zip(tum.world_from_cam, (1, 2, 0, 3), strict=True):
        np.testing.assert_allclose(got.as_matrix(), poses[index].as_matrix(), atol=1e-8)
    for got, pose in zip(kitti.world_from_cam, poses, strict=True):
        np.testing.assert_array_equal(got.as_matrix(), pose.as_matrix())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing\n", "expected a trajectory of 8"),
        ("1 2 3\n", "t:1: expected a trajectory of 8"),
        ("1 0 0 0 0 0 0 1\n2 0 0 0 0 0 1\n", "t:2: expected 8 numbers"),
        ("1 0 0 0 0 0 0 1\n2 0 0 0 0 0 0 0\n", "t:2: the quaternion has length 0"),
        ("1 0 0 0 0 0 0 1\n2 0 0 x 0 0 0 1\n", "t:2: .*could not convert"),
        ("1 0 0 0 0 1 0 0 0 0 1 0\n2 0 0 0 0 1 0 0 0 0 1 0\n", "t:2: .*not a rotation"),
        ("1 0 0 0 0 1 0 0 0 0 1 inf\n", "t:1: .*finite"),
    ],
)
def test_damaged_files_are_errors_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(DataError, match=message):
        read_trajectory(tmp_path / "t")


@pytest.mark.parametrize("read", [read_tum_trajectory, read_kitti_poses])
def test_an_empty_file_is_an_error(tmp_path: Path, read: object) -> None:
    (tmp_path / "t").write_text("# only a comment\n")
    with pytest.raises(DataError, match="contains no pose"):
        read(tmp_path / "t")  # type: ignore[operator]


def test_each_stamp_is_associated_with_its_nearest_and_none_is_used_twice() -> None:
    stamps, others = np.array([0.0, 1.0, 1.004, 2.0, 9.0]), np.array([2.015, 1.003, 0.0, 5.0])
    assert associate(stamps, others) == [(0, 2), (2, 1), (3, 0)]
    assert associate(stamps, others, 0.0011) == [(0, 2), (2, 1)]
    assert associate(np.zeros(0), others) == [] == associate(stamps, np.zeros(0))


def test_trajectories_that_cannot_be_compared_are_errors() -> None:
    poses = some_poses(4)
    timed = Trajectory(np.arange(4.0), tuple(poses))
    untimed = Trajectory(np.arange(4.0), tuple(poses), is_timed=False)
    assert matching_poses(timed, timed) == (poses, poses)
    with pytest.raises(DataError, match="cannot be compared"):
        matching_poses(timed, untimed)
    with pytest.raises(DataError, match="4 and 3 poses"):
        matching_poses(untimed, Trajectory(np.arange(3.0), tuple(poses[:3]), is_timed=False))
    with pytest.raises(DataError, match=r"within 0\.02 s"):
        matching_poses(timed, Trajectory(np.arange(4.0) + 0.5, tuple(poses)))


@pytest.mark.parametrize("seed", range(3))
def test_a_copy_in_another_world_and_unit_has_no_error(seed: int) -> None:
    reference = some_poses(20, seed)
    similarity = Sim3(2.5, rotation_from_rotvec(np.array([0.4, -1.0, 0.2])), np.array([5.0, 6.0, 7.0]))
    errors = trajectory_errors(reference, in_another_world(reference, similarity), "sim3")
    assert errors.num_poses == 20 and len(errors.step_errors) == 19
    assert errors.position_errors.max() < 1e-9 and errors.step_errors.max() < 1e-9
    assert errors.step_errors_deg.max() < 1e-6
    assert errors.reference_from_estimate.scale == pytest.approx(1 / 2.5)


def test_a_rigid_alignment_keeps_the_scale_and_none_keeps_the_world() -> None:
    reference = some_poses(20)
    moved = in_another_world(reference, Sim3(1.0, rotation_from_rotvec(np.ones(3)), np.ones(3)))
    assert trajectory_errors(reference, moved, "se3").position_errors.max() < 1e-9
    assert rmse(trajectory_errors(reference, moved, "none").position_errors) > 0.5
    doubled = in_another_world(reference, Sim3(2.0, np.eye(3), np.zeros(3)))
    rigid = trajectory_errors(reference, doubled, "se3")
    assert rigid.reference_from_estimate.scale == 1
    # Every step is twice as long as the true one, so its error is the true length.
    lengths = [np.linalg.norm(b.t - a.t) for a, b in pairwise(reference)]
    np.testing.assert_allclose(rigid.step_errors, lengths)


def test_noise_of_known_size_is_found_in_both_errors() -> None:
    """Noise σ per coordinate gives position errors of √3 σ and step errors of √6 σ."""
    generator = np.random.default_rng(1)
    reference = some_poses(1000)
    noisy = [Rigid3(pose.R, pose.t + generator.normal(scale=0.01, size=3)) for pose in reference]
    errors = trajectory_errors(reference, noisy, "se3")
    assert rmse(errors.position_errors) == pytest.approx(0.01 * np.sqrt(3), rel=0.05)
    assert rmse(errors.step_errors) == pytest.approx(0.01 * np.sqrt(6), rel=0.05)
    assert errors.step_errors_deg.max() < 1e-6


def test_a_drift_in_heading_grows_with_the_step() -> None:
    """Each frame is rotated by another 0.2 degrees, which the relative errors show for every alignment."""
    reference = some_poses(50)
    turn = Rigid3.from_rotvec(np.radians([0, 0.2, 0]), np.zeros(3))
    drift = [reference[0]]
    for a, b in pairwise(reference):
        drift.append(drift[-1] @ a.inverse() @ b @ turn)
    one, five = (trajectory_errors(reference, drift, "sim3", step) for step in (1, 5))
    np.testing.assert_allclose(one.step_errors_deg, 0.2)
    # The rotation over five frames is small, so their errors nearly add up.
    assert np.median(five.step_errors_deg) == pytest.approx(1.0, rel=0.1)
    assert (len(one.step_errors), len(five.step_errors)) == (49, 45)


def test_frames_without_a_pose_interrupt_the_steps() -> None:
    reference = some_poses(10)
    estimate: list[Rigid3 | None] = list(reference)
    estimate[4] = None
    errors = trajectory_errors(reference, estimate, "sim3")
    assert errors.num_poses == 9 and len(errors.step_errors) == 7
    assert errors.as_dict()["num_steps"] == 7
    for few in ([None] * 8 + reference[:2], [None] * 10):
        with pytest.raises(DataError, match="an alignment needs 3"):
            trajectory_errors(reference, few)
    scattered: list[Rigid3 | None] = [pose if i % 3 == 0 else None for i, pose in enumerate(reference)]
    assert trajectory_errors(reference, scattered).as_dict()["rpe_rmse"] is None


def test_a_camera_that_never_moved_cannot_be_aligned() -> None:
    reference = some_poses(5)
    with pytest.raises(DataError, match="cannot be aligned"):
        trajectory_errors(reference, [Rigid3.identity()] * 5)
