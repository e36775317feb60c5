"""Radii contain 95 % of the errors: statistics of many synthetic pairs, and laws of the radii."""

from functools import lru_cache

import numpy as np
import pytest

from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.scene.cameras import make_camera
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import Correspondences, normalize_matches
from sfm_lightglue.two_view.noise import robust_noise
from sfm_lightglue.two_view.pose import refine_pose
from sfm_lightglue.two_view.relative_pose import relative_pose_from_matches
from sfm_lightglue.two_view.residuals import RotationResiduals
from sfm_lightglue.two_view.uncertainty import FocalPrior, gaussian_radius, pose_uncertainty
from tests.helpers.point_views import POSE, SIZE, make_views, plane_points

CONDITIONS = {
    "usual": {},
    "little noise": {"noise_px": 0.15},
    "much noise": {"noise_px": 0.8},
    "few points": {"num_points": 40, "outlier_ratio": 0.1},
    "many points": {"num_points": 400},
    "many outliers": {"outlier_ratio": 0.45},
    "small parallax": {"baseline": 0.3},
    "wide angle": {"focals_px": (620, 620)},
    "two focal lengths": {"focals_px": (850, 1400)},
}
NUM_PAIRS = 16
"""Number of pairs of each condition."""


def views_of(seed, noise_px=0.5, num_points=150, outlier_ratio=0.25, baseline=1.0, focals_px=(1000, 1000), points=None):
    """A pair with a random rotation and a random direction of motion."""
    generator = np.random.default_rng(seed)
    direction = generator.normal(size=3) * [1, 1, 0.5]
    rotvec = np.array([0.05, -0.2, 0.03]) * generator.uniform(0.5, 1.5)
    pose = Rigid3.from_rotvec(rotvec, baseline * direction / np.linalg.norm(direction))
    cameras = tuple(make_camera("SIMPLE_PINHOLE", SIZE, (focal, 600, 450)) for focal in focals_px)
    return make_views(pose, num_points, noise_px, outlier_ratio, cameras, seed, points)


def errors_over_radii(views, seed):
    """Errors of rotation and direction as multiples of their radii; if there are two poses, of the nearer one."""
    found = relative_pose_from_matches(*views.features, views.matches, *views.cameras, seed=seed)
    assert found.uncertainty is not None, found
    ratios = []
    for pose in (found.cam1_from_cam0, found.alternative_pose):
        if pose is not None:
            rotation_deg, direction_deg = relative_pose_error_deg(pose, views.pose)
            of_direction = found.uncertainty.direction_deg
            second = 0.0 if of_direction is None else direction_deg / of_direction
            ratios.append((rotation_deg / found.uncertainty.rotation_deg, second))
    return min(ratios, key=max)


@lru_cache(maxsize=1)
def all_ratios():
    """[conditions, pairs, 2]: `errors_over_radii` of all pairs, computed once for the tests below."""
    return np.array(
        [
            [errors_over_radii(views_of(seed, **options), seed) for seed in range(1000 * i, 1000 * i + NUM_PAIRS)]
            for i, options in enumerate(CONDITIONS.values())
        ]
    )


@pytest.mark.parametrize("which", [0, 1], ids=["rotation", "direction"])
def test_95_percent_of_the_errors_lie_within_the_radius(which):
    """Radii twice as large would give a fraction above 0.99, radii half as large one far below 0.9."""
    ratios = all_ratios()[..., which].ravel()
    assert 0.9 <= (ratios <= 1).mean() <= 0.99
    assert (ratios <= 2).mean() > 0.99
    assert (ratios <= 0.5).mean() < 0.8


@pytest.mark.parametrize("which", [0, 1], ids=["rotation", "direction"])
def test_the_radius_follows_the_condition(which):
    """Each condition is tested alone, so that too large and too small radii do not compensate each other.

    Normal errors in two or three dimensions have their median at about half of the radius that contains 95 %. The
    median of this few pairs varies.
    """
    medians = np.median(all_ratios()[..., which], axis=1)
    assert (medians > 0.2).all(), dict(zip(CONDITIONS, medians, strict=True))
    assert (medians < 0.85).all(), dict(zip(CONDITIONS, medians, strict=True))


def test_a_pure_rotation_has_a_radius_and_no_direction():
    ratios, directions = [], []
    for seed in range(40):
        views = views_of(seed, baseline=0.0)
        found = relative_pose_from_matches(*views.features, views.matches, *views.cameras, seed=seed)
        assert found.verdict == "pure_rotation"
        directions.append(found.uncertainty.direction_deg)
        error_deg = relative_pose_error_deg(found.cam1_from_cam0, views.pose)[0]
        ratios.append(error_deg / found.uncertainty.rotation_deg)
    assert directions == [None] * 40
    assert 0.85 <= np.mean(np.array(ratios) <= 1) <= 1
    assert 0.3 < np.median(ratios) < 0.75


