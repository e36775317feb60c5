"""A COLMAP model as arrays in the order of the images' names, with the residual of each observation.

pycolmap gives observations one by one; statistics over a model with a million of them need arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray, Float64Array, IndexArray
from sfm_lightglue.colmap.model import find_map
from sfm_lightglue.colmap.model_check import checked_content
from sfm_lightglue.colmap.model_content import INVALID_POINT_ID, CameraRow, ModelContent
from sfm_lightglue.drawing.scene import ModelArrays, image_corners, pinhole_corner_rays
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.store.publication import reading_results


@dataclass(frozen=True, slots=True, eq=False)
class ModelTable:
    """Images, points and observations of a model.

    Args:
        names: of the F images, sorted.
        cameras: of each image.
        arrays: poses, points and colours, as they are drawn.
        image_idx: image of each of the T observations, ascending; row of `names`.
        point_idx: point of each observation [T]; row of `arrays.points`.
        xy: keypoint of each observation [T, 2], in pixels of the stored image.
        residuals_px: distance of each keypoint from the projection of its point [T]; NaN behind the camera.
        loose_image_idx: image of each of the K keypoints without a point, ascending.
        loose_xy: these keypoints [K, 2].
    """

    names: tuple[str, ...]
    cameras: tuple[CameraRow, ...]
    arrays: ModelArrays
    image_idx: IndexArray
    point_idx: IndexArray
    xy: Float64Array
    residuals_px: Float64Array
    loose_image_idx: IndexArray
    loose_xy: Float64Array


def read_model_table(path: Path) -> ModelTable:
    """Read the model at or below a path, as `find_map` locates it.

    Raises:
        DataError: if there is no model, or its files are damaged.
    """
    location = find_map(path)
    with reading_results(location.output):
        content = checked_content(location.model)
    return model_table(content)


def model_table(content: ModelContent) -> ModelTable:
    """The table of a model that was read."""
    images, points = content.images, content.points
    order = np.array(sorted(range(len(images.names)), key=lambda row: images.names[row]), np.int64)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    by_id = np.argsort(points.ids, kind="stable")
    image_idx = np.repeat(rank, images.num_points)
    by_image = np.argsort(image_idx, kind="stable")
    image_idx, xy, ids = image_idx[by_image], images.xy[by_image], images.point_ids[by_image]
    has_point = ids != INVALID_POINT_ID
    if len(by_id) == 0:
        has_point[:] = False
    point_idx = np.searchsorted(points.ids[by_id], ids[has_point])
    camera_from_id = {camera.camera_id: camera for camera in content.cameras}
    cameras = tuple(camera_from_id[int(images.camera_ids[row])] for row in order)
    poses = tuple(_pose(images.poses[row]) for row in order)
    xyz = points.xyz[by_id]
    residuals = _residuals(cameras, poses, xyz, image_idx[has_point], point_idx, xy[has_point])
    return ModelTable(
        tuple(images.names[row] for row in order),
        cameras,
        ModelArrays(xyz, points.colors[by_id], poses, tuple(_corner_rays(camera) for camera in cameras)),
        image_idx[has_point],
        point_idx,
        xy[has_point],
        residuals,
        image_idx[~has_point],
        xy[~has_point],
    )


def _pose(values: Float64Array) -> Rigid3:
    """Rotation (w, x, y, z) and translation [7] -> `cam_from_world`."""
    w, x, y, z = values[:4]
    quaternion = np.array([x, y, z, w]) / np.linalg.norm(values[:4])
    return Rigid3(pycolmap.Rotation3d(quaternion).matrix(), values[4:])


def _native(camera: CameraRow) -> pycolmap.Camera:
    width, height = camera.size
    return pycolmap.Camera(model=camera.model, width=width, height=height, params=list(camera.params))


def _corner_rays(camera: CameraRow) -> Float64Array:
    """Rays through the corners of the image; of a camera that sees behind itself, those of 90 degrees."""
    width, height = camera.size
    rays = np.asarray(_native(camera).cam_ray_from_img(image_corners(width, height)), np.float64)
    is_usable = np.isfinite(rays).all() and (rays[:, 2] > 0.05).all()
    return rays if is_usable else pinhole_corner_rays(width, height)


def _residuals(
    cameras: tuple[CameraRow, ...],
    poses: tuple[Rigid3, ...],
    xyz: Float64Array,
    image_idx: IndexArray,
    point_idx: IndexArray,
    xy: Float64Array,
) -> Float64Array:
    """Reprojection error of each observation [T] in pixels; NaN for points that are not in front of the camera."""
    starts = np.searchsorted(image_idx, np.arange(len(poses) + 1))
    residuals = np.full(len(image_idx), np.nan)
    for row, (camera, cam_from_world) in enumerate(zip(cameras, poses, strict=True)):
        own = slice(starts[row], starts[row + 1])
        in_camera: AnyArray = cam_from_world @ xyz[point_idx[own]]
        in_front = np.flatnonzero(in_camera[:, 2] > 0)
        if len(in_front) > 0:
            projected = np.asarray(_native(camera).img_from_cam(in_camera[in_front]), np.float64)
            residuals[own][in_front] = np.linalg.norm(projected - xy[own][in_front], axis=1)
    return residuals
