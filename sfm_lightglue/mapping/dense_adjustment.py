"""Poses are adjusted by a part of the triangulated points; the others follow with fixed poses, in whole arrays.

A camera needs only some of its observations: those that all images have in a dense model determine it many times over,
and take most of the time of an adjustment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.geometry.point_choice import PointChoice, wanted_for_intrinsics
from sfm_lightglue.mapping.dense_keypoints import DenseKeypoints
from sfm_lightglue.mapping.dense_tracks import DensePoints, adjusted_positions, refine_points
from sfm_lightglue.mapping.observers import Observers

_ENOUGH_OF_IMAGE = 500
"""Observations of an image by which its pose is adjusted."""

_ENOUGH_OF_CAMERA = 10_000
"""Observations of a camera by which its intrinsics are adjusted, if they are free."""

_ENOUGH_OF_ALL = 24_000
"""Observations of all free cameras together, of which each of many cameras gets an equal part: their common points tie
them together. The least numbers of each image and of each parameter come first, so many cameras together get more."""

_LOSS, _MAX_STEPS = 0.25, 15
"""Scale of the soft L1 loss, as a part of the limits, with which points follow the poses, and steps at most: a few of
their observations can be wrong with the adjusted poses."""


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
    constant_camera_ids: Collection[int] = (),
) -> PoseAdjustment | None:
    """Adjust the poses of a model by a part of its new points, and move all of these to where they fit the poses.

    Args:
        model: with the poses from which the points were triangulated; it is not changed.
        keypoints: of its images.
        points: triangulated points.
        observers: of the model.
        adjust: adjusts a model in place.
        min_angle_deg: points with a smaller triangulation angle are left out afterwards.
        min_views: smallest number of images of a point.
        constant_camera_ids: cameras whose intrinsics `adjust` leaves as they are.

    Returns:
        None if no point is left.
    """
    cameras = [model.images[image_id].camera_id for image_id in keypoints.image_ids]
    num_params = {number: len(model.cameras[number].params) for number in {*cameras} - {*constant_camera_ids}}
    part = points.chosen(_enough(points, observers, np.array(cameras), num_params))
    numbers = np.unique(part.keypoint)
    renumbered = DensePoints(part.xyz, part.point, np.searchsorted(numbers, part.keypoint))
    adjusted = keypoints.part(numbers).model_with(model, renumbered)
    adjust(adjusted)
    after = keypoints.observers_like(adjusted, observers)
    is_known = np.isfinite(after.points.take(points.keypoint, axis=0)).all(axis=1)  # by the adjusted distortion
    points = DensePoints(points.xyz, points.point[is_known], points.keypoint[is_known])
    xyz = adjusted_positions(points.xyz, points.point, points.keypoint, after, _LOSS, _MAX_STEPS)
    moved = DensePoints(xyz, points.point, points.keypoint)
    refined = refine_points(moved, after, min_angle_deg, min_views)
    if len(refined.xyz) == 0:
        return None
    return PoseAdjustment(adjusted, after, refined, _errors_taken_away((points, observers), (moved, after)))


def _enough(points: DensePoints, observers: Observers, cameras: IndexArray, num_params: Mapping[int, int]) -> BoolArray:
    """Points [P] by chance, so many that each image, free camera and pair of images has enough observations.

    Args:
        points: to choose from.
        observers: poses and keypoints.
        cameras: [I] camera of each image.
        num_params: of the intrinsics of the free cameras.
    """
    image, num = observers.image[points.keypoint], len(observers.R)
    choice = PointChoice(len(points.xyz), points.point, image, num)
    per_image = np.bincount(image, minlength=num)
    of_camera = wanted_for_intrinsics(per_image, cameras, num_params, _ENOUGH_OF_CAMERA, _ENOUGH_OF_ALL)
    choice.want(np.maximum(_ENOUGH_OF_IMAGE, of_camera))
    choice.want_pairs()
    return choice.chosen()


def _errors_taken_away(before: tuple[DensePoints, Observers], after: tuple[DensePoints, Observers]) -> Float64Array:
    """`PoseAdjustment.shifts`. Observations that are beyond their limits afterwards do not count: they are removed."""
    (points, observers), (moved, adjusted) = before, after
    old, _ = observers.squared_errors(points.xyz, points.point, points.keypoint)
    new, depth = adjusted.squared_errors(moved.xyz, moved.point, moved.keypoint)
    lengths = np.sqrt(old), np.sqrt(new)
    kept = np.flatnonzero((lengths[1] <= 1) & (depth > 0))
    image, num = observers.image[points.keypoint[kept]], len(observers.R)
    counts = np.maximum(np.bincount(image, minlength=num), 1)
    means = [np.bincount(image, each[kept], num) / counts for each in lengths]
    return np.asarray(np.sqrt(np.maximum(means[0] ** 2 - means[1] ** 2, 0)))
