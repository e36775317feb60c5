"""Positions of points that fit given poses and intrinsics best, by the precision of their observations."""

from __future__ import annotations

import numpy as np
import pycolmap

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.geometry.point_positions import PointViews, best_positions
from sfm_lightglue.refinement.observations import Observations

_MAX_STEPS = 15
"""Gauss-Newton steps of a point at most; most points need three."""

_DIFFERENCE_PX = 0.5
"""Distance in pixels on both sides of a keypoint from which the local scale of the camera is computed."""

_MAX_SIGMAS = 3.0
"""A point that gets no better may have a mean cost as of errors of so many standard deviations."""


def adjusted_points(
    model: pycolmap.Reconstruction, seen: Observations, positions: Float64Array, sigmas_px: Float64Array, loss: float
) -> tuple[Float64Array, BoolArray]:
    """Positions of points that fit given poses and intrinsics best, with a soft L1 loss.

    The errors are those in the distorted image, of first order: they are right near the keypoints for all lenses.
    Observations whose distortion cannot be undone, or lies beyond what the camera can show, do not count.

    Args:
        model: with the poses and the intrinsics; it is not changed.
        seen: the observations of the points.
        positions: [P, 3] from which the search begins.
        sigmas_px: [M] standard deviations of the observations.
        loss: scale of the loss in standard deviations.

    Returns:
        Positions [P, 3], and which points [P] fit. A point that gets no better, or comes behind one of its cameras,
        stays where it was; it fits if its errors there are small. One without two observations that count does not.
    """
    views = _views(model, seen, sigmas_px)
    moved = best_positions(views, positions, loss, _MAX_STEPS)
    num = len(positions)
    before, after = views.costs(positions, loss), views.costs(moved, loss)
    is_better = _is_in_front(views, moved) & (after <= before)
    counts = np.bincount(views.point, minlength=num)
    largest = counts * (np.sqrt(1 + (_MAX_SIGMAS / loss) ** 2) - 1)
    fits = is_better | (_is_in_front(views, positions) & (before <= largest))
    return np.where(is_better[:, None], moved, positions), np.asarray(fits & (counts >= 2))


def _is_in_front(views: PointViews, positions: Float64Array) -> BoolArray:
    """Whether points [P] are in front of all of their cameras."""
    _, depths = views.errors(positions)
    return np.asarray(np.bincount(views.point, ~(depths > 0), len(positions)) == 0)


def _views(model: pycolmap.Reconstruction, seen: Observations, sigmas_px: Float64Array) -> PointViews:
    """The observations of a model, with errors in standard deviations."""
    images = [model.images[image_id] for image_id in seen.image_ids]
    poses = np.array([image.cam_from_world().matrix() for image in images]).reshape(-1, 3, 4)
    normalized, pixels_per_unit = np.empty((len(seen), 2)), np.empty((2, 2, len(seen)))
    is_known = np.zeros(len(seen), np.bool_)
    for row, image in enumerate(images):
        of_image, camera = seen.of(row), model.cameras[image.camera_id]
        normalized[of_image] = np.asarray(camera.cam_from_img(seen.xy[of_image])).reshape(-1, 2)
        pixels, pixels_per_unit[:, :, of_image] = _projected(camera, normalized[of_image])
        is_known[of_image] = np.abs(pixels - seen.xy[of_image]).max(axis=1) < _DIFFERENCE_PX  # False for NaN
    is_known &= np.isfinite(pixels_per_unit).all(axis=(0, 1))
    rows = np.flatnonzero(is_known)
    scale = pixels_per_unit.take(rows, axis=2) / sigmas_px[rows]
    return PointViews.of(seen.points[rows], seen.images[rows], poses[:, :, :3], poses[:, :, 3], normalized[rows], scale)


def _projected(camera: pycolmap.Camera, normalized: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Pixels [N, 2] of normalised image points [N, 2], and derivatives [2, 2, N] of these by those."""
    step = _DIFFERENCE_PX / camera.mean_focal_length()
    middles, columns = [], []
    for shift in ((step, 0.0), (0.0, step)):
        ends = [np.column_stack([normalized + sign * np.array(shift), np.ones(len(normalized))]) for sign in (1, -1)]
        ahead, behind = (np.asarray(camera.img_from_cam(end), np.float64).reshape(-1, 2) for end in ends)
        middles.append((ahead + behind) / 2)
        columns.append((ahead - behind).T / (2 * step))
    return (middles[0] + middles[1]) / 2, np.stack(columns, axis=1)
