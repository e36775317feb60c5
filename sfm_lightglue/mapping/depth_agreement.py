"""Points whose depth is that of the surface around them in the images.

A wrong match of two images lies anywhere on an epipolar line, and a keypoint of a third image near its projection is
often found by chance. The depth of its point is as random. Right points lie on or between the surfaces that other
points show nearby in the image.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.mapping.dense_tracks import DensePoints, Observers

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
    image, of_surface = observers.image[points.keypoint], observers.image[surface.keypoint]
    votes, agreeing = np.zeros(len(points.xyz)), np.zeros(len(points.xyz))
    nearness, limits = _inverse_depths(points, observers), _inverse_depths(surface, observers)
    for one in np.unique(image).tolist():
        rows, known = np.flatnonzero(image == one), np.flatnonzero(of_surface == one)
        if len(known) < _MIN_NEIGHBOURS:
            continue
        tree = cKDTree(observers.points[surface.keypoint[known]])
        num = min(_NUM_NEIGHBOURS, len(known))
        _, nearest = tree.query(observers.points[points.keypoint[rows]], k=num)
        around = limits[known[nearest]]
        is_behind = nearness[rows] * (1 + _MAX_DEVIATION) < around.min(axis=1)
        is_before = nearness[rows] > around.max(axis=1) * (1 + _MAX_DEVIATION)
        votes[points.point[rows]] += 1  # an image observes a point once
        agreeing[points.point[rows]] += ~is_behind & ~is_before
    return np.asarray(2 * agreeing > votes)


def _inverse_depths(points: DensePoints, observers: Observers) -> Float64Array:
    """Of the points in the images that observe them [O]."""
    return np.asarray(1 / observers.residuals(points.xyz[points.point], points.keypoint)[1])
