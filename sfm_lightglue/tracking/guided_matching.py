"""Matches of points of one place with features of a keyframe whose pose there is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Sim3
from sfm_lightglue.tracking.projection import is_inside, pixels_from_cam
from sfm_lightglue.tracking.slam_map import SlamMap
from sfm_lightglue.types import Camera

_NUM_NEAREST = 5
"""Features around the projection of a point whose descriptors are compared."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacePoints:
    """Points that keyframes of one place observe.

    Args:
        point_ids: [P] different points.
        xyz: [P, 3] in the world.
        descriptors: [P, D] of one observation each.
    """

    point_ids: IndexArray
    xyz: Float64Array
    descriptors: Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class GuidedMatches:
    """Points that were found in an image.

    Args:
        pixels: [P, 2] projections of all points.
        is_visible: [P] whether each point lies before the camera and projects into the image.
        points: [M] indices of the points that were found.
        rows: [M] different rows of the features that see them.
    """

    pixels: Float64Array
    is_visible: BoolArray
    points: IndexArray
    rows: IndexArray

    @property
    def num_visible(self) -> int:
        """Number of points that can be found."""
        return int(self.is_visible.sum())

    @property
    def share(self) -> float:
        """Fraction of the visible points that was found."""
        return len(self.points) / max(1, self.num_visible)


def place_points(slam_map: SlamMap, idxs: Sequence[int]) -> PlacePoints:
    """The points that features of some keyframes observe, each with its descriptor in the first of these.

    Args:
        slam_map: the map.
        idxs: keyframes, the most important first.
    """
    with slam_map.lock:
        keyframes = [slam_map.keyframes[idx] for idx in idxs]
        ids_of = [keyframe.point_ids[: keyframe.num_features] for keyframe in keyframes]
        ids = np.concatenate([one[one >= 0] for one in ids_of])
        descriptors = np.concatenate(
            [keyframe.features.descriptors[one >= 0] for keyframe, one in zip(keyframes, ids_of, strict=True)]
        )
        point_ids, first = np.unique(ids, return_index=True)
        return PlacePoints(point_ids, slam_map.xyz(point_ids), descriptors[first])


def match_by_projection(
    camera: Camera,
    features: Features,
    cam_from_world: Sim3,
    points: PlacePoints,
    radius_px: float,
    max_distance: float,
) -> GuidedMatches:
    """Find points in an image near their projections, by their descriptors.

    Args:
        camera: of the image.
        features: of the image.
        cam_from_world: from the world of the points.
        points: to find.
        radius_px: largest distance from the projection.
        max_distance: largest distance of descriptors.
    """
    xyz_in_cam = cam_from_world @ points.xyz
    pixels = pixels_from_cam(camera, xyz_in_cam)
    is_visible = is_inside(camera, pixels) & (xyz_in_cam[:, 2] > 0)
    visible = np.flatnonzero(is_visible)
    none = np.zeros(0, np.int64)
    if len(visible) == 0 or len(features) == 0:
        return GuidedMatches(pixels, is_visible, none, none)
    distances_px, rows = cKDTree(features.keypoints).query(
        pixels[visible], k=min(_NUM_NEAREST, len(features)), distance_upper_bound=radius_px
    )
    rows = rows.reshape(len(visible), -1)
    is_near = np.isfinite(distances_px).reshape(rows.shape)
    rows = np.where(is_near, rows, 0)
    differences = features.descriptors[rows] - points.descriptors[visible][:, None]
    distances = np.where(is_near, np.linalg.norm(differences, axis=2), np.inf)
    best = distances.argmin(axis=1)
    every = np.arange(len(visible))
    points_found, rows_found = _one_point_per_row(visible, rows[every, best], distances[every, best], max_distance)
    return GuidedMatches(pixels, is_visible, points_found, rows_found)


def _one_point_per_row(
    points: IndexArray, rows: IndexArray, distances: Float64Array, max_distance: float
) -> tuple[IndexArray, IndexArray]:
    good = np.flatnonzero(distances <= max_distance)
    order = good[np.lexsort((points[good], distances[good]))]
    _, first = np.unique(rows[order], return_index=True)
    kept = np.sort(order[first])
    return points[kept], rows[kept]
