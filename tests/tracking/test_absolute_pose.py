"""Poses from points: exact data, outliers, guesses, distortion, and too few points."""

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg, rotation_angle_deg
from sfm_lightglue.tracking.absolute_pose import absolute_pose
from sfm_lightglue.tracking.projection import project
from sfm_lightglue.types import Camera

CAMERA = Camera("OPENCV", 640, 480, (520.0, 515.0, 322.0, 238.0, -0.2, 0.05, 0.001, -0.001))
POSE = Rigid3.from_rotvec([0.1, -0.3, 0.05], [0.4, -0.2, 0.7])


def observations(num=200, noise_px=0.0, seed=0):
    """Points before the camera and their pixels."""
    random = np.random.default_rng(seed)
    in_cam = random.uniform([-2, -1.5, 4], [2, 1.5, 8], (num, 3))
    xyz = POSE.inverse() @ in_cam
    pixels, _ = project(CAMERA, POSE, xyz)
    return pixels + random.normal(0, noise_px, pixels.shape), xyz


@pytest.mark.parametrize("guess", [None, Rigid3.from_rotvec([0.13, -0.28, 0.05], [0.5, -0.2, 0.6])])
def test_the_true_pose_is_found_despite_outliers(guess):
    pixels, xyz = observations()
    pixels[:70] += np.random.default_rng(1).uniform(20, 60, (70, 2))
    found = absolute_pose(pixels, xyz, CAMERA, 0, 3.0, guess)
    assert found is not None
    assert np.linalg.norm(found.cam_from_world.center - POSE.center) < 1e-5
    assert rotation_angle_deg(found.cam_from_world.R @ POSE.R.T) < 1e-4
    assert not found.inlier_mask[:70].any()
    assert found.inlier_mask[70:].all()


def test_a_wrong_guess_is_replaced_by_a_search():
    pixels, xyz = observations(noise_px=0.5)
    found = absolute_pose(pixels, xyz, CAMERA, 0, 3.0, Rigid3.from_rotvec([2.0, 1.0, 0.0], [5.0, 0.0, 3.0]))
    assert found is not None
    assert max(relative_pose_error_deg(found.cam_from_world, POSE)) < 0.5


def test_the_same_seed_gives_the_same_pose():
    pixels, xyz = observations(noise_px=1.0)
    pixels[::3] += 40
    first, second = (absolute_pose(pixels, xyz, CAMERA, 7, 3.0) for _ in range(2))
    assert first is not None and second is not None
    assert np.array_equal(first.cam_from_world.as_matrix(), second.cam_from_world.as_matrix())


def test_random_points_and_few_points_have_no_pose():
    pixels, xyz = observations(5)
    assert absolute_pose(pixels, xyz, CAMERA, 0, 3.0) is None
    random = np.random.default_rng(2)
    wrong = absolute_pose(random.uniform(0, 480, (60, 2)), random.normal(size=(60, 3)), CAMERA, 0, 1.0)
    assert wrong is None or wrong.num_inliers < 12
