"""Positions of points whose cameras are known: the minimum of their reprojection errors, in whole arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.kernels import points as kernels
from sfm_lightglue.kernels.library import compiled

_MIN_DEPTH = 1e-9
"""Of a point whose step is computed; one in the plane of a camera has none."""

_SHORT = 1e-3
"""A point stays after a step that changes all of its errors together by less."""

_MOST = 0.7
"""Observations of points that stay are taken out if no more than this part of the points still moves."""


@dataclass(frozen=True, eq=False, slots=True)
class PointViews:
    """Observations of points by cameras with known poses, in columns: operations on whole columns are fast.

    Args:
        point: [O] row of the point.
        R: [3, 3, O] rotations, camera from world.
        t: [3, O].
        xy: [2, O] normalised image points; finite.
        scale: [O] errors per unit of the normalised image, or [2, 2, O] errors of (x, y) for each of both directions.
    """

    point: IndexArray
    R: Float64Array
    t: Float64Array
    xy: Float64Array
    scale: Float64Array

    @classmethod
    def of(
        cls,
        point: IndexArray,
        image: IndexArray,
        R: Float64Array,
        t: Float64Array,
        xy: Float64Array,
        scale: Float64Array,
    ) -> PointViews:
        """Observations of images.

        Args:
            point: [O] row of the point.
            image: [O] row of the image.
            R: [I, 3, 3] rotations, camera from world.
            t: [I, 3].
            xy: [O, 2] normalised image points.
            scale: [O] or [2, 2, O].
        """
        columns = np.ascontiguousarray(R.transpose(1, 2, 0)).take(image, axis=2)
        shifts = np.ascontiguousarray(t.T).take(image, axis=1)
        return cls(point, columns, shifts, np.ascontiguousarray(xy.T), scale)

    def of_points(self, mask: BoolArray) -> PointViews:
        """The observations of the points of a mask [P], which are numbered anew."""
        rows = np.flatnonzero(mask[self.point])
        number = np.cumsum(mask) - 1
        parts = (each.take(rows, axis=-1) for each in (self.R, self.t, self.xy, self.scale))
        return PointViews(number[self.point[rows]], *parts)

    def errors(self, xyz: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Errors [2, O], and depths [O], of points [P, 3]."""
        x, y, z = self._in_cameras(xyz)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._scaled(np.stack([x / z, y / z]) - self.xy), z

    def costs(self, xyz: Float64Array, loss: float) -> Float64Array:
        """Costs [P] of points [P, 3] with a soft L1 loss of a scale; infinite for one in the plane of a camera."""
        errors, _ = self.errors(xyz)
        with np.errstate(invalid="ignore", over="ignore"):
            squared = (errors**2).sum(axis=0) / loss**2
        costs = np.bincount(self.point, np.sqrt(1 + squared) - 1, len(xyz))
        return np.where(np.isnan(costs), np.inf, costs)

    def steps(self, xyz: Float64Array, loss: float | None) -> tuple[Float64Array, Float64Array]:
        """Gauss-Newton steps of points.

        Args:
            xyz: [P, 3].
            loss: scale of a soft L1 loss; None for squared errors.

        Returns:
            The steps [P, 3], and by how much each changes all errors of its point together [P].
        """
        in_camera = self._in_cameras(xyz)
        depth = np.where(np.abs(in_camera[2]) > _MIN_DEPTH, in_camera[2], _MIN_DEPTH)
        projected = np.stack(in_camera[:2]) / depth
        errors = self._scaled(projected - self.xy)
        J = [self._scaled((self.R[:2, i] - projected * self.R[2, i]) / depth) for i in range(3)]
        if loss is not None:
            roots = (1 + (errors**2).sum(axis=0) / loss**2) ** -0.25  # of the weights
            errors *= roots
            for column in J:
                column *= roots
        num = len(xyz)
        hessians, gradients = np.empty((num, 3, 3)), np.empty((num, 3))
        for i in range(3):
            gradients[:, i] = np.bincount(self.point, (J[i] * errors).sum(axis=0), num)
            for j in range(i, 3):
                hessians[:, i, j] = hessians[:, j, i] = np.bincount(self.point, (J[i] * J[j]).sum(axis=0), num)
        trace = np.maximum(np.trace(hessians, axis1=1, axis2=2), 1e-30)
        hessians += (1e-9 * trace)[:, None, None] * np.eye(3)
        steps = np.asarray(np.linalg.solve(hessians, gradients[:, :, None])[:, :, 0], np.float64)
        return steps, np.sqrt(np.maximum((steps * gradients).sum(axis=1), 0))

    def _in_cameras(self, xyz: Float64Array) -> list[Float64Array]:
        x, y, z = np.ascontiguousarray(xyz.T).take(self.point, axis=1)
        return [row[0] * x + row[1] * y + row[2] * z + shift for row, shift in zip(self.R, self.t, strict=True)]

    def _scaled(self, differences: Float64Array) -> Float64Array:
        """Differences [2, O] of normalised image points, in units of the errors."""
        if self.scale.ndim == 1:
            return differences * self.scale
        return np.asarray(self.scale[:, 0] * differences[0] + self.scale[:, 1] * differences[1])


def best_positions(views: PointViews, xyz: Float64Array, loss: float | None, max_steps: int) -> Float64Array:
    """Points [P, 3] after Gauss-Newton steps; a point whose step is short makes no further one.

    Args:
        views: their observations.
        xyz: [P, 3] from which the search begins.
        loss: scale of a soft L1 loss; None for squared errors.
        max_steps: of a point.

    Source: Holland and Welsch, Robust regression using iteratively reweighted least-squares, 1977.
    """
    library = compiled()
    if library is not None:
        columns = views.R, views.t, views.xy, views.scale
        return kernels.best_positions(library, views.point, columns, xyz, loss, _SHORT, max_steps)
    xyz = xyz.copy()
    rows = np.arange(len(xyz))
    for _ in range(max_steps):
        steps, changes = views.steps(xyz[rows], loss)
        xyz[rows] -= steps
        moves = changes > _SHORT
        num_moving = int(moves.sum())
        if num_moving == 0:
            break
        if num_moving < _MOST * len(rows):
            views, rows = views.of_points(moves), rows[moves]
    return xyz