def test_one_of_the_two_poses_of_a_plane_is_within_its_radius():
    ratios = np.array([errors_over_radii(views_of(seed, points=plane_points(seed=seed)), seed) for seed in range(25)])
    assert (ratios <= 1).all(axis=1).mean() > 0.75
    assert (ratios <= 2).all(axis=1).mean() > 0.9


def test_the_alternative_pose_of_a_plane_is_returned():
    """The alternative pose fits the same matches and differs from the first pose."""
    num_alternatives = 0
    for seed in range(8):
        views = views_of(seed, points=plane_points(seed=seed), outlier_ratio=0.0)
        found = relative_pose_from_matches(*views.features, views.matches, *views.cameras, seed=seed)
        if found.alternative_pose is None:
            continue
        num_alternatives += 1
        both = found.cam1_from_cam0, found.alternative_pose
        poses = sorted(both, key=lambda pose: relative_pose_error_deg(pose, views.pose))
        assert relative_pose_error_deg(poses[0], views.pose)[0] < 1
        assert relative_pose_error_deg(poses[1], poses[0])[1] > 1
    assert num_alternatives >= 1


def inliers_of(noise_px=0.5, num_points=300, pose=POSE, seed=0):
    views = make_views(pose, num_points, noise_px, 0.0, seed=seed)
    data, _ = normalize_matches(views.pair, TwoViewConfig())
    return data


def refined(data):
    pose = refine_pose(data, Rigid3(POSE.R, POSE.t / np.linalg.norm(POSE.t)))
    return pose_uncertainty(data, pose), pose


def test_radii_are_proportional_to_the_noise():
    one, _ = refined(inliers_of(noise_px=0.1))
    two, _ = refined(inliers_of(noise_px=0.4))
    for name in ("rotation_deg", "direction_deg", "noise_px"):
        assert getattr(two, name) / getattr(one, name) == pytest.approx(4, rel=0.2)


def test_radii_shrink_with_the_root_of_the_number_of_points():
    few, _ = refined(inliers_of(num_points=150))
    many, _ = refined(inliers_of(num_points=1350))
    assert few.rotation_deg / many.rotation_deg == pytest.approx(3, rel=0.3)
    assert few.direction_deg / many.direction_deg == pytest.approx(3, rel=0.3)


@pytest.mark.parametrize("noise_px", [0.1, 0.5, 1.0])
def test_the_noise_is_that_of_the_keypoints(noise_px):
    """1.0 is half of the error limit: the tail is cut off, and the estimate of the noise is still correct."""
    views = make_views(noise_px=noise_px, num_points=800, outlier_ratio=0.2)
    found = relative_pose_from_matches(*views.features, views.matches, *views.cameras)
    assert found.uncertainty.noise_px == pytest.approx(noise_px, rel=0.12)


def test_an_inexact_focal_length_makes_the_pose_inexact():
    data = inliers_of()
    exact, pose = refined(data)
    sure = pose_uncertainty(data, pose, focals=[FocalPrior((0, 1), 0.0)])
    rough = pose_uncertainty(data, pose, focals=[FocalPrior((0, 1), 0.05)])
    rougher = pose_uncertainty(data, pose, focals=[FocalPrior((0, 1), 0.1)])
    assert sure == exact
    assert exact.rotation_deg < rough.rotation_deg < rougher.rotation_deg
    assert rougher.rotation_deg / rough.rotation_deg == pytest.approx(2, rel=0.2)


def test_a_wrong_focal_length_moves_the_pose_as_predicted():
    """If both focal lengths are 5 % too long, the error of the pose is that of a standard deviation of 5 %."""
    data = inliers_of(noise_px=0.05)
    wrong = Correspondences(data.points0 / 1.05, data.points1 / 1.05, data.focal_px, data.max_error_px)
    uncertainty, pose = refined(wrong)
    predicted = pose_uncertainty(wrong, pose, focals=[FocalPrior((0, 1), 0.05)])
    moved_deg = relative_pose_error_deg(pose, POSE)[0]
    assert moved_deg > 3 * uncertainty.rotation_deg  # more than the noise alone
    assert 0.5 * predicted.rotation_deg / 1.96 < moved_deg < 2 * predicted.rotation_deg / 1.96


