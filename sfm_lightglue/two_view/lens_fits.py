"""Least squares over a relative pose and a lens: one focal length, and radial coefficients that nobody stated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.geometry.epipolar import homogeneous, sampson_residuals
from sfm_lightglue.geometry.transforms import Rigid3, cross_matrix, rotation_from_rotvec
from sfm_lightglue.two_view.correspondences import HOMOGRAPHY_ERROR_RATIO, Correspondences
from sfm_lightglue.two_view.radial import OpenDistortion, distort, undistort

_PRIOR_COEFFICIENT = 0.3
"""Standard deviation of the weak prior of a radial coefficient."""

Residuals = Callable[[Float64Array], Float64Array]
"""Residuals [N, D] of parameters [P]."""


def minimise(residuals: Residuals, start: Float64Array, sigmas: Float64Array, limit: float, steps: int) -> Float64Array:
    """Robust least squares by Gauss-Newton steps with Cauchy weights.

    Args:
        residuals: [N, D] of the parameters [P].
        start: parameters [P].
        sigmas: [P] standard deviations of the parameters around 0; infinity for those without prior.
        limit: residual at which the weight is a half.
        steps: number of steps.
    """
    parameters, prior = start, 1 / sigmas**2
    for _ in range(steps):
        values = residuals(parameters)
        weights = 1 / (1 + np.einsum("nd,nd->n", values, values) / limit**2)
        J = np.stack([(residuals(parameters + d) - values) / 1e-6 for d in 1e-6 * np.eye(len(parameters))], axis=-1)
        weighted = J * weights[:, None, None]
        # Noise of a quarter of the limit weighs the matches against the prior.
        scale = (limit / 2) ** 2
        hessian = np.einsum("ndp,ndq->pq", weighted, J) / scale + np.diag(prior)
        gradient = np.einsum("ndp,nd->p", weighted, values) / scale + prior * parameters
        hessian += 1e-9 * np.trace(hessian) * np.eye(len(hessian))
        parameters = parameters - np.linalg.solve(hessian, gradient)
    return parameters


@dataclass(frozen=True, eq=False, slots=True)
class LensProblem:
    """The matches of a pair, and what is unknown about its lens.

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
        """Priors of the lens: logarithm of the factor, and one coefficient for each group."""
        return np.array([self.log_focal_sigma] + [_PRIOR_COEFFICIENT] * len(self.distortion.groups))

    def rows(self, mask: BoolArray) -> LensProblem:
        """The matches that a mask [M] selects."""
        return replace(self, data=self.data.rows(mask))

    def undistorted(self, lens: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Points [M, 2] of both images for a focal length and coefficients [1 + G]."""
        coefficients = self.distortion.coefficients(lens[1:])
        factor = np.exp(lens[0])
        points0, points1 = (
            undistort(points * factor, k)
            for points, k in zip((self.data.points0, self.data.points1), coefficients, strict=True)
        )
        return points0, points1

    def fit_rotation(self, R: Float64Array, lens: Float64Array, steps: int) -> tuple[Float64Array, Float64Array]:
        """Refine a rotation and a lens by the transfer errors in image 1."""

        def residuals(step: Float64Array) -> Float64Array:
            return self._transfer(rotation_from_rotvec(step[:3]) @ R, step[3:])

        limit = HOMOGRAPHY_ERROR_RATIO * self.data.max_error
        sigmas = np.concatenate([np.full(3, np.inf), self.sigmas])
        step = minimise(residuals, np.concatenate([np.zeros(3), lens]), sigmas, limit, steps)
        return rotation_from_rotvec(step[:3]) @ R, step[3:]

    def _transfer(self, R: Float64Array, lens: Float64Array) -> Float64Array:
        """Transfer errors [M, 2] of a rotation in image 1, in the units of the data."""
        k0, k1 = self.distortion.coefficients(np.clip(lens[1:], -1, 1))
        factor = np.exp(np.clip(lens[0], -2, 2))
        rotated = homogeneous(undistort(self.data.points0 * factor, k0)) @ R.T
        projected = rotated[:, :2] / np.maximum(rotated[:, 2:], 0.05)
        errors: Float64Array = distort(projected, k1) / factor - self.data.points1
        return errors

    def transfer_lengths(self, R: Float64Array, lens: Float64Array) -> Float64Array:
        """Lengths [M] of the transfer errors of a rotation in image 1."""
        return np.linalg.norm(self._transfer(R, lens), axis=1)

    def fit_epipolar(self, pose: Rigid3, lens: Float64Array, steps: int) -> tuple[Rigid3, Float64Array]:
        """Refine a pose and a lens by the Sampson errors."""
        tangent = np.linalg.svd(pose.t[None])[2][1:]

        def moved(step: Float64Array) -> Rigid3:
            t = pose.t + step[3:5] @ tangent
            return Rigid3(rotation_from_rotvec(step[:3]) @ pose.R, t / np.linalg.norm(t))

        def residuals(step: Float64Array) -> Float64Array:
            after, lens = moved(step), np.clip(step[5:], -2, 2)
            points0, points1 = self.undistorted(lens)
            E = cross_matrix(after.t) @ after.R
            return sampson_residuals(E, homogeneous(points0), homogeneous(points1))[:, None] / np.exp(lens[0])

        sigmas = np.concatenate([np.full(3, 1.0), np.full(2, 3.0), self.sigmas])
        step = minimise(residuals, np.concatenate([np.zeros(5), lens]), sigmas, self.data.max_error, steps)
        return moved(step), step[5:]
