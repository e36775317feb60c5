"""Poses in batches: the same results as alone, and least squares as exact as SciPy's."""

import cv2
import numpy as np
import pytest
from scipy.optimize import least_squares

from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg, rotation_from_rotvec
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import normalize_matches
from sfm_lightglue.two_view.pose import inliers_of_pose, recover_pose, refine_pose
from sfm_lightglue.two_view.pose_batch import (
    LOSS_SCALE,
    PointPairs,
    Poses,
    fit_poses,
    in_front,
    inlier_masks,
    pose_qualities,
    poses_from_essentials,
    squared_errors,
)
from sfm_lightglue.two_view.residuals import EpipolarResiduals
from tests.helpers.point_views import POSE, make_views

pytestmark = pytest.mark.usefixtures("each_implementation")

TRUTH = Rigid3(POSE.R, POSE.t / np.linalg.norm(POSE.t))


def data_of(seed=0, noise_px=0.7, outlier_ratio=0.3):
    views = make_views(noise_px=noise_px, outlier_ratio=outlier_ratio, seed=seed)
    return normalize_matches(views.pair, TwoViewConfig())[0], views.is_true


def disturbed(generator, angle=0.02):
    """A pose near the true one."""
    t = TRUTH.t + generator.normal(scale=2 * angle, size=3)
    return Rigid3(rotation_from_rotvec(generator.normal(scale=angle, size=3)) @ TRUTH.R, t / np.linalg.norm(t))


def cost_of(data, pose):
    squared = squared_sampson_errors(essential_from_pose(pose), data.points0, data.points1)
    return float(2 * (np.sqrt(1 + squared / (LOSS_SCALE * data.max_error) ** 2) - 1).sum())


def test_errors_are_those_of_the_geometry_package():
    data, _ = data_of()
    generator = np.random.default_rng(0)
    poses = [disturbed(generator) for _ in range(3)]
    squared = squared_errors(PointPairs.of(data), Poses.of(*poses).essentials)
    for row, pose in zip(squared, poses, strict=True):
        np.testing.assert_allclose(row, squared_sampson_errors(essential_from_pose(pose), data.points0, data.points1))


def test_a_batch_gives_what_each_pose_gives_alone():
    data, _ = data_of()
    points, generator = PointPairs.of(data), np.random.default_rng(1)
    poses = [disturbed(generator) for _ in range(4)]
    masks = inlier_masks(points, Poses.of(*poses))
    together = fit_poses(points, Poses.of(*poses), masks, num_steps=3)
    for i, pose in enumerate(poses):
        alone = fit_poses(points, Poses.of(pose), masks[i : i + 1], num_steps=3)
        np.testing.assert_allclose(together.R[i], alone.R[0], atol=1e-9)
        np.testing.assert_allclose(together.t[i], alone.t[0], atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_a_fit_is_at_least_as_good_as_that_of_scipy(seed):
    data, is_true = data_of(seed)
    data = data.rows(is_true)
    start = disturbed(np.random.default_rng(seed))
    model = EpipolarResiduals(data, start)
    solution = least_squares(
        lambda step: model.at(step).ravel() / model.limit, np.zeros(5), loss="soft_l1", f_scale=LOSS_SCALE
    )
    reference = model.pose_after(solution.x)
    everything = np.ones((1, len(data.points0)), np.bool_)
    found = fit_poses(PointPairs.of(data), Poses.of(start), everything, num_steps=20)[0]
    assert cost_of(data, found) <= cost_of(data, reference) * (1 + 1e-4)
    assert max(relative_pose_error_deg(found, reference)) < 0.05


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_fit_turns_rotation_and_direction(axis, sign):
    """Whatever the direction from which it starts, and however many steps it makes."""
    data, _ = data_of()
    start = Rigid3(TRUTH.R, sign * np.eye(3)[axis])
    masks = np.ones((1, len(data.points0)), np.bool_)
    found = fit_poses(PointPairs.of(data), Poses.of(start), masks, num_steps=30)[0]
    np.testing.assert_allclose(found.R @ found.R.T, np.eye(3), atol=1e-13)
    assert np.linalg.det(found.R) == pytest.approx(1)
    assert np.linalg.norm(found.t) == pytest.approx(1, abs=1e-13)
    assert cost_of(data, found) < cost_of(data, start)


def test_a_fit_never_increases_the_cost():
    data, _ = data_of(noise_px=2.0)
    points, generator = PointPairs.of(data), np.random.default_rng(2)
    poses = [disturbed(generator, 0.3) for _ in range(8)]
    everything = np.ones((8, len(data.points0)), np.bool_)
    fitted = fit_poses(points, Poses.of(*poses), everything, num_steps=2)
    for i, pose in enumerate(poses):
        assert cost_of(data, fitted[i]) <= cost_of(data, pose)


def test_a_truncated_fit_ignores_large_errors():
    data, is_true = data_of(noise_px=0.3, outlier_ratio=0.4)
    points = PointPairs.of(data)
    everything = np.ones((1, len(is_true)), np.bool_)
    start = Poses.of(disturbed(np.random.default_rng(0), 0.002))
    truncated = fit_poses(points, start, everything, max_residual=1.0)[0]
    assert max(relative_pose_error_deg(truncated, TRUTH)) < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_poses_of_essential_matrices_agree_with_opencv(seed):
    data, is_true = data_of(seed)
    E = essential_from_pose(TRUTH)
    masks = np.stack([is_true, is_true])
    poses, num_in_front = poses_from_essentials(PointPairs.of(data), np.stack([E, -3 * E]), masks)
    _, R, t, _ = cv2.recoverPose(E, data.points0[is_true], data.points1[is_true], np.eye(3))
    for i in range(2):
        np.testing.assert_allclose(poses.R[i], R, atol=1e-9)
        np.testing.assert_allclose(poses.t[i], t[:, 0], atol=1e-9)
        assert num_in_front[i] > 0.98 * is_true.sum()


def test_points_behind_a_camera_are_not_in_front():
    data, is_true = data_of(noise_px=0.0, outlier_ratio=0.0)
    front = in_front(PointPairs.of(data), Poses.of(TRUTH, Rigid3(TRUTH.R, -TRUTH.t)))
    assert front[0].all()
    assert not front[1].any()
    assert recover_pose(data, essential_from_pose(TRUTH), np.zeros_like(is_true)) is None


def test_the_true_pose_has_the_highest_quality():
    data, is_true = data_of(noise_px=0.3)
    generator = np.random.default_rng(3)
    poses = Poses.of(disturbed(generator), TRUTH, disturbed(generator))
    qualities = pose_qualities(PointPairs.of(data), poses, np.where(is_true, 0.9, 0.2).astype(np.float32))
    assert qualities.argmax() == 1
    assert 0 < qualities[1] <= 0.9 * is_true.sum() + 0.2 * (~is_true).sum()


def test_a_refined_pose_keeps_the_inliers():
    data, is_true = data_of(outlier_ratio=0.5)
    start = disturbed(np.random.default_rng(4), 0.003)
    refined = refine_pose(data, start)
    assert inliers_of_pose(data, refined).sum() >= inliers_of_pose(data, start).sum()
    assert inliers_of_pose(data, refined)[is_true].mean() > 0.95
    few = data.rows(np.arange(len(is_true)) < 6)
    assert np.array_equal(refine_pose(few, start).R, start.R)
