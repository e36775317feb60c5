"""What there is to draw of a reconstruction, as plain arrays: points, frusta, and where to look from.

Everything here is numpy; nothing needs Open3D or a display.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, Int32Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.viewer.viewpoint import Viewpoint, choose_viewpoint, near_mask, scene_radius

if TYPE_CHECKING:
    from sfm_lightglue.colmap.model import Reconstruction

UNCOLORED_POINT = (0.80, 0.83, 0.87)
"""Colour of all points where the model has none (COLMAP then writes black), red, green, blue in 0 to 1."""

SEGMENTS_OF_FRUSTUM = (
    *((0, 1), (0, 2), (0, 3), (0, 4)),  # from the centre to the corners of the picture
    *((1, 2), (2, 3), (3, 4), (4, 1)),  # around the picture
    *((5, 6), (6, 7)),  # a roof over its upper edge
)
"""Pairs of the eight vertices of a frustum."""


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Coloured line segments.

    Args:
        vertices: [V, 3] in world units.
        segments: [S, 2] rows of `vertices`.
        colors: [S, 3] red, green, blue in 0 to 1.
    """

    vertices: Float64Array
    segments: Int32Array
    colors: Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class ViewScene:
    """Everything that a renderer needs.

    Args:
        points: [N, 3] in world units.
        point_colors: [N, 3] red, green, blue in 0 to 1.
        centers: [F, 3] camera centres, in the order of the images' names.
        frusta: eight vertices and ten segments for each camera, in the same order.
        viewpoint: where the first look is from.
        radius: half the size of the scene without its outliers, in world units.
    """

    points: Float64Array
    point_colors: Float64Array
    centers: Float64Array
    frusta: Lines
    viewpoint: Viewpoint
    radius: float


def build_scene(reconstruction: Reconstruction, aspect: float = 4 / 3) -> ViewScene:
    """Collect the points, the frusta and a viewpoint of a reconstruction.

    Args:
        reconstruction: may lack points, or cameras, but not both.
        aspect: width divided by height of the picture to come.

    Raises:
        DataError: where there is neither a point nor a registered image.
    """
    points, point_colors = colored_points(reconstruction)
    poses, corner_rays = camera_poses(reconstruction)
    if len(points) == 0 and len(poses) == 0:
        raise DataError("the model holds neither points nor registered images: nothing to show")
    centers = np.array([pose.center for pose in poses]).reshape(-1, 3)
    radius = scene_radius(points, centers)
    frusta = frustum_lines(poses, corner_rays, frustum_size(centers, radius))
    camera_mask = near_mask(centers)
    near_poses = [pose for pose, is_near in zip(poses, camera_mask, strict=True) if is_near]
    viewpoint = choose_viewpoint(points, near_poses, select_frusta(frusta, camera_mask).vertices, aspect)
    return ViewScene(points, point_colors, centers, frusta, viewpoint, radius)


def colored_points(reconstruction: Reconstruction) -> tuple[Float64Array, Float64Array]:
    """Positions [N, 3] and colours [N, 3] in 0 to 1 of the finite points, in the order of their ids."""
    point_ids = sorted(reconstruction.points3D)
    chosen = [reconstruction.points3D[point_id] for point_id in point_ids]
    points = np.array([point.xyz for point in chosen], dtype=np.float64).reshape(-1, 3)
    colors = np.array([point.color for point in chosen], dtype=np.float64).reshape(-1, 3) / 255
    if len(colors) > 0 and not colors.any():
        colors[:] = UNCOLORED_POINT
    finite = np.isfinite(points).all(axis=1)
    return points[finite], colors[finite]


def camera_poses(reconstruction: Reconstruction) -> tuple[list[Rigid3], list[Float64Array]]:
    """`cam_from_world` and the rays [4, 3] through the corners of each registered image, ordered by name."""
    images = [reconstruction.images[image_id] for image_id in reconstruction.reg_image_ids()]
    poses, corner_rays = [], []
    for image in sorted(images, key=lambda image: image.name):
        cam_from_world = image.cam_from_world()
        poses.append(Rigid3(cam_from_world.rotation.matrix(), cam_from_world.translation))
        camera = reconstruction.cameras[image.camera_id]
        rays = np.asarray(camera.cam_ray_from_img(image_corners(camera.width, camera.height)), np.float64)
        usable = np.isfinite(rays).all() and (rays[:, 2] > 0.05).all()
        corner_rays.append(rays if usable else _plain_corner_rays(camera.width, camera.height))
    return poses, corner_rays


