"""Least squares over a relative pose and a lens: one focal length, and radial coefficients that nobody stated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.geometry.epipolar import homogeneous, sampson_residuals
from sfm_lightglue.geometry.transforms import Rigid3, cross_matrix, rotation_from_rotvec
from sfm_lightglue.two_view.correspondences import HOMOGRAPHY_ERROR_RATIO, Correspondences
from sfm_lightglue.two_view.radial import OpenDistortion, distort, undistort

_PRIOR_COEFFICIENT = 0.3
"""Standard deviation of the weak prior of a radial coefficient."""

_LIMITS = 2.0
"""Largest logarithm of the factor of a focal length, and largest coefficient, during a fit."""

_STEP = 1e-6
"""Step of the numeric derivatives."""

_MIN_CHANGE = 1e-4
"""A fit ends when a step that is not refused changes the cost by a smaller fraction."""


@dataclass(frozen=True, eq=False, slots=True)
class LensProblem:
    """The matches of a pair, and what is unknown about its lens.

    A lens is an array [1 + G]: the logarithm of the factor by which normalised points are multiplied (assumed focal
    length over the true one), and a radial coefficient for each group of images. The coefficients are those of the
    points before the multiplication, so that they depend little on the focal length.

    Args:
        data: matches in normalised coordinates, as if there were no distortion.
        distortion: the unknown coefficients.
        log_focal_sigma: standard deviation of the logarithm of the focal length, which both images share.
    """

    data: Correspondences
    distortion: OpenDistortion
    log_focal_sigma: float

    @property
    def sigmas(self) -> Float64Array:
        """Standard deviations [1 + G] of a lens around zeros."""
        return np.array([self.log_focal_sigma] + [_PRIOR_COEFFICIENT] * len(self.distortion.groups))

    def rows(self, mask: BoolArray) -> LensProblem:
        """The matches that a mask [M] selects."""
        return replace(self, data=self.data.rows(mask))

    def undistorted(self, lens: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Points [M, 2] of both images for a lens [1 + G]."""
        factor, (k0, k1) = float(np.exp(lens[0])), self.distortion.coefficients(lens[1:])
        return undistort(self.data.points0, k0) * factor, undistort(self.data.points1, k1) * factor


