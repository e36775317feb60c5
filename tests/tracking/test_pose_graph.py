"""The pose graph: exact edges are met exactly, scale drift is distributed, wrong loops do not pull."""

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Sim3, rotation_angle_deg, rotation_from_rotvec, umeyama
from sfm_lightglue.tracking.pose_graph import PoseGraphEdge, optimize_pose_graph


def ring(num, radius=10.0):
    """True `cam_from_world` of cameras on a circle that look along it, and away from the plane now and then."""
    poses = []
    for angle in 2 * np.pi * np.arange(num) / num:
        R = rotation_from_rotvec(np.array([0.05 * np.sin(3 * angle), angle, 0.0])).T
        center = radius * np.array([np.sin(angle), 0.05 * np.sin(2 * angle), np.cos(angle)])
        poses.append(Sim3(1.0, R, -R @ center))
    return poses


def edge(poses, idx0, idx1, **options):
    return PoseGraphEdge(idx0, idx1, poses[idx1] @ poses[idx0].inverse(), **options)


def drifted(num, scale_per_step=1.0, noise=0.0, seed=0):
    """Poses that follow from edges of a ring whose scale grows, and the edges."""
    random = np.random.default_rng(seed)
    truth = ring(num)
    poses, edges = [truth[0]], []
    for idx in range(1, num):
        step = truth[idx] @ truth[idx - 1].inverse()
        turn = rotation_from_rotvec(noise * random.normal(size=3)) @ step.R
        measured = Sim3(1.0, turn, step.t * scale_per_step**idx + noise * random.normal(size=3))
        edges.append(PoseGraphEdge(idx - 1, idx, measured))
        poses.append(measured @ poses[-1])
    return truth, dict(enumerate(poses)), edges


def centers(poses):
    return np.stack([poses[idx].inverse().t for idx in range(len(poses))])


def closing(truth, idx0, idx1, scale):
    """The true edge of a loop, where the second camera has a unit that is smaller by `scale`."""
    found = truth[idx1] @ truth[idx0].inverse()
    return PoseGraphEdge(idx0, idx1, Sim3(scale, np.eye(3), np.zeros(3)) @ found, weight=100, is_doubtful=True)


def rms_error(poses, truth):
    found, right = centers(poses), np.stack([pose.inverse().t for pose in truth])
    aligned = umeyama(found, right) @ found
    return float(np.sqrt(((aligned - right) ** 2).sum(axis=1).mean()))


def test_exact_edges_are_met_from_a_disturbed_start():
    truth = ring(12)
    edges = [edge(truth, idx, (idx + step) % 12) for idx in range(12) for step in (1, 2)]
    random = np.random.default_rng(0)
    start = {0: truth[0]}
    for idx in range(1, 12):
        turn = rotation_from_rotvec(0.2 * random.normal(size=3))
        start[idx] = Sim3(float(np.exp(0.2 * random.normal())), turn, random.normal(size=3)) @ truth[idx]
    found = optimize_pose_graph(start, edges, fixed_idx=0)
    for idx, pose in enumerate(truth):
        assert found[idx].scale == pytest.approx(1, abs=1e-6)
        assert rotation_angle_deg(found[idx].R @ pose.R.T) < 1e-5
        np.testing.assert_allclose(found[idx].t, pose.t, atol=1e-5)


def test_a_ring_with_scale_drift_closes_to_the_truth():
    growth = 1.01
    truth, start, edges = drifted(60, growth)
    loop = closing(truth, 0, 59, growth**59)
    found = optimize_pose_graph(start, [*edges, loop], fixed_idx=0)
    assert rms_error(start, truth) > 1.0
    assert rms_error(found, truth) < 0.1 * rms_error(start, truth)
    assert found[59].scale / found[0].scale == pytest.approx(growth**59, rel=0.01)
    np.testing.assert_array_equal(found[0].t, start[0].t)


def test_noise_of_the_edges_is_distributed():
    truth, start, edges = drifted(100, noise=0.004, seed=3)
    found = optimize_pose_graph(start, [*edges, closing(truth, 0, 99, 1.0)], fixed_idx=0)
    assert rms_error(found, truth) < 0.7 * rms_error(start, truth)


def test_wrong_loops_do_not_pull():
    truth, start, edges = drifted(60, 1.005)
    loops = [closing(truth, idx, 55 + idx, 1.005**55) for idx in range(5)]
    wrong = [
        PoseGraphEdge(10, 40, truth[40] @ truth[30].inverse(), weight=100, is_doubtful=True),
        PoseGraphEdge(5, 33, Sim3(2.0, np.eye(3), np.ones(3)), weight=100, is_doubtful=True),
    ]
    right = optimize_pose_graph(start, [*edges, *loops], fixed_idx=0)
    found = optimize_pose_graph(start, [*edges, *loops, *wrong], fixed_idx=0)
    assert np.abs(centers(found) - centers(right)).max() < 0.1
    assert rms_error(found, truth) < 0.2 * rms_error(start, truth)


def test_keyframes_without_edges_to_the_fixed_one_stay():
    truth = ring(6)
    start = {idx: Sim3(1.0, pose.R, pose.t + 0.1 * idx) for idx, pose in enumerate(truth)}
    found = optimize_pose_graph(start, [edge(truth, 0, 1), edge(truth, 3, 4)], fixed_idx=0)
    np.testing.assert_allclose((found[1] @ found[0].inverse()).t, (truth[1] @ truth[0].inverse()).t, atol=1e-8)
    for idx in (0, 2, 3, 4, 5):
        assert found[idx] is start[idx]
    assert optimize_pose_graph(start, [], fixed_idx=0) == start


def test_a_second_run_gives_the_same_bytes():
    truth, start, edges = drifted(40, 1.01, noise=0.002)
    runs = [optimize_pose_graph(start, [*edges, closing(truth, 0, 39, 1.0)], 0) for _ in range(2)]
    assert centers(runs[0]).tobytes() == centers(runs[1]).tobytes()
