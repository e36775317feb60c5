"""Poses are adjusted by a part of the triangulated points; the others follow with fixed poses, in whole arrays.

A camera needs only some of its observations: those that all images have in a dense model determine it many times over,
and take most of the time of an adjustment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.mapping.dense_keypoints import DenseKeypoints
from sfm_lightglue.mapping.dense_tracks import DensePoints, Observers, adjusted_positions, refine_points

_ENOUGH_OF_IMAGE = 500
"""Observations of an image by which its pose is adjusted."""

_SEED = 0
"""Of the choice of their points."""


@dataclass(frozen=True, eq=False, slots=True)
class PoseAdjustment:
    """Points after an adjustment of the poses.

    Args:
        model: with the adjusted poses and intrinsics, and a part of the points.
        observers: of the adjusted model.
        points: that have enough observations within their limits there.
        shifts: [I] the error that the adjustment took away from the observations of each image, as a part of their
            limit: the root of the difference of the squared mean errors, 0 if the error grew.
    """

    model: pycolmap.Reconstruction
    observers: Observers
    points: DensePoints
    shifts: Float64Array


def adjust_poses(
    model: pycolmap.Reconstruction,
    keypoints: DenseKeypoints,
    points: DensePoints,
    observers: Observers,
    adjust: Callable[[pycolmap.Reconstruction], None],
    min_angle_deg: float,
    min_views: int,
) -> PoseAdjustment:
    """Adjust the poses of a model by a part of its new points, and move all of these to where they fit the poses.

    Args:
        model: with the poses from which the points were triangulated; it is not changed.
        keypoints: of its images.
        points: triangulated points.
        observers: of the model.
        adjust: adjusts a model in place.
        min_angle_deg: points with a smaller triangulation angle are left out afterwards.
        min_views: smallest number of images of a point.
    """
    part = points.chosen(_enough(points, observers))
    numbers = np.unique(part.keypoint)
    renumbered = DensePoints(part.xyz, part.point, np.searchsorted(numbers, part.keypoint))
    adjusted = keypoints.part(numbers).model_with(model, renumbered)
    adjust(adjusted)
    after = keypoints.observers_like(adjusted, observers)
    xyz = adjusted_positions(points.xyz, points.point, points.keypoint, after)
    moved = DensePoints(xyz, points.point, points.keypoint)
    shifts = _errors_taken_away((points, observers), (moved, after))
    return PoseAdjustment(adjusted, after, refine_points(moved, after, min_angle_deg, min_views, num_rounds=1), shifts)


def _enough(points: DensePoints, observers: Observers) -> BoolArray:
    """Points [P] by chance, so many that each image has enough observations; of an image with fewer, all."""
    image = observers.image[points.keypoint]
    wanted = _ENOUGH_OF_IMAGE / np.maximum(np.bincount(image, minlength=len(observers.R)), 1)
    share = np.zeros(len(points.xyz))
    np.maximum.at(share, points.point, wanted[image])
    return np.asarray(np.random.default_rng(_SEED).random(len(share)) < share)


def _errors_taken_away(before: tuple[DensePoints, Observers], after: tuple[DensePoints, Observers]) -> Float64Array:
    """`PoseAdjustment.shifts`. Observations that are beyond their limits afterwards do not count: they are removed."""
    (points, observers), (moved, adjusted) = before, after
    old, _ = observers.residuals(points.xyz.take(points.point, axis=0), points.keypoint)
    new, depth = adjusted.residuals(moved.xyz.take(moved.point, axis=0), moved.keypoint)
    lengths = np.linalg.norm(old, axis=1), np.linalg.norm(new, axis=1)
    kept = np.flatnonzero((lengths[1] <= 1) & (depth > 0))
    image, num = observers.image[points.keypoint[kept]], len(observers.R)
    counts = np.maximum(np.bincount(image, minlength=num), 1)
    means = [np.bincount(image, each[kept], num) / counts for each in lengths]
    return np.asarray(np.sqrt(np.maximum(means[0] ** 2 - means[1] ** 2, 0)))
