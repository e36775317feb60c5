"""Pure rotations of a camera with a distortion that nobody stated: exact points, no images."""

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg, rotation_angle_deg, rotation_from_rotvec
from sfm_lightglue.scene.cameras import make_camera
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import normalize_matches
from sfm_lightglue.two_view.lens_fits import EpipolarFit, LensProblem
from sfm_lightglue.two_view.radial import distort, open_distortion, undistort
from sfm_lightglue.two_view.relative_pose import relative_pose_from_matches
from sfm_lightglue.types import Camera, TwoViewGeometry
from tests.helpers.point_views import PINHOLE, RADIAL, make_views, plane_points

SIZE, FOCAL_PX = (480, 360), 430.0
CENTER = (240.0, 180.0)
STATED = {
    "nothing": Camera("SIMPLE_RADIAL", *SIZE, (1.2 * 480, *CENTER, 0.0), "guessed"),
    "pinhole": make_camera("SIMPLE_PINHOLE", SIZE, (FOCAL_PX, *CENTER)),
    "no distortion": make_camera("SIMPLE_RADIAL", SIZE, (FOCAL_PX, *CENTER, 0.0)),
}


def is_near_axis(points):
    """Beyond a radius of 1.15 a coefficient of -0.25 moves points back into the image."""
    return np.linalg.norm(points[:, :2], axis=1) < 1.1 * points[:, 2]


def distorted_views(pose, k, stated, points=None, **options):
    """Views of cameras with the coefficient k, and the intrinsics that a user states."""
    true = make_camera("SIMPLE_RADIAL", SIZE, (FOCAL_PX, *CENTER, k))
    points = np.random.default_rng(1).uniform([-8, -8, 4], [8, 8, 9], (20_000, 3)) if points is None else points
    points = points[is_near_axis(points) & is_near_axis(pose @ points)]
    views = make_views(pose, cameras=(true, true), points=points, **{"noise_px": 0.2, **options})
    return replace(views, cameras=(STATED[stated],) * 2)


def turned(angle_deg, t=(0.0, 0.0, 0.0)):
    return Rigid3.from_rotvec(np.radians([angle_deg / 4, angle_deg, angle_deg / 5]), t)


@pytest.mark.parametrize("k", [-0.3, -0.12, -0.05, 0.2])
def test_undistort_is_the_inverse(k):
    points = np.random.default_rng(0).uniform(-0.7, 0.7, (200, 2))
    np.testing.assert_allclose(undistort(distort(points, k), k), points, atol=1e-12)
    assert np.isfinite(undistort(10 * points, k)).all()


def test_only_a_distortion_that_nobody_stated_is_open():
    assert open_distortion((STATED["nothing"],) * 2).groups == ((0, 1),)
    assert open_distortion((PINHOLE, PINHOLE)).groups == ((0, 1),)
    assert open_distortion((STATED["pinhole"], STATED["nothing"])).groups == ((0,), (1,))
    assert open_distortion((PINHOLE, RADIAL)).groups == ((0,),)
    assert open_distortion((RADIAL, RADIAL)).groups == ()


@pytest.mark.parametrize("stated", STATED)
@pytest.mark.parametrize("k", [-0.25, -0.12, 0.15])
@pytest.mark.parametrize("angle_deg", [6.0, 20.0])
def test_a_turned_camera_with_unknown_distortion_is_a_pure_rotation(stated, k, angle_deg):
    pose = turned(angle_deg)
    views = distorted_views(pose, k, stated, outlier_ratio=0.1)
    geometry = views.estimate()
    assert isinstance(geometry, TwoViewGeometry)
    assert geometry.kind == "pure_rotation"
    assert not geometry.cam1_from_cam0.t.any()
    assert (
        rotation_angle_deg(geometry.cam1_from_cam0.R @ pose.R.T) < (0.25 if stated == "nothing" else 0.02) * angle_deg
    )
    assert geometry.inlier_mask[views.is_true].mean() > 0.95