@dataclass(frozen=True, eq=False, slots=True)
class LensFit(ABC):
    """A motion and a lens, as a point of a least-squares fit.

    Args:
        problem: the matches.
        lens: [1 + G].
    """

    is_damped: ClassVar[bool]
    """Whether steps that do not reduce the cost are refused."""

    problem: LensProblem
    lens: Float64Array

    @property
    @abstractmethod
    def limit(self) -> float:
        """Residual whose weight is a half."""

    @abstractmethod
    def linearised(self) -> tuple[Float64Array, Float64Array]:
        """Residuals [N, D], and their derivatives [N, D, P] with respect to motion and lens."""

    @abstractmethod
    def moved(self, step: Float64Array) -> Self:
        """The fit after a step [P]."""

    def refined(self, num_steps: int) -> Self:
        """Robust least squares with Cauchy weights and the prior of the lens; the best of the visited points.

        Focal length and distortion of a rotation balance each other in a narrow curved valley. Gauss-Newton steps
        leave it, and come back further along. Damped steps would need ten times as many.
        """
        best = fit = self
        values, J = fit.linearised()
        best_cost = fit_cost = fit._cost(values)
        damping = 1e-6
        for _ in range(num_steps):
            hessian, gradient = fit._normal_equations(values, J)
            hessian[np.diag_indices_from(hessian)] *= 1 + damping
            hessian += 1e-12 * np.trace(hessian) * np.eye(len(hessian))
            step = np.asarray(np.linalg.solve(hessian, -gradient), dtype=np.float64)
            moved = fit.moved(step)
            values_after, J_after = moved.linearised()
            cost = moved._cost(values_after)
            is_better = cost < best_cost
            if is_better:
                best, best_cost = moved, cost
            if self.is_damped:
                damping = damping / 10 if is_better else max(30 * damping, 1e-3)
            if is_better or not self.is_damped:
                is_done = abs(cost - fit_cost) <= _MIN_CHANGE * fit_cost
                fit, fit_cost, values, J = moved, cost, values_after, J_after
                if is_done:
                    break
        return best

    def _cost(self, values: Float64Array) -> float:
        squared = np.einsum("nd,nd->n", values, values) / self.limit**2
        return float(4 * np.log1p(squared).sum() + ((self.lens / self.problem.sigmas) ** 2).sum())

    def _normal_equations(self, values: Float64Array, J: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Hessian [P, P] and gradient [P]; noise of half of the limit weighs the matches against the prior."""
        P, num_lens = J.shape[2], len(self.lens)
        weights = 1 / (1 + np.einsum("nd,nd->n", values, values) / self.limit**2) / (self.limit / 2) ** 2
        scaled = (J * weights[:, None, None]).reshape(-1, P).T
        prior = np.zeros(P)
        prior[-num_lens:] = 1 / self.problem.sigmas**2
        gradient = scaled @ values.reshape(-1)
        gradient[-num_lens:] += prior[-num_lens:] * self.lens
        return scaled @ J.reshape(-1, P) + np.diag(prior), gradient

    def _lens_after(self, step: Float64Array) -> Float64Array:
        after: Float64Array = np.clip(self.lens + step[-len(self.lens) :], -_LIMITS, _LIMITS)
        return after

    def _lens_steps(self) -> Float64Array:
        """The lens [1 + G] after a small step of each of its values."""
        return self.lens + _STEP * np.eye(len(self.lens))


@dataclass(frozen=True, eq=False, slots=True)
class RotationFit(LensFit):
    """A pure rotation with a lens; the residuals are transfer errors [N, 2] in image 1, in the units of the data.

    Args:
        R: `cam1_from_cam0`, [3, 3].
    """

    is_damped = False
    R: Float64Array

    @property
    def limit(self) -> float:
        """Residual whose weight is a half."""
        return HOMOGRAPHY_ERROR_RATIO * self.problem.data.max_error

    def errors(self) -> Float64Array:
        """Lengths [N] of the transfer errors."""
        values = self._residuals(self.lens)[0]
        lengths: Float64Array = np.sqrt(np.einsum("nd,nd->n", values, values))
        return lengths

    def moved(self, step: Float64Array) -> Self:
        """The fit after a rotation vector [3] and a step of the lens."""
        return replace(self, R=rotation_from_rotvec(step[:3]) @ self.R, lens=self._lens_after(step))

    def linearised(self) -> tuple[Float64Array, Float64Array]:
        """Residuals [N, 2] and derivatives [N, 2, 3 + 1 + G]."""
        values, rotated, projected = self._residuals(self.lens)
        J = np.empty((*values.shape, 3 + len(self.lens)))
        x, y, z = rotated.T
        zero = np.zeros_like(x)
        # A rotation around axis i moves a point v by e_i x v.
        turned = np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]])  # [axis, coordinate, N]
        factor = float(np.exp(self.lens[0]))
        moved = (turned[:, :2] / factor - projected.T * turned[:, 2:]) / np.maximum(z, 0.05)  # [axis, 2, N]
        k = self.problem.distortion.coefficients(self.lens[1:])[1]
        stretched = moved * (1 + k * np.einsum("nd,nd->n", projected, projected))
        along = 2 * k * np.einsum("nd,idn->in", projected, moved)
        J[:, :, :3] = (stretched + along[:, None] * projected.T).transpose(2, 1, 0)
        for column, lens in enumerate(self._lens_steps(), start=3):
            J[:, :, column] = (self._residuals(lens)[0] - values) / _STEP
        return values, J

    def _residuals(self, lens: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
        """Residuals [N, 2], rotated points [N, 3] and their projections [N, 2]."""
        data, (k0, k1) = self.problem.data, self.problem.distortion.coefficients(lens[1:])
        factor = float(np.exp(lens[0]))
        rotated = undistort(data.points0, k0) @ (factor * self.R[:, :2].T) + self.R[:, 2]
        projected = rotated[:, :2] / (factor * np.maximum(rotated[:, 2:], 0.05))
        return distort(projected, k1) - data.points1, rotated, projected


@dataclass(frozen=True, eq=False, slots=True)
class EpipolarFit(LensFit):
    """A relative pose with a lens; the residuals are Sampson errors [N, 1] of undistorted points.

    Args:
        pose: `cam1_from_cam0`, t of length 1.
    """

    is_damped = True
    pose: Rigid3

    @property
    def limit(self) -> float:
        """Residual whose weight is a half."""
        return self.problem.data.max_error * float(np.exp(self.lens[0]))

    def moved(self, step: Float64Array) -> Self:
        """The fit after a rotation vector [3], a step of t on the sphere [2], and a step of the lens."""
        pose = Rigid3(rotation_from_rotvec(step[:3]) @ self.pose.R, self._direction_after(step[3:5]))
        return replace(self, pose=pose, lens=self._lens_after(step))

    def linearised(self) -> tuple[Float64Array, Float64Array]:
        """Residuals [N, 1] and derivatives [N, 1, 5 + 1 + G]."""
        R, t = self.pose.R, cross_matrix(self.pose.t)
        points = self._homogeneous(self.lens)
        values = sampson_residuals(t @ R, *points)
        around = [t @ (R + cross_matrix(axis) @ R) for axis in _STEP * np.eye(3)]
        around += [cross_matrix(self._direction_after(step)) @ R for step in _STEP * np.eye(2)]
        moved = [sampson_residuals(E, *points) for E in around]
        moved += [sampson_residuals(t @ R, *self._homogeneous(lens)) for lens in self._lens_steps()]
        J = (np.stack(moved, axis=1) - values[:, None]) / _STEP
        return values[:, None], J[:, None]

    def _direction_after(self, step: Float64Array) -> Float64Array:
        t = self.pose.t + step @ np.linalg.svd(self.pose.t[None])[2][1:]
        unit: Float64Array = t / np.linalg.norm(t)
        return unit

    def _homogeneous(self, lens: Float64Array) -> tuple[Float64Array, Float64Array]:
        points0, points1 = self.problem.undistorted(lens)
        return homogeneous(points0), homogeneous(points1)
