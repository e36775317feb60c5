"""What is drawn of a model, as plain arrays: points, camera frusta, and a viewpoint."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, Int32Array, UInt8Array
from sfm_lightglue.drawing.viewpoint import Viewpoint, choose_viewpoint, half_diagonal, near_mask
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3

BACKGROUND = (0.094, 0.102, 0.122)
"""Colour behind the model, red, green, blue in 0 to 1: nearly black, but black points are still visible on it."""

UNCOLORED_POINT = (0.80, 0.83, 0.87)
"""Colour of all points if the model has no colours (COLMAP then writes black), red, green, blue in 0 to 1."""

SEGMENTS_OF_FRUSTUM = (
    *((0, 1), (0, 2), (0, 3), (0, 4)),  # from the centre to the corners of the image
    *((1, 2), (2, 3), (3, 4), (4, 1)),  # around the image
    *((5, 6), (6, 7)),  # a roof over its upper edge
)
"""Pairs of the eight vertices of a frustum."""

MAX_SPACING_SAMPLES = 500
"""Cameras whose nearest neighbour is computed to choose the size of the frusta."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelArrays:
    """Points and cameras of a model; `colmap.drawing.model_arrays` makes them from a `pycolmap.Reconstruction`.

    Args:
        points: [N, 3] in world units; points that are not finite are not drawn.
        point_colors: [N, 3] red, green, blue; all black means that the model has no colours.
        poses: `cam_from_world` of F cameras, in the order of the images' names.
        corner_rays: F times [4, 3], in the camera's frame, through the image corners in the order of `image_corners`.

    Raises:
        ValueError: if shapes or numbers do not fit.
    """

    points: Float64Array
    point_colors: UInt8Array
    poses: tuple[Rigid3, ...]
    corner_rays: tuple[Float64Array, ...]

    def __post_init__(self) -> None:
        if self.points.shape != (len(self.points), 3) or self.point_colors.shape != self.points.shape:
            raise ValueError(
                "ModelArrays: expected points [N, 3] and point_colors [N, 3], got"
                f" {self.points.shape} and {self.point_colors.shape}"
            )
        if len(self.poses) != len(self.corner_rays) or any(rays.shape != (4, 3) for rays in self.corner_rays):
            raise ValueError(
                f"ModelArrays: expected corner_rays [4, 3] for each of {len(self.poses)} poses, got"
                f" {[rays.shape for rays in self.corner_rays]}"
            )


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
        viewpoint: from which the scene is first shown.
        radius: half the size of the scene without its outliers, in world units.
    """

    points: Float64Array
    point_colors: Float64Array
    centers: Float64Array
    frusta: Lines
    viewpoint: Viewpoint
    radius: float


def build_scene(
    model: ModelArrays,
    aspect: float = 4 / 3,
    up: Float64Array | None = None,
    masks: tuple[BoolArray, BoolArray] | None = None,
) -> ViewScene:
    """Choose colours, frusta and a viewpoint for a model.

    Args:
        model: with at least one finite point or one camera.
        aspect: width divided by height of the image that is rendered.
        up: [3] unit vector; None for the mean of the cameras' own upward directions.
        masks: of the points [N] and the cameras [F] that must be in view; None for those that are not outliers.

    Raises:
        DataError: if there is neither a finite point nor a camera.
    """
    finite = np.isfinite(model.points).all(axis=1)
    points, point_colors = model.points[finite], model.point_colors[finite] / 255.0
    if not point_colors.any():
        point_colors[:] = UNCOLORED_POINT
    if len(points) == 0 and len(model.poses) == 0:
        raise DataError("the model contains neither points nor registered images: nothing to show")
    centers = np.array([pose.center for pose in model.poses]).reshape(-1, 3)
    point_mask, camera_mask = (near_mask(points), near_mask(centers)) if masks is None else (masks[0][finite], masks[1])
    radius = half_diagonal(np.concatenate([points[point_mask], centers[camera_mask]]))
    frusta = frustum_lines(model.poses, model.corner_rays, frustum_size(centers, radius))
    near_poses = [pose for pose, is_near in zip(model.poses, camera_mask, strict=True) if is_near]
    seen_vertices = select_frusta(frusta, camera_mask).vertices
    viewpoint = choose_viewpoint(points, near_poses, seen_vertices, aspect, up, point_mask)
    return ViewScene(points, point_colors, centers, frusta, viewpoint, radius)


def image_corners(width: int, height: int) -> Float64Array:
    """Corners of an image [4, 2] in pixels: upper left, upper right, lower right, lower left."""
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)


def pinhole_corner_rays(width: int, height: int, focal_length_px: float | None = None) -> Float64Array:
    """Unit rays [4, 3] through the image corners of a camera without distortion, principal point at the centre.

    Args:
        width: of the image in pixels.
        height: of the image in pixels.
        focal_length_px: None for a field of view of 90 degrees along the longer side.
    """
    half_size = np.array([width, height]) / 2
    focal_lengths = np.full(4, max(half_size) if focal_length_px is None else focal_length_px)
    rays = np.column_stack([image_corners(width, height) - half_size, focal_lengths])
    unit_rays: Float64Array = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit_rays


def frustum_size(centers: Float64Array, radius: float) -> float:
    """Length of a frustum's longest edge; it shrinks if cameras are close together, so that each remains visible.

    Args:
        centers: [F, 3] camera centres.
        radius: of the scene; the size is 3 to 15 percent of it.
    """
    spacing = np.inf
    if len(centers) > 1:
        sample_idxs = np.unique(np.linspace(0, len(centers) - 1, MAX_SPACING_SAMPLES).astype(int))
        nearest = []
        for idx in sample_idxs:
            distances = np.linalg.norm(centers - centers[idx], axis=1)
            distances[idx] = np.inf
            nearest.append(distances.min())
        spacing = float(np.median(nearest))
    return float(np.clip(0.6 * spacing, 0.03 * radius, 0.15 * radius))


def frustum_lines(poses: tuple[Rigid3, ...], corner_rays: tuple[Float64Array, ...], size: float) -> Lines:
    """Each camera as a pyramid whose base is its image, with a small roof on the image's upper edge.

    Args:
        poses: `cam_from_world` of F cameras.
        corner_rays: F times [4, 3] as `image_corners` orders them, in the camera's frame.
        size: length of the longest edge in world units.

    Returns:
        Eight vertices for each camera: the centre, the four corners and the roof; coloured by order.
    """
    vertices = []
    for cam_from_world, rays in zip(poses, corner_rays, strict=True):
        plane = rays / rays[:, 2:]  # the image at depth 1, so that it stays flat and rectangular
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
        frusta.segments[: num_kept * num_segments],  # the same rows for any cameras
        frusta.colors[np.repeat(camera_mask, num_segments)],
    )


def order_colors(num: int) -> Float64Array:
    """Colours [num, 3] from blue for the first over green and yellow to red for the last."""
    hues = 0.58 * (1 - np.linspace(0, 1, num)) if num > 1 else np.full(num, 0.30)
    return np.array([colorsys.hsv_to_rgb(float(hue), 0.75, 1.0) for hue in hues]).reshape(-1, 3)


def point_size_px(num_points: int) -> float:
    """Side of a point in an image of 1280 x 960 pixels; points are larger if there are few of them."""
    return float(np.clip((100_000 / max(num_points, 1)) ** 0.5, 2.0, 6.0))
