"""Simple models, for tests of drawings and of the viewer."""

from __future__ import annotations

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.colmap.drawing import model_arrays
from sfm_lightglue.drawing.scene import ViewScene, build_scene
from sfm_lightglue.drawing.viewpoint import Viewpoint
from sfm_lightglue.geometry.transforms import Rigid3

GREEN = (30, 200, 60)
UP = np.array([0.0, -1.0, 0.0])
CAMERA = {"SIMPLE_RADIAL": [900.0, 500.0, 380.0, -0.05], "OPENCV_FISHEYE": [600.0, 600, 500, 400, 0, 0, 0, 0]}


def make_model(
    num_images: int = 5,
    num_points: int = 400,
    scale: float = 1.0,
    color: tuple[int, int, int] = GREEN,
    camera_model: str = "SIMPLE_RADIAL",
) -> pycolmap.Reconstruction:
    """Cameras in a row that look along z at a wall of points, y downwards."""
    model = pycolmap.Reconstruction()
    params = CAMERA.get(camera_model, [1000, 800])
    camera = pycolmap.Camera(model=camera_model, width=1000, height=800, params=params, camera_id=1)
    model.add_camera_with_trivial_rig(camera)
    for image_idx in range(num_images):
        center = scale * np.array([image_idx - (num_images - 1) / 2, 0.1 * image_idx, 0.0])
        pose = Rigid3.look_at(center, center + np.array([-0.02 * image_idx, 0.1, 1]), UP)
        image = pycolmap.Image(name=f"{image_idx:03d}.jpg", camera_id=1, image_id=image_idx + 1)
        cam_from_world = pycolmap.Rigid3d(pycolmap.Rotation3d(pose.R), pose.t)
        model.add_image_with_trivial_frame(image, cam_from_world)
    points = np.random.default_rng(0).uniform((-3, -2, 5), (3, 2, 6), (num_points, 3))
    for point in points:
        model.add_point3D(scale * point, pycolmap.Track(), np.array(color, np.uint8))
    return model


def add_outliers(model: pycolmap.Reconstruction, num: int = 40, far: float = 1e5) -> pycolmap.Reconstruction:
    for direction in np.random.default_rng(1).normal(size=(num, 3)):
        model.add_point3D(far * direction, pycolmap.Track(), np.array((255, 0, 0), np.uint8))
    return model


def scene_of(model: pycolmap.Reconstruction, aspect: float = 4 / 3) -> ViewScene:
    return build_scene(model_arrays(model), aspect)


def image_positions(viewpoint: Viewpoint, positions: Float64Array, aspect: float) -> tuple[Float64Array, Float64Array]:
    """(x, y) of positions in the image, -1 to 1 from edge to edge, and their depths."""
    in_view = viewpoint.cam_from_world @ positions
    half_height = np.tan(np.radians(viewpoint.vertical_fov_deg) / 2)
    return in_view[:, :2] / in_view[:, 2:] / (half_height * np.array([aspect, 1])), in_view[:, 2]
