"""Residuals of a relative pose and their derivatives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.epipolar import homogeneous, sampson_residuals
from sfm_lightglue.geometry.transforms import Rigid3, cross_matrix, rotation_from_rotvec
from sfm_lightglue.two_view.correspondences import HOMOGRAPHY_ERROR_RATIO, Correspondences

LogScales = tuple[float, float]
"""Logarithms of the factors by which the focal lengths of image 0 and 1 are longer than the data assume."""


class PoseResiduals(ABC):
    """Residuals of inliers as a function of a step of the pose and of the focal lengths.

    Args:
        data: the inliers.
        pose: `cam1_from_cam0` at the step 0.
        log_scales: of the focal lengths at the step 0; the residuals stay in the normalised units of `data`.
    """

    num_parameters: ClassVar[int]
    """Length of a step of the pose."""

    limit: float
    """Largest length of an inlier's residual."""

    def __init__(self, data: Correspondences, pose: Rigid3, log_scales: LogScales = (0.0, 0.0)) -> None:
        self._data, self._pose, self._log_scales = data, pose, log_scales

    @cached_property
    def values(self) -> Float64Array:
        """Residuals [N, D] at the step 0."""
        return self.at(np.zeros(self.num_parameters))

    @abstractmethod
    def at(self, step: Float64Array, log_scales: LogScales = (0.0, 0.0)) -> Float64Array:
        """Residuals [N, D] after a step [P] of the pose and a step of the logarithms of the focal lengths."""

    @property
    @abstractmethod
    def steps_of_pose(self) -> Float64Array:
        """Rotation vector in radians (3) and change of t (3) of each parameter [6, P], at the step 0."""

    @abstractmethod
    def pose_after(self, step: Float64Array) -> Rigid3:
        """The pose after a step [P]."""

    def moved(self, step: Float64Array, log_scales: LogScales = (0.0, 0.0)) -> Self:
        """The residuals around the pose and the focal lengths after a step."""
        return type(self)(self._data, self.pose_after(step), self._log_scales_after(log_scales))

    def _log_scales_after(self, step: LogScales) -> LogScales:
        return self._log_scales[0] + step[0], self._log_scales[1] + step[1]

    def _scales_after(self, step: LogScales) -> tuple[Float64Array, Float64Array]:
        """Factors [3] on the homogeneous points of both images when the focal lengths grow."""
        scale0, scale1 = (math.exp(-value) for value in self._log_scales_after(step))
        return np.array([scale0, scale0, 1.0]), np.array([scale1, scale1, 1.0])


class EpipolarResiduals(PoseResiduals):
    """Sampson errors [N, 1] in normalised units.

    A step has five parameters: a rotation vector in radians (3), and a step of t on the unit sphere (2).
    """

    num_parameters = 5

    def __init__(self, data: Correspondences, pose: Rigid3, log_scales: LogScales = (0.0, 0.0)) -> None:
        super().__init__(data, pose, log_scales)
        self._points = homogeneous(data.points0), homogeneous(data.points1)
        self._tangent = np.linalg.svd(pose.t[None])[2][1:]  # [2, 3] basis of the plane that touches the sphere at t
        self.limit = data.max_error

    def at(self, step: Float64Array, log_scales: LogScales = (0.0, 0.0)) -> Float64Array:
        """Residuals [N, 1] after a step."""
        scale0, scale1 = self._scales_after(log_scales)
        R, t = self._stepped(step)
        E = cross_matrix(t) @ R
        return sampson_residuals(E * scale0 * scale1[:, None], *self._points)[:, None]

    @property
    def steps_of_pose(self) -> Float64Array:
        """Rotation vector and change of t [6, 5] of each parameter; t moves in the plane that touches the sphere."""
        steps = np.zeros((6, self.num_parameters))
        steps[:3, :3] = np.eye(3)
        steps[3:, 3:] = self._tangent.T
        return steps

    def pose_after(self, step: Float64Array) -> Rigid3:
        """The pose after a step [5], with t of length 1."""
        return Rigid3(*self._stepped(step))

    def _stepped(self, step: Float64Array) -> tuple[Float64Array, Float64Array]:
        t = self._pose.t + step[3:] @ self._tangent
        return rotation_from_rotvec(step[:3]) @ self._pose.R, t / np.linalg.norm(t)


class RotationResiduals(PoseResiduals):
    """Transfer errors [N, 2] of a rotation in image 1, in normalised units: transferred point minus measured point.

    A step has three parameters, a rotation vector in radians; t has no effect.
    """

    num_parameters = 3

    def __init__(self, data: Correspondences, pose: Rigid3, log_scales: LogScales = (0.0, 0.0)) -> None:
        super().__init__(data, pose, log_scales)
        self._points = homogeneous(data.points0), data.points1
        self.limit = HOMOGRAPHY_ERROR_RATIO * data.max_error

    def at(self, step: Float64Array, log_scales: LogScales = (0.0, 0.0)) -> Float64Array:
        """Residuals [N, 2] after a step."""
        scale0, scale1 = self._scales_after(log_scales)
        rotated = (self._points[0] * scale0) @ (rotation_from_rotvec(step) @ self._pose.R).T
        depth = np.maximum(rotated[:, 2:], 1e-6)  # a bad start may rotate points behind the camera
        difference: Float64Array = rotated[:, :2] / depth / scale1[0] - self._points[1]
        return difference

    @property
    def steps_of_pose(self) -> Float64Array:
        """Rotation vector and change of t [6, 3] of each parameter; t does not move."""
        return np.eye(6, self.num_parameters)

    def pose_after(self, step: Float64Array) -> Rigid3:
        """The pose after a step [3], with an unchanged t."""
        return Rigid3(rotation_from_rotvec(step) @ self._pose.R, self._pose.t)


def jacobian(model: PoseResiduals) -> Float64Array:
    """Derivatives [N D, P] of all residuals with respect to the step of the pose, at the step 0."""
    steps = _STEP * np.eye(model.num_parameters)
    columns = [(model.at(step) - model.at(-step)).ravel() / (2 * _STEP) for step in steps]
    return np.stack(columns, axis=1)


def focal_derivative(model: PoseResiduals, sides: Sequence[int]) -> Float64Array:
    """Derivatives [N D] of all residuals with respect to the logarithm of a focal length.

    Args:
        model: residuals.
        sides: the images that have this focal length, 0 and 1.
    """
    no_step = np.zeros(model.num_parameters)
    step0, step1 = (_STEP if side in sides else 0.0 for side in (0, 1))
    difference = model.at(no_step, (step0, step1)) - model.at(no_step, (-step0, -step1))
    derivative: Float64Array = difference.ravel() / (2 * _STEP)
    return derivative


_STEP = 1e-5
"""Step of the numeric derivatives, in radians and in logarithms. The errors of truncation and of rounding are both
about 1e-10."""
