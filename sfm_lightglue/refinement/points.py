"""Positions of points whose cameras are known: the minimum of their robust reprojection errors, in whole arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.refinement.observations import Observations

_NUM_STEPS = 4
"""Gauss-Newton steps; they begin less than a pixel from the minimum."""

_MIN_DEPTH = 1e-9
"""Of a point whose step is computed; one in the plane of a camera has none."""


@dataclass(frozen=True, eq=False, slots=True)
class _Views:
    """Observations with their cameras; those whose distortion cannot be undone are left out.

    Args:
        points: [M] row of the point.
        R: [M, 3, 3] camera from world.
        t: [M, 3].
        xy: [M, 2] normalised.
        scales: [M] standard deviations per unit of the normalised image.
    """

    points: IndexArray
    R: Float64Array
    t: Float64Array
    xy: Float64Array
    scales: Float64Array

    @classmethod
    def of(cls, model: pycolmap.Reconstruction, seen: Observations, sigmas_px: Float64Array) -> _Views:
        """The observations of a model."""
        images = [model.images[image_id] for image_id in seen.image_ids]
        cameras = [model.cameras[image.camera_id] for image in images]
        poses = np.array([image.cam_from_world().matrix() for image in images]).reshape(-1, 3, 4)
        xy = [np.asarray(camera.cam_from_img(seen.xy[seen.of(row)])) for row, camera in enumerate(cameras)]
        normalized = np.concatenate([np.zeros((0, 2)), *xy])
        focal_px = np.array([camera.mean_focal_length() for camera in cameras])
        rows = np.flatnonzero(np.isfinite(normalized).all(axis=1))
        of_rows = seen.images[rows]
        matrices = poses[of_rows]
        scales = focal_px[of_rows] / sigmas_px[rows]
        return cls(seen.points[rows], matrices[:, :, :3], matrices[:, :, 3], normalized[rows], scales)

    def errors(self, positions: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Errors [M, 2] in standard deviations, and depths [M], of points [P, 3]."""
        in_camera = np.einsum("nij,nj->ni", self.R, positions[self.points]) + self.t
        depths = in_camera[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            return (in_camera[:, :2] / depths[:, None] - self.xy) * self.scales[:, None], depths


def _costs(errors: Float64Array, views: _Views, loss: float, num_points: int) -> Float64Array:
    """Costs [P] of points, infinite for one in the plane of a camera."""
    squared = (errors**2).sum(axis=1) / loss**2
    costs = np.bincount(views.points, np.sqrt(1 + squared) - 1, num_points)
    return np.where(np.isnan(costs), np.inf, costs)


def _steps(positions: Float64Array, views: _Views, loss: float) -> Float64Array:
    """Gauss-Newton steps [P, 3] of the weighted squared errors."""
    in_camera = np.einsum("nij,nj->ni", views.R, positions[views.points]) + views.t
    depths = np.where(np.abs(in_camera[:, 2]) > _MIN_DEPTH, in_camera[:, 2], _MIN_DEPTH)
    projected = in_camera[:, :2] / depths[:, None]
    errors = (projected - views.xy) * views.scales[:, None]
    roots = (1 + (errors**2).sum(axis=1) / loss**2) ** -0.25  # of the weights
    J = (views.R[:, :2] - projected[:, :, None] * views.R[:, 2:]) * (roots * views.scales / depths)[:, None, None]
    errors *= roots[:, None]
    num = len(positions)
    hessians = np.empty((num, 3, 3))
    gradients = np.empty((num, 3))
    for i in range(3):
        for j in range(i, 3):
            products = J[:, 0, i] * J[:, 0, j] + J[:, 1, i] * J[:, 1, j]
            hessians[:, i, j] = hessians[:, j, i] = np.bincount(views.points, products, num)
        gradients[:, i] = np.bincount(views.points, J[:, 0, i] * errors[:, 0] + J[:, 1, i] * errors[:, 1], num)
    damping = 1e-9 * np.trace(hessians, axis1=1, axis2=2) + np.finfo(float).tiny
    hessians += damping[:, None, None] * np.eye(3)
    return np.asarray(np.linalg.solve(hessians, gradients[:, :, None])[:, :, 0])


def adjusted_points(
    model: pycolmap.Reconstruction, seen: Observations, positions: Float64Array, sigmas_px: Float64Array, loss: float
) -> Float64Array:
    """Positions of points that fit given poses and intrinsics best, with a soft L1 loss.

    Args:
        model: with the poses and the intrinsics; it is not changed.
        seen: the observations of the points.
        positions: [P, 3] from which the search begins. A point that does not get better stays there.
        sigmas_px: [M] standard deviations of the observations.
        loss: scale of the loss in standard deviations.

    Returns:
        [P, 3].

    Source: Holland and Welsch, Robust regression using iteratively reweighted least-squares, 1977.
    """
    views = _Views.of(model, seen, sigmas_px)
    errors, _ = views.errors(positions)
    first_costs = _costs(errors, views, loss, len(positions))
    moved = positions
    for _ in range(_NUM_STEPS):
        moved = moved - _steps(moved, views, loss)
    errors, depths = views.errors(moved)
    is_better = _costs(errors, views, loss, len(moved)) <= first_costs
    is_better &= np.bincount(views.points, ~(depths > 0), len(moved)) == 0
    return np.where(is_better[:, None], moved, positions)
