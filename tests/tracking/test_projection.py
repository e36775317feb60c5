"""Pixels and rays are inverse to each other, also with distortion."""

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking.projection import (
    focal_length_px,
    is_inside,
    normalized_from_pixels,
    pixels_from_cam,
    project,
    rays_from_pixels,
    reprojection_errors_px,
)
from sfm_lightglue.types import Camera

CAMERAS = (
    Camera("PINHOLE", 640, 480, (500.0, 510.0, 320.0, 240.0)),
    Camera("OPENCV", 640, 480, (500.0, 510.0, 320.0, 240.0, -0.2, 0.05, 0.001, -0.002)),
    Camera("OPENCV_FISHEYE", 640, 480, (300.0, 300.0, 320.0, 240.0, 0.01, 0.0, 0.0, 0.0)),
)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.model)
def test_rays_project_to_their_pixels(camera):
    pixels = np.random.default_rng(0).uniform((0, 0), camera.size, (200, 2)).astype(np.float32)
    rays = rays_from_pixels(camera, pixels)
    assert np.allclose(np.linalg.norm(rays, axis=1), 1)
    assert np.allclose(pixels_from_cam(camera, 7 * rays), pixels, atol=1e-4)
    assert np.allclose(rays[:, :2] / rays[:, 2:], normalized_from_pixels(camera, pixels))


def test_points_of_the_world_project_with_their_depth():
    camera = CAMERAS[0]
    cam_from_world = Rigid3.from_rotvec([0, 0, 0], [0, 0, 2])
    xyz = np.array([[0.0, 0.0, 2.0], [1.0, 0.0, 3.0], [0.0, 0.0, -3.0]])
    pixels, depths = project(camera, cam_from_world, xyz)
    assert depths.tolist() == [4.0, 5.0, -1.0]
    assert pixels[:2].tolist() == [[320.0, 240.0], [420.0, 240.0]]
    assert np.isnan(pixels[2]).all()
    observed = pixels + np.array([3.0, 4.0])
    assert reprojection_errors_px(camera, cam_from_world, xyz, observed).tolist() == [5.0, 5.0, np.inf]
    assert is_inside(camera, pixels).tolist() == [True, True, False]
    assert is_inside(camera, pixels, border_px=239).tolist() == [True, False, False]


def test_no_points_give_empty_arrays():
    camera, none = CAMERAS[0], np.zeros((0, 2))
    assert normalized_from_pixels(camera, none).shape == (0, 2)
    assert rays_from_pixels(camera, none).shape == (0, 3)
    assert pixels_from_cam(camera, np.zeros((0, 3))).shape == (0, 2)


def test_the_focal_length_is_the_mean_of_both_axes():
    assert focal_length_px(CAMERAS[0]) == 505.0