@pytest.mark.parametrize("turn_deg", [3, 4])
def test_an_outlier_that_moves_the_pose_enlarges_the_radius(turn_deg):
    """One outlier, at a depth without other points, moves the direction until its own residual is small."""
    truth = Rigid3(POSE.R, POSE.t / np.linalg.norm(POSE.t))
    turned = Rigid3(truth.R, Rigid3.from_rotvec(np.radians([0, 0, turn_deg]), np.zeros(3)) @ truth.t)
    data = inliers_of(noise_px=0.2, num_points=60, pose=Rigid3(POSE.R, POSE.t / 8))
    clean = pose_uncertainty(data, refine_pose(data, truth))
    near = np.array([-0.3, 0.2, 1.0])
    seen = turned.R @ near + 0.6 * turned.t
    both = Correspondences(
        np.vstack([data.points0, near[:2]]),
        np.vstack([data.points1, seen[:2] / seen[2]]),
        data.focal_px,
        data.max_error_px,
    )
    pose = refine_pose(both, turned)
    errors = np.sqrt(squared_sampson_errors(essential_from_pose(pose), both.points0, both.points1))
    assert errors[-1] < 0.1 * both.max_error  # the outlier has a small residual
    stated = pose_uncertainty(both.rows(errors < both.max_error), pose)
    error_deg = relative_pose_error_deg(pose, truth)[1]
    assert error_deg > 1.3 * clean.direction_deg
    assert error_deg < 1.2 * stated.direction_deg


@pytest.mark.parametrize("variances", [(1, 1), (4, 0.01), (1, 0), (1, 1, 1), (9, 1, 0.01)])
def test_gaussian_radius_contains_its_fraction(variances):
    generator = np.random.default_rng(0)
    turn = np.linalg.qr(generator.normal(size=(len(variances),) * 2))[0]
    covariance = turn @ np.diag(variances) @ turn.T
    samples = generator.normal(size=(40_000, len(variances))) * np.sqrt(variances)
    radius = gaussian_radius(covariance)
    assert (np.linalg.norm(samples, axis=1) <= radius).mean() == pytest.approx(0.95, abs=0.006)
    assert gaussian_radius(4 * covariance) == pytest.approx(2 * radius)
    assert gaussian_radius(0 * covariance) == 0


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("limit", [np.inf, 3.0, 2.0])
def test_robust_noise_corrects_for_the_limit(dimensions, limit):
    values = np.random.default_rng(1).normal(size=(20_000, dimensions))
    values = values[np.linalg.norm(values, axis=1) <= limit]
    assert robust_noise(values, limit)[0] == pytest.approx(1, rel=0.05)
    values[:1000] = limit if np.isfinite(limit) else 50
    assert robust_noise(values, limit)[0] < 1.3


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("limit", [np.inf, 3.0])
def test_noise_has_a_floor_if_most_residuals_are_zero(dimensions, limit):
    zeros = np.zeros((100, dimensions))
    assert robust_noise(zeros, limit, 1e-3) == (1e-3, pytest.approx(1))
    assert 0 < robust_noise(zeros, limit)[0] < 1e-9
    few = zeros.copy()
    few[:30, 0] = 0.5  # outliers compared with the others
    assert robust_noise(few, limit, 1e-3) == (1e-3, pytest.approx(1))
    noisy = np.random.default_rng(0).normal(size=(1000, dimensions))
    noisy = noisy[np.linalg.norm(noisy, axis=1) <= limit]
    assert robust_noise(noisy, limit, 1e-3) == robust_noise(noisy, limit)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_noise_of_residuals_far_beyond_the_limit_is_that_of_the_limit(dimensions):
    """Residuals of a failed fit."""
    values = 1e9 * np.random.default_rng(0).normal(size=(100, dimensions))
    assert robust_noise(values, 3.0)[0] == pytest.approx(2)


def test_rotation_residuals_vanish_for_a_pure_rotation():
    rotation = Rigid3(POSE.R, np.zeros(3))
    data = inliers_of(noise_px=0.0, pose=rotation)
    assert np.abs(RotationResiduals(data, rotation).values).max() * 1000 < 0.01
    scaled = Correspondences(data.points0 / 1.3, data.points1 / 1.3, data.focal_px, data.max_error_px)
    logs = (-np.log(1.3), -np.log(1.3))
    assert np.abs(RotationResiduals(scaled, rotation, (logs[0], logs[1])).values).max() * 1000 < 0.01


def test_without_parallax_the_direction_is_uncertain():
    data = inliers_of(noise_px=0.5, pose=Rigid3(POSE.R, np.zeros(3)), num_points=200)
    found = pose_uncertainty(data, Rigid3(POSE.R, np.array([1.0, 0, 0])))
    assert found.direction_deg > 10
    assert found.rotation_deg < 2
