"""Residuals of a relative pose and their derivatives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.geometry.epipolar import essential_from_pose, homogeneous
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.two_view.correspondences import HOMOGRAPHY_ERROR_RATIO, Correspondences

LogScales = tuple[float, float]
"""Logarithms of the factors by which the focal lengths of image 0 and 1 are longer than the data assume."""


class EpipolarResiduals:
    """Sampson errors of inliers on the normalised plane, over rotation (3 parameters) and direction (2).

    Args:
        data: the inliers.
        pose: where the derivatives are taken.
        log_scales: of the focal lengths; the errors are still those of the data's own plane.
    """

    num_parameters = 5

    def __init__(self, data: Correspondences, pose: Rigid3, log_scales: LogScales = (0.0, 0.0)) -> None:
        self._data, self._pose, self._log_scales = data, pose, log_scales
        self._points = homogeneous(data.points0), homogeneous(data.points1)
        self._tangent = np.linalg.svd(pose.t[None])[2][1:]  # [2, 3] the directions in which t can turn
        self.limit = data.max_error
        self.values = self.at(np.zeros(5))

    def at(self, parameters: Float64Array, log_scales: LogScales = (0.0, 0.0)) -> Float64Array:
        """Residuals [N, 1] after a step [5] of the pose, and one of the logarithms of the focal lengths."""
        scale0, scale1 = _scales(self._log_scales, log_scales)
        E = essential_from_pose(self._stepped(parameters))
        return sampson_residuals(E * scale0 * scale1[:, None], *self._points)[:, None]

    def moved(self, parameters: Float64Array, log_scales: LogScales = (0.0, 0.0)) -> EpipolarResiduals:
        """The same residuals around the place that a step leads to."""
        return EpipolarResiduals(self._data, self._stepped(parameters), _sum(self._log_scales, log_scales))

    def _stepped(self, parameters: Float64Array) -> Rigid3:
        t = self._pose.t + parameters[3:] @ self._tangent
        return Rigid3(rotation_from_rotvec(parameters[:3]) @ self._pose.R, t / np.linalg.norm(t))


class RotationResiduals:
    """Where a rotation takes the points of image 0 on the normalised plane of image 1, less where they are there.

    Args:
        data: the inliers.
        pose: where the derivatives are taken; its t does not matter.
        log_scales: of the focal lengths; the differences are still those of the data's own plane.
    """

    num_parameters = 3

    def __init__(self, data: Correspondences, pose: Rigid3, log_scales: LogScales = (0.0, 0.0)) -> None:
        self._data, self._pose, self._log_scales = data, pose, log_scales
        self._points = homogeneous(data.points0), data.points1
        self.limit = HOMOGRAPHY_ERROR_RATIO * data.max_error
        self.values = self.at(np.zeros(3))

    def at(self, parameters: Float64Array, log_scales: LogScales = (0.0, 0.0)) -> Float64Array:
        """Residuals [N, 2] after a step [3] of the rotation, and one of the logarithms of the focal lengths."""
        scale0, scale1 = _scales(self._log_scales, log_scales)
        turned = (self._points[0] * scale0) @ self._stepped(parameters).R.T
        depth = np.maximum(turned[:, 2:], 1e-6)  # a start may be so wrong that points come to lie behind
        difference: Float64Array = turned[:, :2] / depth / scale1[0] - self._points[1]
        return difference

    def moved(self, parameters: Float64Array, log_scales: LogScales = (0.0, 0.0)) -> RotationResiduals:
        """The same residuals around the place that a step leads to."""
        return RotationResiduals(self._data, self._stepped(parameters), _sum(self._log_scales, log_scales))

    def _stepped(self, parameters: Float64Array) -> Rigid3:
        return Rigid3(rotation_from_rotvec(parameters) @ self._pose.R, self._pose.t)


def _sum(log_scales: LogScales, step: LogScales) -> LogScales:
    return log_scales[0] + step[0], log_scales[1] + step[1]


def _scales(log_scales: LogScales, step: LogScales) -> tuple[Float64Array, Float64Array]:
    """What points are multiplied by, homogeneous [3], when focal lengths grow: for both images."""
    scale0, scale1 = (math.exp(-value) for value in _sum(log_scales, step))
    return np.array([scale0, scale0, 1.0]), np.array([scale1, scale1, 1.0])


def sampson_residuals(E: AnyArray, x0: Float64Array, x1: Float64Array) -> Float64Array:
    """Signed Sampson errors [N] of homogeneous points [N, 3]: their squares are `squared_sampson_errors`."""
    lines1, lines0 = x0 @ E.T, x1 @ E
    norms = np.sqrt((lines1[:, :2] ** 2).sum(1) + (lines0[:, :2] ** 2).sum(1))
    residuals: Float64Array = np.einsum("ni,ni->n", x1, lines1) / np.maximum(norms, 1e-12)
    return residuals


def jacobian(model: EpipolarResiduals | RotationResiduals) -> Float64Array:
    """Derivatives [N D, P] of all residuals by the parameters."""
    steps = _STEP * np.eye(model.num_parameters)
    columns = [(model.at(step) - model.at(-step)).ravel() / (2 * _STEP) for step in steps]
    return np.stack(columns, axis=1)


def focal_derivative(model: EpipolarResiduals | RotationResiduals, sides: Sequence[int]) -> Float64Array:
    """Derivatives [N D] of all residuals by the logarithm of the focal length of some images."""
    nowhere = np.zeros(model.num_parameters)
    step0, step1 = (_STEP if side in sides else 0.0 for side in (0, 1))
    difference = model.at(nowhere, (step0, step1)) - model.at(nowhere, (-step0, -step1))
    derivative: Float64Array = difference.ravel() / (2 * _STEP)
    return derivative


_STEP = 1e-5
"""Of the numeric derivatives, in radians and in logarithms: its square and rounding / step are both about 1e-10."""
