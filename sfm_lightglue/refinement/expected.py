"""Points that an image should show by the model, although none of its keypoints observes them, and where it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array, IndexArray, Int32Array
from sfm_lightglue.refinement.observations import Observations, add_keypoints
from sfm_lightglue.refinement.planes import PlaneViews

_MIN_SEEN = 0.4
"""Share of the nearest points that an image must observe so that it should show a point: others may be hidden."""

_MAX_ANGLE_DEG = 45.0
"""Largest angle between the rays of the reference and of the image, beyond which patches look too different."""

_MAX_SCALE = 2.0
"""Largest distance of the samples of the template in pixels of the image; the smallest one is its inverse."""

FULL_SIZE_PX = 1600
"""Longer side in pixels of the images for which limits in pixels hold as they are."""


@dataclass(frozen=True, eq=False, slots=True)
class Expected:
    """Points that an image should show.

    Args:
        points: [C] rows of the points, ascending.
        xy: [C, 2] their projections, pixels of the stored image, COLMAP convention.
        warps: [C, 2, 2] pixels of the image per sample of the template of the point.
    """

    points: IndexArray
    xy: Float64Array
    warps: Float64Array

    @classmethod
    def none(cls) -> Expected:
        """No points."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros((0, 2, 2)))

    def chosen(self, rows: IndexArray) -> Expected:
        """Some of them, by their ascending rows."""
        return Expected(self.points[rows], self.xy[rows], self.warps[rows])


@dataclass(frozen=True, eq=False, slots=True)
class Found:
    """Where images show points that they do not observe.

    Args:
        image_ids: [F] of the images, ascending.
        point_ids: [F] of the points; each is there once in an image.
        xy: [F, 2] pixels of the stored images, COLMAP convention.
    """

    image_ids: IndexArray
    point_ids: IndexArray
    xy: Float64Array

    def __len__(self) -> int:
        return len(self.xy)

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Found:
        """What is found in several images, which follow each other."""
        none = cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2)))
        image_ids, point_ids, xy = (
            np.concatenate([getattr(part, name) for part in (none, *parts)])
            for name in ("image_ids", "point_ids", "xy")
        )
        return cls(image_ids, point_ids, xy)


def add_found(model: pycolmap.Reconstruction, found: Found, max_error_px: float) -> int:
    """Add observations where points were found, at keypoints that follow those of their images.

    Args:
        model: changed in place; its poses and points may have moved meanwhile, and points may have been removed.
        found: in its images.
        max_error_px: largest reprojection error, in pixels of images of up to 1600 px; in larger images it grows with
            the longer side.

    Returns:
        Number of the added observations.
    """
    num_before = model.compute_num_observations()
    for image_id in np.unique(found.image_ids).tolist():
        rows = np.flatnonzero(found.image_ids == image_id)
        rows = rows[[model.exists_point3D(point_id) for point_id in found.point_ids[rows].tolist()]]
        image = model.images[image_id]
        camera = model.cameras[image.camera_id]
        points = model.points3D
        xyz = np.array([points[point_id].xyz for point_id in found.point_ids[rows].tolist()]).reshape(-1, 3)
        cam_from_world = image.cam_from_world().matrix()
        in_camera = xyz @ cam_from_world[:, :3].T + cam_from_world[:, 3]
        with np.errstate(all="ignore"):  # not finite where it cannot be projected
            errors = np.linalg.norm(np.asarray(camera.img_from_cam(in_camera)) - found.xy[rows], axis=1)
        limit = max_error_px * max(1.0, max(camera.width, camera.height) / FULL_SIZE_PX)
        rows = rows[(errors <= limit) & (in_camera[:, 2] > 0)]
        add_keypoints(model, image_id, found.xy[rows], found.point_ids[rows])
    return int(model.compute_num_observations() - num_before)


def expected_in(
    model: pycolmap.Reconstruction,
    seen: Observations,
    views: PlaneViews,
    references: IndexArray,
    planes: Float64Array,
    row: int,
) -> Expected:
    """The points that an image should show, because it observes enough of those around them from a similar direction.

    Args:
        model: poses and cameras.
        seen: its observations.
        views: of the planes of the points.
        references: [P] observation whose patch is the template of each point.
        planes: [P, 2, 2] where the samples of the templates lie on the planes.
        row: of the image.
    """
    image = model.images[seen.image_ids[row]]
    observed = seen.points[seen.of(row)]
    points = _among_observed(observed, views.neighbours)
    towards = image.projection_center() - seen.positions[points]
    cosines = (towards * views.directions[references[points]]).sum(axis=1)
    points = points[cosines >= np.cos(np.radians(_MAX_ANGLE_DEG)) * np.linalg.norm(towards, axis=1)]
    cam_from_world = image.cam_from_world().matrix()
    in_camera = seen.positions[points] @ cam_from_world[:, :3].T + cam_from_world[:, 3]
    is_front = in_camera[:, 2] > 0
    points, in_camera = points[is_front], in_camera[is_front]
    camera = model.cameras[image.camera_id]
    with np.errstate(all="ignore"):  # not finite where it cannot be projected
        xy = np.asarray(camera.img_from_cam(in_camera), np.float64).reshape(-1, 2)
        warps = views.pixels_of(image, seen.positions, points) @ planes[points]
        areas = warps[:, 0, 0] * warps[:, 1, 1] - warps[:, 0, 1] * warps[:, 1, 0]
        scales = np.sqrt(np.maximum(areas, 0))  # negative: mirrored, by a distortion beyond the field of view
        is_similar = (scales * _MAX_SCALE >= 1) & (scales <= _MAX_SCALE)
        is_inside = ((xy >= 0) & (xy <= [camera.width, camera.height])).all(axis=1)
    return Expected(points, xy, warps).chosen(np.flatnonzero(is_similar & is_inside))


def _among_observed(observed: IndexArray, neighbours: Int32Array) -> IndexArray:
    """Ascending rows of the points that are not observed, but enough of those around them.

    Args:
        observed: rows of the points that an image observes.
        neighbours: [P, K] rows of the nearest points of each point.
    """
    if neighbours.shape[1] == 0:
        return np.zeros(0, np.int64)
    is_observed, is_near = (np.zeros(len(neighbours), np.bool_) for _ in range(2))
    is_observed[observed] = True
    is_near[neighbours[observed]] = True
    near = np.flatnonzero(is_near & ~is_observed)
    shares = is_observed[neighbours[near]].sum(axis=1) / (neighbours.shape[1] - 1)  # the point itself is one
    chosen: IndexArray = near[shares >= _MIN_SEEN]
    return chosen
