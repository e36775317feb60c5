"""Points whose depth is that of the surface around them in the images.

A wrong match of two images lies anywhere on an epipolar line, and a keypoint of a third image near its projection is
often found by chance. The depth of its point is as random. Right points lie on or between the surfaces that other
points show nearby in the image.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.mapping.dense_tracks import DensePoints
from sfm_lightglue.mapping.observers import Observers

_NUM_NEIGHBOURS = 8
"""Points of the surface whose depths are compared with that of a point in an image."""

_MIN_NEIGHBOURS = 4
"""An image that sees fewer points of the surface tells nothing."""

_MAX_DEVIATION = 0.05
"""Part of the depth by which a point may lie in front of the nearest of its neighbours, or behind the farthest."""


def agrees_with_surface(points: DensePoints, surface: DensePoints, observers: Observers) -> BoolArray:
    """Whether the depth of a point lies among those of its neighbours, in most of the images that observe it.

    Args:
        points: to be judged.
        surface: sure points, which have no keypoint in common with the others.
        observers: poses and keypoints.

    Returns:
        [P] of `points`; False for a point without neighbours.
    """
    votes, agreeing = np.zeros(len(points.xyz)), np.zeros(len(points.xyz))
    rows_of_image, known_of_image = _rows_by_image(points, observers), _rows_by_image(surface, observers)
    for image, (rows, known) in enumerate(zip(rows_of_image, known_of_image, strict=True)):
        if len(rows) == 0 or len(known) < _MIN_NEIGHBOURS:
            continue
        tree = cKDTree(observers.points[surface.keypoint[known]])
        num = min(_NUM_NEIGHBOURS, len(known))
        _, nearest = tree.query(observers.points[points.keypoint[rows]], k=num)
        nearness = _inverse_depths(points.xyz[points.point[rows]], image, observers)
        around = _inverse_depths(surface.xyz[surface.point[known]], image, observers)[nearest]
        is_behind = nearness * (1 + _MAX_DEVIATION) < around.min(axis=1)
        is_before = nearness > around.max(axis=1) * (1 + _MAX_DEVIATION)
        votes[points.point[rows]] += 1  # an image observes a point once
        agreeing[points.point[rows]] += ~is_behind & ~is_before
    return np.asarray(2 * agreeing > votes)


def surface_of(points: DensePoints, num_sure: int, observers: Observers) -> DensePoints:
    """The points that others are compared with: in each image the sure ones, or all where it sees too few of these.

    Args:
        points: right in general.
        num_sure: points of so many images are sure.
        observers: poses and keypoints.

    Returns:
        All points, with the observations of the surface.
    """
    image, is_sure = observers.image[points.keypoint], (points.num_observations >= num_sure)[points.point]
    num_seen = np.bincount(image[is_sure], minlength=len(observers.R))
    kept = is_sure | (num_seen < _MIN_NEIGHBOURS)[image]
    return DensePoints(points.xyz, points.point[kept], points.keypoint[kept])


def _rows_by_image(points: DensePoints, observers: Observers) -> list[IndexArray]:
    """For each image, the ascending rows of its observations."""
    image = observers.image[points.keypoint]
    order = np.argsort(image, kind="stable")
    return np.split(order, np.searchsorted(image[order], np.arange(1, len(observers.R))))


def _inverse_depths(xyz: Float64Array, image: int, observers: Observers) -> Float64Array:
    """Of points [N, 3] in an image [N]."""
    return np.asarray(1 / (xyz @ observers.R[image, 2] + observers.t[image, 2]))