@pytest.mark.parametrize("stated", STATED)
def test_match_tells_a_turned_camera_with_unknown_distortion(stated):
    pose = turned(15.0)
    views = distorted_views(pose, -0.12, stated)
    found = relative_pose_from_matches(*views.features, views.matches, *views.cameras, is_same_camera=True)
    assert found.verdict == "pure_rotation"
    assert found.uncertainty is not None and found.uncertainty.direction_deg is None
    assert rotation_angle_deg(found.cam1_from_cam0.R @ pose.R.T) < 0.5


@pytest.mark.parametrize("stated", STATED)
@pytest.mark.parametrize("k", [-0.25, -0.05, 0.0, 0.15])
@pytest.mark.parametrize("t", [(0.3, 0.03, 0.0), (0.0, 0.05, 0.3)], ids=["sideways", "forward"])
def test_a_translation_is_not_a_rotation(stated, k, t):
    """A baseline of 0.3 at distances from 4 to 9 is 5 % of the distance."""
    for angle_deg in (0.5, 8.0):
        geometry = distorted_views(turned(angle_deg, t), k, stated, outlier_ratio=0.1).estimate()
        assert isinstance(geometry, TwoViewGeometry)
        assert geometry.kind != "pure_rotation"


@pytest.mark.parametrize("t", [(0.3, 0.03, 0.0), (0.0, 0.05, 0.3)], ids=["sideways", "forward"])
def test_a_translation_keeps_its_direction(t):
    views = distorted_views(turned(4.0, t), 0.0, "pinhole")
    geometry = views.estimate()
    assert geometry.kind == "general"
    assert relative_pose_error_deg(geometry.cam1_from_cam0, views.pose)[1] < 4


@pytest.mark.parametrize("stated", STATED)
@pytest.mark.parametrize("k", [-0.12, 0.0])
def test_a_plane_is_not_a_rotation(stated, k):
    views = distorted_views(turned(5.0, (0.8, 0.2, 0.1)), k, stated, points=plane_points())
    geometry = views.estimate()
    assert isinstance(geometry, TwoViewGeometry)
    assert geometry.kind == "planar" if k == 0 else geometry.kind != "pure_rotation"


def test_a_contradicted_lens_widens_the_direction():
    """The given intrinsics have no distortion, the matches do."""
    radii = {}
    for k in (0.0, -0.15):
        views = distorted_views(turned(3.0, (0.2, 0.0, 0.05)), k, "pinhole", num_points=400)
        found = relative_pose_from_matches(*views.features, views.matches, *views.cameras, is_same_camera=True)
        assert found.verdict == "general"
        error_deg = relative_pose_error_deg(found.cam1_from_cam0, views.pose)[1]
        radii[k] = found.uncertainty.direction_deg
        assert error_deg < 1.5 * radii[k]
    assert radii[-0.15] > 2 * radii[0.0]


def disturbed_fit(seed):
    """A fit that starts far from the true pose."""
    generator = np.random.default_rng(seed)
    views = make_views(num_points=40, noise_px=0.3, seed=180)
    problem = LensProblem(normalize_matches(views.pair, TwoViewConfig())[0], open_distortion(views.cameras), 0.35)
    t = views.pose.t / np.linalg.norm(views.pose.t) + generator.normal(scale=1, size=3)
    R = rotation_from_rotvec(generator.normal(scale=0.05, size=3)) @ views.pose.R
    return EpipolarFit(problem, np.zeros(1 + len(problem.distortion.groups)), Rigid3(R, t / np.linalg.norm(t)))


def cost_of(fit):
    return float(np.log1p((fit.linearised()[0] / fit.limit) ** 2).sum())


@pytest.mark.parametrize("seed", [190, 196])
def test_refused_steps_do_not_end_a_fit(seed, monkeypatch):
    """Two refused steps in turn can have nearly equal costs; a shorter step is better than both."""
    fit = disturbed_fit(seed)
    found = cost_of(fit.refined(15))
    monkeypatch.setattr("sfm_lightglue.two_view.lens_fits._MIN_CHANGE", -1.0)
    assert found <= 1.01 * cost_of(fit.refined(15))
