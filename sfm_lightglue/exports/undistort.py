"""Cameras and models without distortion: a pinhole whose principal point is the centre of the image.

Trainers of Gaussian splatting such as the original one read the focal lengths of a camera only, and take the centre of
the image for its principal point. So the undistorted cameras have it there.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.exports.base import ExportScene, read_scene_of
from sfm_lightglue.exports.lens import Lens, lens_of
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.types import Camera

_MAX_SCALE, _MIN_SCALE = 2.0, 0.05
"""Limits of the sides of an undistorted image, as multiples of those of the image."""

_MAX_ANGLE_DEG = 70.0
"""Largest angle between the axis and the corners of an undistorted image: that of a fisheye could be infinite."""

_BORDER_POINTS = 101
_NUM_STEPS = 50


def undistorted_camera(camera: Camera) -> Camera:
    """The pinhole camera of the largest undistorted image that shows nothing from beyond the image.

    The mean focal length stays, so that the resolution at the centre stays too; it is that of x and of y.

    Args:
        camera: of any of COLMAP's models with an image plane.

    Raises:
        DataError: if the camera shows no such image.
    """
    lens = lens_of(camera)
    native = as_pycolmap(camera)
    if lens is not None and lens.family == "perspective" and _needs_nothing(lens):
        return _pinhole(camera.size, lens.focal[0])
    focal = float(native.mean_focal_length())
    low, high = 0.0, _MAX_SCALE
    for _ in range(_NUM_STEPS):
        middle = (low + high) / 2
        if _is_inside(native, camera, focal, middle):
            low = middle
        else:
            high = middle
    if low < _MIN_SCALE:
        raise DataError(
            f"a camera {camera.model} of {camera.width} x {camera.height} pixels cannot be undistorted: its principal"
            " point lies at the border of the image, or its distortion is too large"
        )
    size = max(1, math.floor(low * camera.width)), max(1, math.floor(low * camera.height))
    return _pinhole(size, focal)


def _needs_nothing(lens: Lens) -> bool:
    return lens.num_radial == 0 and not lens.is_tangential and lens.is_centered and lens.has_one_focal_length


def _pinhole(size: tuple[int, int], focal: float) -> Camera:
    width, height = size
    return Camera("PINHOLE", width, height, (focal, focal, width / 2, height / 2))


def _is_inside(native: pycolmap.Camera, camera: Camera, focal: float, scale: float) -> bool:
    """Whether the border of an undistorted image lies in the image, and within the largest angle."""
    half_x, half_y = scale * camera.width / 2 / focal, scale * camera.height / 2 / focal
    if math.hypot(half_x, half_y) > math.tan(math.radians(_MAX_ANGLE_DEG)):
        return False
    along = np.linspace(-1, 1, _BORDER_POINTS)
    ones = np.ones_like(along)
    border = np.concatenate(
        [np.column_stack(pair) for pair in ((along, -ones), (along, ones), (-ones, along), (ones, along))]
    )
    rays = np.column_stack([border * (half_x, half_y), np.ones(len(border))])
    # All rays from the centre to the border: a polynomial may turn back within, and be inside again at the border.
    found = np.stack([_projected(native, rays * (share, share, 1.0)) for share in (0.25, 0.5, 0.75, 1.0)])
    if not np.isfinite(found).all() or (found < 0).any() or (found > camera.size).any():
        return False
    distances = np.linalg.norm(found - _projected(native, np.array([[0.0, 0.0, 1.0]])), axis=2)
    return bool((np.diff(distances, axis=0) > 0).all())


def _projected(native: pycolmap.Camera, rays: Float64Array) -> Float64Array:
    return np.asarray(native.img_from_cam(rays), np.float64)


def undistorted_scene(scene: ExportScene, name_from_name: dict[str, str]) -> ExportScene:
    """A copy of a model with pinhole cameras and undistorted keypoints.

    Observations that the undistorted image does not show are left out, and points that only one image still shows.

    Args:
        scene: the model; not changed.
        name_from_name: new names of the images.

    Raises:
        DataError: if a camera cannot be undistorted.
    """
    model = pycolmap.Reconstruction(scene.model)
    cameras = scene.cameras  # the property makes a new dictionary each time
    camera_from_id = {camera_id: undistorted_camera(camera) for camera_id, camera in cameras.items()}
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
        before, after = cameras[image.camera_id], camera_from_id[image.camera_id]
        if before.model != after.model or before.params != after.params:
            _undistort_keypoints(model, image_id, before, after)
        image.name = name_from_name[image.name]
    for camera_id, native in model.cameras.items():
        unused = _pinhole((native.width, native.height), native.mean_focal_length())
        camera = camera_from_id.get(camera_id, unused)
        native.model = pycolmap.CameraModelId.PINHOLE
        native.width, native.height = camera.size
        native.params = list(camera.params)
    model.update_point_3d_errors()
    times_s = None if scene.times_s is None else {name_from_name.get(k, k): v for k, v in scene.times_s.items()}
    return replace(read_scene_of(model), georegistration=scene.georegistration, times_s=times_s)


def _undistort_keypoints(model: pycolmap.Reconstruction, image_id: int, before: Camera, after: Camera) -> None:
    image = model.images[image_id]
    moved = undistorted_pixels(
        before, after, np.array([point.xy for point in image.points2D], np.float64).reshape(-1, 2)
    )
    with np.errstate(invalid="ignore"):
        is_shown = ((moved >= 0) & (moved <= after.size)).all(axis=1)  # False for NaN
    for idx in np.flatnonzero(~is_shown).tolist():
        if image.points2D[idx].has_point3D():
            model.delete_observation(image_id, idx)
    moved[~np.isfinite(moved).all(axis=1)] = 0.0
    points2D = image.points2D
    for idx, pixel in enumerate(moved):
        points2D[idx].xy = pixel


def undistorted_pixels(before: Camera, after: Camera, pixels: Float64Array) -> Float64Array:
    """Pixels [N, 2] of an image -> pixels [N, 2] of the undistorted one; NaN where the camera cannot be inverted."""
    if len(pixels) == 0:
        return np.zeros((0, 2))
    rays = np.asarray(as_pycolmap(before).cam_from_img(pixels), np.float64)
    fx, fy, cx, cy = after.params
    return rays * (fx, fy) + (cx, cy)
