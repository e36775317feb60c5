"""Pixels and rays of a camera with distortion, for arrays of points."""

from __future__ import annotations

import functools

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray, BoolArray, Float64Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.types import Camera


@functools.lru_cache(maxsize=64)
def _native(camera: Camera) -> pycolmap.Camera:
    return as_pycolmap(camera)


def focal_length_px(camera: Camera) -> float:
    """Focal length in pixels, the mean of x and y."""
    return float(_native(camera).mean_focal_length())


def normalized_from_pixels(camera: Camera, pixels: AnyArray) -> Float64Array:
    """Points [N, 2] on the plane z = 1 of the camera, from pixels [N, 2]; NaN where the model cannot be inverted."""
    if len(pixels) == 0:
        return np.zeros((0, 2))
    return np.asarray(_native(camera).cam_from_img(np.asarray(pixels, dtype=np.float64)), dtype=np.float64)


def rays_from_pixels(camera: Camera, pixels: AnyArray) -> Float64Array:
    """Viewing rays [N, 3] of length 1 in the frame of the camera, from pixels [N, 2]."""
    normalized = normalized_from_pixels(camera, pixels)
    rays = np.concatenate([normalized, np.ones((len(normalized), 1))], axis=1)
    unit_rays: Float64Array = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit_rays


def pixels_from_cam(camera: Camera, xyz_in_cam: AnyArray) -> Float64Array:
    """Pixels [N, 2] of points [N, 3] in the frame of the camera; NaN for those that are not before it."""
    if len(xyz_in_cam) == 0:
        return np.zeros((0, 2))
    return np.asarray(_native(camera).img_from_cam(np.asarray(xyz_in_cam, dtype=np.float64)), dtype=np.float64)


def project(camera: Camera, cam_from_world: Rigid3, xyz: AnyArray) -> tuple[Float64Array, Float64Array]:
    """Project points of the world.

    Args:
        camera: with any of COLMAP's models.
        cam_from_world: its pose.
        xyz: points [N, 3].

    Returns:
        Pixels [N, 2], NaN for points that are not before the camera, and depths [N] along its axis.
    """
    xyz_in_cam = cam_from_world @ xyz
    return pixels_from_cam(camera, xyz_in_cam), xyz_in_cam[:, 2]


def reprojection_errors_px(camera: Camera, cam_from_world: Rigid3, xyz: AnyArray, pixels: AnyArray) -> Float64Array:
    """Distances [N] in pixels of points [N, 3] from their observations [N, 2]; infinite for points behind."""
    projected, _ = project(camera, cam_from_world, xyz)
    errors: Float64Array = np.linalg.norm(projected - pixels, axis=1)
    errors[np.isnan(errors)] = np.inf
    return errors


def is_inside(camera: Camera, pixels: AnyArray, border_px: float = 0.0) -> BoolArray:
    """Which pixels [N, 2] lie within the image, at least `border_px` from its edges; False for NaN."""
    pixels = np.asarray(pixels, dtype=np.float64)
    limit = np.array([camera.width, camera.height]) - border_px
    with np.errstate(invalid="ignore"):
        return np.asarray(((pixels >= border_px) & (pixels <= limit)).all(axis=1))
