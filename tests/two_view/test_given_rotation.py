"""The geometry of a pair with a rotation that other pairs imply."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg, rotation_angle_deg
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import normalize_matches
from sfm_lightglue.two_view.given_rotation import with_rotation
from sfm_lightglue.two_view.pose import poses_from_homography
from sfm_lightglue.types import TwoViewGeometry
from tests.helpers.point_views import PINHOLE, POSE, Views, make_views, plane_points

CONFIG = TwoViewConfig()
MAX_ERROR_DEG = 5.0


def estimated(views: Views) -> TwoViewGeometry:
    geometry = views.estimate()
    assert isinstance(geometry, TwoViewGeometry)
    return geometry


def turned(R: np.ndarray, angle_deg: float, axis: tuple[float, float, float] = (0.2, 1.0, 0.3)) -> np.ndarray:
    rotvec = np.radians(angle_deg) * np.array(axis) / np.linalg.norm(axis)
    return Rigid3.from_rotvec(rotvec, np.zeros(3)).R @ R


def other_pose_of_plane(views: Views, geometry: TwoViewGeometry) -> Rigid3:
    """A wrong pose that fits the plane's homography as well as the right one."""
    assert geometry.kind == "planar"
    assert geometry.H is not None
    K = np.array([[1000, 0, 600], [0, 1000, 450], [0, 0, 1.0]])
    poses = poses_from_homography(np.linalg.inv(K) @ geometry.H @ K)
    return max(poses, key=lambda pose: rotation_angle_deg(pose.R @ views.pose.R.T))


@pytest.mark.parametrize("seed", range(3))
def test_a_plane_with_the_wrong_one_of_its_two_poses_gets_the_right_one(seed: int) -> None:
    views = make_views(points=plane_points(seed=seed), noise_px=0.3, outlier_ratio=0.2, seed=seed)
    geometry = estimated(views)
    wrong = other_pose_of_plane(views, geometry)
    assert rotation_angle_deg(wrong.R @ POSE.R.T) > 1.5 * MAX_ERROR_DEG
    geometry = replace(geometry, cam1_from_cam0=wrong, E=essential_from_pose(wrong))
    fitted = with_rotation(views.pair, geometry, turned(POSE.R, 2.0), MAX_ERROR_DEG, CONFIG)
    assert fitted is not None
    assert max(relative_pose_error_deg(fitted.cam1_from_cam0, POSE)) < 2
    assert fitted.inlier_mask[views.is_true].mean() > 0.95
    assert fitted.inlier_mask[~views.is_true].mean() < 0.2
    assert (fitted.kind, fitted.evidence) == (geometry.kind, geometry.evidence)
    assert np.linalg.norm(fitted.cam1_from_cam0.t) == pytest.approx(1)


def test_the_fitted_pose_is_near_the_given_rotation_and_keeps_the_inliers() -> None:
    """Few matches on a shallow relief leave the rotation uncertain by degrees."""
    relief = np.random.default_rng(1).uniform([-2.5, -2, 6.5], [2.5, 2, 7.5], (4000, 3))
    num_fitted = 0
    for seed in range(12):
        views = make_views(num_points=40, points=relief, noise_px=0.7, seed=seed)
        geometry = estimated(views)
        rotation = turned(POSE.R, 2.0)
        fitted = with_rotation(views.pair, geometry, rotation, MAX_ERROR_DEG, CONFIG)
        if fitted is not None:
            num_fitted += 1
            assert rotation_angle_deg(fitted.cam1_from_cam0.R @ rotation.T) <= MAX_ERROR_DEG
            assert fitted.num_inliers >= 0.75 * geometry.num_inliers
    assert num_fitted >= 10


@pytest.mark.parametrize("angle_deg", [20.0, 90.0, 180.0])
def test_a_pair_of_another_place_does_not_fit_the_rotation(angle_deg: float) -> None:
    views = make_views(noise_px=0.3, outlier_ratio=0.1)
    geometry = estimated(views)
    assert with_rotation(views.pair, geometry, POSE.R, MAX_ERROR_DEG, CONFIG) is not None
    assert with_rotation(views.pair, geometry, turned(POSE.R, angle_deg), MAX_ERROR_DEG, CONFIG) is None


def test_the_matrices_are_those_of_the_pose() -> None:
    views = make_views(noise_px=0.0)
    geometry = estimated(views)
    fitted = with_rotation(views.pair, geometry, turned(POSE.R, 1.0), MAX_ERROR_DEG, CONFIG)
    assert fitted is not None
    assert fitted.E is not None
    assert np.allclose(fitted.E, essential_from_pose(fitted.cam1_from_cam0))
    pixels = [one.keypoints[rows] for one, rows in zip(views.features, views.matches.indices.T, strict=True)]
    data, _ = normalize_matches(views.pair, CONFIG)
    in_pixels = squared_sampson_errors(fitted.F, *pixels)
    assert np.sqrt(in_pixels.max()) < 0.05
    assert np.allclose(
        in_pixels, squared_sampson_errors(fitted.E, data.points0, data.points1) * PINHOLE.params[0] ** 2, atol=1e-6
    )
    without_E = with_rotation(views.pair, replace(geometry, E=None), POSE.R, MAX_ERROR_DEG, CONFIG)
    assert without_E is not None
    assert without_E.E is None, "a guessed focal length has no essential matrix"


@pytest.mark.parametrize("num_inliers", [0, 1])
def test_nothing_fits_without_inliers(num_inliers: int) -> None:
    views = make_views()
    geometry = estimated(views)
    mask = np.arange(len(geometry.inlier_mask)) < num_inliers
    assert with_rotation(views.pair, replace(geometry, inlier_mask=mask), POSE.R, MAX_ERROR_DEG, CONFIG) is None
