"""The surface around each point of a model as a plane, and how each image shows that plane."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pycolmap

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray, Int32Array
from sfm_lightglue.refinement.observations import Observations

_NUM_NEIGHBOURS = 16
_MIN_NEIGHBOURS = 6
_MAX_FLATNESS = 0.3
"""Largest ratio of the two smaller variances of neighbouring points that lie on a plane."""

_MIN_COSINE = 0.3
"""Between a normal and the mean viewing direction; at a smaller one the points do not lie on the visible surface."""

_KD_TREE = {"algorithm": 4, "leaf_max_size": 10}  # FLANN's single tree, whose search is exact and without chance
_EXACT = {"checks": -1}


@dataclass(frozen=True, eq=False)
class PlaneViews:
    """How the images show the tangent planes of the points that they observe.

    Args:
        pixels_from_plane: [M, 2, 2] derivatives of the pixel by the position on the plane; not finite where the
            plane is not in front of the camera.
        directions: [M, 3] unit vectors from the points to the cameras.
        mean_directions: [P, 3] unit vectors from the points to the middle of their cameras.
        axes: [P, 2, 3] of the planes in the world.
        neighbours: [P, K] rows of the nearest points, with the point itself; without columns if there are few points.
    """

    pixels_from_plane: Float64Array
    directions: Float64Array
    mean_directions: Float64Array
    axes: Float64Array
    neighbours: Int32Array

    def pixels_of(self, image: pycolmap.Image, positions: Float64Array, points: IndexArray) -> Float64Array:
        """Derivatives [C, 2, 2] of the pixels of an image by the position on the planes of some points.

        Args:
            image: any one.
            positions: [P, 3] of all points.
            points: [C] rows of those that are asked for.
        """
        return _derivatives(image, positions[points], self.axes[points])


def view_planes(model: pycolmap.Reconstruction, seen: Observations) -> PlaneViews:
    """Fit the tangent plane of each point, and project it into each image that observes the point.

    The plane goes through the point. Its normal is that of the nearest points if they lie on a plane, else the mean
    viewing direction.

    Args:
        model: poses and cameras.
        seen: the observations of the model.
    """
    num_points = len(seen.positions)
    centers = np.array([model.images[image_id].projection_center() for image_id in seen.image_ids]).reshape(-1, 3)
    towards = centers[seen.images] - seen.positions[seen.points]
    directions = _unit(towards)
    mean_directions = _unit(np.stack([np.bincount(seen.points, axis, num_points) for axis in directions.T], axis=1))
    nearest = np.full(num_points, np.inf)
    np.minimum.at(nearest, seen.points, np.linalg.norm(towards, axis=1))
    # Axes as long as the distance: a step of the inverse focal length is then about a pixel.
    neighbours = _nearest(seen.positions)
    axes = _tangents(_normals(seen.positions, neighbours, mean_directions)) * nearest[:, None, None]
    derivatives = np.empty((len(seen), 2, 2))
    for row, image_id in enumerate(seen.image_ids):
        chosen = seen.of(row)
        points = seen.points[chosen]
        derivatives[chosen] = _derivatives(model.images[image_id], seen.positions[points], axes[points])
    return PlaneViews(derivatives, directions, mean_directions, axes, neighbours)


def _derivatives(image: pycolmap.Image, positions: Float64Array, axes: Float64Array) -> Float64Array:
    """Derivatives [N, 2, 2] of the pixel along two axes [N, 2, 3] at positions [N, 3]; a column belongs to an axis."""
    camera = image.camera
    assert camera is not None  # of every image of a model
    step = 1.0 / camera.mean_focal_length()
    offsets = np.stack([axes[:, 0], -axes[:, 0], axes[:, 1], -axes[:, 1]]) * step  # [4, N, 3]
    cam_from_world = image.cam_from_world().matrix()
    in_camera = (positions + offsets).reshape(-1, 3) @ cam_from_world[:, :3].T + cam_from_world[:, 3]
    pixels = np.asarray(camera.img_from_cam(in_camera)).reshape(4, -1, 2)
    derivatives: Float64Array = np.stack([pixels[0] - pixels[1], pixels[2] - pixels[3]], axis=2) / (2 * step)
    return derivatives


def _nearest(positions: Float64Array) -> Int32Array:
    """Rows [P, K] of the nearest points of each point, with itself; without columns if there are too few points."""
    num_neighbours = min(_NUM_NEIGHBOURS, len(positions))
    if num_neighbours < _MIN_NEIGHBOURS:
        return np.zeros((len(positions), 0), np.int32)
    middle = np.median(positions, axis=0)
    centered = (positions - middle).astype(np.float32)
    tree = cv2.flann_Index(centered, _KD_TREE)  # type: ignore[attr-defined]
    rows, _ = tree.knnSearch(centered, num_neighbours, params=_EXACT)
    return np.asarray(rows, np.int32)


def _normals(positions: Float64Array, neighbours: Int32Array, mean_directions: Float64Array) -> Float64Array:
    """Unit normals [P, 3] of the planes through the nearest points, else the mean viewing directions."""
    if neighbours.shape[1] == 0:
        return mean_directions
    around = positions[neighbours]  # [P, K, 3]
    around = around - np.median(around, axis=1, keepdims=True)
    variances, axes = np.linalg.eigh(around.transpose(0, 2, 1) @ around)
    normals = axes[:, :, 0]
    cosines = (normals * mean_directions).sum(1)
    is_plane = (variances[:, 0] < _MAX_FLATNESS * variances[:, 1]) & (np.abs(cosines) > _MIN_COSINE)
    return np.where(is_plane[:, None], normals, mean_directions)


def _tangents(normals: Float64Array) -> Float64Array:
    """Two orthonormal vectors [P, 2, 3] in the planes with the normals [P, 3]."""
    least_parallel = np.eye(3)[np.abs(normals).argmin(axis=1)]
    first = _unit(np.cross(normals, least_parallel))
    return np.stack([first, np.cross(normals, first)], axis=1)


def _unit(vectors: Float64Array) -> Float64Array:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Float64Array = vectors / np.maximum(lengths, np.finfo(float).tiny)
    return unit


def choose_references(
    seen: Observations, views: PlaneViews, is_settled: BoolArray | None = None
) -> tuple[IndexArray, Float64Array]:
    """The observation of each point whose patch the others are aligned with, and the distance between its samples.

    It is near the mean viewing direction and shows the surface in high resolution. The distance between samples is
    larger than a pixel where another image shows the surface in lower resolution.

    Args:
        seen: observations.
        views: of the planes of their points.
        is_settled: [M] observations that are aligned with each other; the reference of a point is one of these where
            it has any. None: none are.

    Returns:
        [P] indices of observations, and [P] distances in pixels of the reference.
    """
    num_points = len(seen.positions)
    cosines = (views.directions * views.mean_directions[seen.points]).sum(1)
    resolutions = np.sqrt(np.abs(np.linalg.det(views.pixels_from_plane)))
    resolutions = np.where(np.isfinite(resolutions), np.maximum(resolutions, np.finfo(float).tiny), np.nan)
    finest, coarsest = np.full(num_points, -np.inf), np.full(num_points, np.inf)
    np.fmax.at(finest, seen.points, resolutions)
    np.fmin.at(coarsest, seen.points, resolutions)
    angles = np.arccos(np.clip(cosines, -1, 1))
    costs = angles + _ANGLE_PER_OCTAVE * np.log2(finest[seen.points] / resolutions)
    settled = np.zeros(len(seen), np.bool_) if is_settled is None else is_settled
    order = np.lexsort((np.where(np.isfinite(costs), costs, np.inf), ~settled, seen.points))
    references = order[np.searchsorted(seen.points[order], np.arange(num_points))]
    spacings = np.clip(resolutions[references] / coarsest, 1.0, _MAX_SPACING_PX)
    return references, spacings


def planes_from_samples(views: PlaneViews, references: IndexArray, spacings: Float64Array) -> Float64Array:
    """Where the samples of the templates lie on the planes of the points.

    Args:
        views: of the planes of the points.
        references: [P] observation whose patch is the template of each point.
        spacings: [P] pixels of the reference between samples.

    Returns:
        [P, 2, 2], not finite where a plane is seen from the side, or behind a camera.
    """
    with np.errstate(all="ignore"):
        (a, b), (c, d) = views.pixels_from_plane[references].transpose(1, 2, 0)
        adjugates = np.stack([d, -b, -c, a], axis=1).reshape(-1, 2, 2)
        return np.asarray(adjugates * (spacings / (a * d - b * c))[:, None, None])


def sample_warps(views: PlaneViews, points: IndexArray, references: IndexArray, spacings: Float64Array) -> Float64Array:
    """How patches are distorted: pixels of each observation per sample of the template of its point.

    Args:
        views: of the planes of the points.
        points: [M] of the observations.
        references: [P] observation whose patch is the template of each point.
        spacings: [P] pixels of the reference between samples.

    Returns:
        [M, 2, 2], not finite where a plane is seen from the side, or behind a camera.
    """
    with np.errstate(all="ignore"):
        warps: Float64Array = views.pixels_from_plane @ planes_from_samples(views, references, spacings)[points]
    return warps


_ANGLE_PER_OCTAVE = 0.2
"""Angle in radians that is as bad for a reference as half the resolution."""

_MAX_SPACING_PX = 2.0
