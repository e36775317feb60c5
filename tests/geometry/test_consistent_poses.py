"""The alignment of the largest consistent subset: wrong poses neither move it nor hide in it."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.geometry.alignment import align_consistent_poses, align_poses
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec

MAX_ERROR = 0.1


def true_poses(num: int, seed: int = 0, *, on_a_line: bool = False) -> dict[str, Rigid3]:
    rng = np.random.default_rng(seed)
    poses = {}
    for idx in range(num):
        R = rotation_from_rotvec(rng.normal(size=3))
        center = np.array([float(idx), 0, 0]) if on_a_line else rng.uniform(-3, 3, 3)
        poses[f"{idx:02d}.jpg"] = Rigid3(R, -R @ center)
    return poses


def moved(poses: dict[str, Rigid3], noise: float = 0.0) -> dict[str, Rigid3]:
    """The poses in another world: scaled, turned and shifted, with noise in the centres."""
    rng = np.random.default_rng(9)
    R_world, t_world, scale = rotation_from_rotvec(np.array([0.4, -1.0, 0.7])), np.array([5.0, 1.0, -3.0]), 0.2
    result = {}
    for name, pose in poses.items():
        center = scale * R_world @ (pose.center + noise * rng.normal(size=3)) + t_world
        R = pose.R @ R_world.T
        result[name] = Rigid3(R, -R @ center)
    return result


@pytest.mark.parametrize("on_a_line", [False, True])
def test_a_similarity_makes_all_poses_right(on_a_line: bool) -> None:
    truth = true_poses(8, on_a_line=on_a_line)
    found = align_consistent_poses(moved(truth), truth, MAX_ERROR)
    assert found.right == tuple(truth)
    assert found.wrong == ()
    assert max(found.center_errors.values()) < 1e-9
    assert max(found.rotation_errors_deg.values()) < 1e-6
    assert found.truth_from_estimate.scale == pytest.approx(5.0)


@pytest.mark.parametrize("on_a_line", [False, True])
def test_far_poses_do_not_move_the_alignment(on_a_line: bool) -> None:
    truth = true_poses(10, on_a_line=on_a_line)
    estimate = moved(truth, noise=0.01)
    for idx in (1, 4, 5, 8):  # four of ten, far off
        name = f"{idx:02d}.jpg"
        estimate[name] = Rigid3(estimate[name].R, estimate[name].t + np.array([3.0, -2.0, 1.0]))
    name = "02.jpg"
    turned = rotation_from_rotvec(np.radians([0, 8.0, 0])) @ estimate[name].R
    estimate[name] = Rigid3(turned, -turned @ estimate[name].center)
    found = align_consistent_poses(estimate, truth, MAX_ERROR)
    assert found.wrong == ("01.jpg", "02.jpg", "04.jpg", "05.jpg", "08.jpg")
    assert found.rotation_errors_deg[name] == pytest.approx(8.0, abs=1.5)
    assert max(found.center_errors[right] for right in found.right) < 0.05
    assert found.center_errors["01.jpg"] > 5


def test_centers_nearly_on_a_line_do_not_turn_right_poses() -> None:
    """Errors of 8 cm across the line of 2.5 m turn the least-squares alignment of the centres by 20 degrees."""
    rng, truth, estimate = np.random.default_rng(0), {}, {}
    for idx in range(6):
        R = rotation_from_rotvec(0.1 * rng.normal(size=3))
        center = np.array([0.5 * idx, 0.2 * (idx % 2), 0.0])
        truth[f"{idx:02d}.jpg"] = Rigid3(R, -R @ center)
        estimate[f"{idx:02d}.jpg"] = Rigid3(R, -R @ (center + np.array([0, 0, 0.08 * (idx % 2)])))
    by_centers = align_poses(estimate, truth)
    assert by_centers.max_rotation_error_deg > 10 and not by_centers.is_collinear
    found = align_consistent_poses(moved(estimate), truth, 0.2, 10.0)
    assert found.right == tuple(truth)
    assert max(found.rotation_errors_deg.values()) < 10


def test_of_two_consistent_parts_the_larger_one_counts() -> None:
    truth = true_poses(9)
    estimate = moved(truth)
    fold = rotation_from_rotvec(np.array([0, 0, np.pi]))
    for idx in range(5, 9):  # a consistent part that is folded over
        name = f"{idx:02d}.jpg"
        R = estimate[name].R @ fold.T
        estimate[name] = Rigid3(R, -R @ (fold @ estimate[name].center))
    found = align_consistent_poses(estimate, truth, MAX_ERROR)
    assert found.right == tuple(f"{idx:02d}.jpg" for idx in range(5))


def test_random_poses_are_all_wrong() -> None:
    found = align_consistent_poses(true_poses(6, seed=1), true_poses(6, seed=2), MAX_ERROR)
    assert found.right == ()
    assert len(found.wrong) == 6


def test_too_few_or_coinciding_poses_are_errors() -> None:
    truth = true_poses(4)
    with pytest.raises(ValueError, match="needs 3"):
        align_consistent_poses({name: truth[name] for name in list(truth)[:2]}, truth, MAX_ERROR)
    same = {name: Rigid3(np.eye(3), np.zeros(3)) for name in truth}
    with pytest.raises(ValueError, match="coincide"):
        align_consistent_poses(same, truth, MAX_ERROR)
