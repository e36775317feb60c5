"""The pose from matches with points: known poses recovered, its covariance, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Rigid3, rotation_angle_deg
from sfm_lightglue.localization.config import PoseLimits
from sfm_lightglue.localization.judgement import judged_pose
from sfm_lightglue.localization.matching import PointMatches
from sfm_lightglue.localization.pose import estimate_pose, pose_covariance, position_covariance
from sfm_lightglue.scene.cameras import as_pycolmap, default_camera, make_camera

SIZE = (640, 480)
GIVEN = make_camera("SIMPLE_RADIAL", SIZE, (520, 320, 240, -0.03))
TRUTH = Rigid3.from_rotvec([0.1, -0.3, 0.05], [0.4, -0.2, 0.7])


def seen_points(num, noise_px=0.5, seed=0, pose=TRUTH, spread=1.0):
    """Pixels in the image, and points in front of it."""
    rng = np.random.default_rng(seed)
    pixels = SIZE * (0.5 + spread * (rng.uniform(0.05, 0.95, (num, 2)) - 0.5))
    rays = np.column_stack([as_pycolmap(GIVEN).cam_from_img(pixels), np.ones(num)])
    return pixels + rng.normal(0, noise_px, (num, 2)), pose.inverse() @ (rays * rng.uniform(3, 8, (num, 1)))


def matches_of(pixels, xyz, rows=None):
    rows = np.arange(len(pixels)) if rows is None else rows
    pairs = np.stack([rows, np.arange(len(xyz))], axis=1)
    keypoints = np.zeros((rows.max() + 1, 2), np.float32)
    keypoints[rows] = pixels.astype(np.float32)
    features = Features(keypoints, np.ones(len(keypoints), np.float32), np.zeros((len(keypoints), 4), np.float32), SIZE)
    return PointMatches(pairs[:, 0], pairs[:, 1], xyz, {"map.jpg": pairs}), features


@pytest.mark.parametrize("source", ["given", "exif", "guessed"])
def test_a_pose_is_recovered_among_wrong_matches(source):
    pixels, xyz = seen_points(150)
    pixels[:60] = np.random.default_rng(1).uniform((0, 0), SIZE, (60, 2))
    camera = GIVEN
    if source != "given":
        camera = default_camera("SIMPLE_RADIAL", SIZE, 530.0 if source == "exif" else None)
    found = estimate_pose(pixels, xyz, camera, 4.0, 0)
    assert 85 <= found.inlier_mask.sum() <= 95
    assert rotation_angle_deg(found.cam_from_world.R @ TRUTH.R.T) < 0.4
    assert np.linalg.norm(found.cam_from_world.center - TRUTH.center) < (0.02 if source == "given" else 0.12)
    assert (found.camera.params == GIVEN.params) == (source == "given")
    assert found.camera.source == {"guessed": "estimated"}.get(source, source)
    if source != "given":
        assert found.camera.params[0] == pytest.approx(520, rel=0.02)


def test_the_covariance_is_that_of_repeated_estimates():
    differences, predicted = [], []
    for seed in range(60):
        pixels, xyz = seen_points(60, seed=0, noise_px=0)
        pixels = pixels + np.random.default_rng(seed).normal(0, 0.8, pixels.shape)
        found = estimate_pose(pixels, xyz, GIVEN, 12.0, 0)
        differences.append(found.cam_from_world.center - TRUTH.center)
        predicted.append(np.trace(position_covariance(found.cam_from_world, found.covariance)))
    measured = np.mean(np.sum(np.square(differences), axis=1))
    assert measured == pytest.approx(np.mean(predicted), rel=0.4)


def test_the_covariance_knows_errors_that_neighbours_have_in_common():
    """Independent residuals of so many keypoints would predict a sixth of the variance."""
    pixels, xyz = seen_points(800, seed=0, noise_px=0)
    cell = np.floor(pixels / SIZE * 8).astype(int) @ (1, 8)
    differences, predicted = [], []
    for seed in range(40):
        moved = pixels + np.random.default_rng(seed).normal(0, 0.8, (64, 2))[cell]
        found = estimate_pose(moved, xyz, GIVEN, 12.0, 0)
        differences.append(found.cam_from_world.center - TRUTH.center)
        predicted.append(np.trace(position_covariance(found.cam_from_world, found.covariance)))
    measured = np.mean(np.sum(np.square(differences), axis=1))
    assert measured == pytest.approx(np.mean(predicted), rel=0.5)


def test_the_covariance_moves_the_pose_as_it_says():
    """A rotation about the camera moves its centre unless the translation turns too."""
    turn = Rigid3.from_rotvec([1e-4, -2e-4, 3e-4], [4e-4, 5e-4, -6e-4])
    step = np.array([1e-4, -2e-4, 3e-4, 4e-4, 5e-4, -6e-4])
    moved = Rigid3(turn.R @ TRUTH.R, TRUTH.t + turn.t)
    deviation = moved.center - TRUTH.center
    assert np.allclose(position_covariance(TRUTH, np.outer(step, step)), np.outer(deviation, deviation), atol=1e-9)


def test_points_on_a_ray_determine_no_pose():
    xyz = TRUTH.inverse() @ (np.array([[0.1, 0.1, 1.0]]) * np.linspace(2, 5, 12)[:, None])
    pixels = np.asarray(as_pycolmap(GIVEN).img_from_cam(TRUTH @ xyz))
    assert pose_covariance(TRUTH, as_pycolmap(GIVEN), pixels, xyz) is None


def test_a_good_pose_is_accepted():
    judged = judged_pose(*matches_of(*seen_points(120)), GIVEN, PoseLimits())
    assert judged.reason is None
    assert judged.num_inliers >= 118


def test_random_matches_are_refused():
    rng = np.random.default_rng(3)
    for num, reason in ((15, "too_few_matches"), (400, "too_few_inliers")):
        xyz = rng.uniform((-4, -4, 4), (4, 4, 12), (num, 3))
        judged = judged_pose(*matches_of(rng.uniform((0, 0), SIZE, (num, 2)), xyz), GIVEN, PoseLimits())
        assert judged.reason == reason


def test_few_good_matches_among_many_are_refused():
    pixels, xyz = seen_points(400)
    pixels[45:] = np.random.default_rng(1).uniform((0, 0), SIZE, (355, 2))
    judged = judged_pose(*matches_of(pixels, xyz), GIVEN, PoseLimits())
    assert judged.num_inliers >= 45
    assert judged.reason == "low_inlier_share"


def test_inliers_in_one_corner_are_refused():
    pixels, xyz = seen_points(100, noise_px=0.2, spread=0.16)
    assert judged_pose(*matches_of(pixels, xyz), GIVEN, PoseLimits(min_cells=9)).reason == "not_spread"
    assert judged_pose(*matches_of(pixels, xyz), GIVEN, PoseLimits(max_position_uncertainty=1e-4)).reason is not None


def test_a_loose_limit_of_the_position_is_a_reason():
    judged = judged_pose(*matches_of(*seen_points(60)), GIVEN, PoseLimits(max_position_uncertainty=1e-5))
    assert judged.reason == "uncertain"


@pytest.mark.parametrize(("distance", "reason"), [(30.0, "ambiguous"), (0.001, None)])
def test_two_places_that_look_alike_are_ambiguous(distance, reason):
    """Each keypoint matches a point of both places; places that are the same are no rivals."""
    pixels, xyz = seen_points(100, noise_px=0.3)
    both = np.concatenate([xyz, xyz[:90] + np.array([distance, 0, 0])])
    rows = np.concatenate([np.arange(100), np.arange(90)])
    judged = judged_pose(*matches_of(np.concatenate([pixels, pixels[:90]]), both, rows), GIVEN, PoseLimits())
    assert judged.reason == reason
    assert judged.num_inliers == 100 or reason is None