def image_corners(width: int, height: int) -> Float64Array:
    """Corners of a picture [4, 2] in pixels: upper left, upper right, lower right, lower left."""
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)


def _plain_corner_rays(width: int, height: int) -> Float64Array:
    """Corner rays of a camera that sees 90 degrees: panoramas and broken lenses have none of their own."""
    half_size = np.array([width, height]) / 2
    rays = np.column_stack([image_corners(width, height) - half_size, np.full(4, max(half_size))])
    unit_rays: Float64Array = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit_rays


def frustum_size(centers: Float64Array, radius: float) -> float:
    """Length of a frustum's longest edge: cameras of a dense path shrink, so that each can be seen.

    Args:
        centers: [F, 3] camera centres.
        radius: of the scene; the size is 3 to 15 percent of it.
    """
    from scipy.spatial import KDTree

    spacing = np.inf
    if len(centers) > 1:
        spacing = float(np.median(np.asarray(KDTree(centers).query(centers, k=2)[0])[:, 1]))
    return float(np.clip(0.6 * spacing, 0.03 * radius, 0.15 * radius))


def frustum_lines(poses: list[Rigid3], corner_rays: list[Float64Array], size: float) -> Lines:
    """Draw each camera as a pyramid whose base is its picture, with a small roof on the picture's upper side.

    Args:
        poses: F times `cam_from_world`.
        corner_rays: F times [4, 3] as `image_corners` orders them, in the camera's frame.
        size: length of the longest edge in world units.

    Returns:
        Eight vertices for each camera: the centre, the four corners and the roof; coloured by order.
    """
    vertices = []
    for cam_from_world, rays in zip(poses, corner_rays, strict=True):
        plane = rays / rays[:, 2:]  # the picture at depth 1, so that it stays flat and rectangular
        plane = plane * (size / np.linalg.norm(plane, axis=1).max())
        upper_left, upper_right, _, lower_left = plane
        middle = (upper_left + upper_right) / 2
        roof = np.stack(
            [
                middle + 0.35 * (upper_left - middle),
                middle + 0.25 * (upper_left - lower_left),
                middle + 0.35 * (upper_right - middle),
            ]
        )
        in_camera = np.concatenate([np.zeros((1, 3)), plane, roof])
        vertices.append(cam_from_world.inverse() @ in_camera)
    first = 8 * np.arange(len(poses), dtype=np.int32)
    segments = first[:, None, None] + np.array(SEGMENTS_OF_FRUSTUM, dtype=np.int32)
    return Lines(
        np.array(vertices).reshape(-1, 3),
        segments.reshape(-1, 2),
        np.repeat(order_colors(len(poses)), len(SEGMENTS_OF_FRUSTUM), axis=0),
    )


def select_frusta(frusta: Lines, camera_mask: BoolArray) -> Lines:
    """The frusta of some cameras.

    Args:
        frusta: of F cameras, from `frustum_lines`.
        camera_mask: [F].
    """
    num_kept, num_segments = int(camera_mask.sum()), len(SEGMENTS_OF_FRUSTUM)
    return Lines(
        frusta.vertices[np.repeat(camera_mask, 8)],
        frusta.segments[: num_kept * num_segments],  # alike for any cameras
        frusta.colors[np.repeat(camera_mask, num_segments)],
    )


def order_colors(num: int) -> Float64Array:
    """Colours [num, 3] from blue for the first over green and yellow to red for the last."""
    hues = 0.58 * (1 - np.linspace(0, 1, num)) if num > 1 else np.full(num, 0.30)
    return np.array([colorsys.hsv_to_rgb(float(hue), 0.75, 1.0) for hue in hues]).reshape(-1, 3)
