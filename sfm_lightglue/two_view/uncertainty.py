"""The uncertainty of a relative pose: covariance of the least squares, and radii that contain 95 % of the errors.

The residuals are those that the refinement minimises: Sampson errors, or transfer errors for a pure rotation. With
their derivatives J at the inliers and the noise σ, the covariance of rotation and direction is σ² (JᵀJ)⁻¹. An inexact
focal length adds its variance, propagated to the pose. So does an unknown radial distortion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.two_view.correspondences import Correspondences
from sfm_lightglue.two_view.noise import robust_noise
from sfm_lightglue.two_view.pose_batch import LOSS_SCALE
from sfm_lightglue.two_view.radial import undistort
from sfm_lightglue.two_view.residuals import (
    EpipolarResiduals,
    PoseResiduals,
    RotationResiduals,
    focal_derivative,
    jacobian,
)

CONFIDENCE = 0.95
"""Fraction of the errors that lie within a radius."""

_MIN_NOISE_PX = 1e-3
"""Smallest assumed noise in pixels: the rounding of float32 keypoints."""

_MAX_DEVIATIONS = 2.5
"""Standard deviations beyond which a residual, measured without its own influence, is not noise."""

_DISTORTION_SIGMA = 0.1
"""Standard deviation of an unknown radial coefficient, before the matches tell more."""

_DISTORTION_STEP = 1e-4
"""Step of the numeric derivative with respect to a radial coefficient."""

_MIN_CONTRADICTION = 5.0
"""Standard deviations by which the matches must contradict intrinsics that are given without distortion."""


@dataclass(frozen=True, slots=True)
class PoseUncertainty:
    """Radii that contain 95 % of the errors of a relative pose, and the noise of the keypoints.

    The 95 % were measured on synthetic pairs. On photographs the intrinsics are never exact and keypoints are exact to
    a tenth of a pixel, so errors of the lens model are larger than the noise. Of fountain-P11, 85 % of the errors lie
    within the radius and all within twice the radius. Of Lund door, whose ground truth is a COLMAP model, 24 % of the
    rotations and 36 % of the directions lie within the radius, 76 and 86 % within twice the radius.

    The radii do not include: a second pose that fits the matches as well (for a plane), inliers with a common error (a
    moving object), noise above half of the error limit (its tail is removed as outliers), and wrong given intrinsics.

    Args:
        rotation_deg: angle of the rotation error, up to 180.
        direction_deg: angle of the error of t; 180 if the direction is undetermined, None for a pure rotation.
        noise_px: standard deviation of one coordinate of a keypoint, estimated from the inliers.
        noise_covariance: [6, 6] of a rotation vector w (radians) and a step dt, with the true pose (exp(w) R, t + dt),
            by the noise of the keypoints alone; dt is perpendicular to t. An inexact focal length moves the pose, but
            not the epipolar lines. The rows and columns of dt are zeros for a pure rotation.
    """

    rotation_deg: float
    direction_deg: float | None
    noise_px: float
    noise_covariance: Float64Array = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class FocalPrior:
    """A focal length that is not exact.

    Args:
        sides: the images that share it, 0 and 1.
        log_sigma: standard deviation of its logarithm; 0.1 is about 10 %.
    """

    sides: tuple[int, ...]
    log_sigma: float


@dataclass(frozen=True, slots=True)
class DistortionPrior:
    """A radial distortion that the pose does not include.

    Args:
        sides: the images that share it, 0 and 1.
        is_stated: whether the intrinsics are given without distortion. It then counts only if the matches contradict.
    """

    sides: tuple[int, ...]
    is_stated: bool


def pose_uncertainty(
    data: Correspondences,
    pose: Rigid3,
    is_rotation: bool = False,
    focals: Sequence[FocalPrior] = (),
    distortions: Sequence[DistortionPrior] = (),
) -> PoseUncertainty:
    """Compute the uncertainty of a pose that was refined on its inliers.

    Args:
        data: the inliers, without outliers.
        pose: `cam1_from_cam0`, t of length 1.
        is_rotation: whether the pose is a pure rotation, so that t was not estimated.
        focals: focal lengths that are not exact.
        distortions: radial distortions that are unknown.

    Source: Hartley and Zisserman, Multiple View Geometry, sections 5.2 (covariance of an estimate) and 11.4.3
        (the Sampson approximation).
    """
    model = RotationResiduals(data, pose) if is_rotation else EpipolarResiduals(data, pose)
    noise, variance_fraction = robust_noise(model.values, model.limit, _MIN_NOISE_PX / data.focal_px)
    noise *= math.sqrt(model.values.size / max(model.values.size - model.num_parameters, 1))
    # The limit removes the largest residuals, and the loss reduces the weight of large ones.
    loss = 1 / math.sqrt(variance_fraction) if is_rotation else _deviation_by_loss(model.limit / noise)
    noise_covariance = covariance = pose_covariance(model, noise * loss)
    for focal in focals:
        covariance = covariance + _focal_covariance(model, focal)
    for distortion in distortions:
        covariance = covariance + _distortion_covariance(model, data, pose, noise * loss, distortion)
    # The noise is an estimate too, so the interval is that of Student's distribution.
    student = _student_factor(model.values.size - model.num_parameters)
    rotation_rad = gaussian_radius(covariance[:3, :3]) * student
    direction_rad = None if is_rotation else gaussian_radius(covariance[3:, 3:]) * student
    # A transfer error contains the noise of both images.
    noise_px = noise * data.focal_px / (math.sqrt(2) if is_rotation else 1)
    return PoseUncertainty(
        _angle_deg(rotation_rad),
        None if direction_rad is None else _angle_deg(direction_rad),
        noise_px,
        model.steps_of_pose @ noise_covariance @ model.steps_of_pose.T,
    )


def pose_covariance(model: PoseResiduals, noise: float) -> Float64Array:
    """Covariance of the parameters of a model by the noise of the keypoints, in radians².

    An outlier near its epipolar line moves the pose towards itself, so that its own residual becomes small. Residuals
    are therefore compared with a fit without them. One that is larger than noise explains is used as its own standard
    deviation.

    Args:
        model: residuals at the estimated pose.
        noise: standard deviation of a residual.

    Source: MacKinnon and White, Some heteroskedasticity-consistent covariance matrix estimators with improved finite
        sample properties, 1985 (the jackknife).
    """
    J = jacobian(model)
    inverse = _pseudo_inverse(J.T @ J)
    leverage = np.einsum("ni,ij,nj->n", J, inverse, J)
    deleted = model.values.ravel() / np.maximum(1 - leverage, 1e-6)
    variances = np.where(np.abs(deleted) > _MAX_DEVIATIONS * noise, deleted**2, noise**2)
    return np.asarray(inverse @ ((J * variances[:, None]).T @ J) @ inverse)


def _focal_covariance(model: PoseResiduals, focal: FocalPrior) -> Float64Array:
    """Covariance of the parameters of a model by the error of a focal length, in radians²."""
    J = jacobian(model)
    # Derivative of the pose with respect to the logarithm of the focal length.
    moved = _pseudo_inverse(J.T @ J) @ (J.T @ focal_derivative(model, focal.sides))
    return focal.log_sigma**2 * np.outer(moved, moved)


def _distortion_covariance(
    model: PoseResiduals, data: Correspondences, pose: Rigid3, noise: float, distortion: DistortionPrior
) -> Float64Array:
    """Second moment of the error of the pose by a radial distortion that it does not include, in radians².

    The residuals tell the coefficient to first order, with its variance. The error of the pose is in proportion to it.
    """
    J = jacobian(model)
    inverse = _pseudo_inverse(J.T @ J)
    k0, k1 = (_DISTORTION_STEP if side in distortion.sides else 0.0 for side in (0, 1))
    points0, points1 = undistort(data.points0, k0), undistort(data.points1, k1)
    after = type(model)(replace(data, points0=points0, points1=points1), pose).values
    derivative = (after - model.values).ravel() / _DISTORTION_STEP
    moved = inverse @ (J.T @ derivative)
    unexplained = derivative - J @ moved
    information = float(unexplained @ unexplained) / noise**2 + 1 / _DISTORTION_SIGMA**2
    coefficient = -float(unexplained @ model.values.ravel()) / noise**2 / information
    if distortion.is_stated and coefficient**2 * information < _MIN_CONTRADICTION**2:
        return np.zeros((model.num_parameters, model.num_parameters))
    return np.asarray((coefficient**2 + 1 / information) * np.outer(moved, moved))


def _pseudo_inverse(hessian: Float64Array) -> Float64Array:
    """The inverse [P, P]; an unobserved direction gets a very large variance."""
    values, vectors = np.linalg.eigh(hessian)
    floor = max(values.max() * 1e-14, 1e-300)
    inverse: Float64Array = (vectors / np.maximum(values, floor)) @ vectors.T
    return inverse


def _deviation_by_loss(k: float) -> float:
    """Standard deviation of the refined parameters, relative to least squares on residuals without a limit.

    Args:
        k: the limit beyond which residuals were removed, in standard deviations.

    Source: Huber, Robust statistics, 1981, section 3.2 (variance of an M-estimator, here √(∫φ ∫ψ²φ) / ∫ψ'φ).
    """
    x = np.linspace(-min(k, 30.0), min(k, 30.0), 2001)
    density = np.exp(-(x**2) / 2)
    bend = np.sqrt(1 + (x / (LOSS_SCALE * k)) ** 2)
    psi = x / bend
    slope = (density / bend**3).sum() * (x[1] - x[0]) - 2 * psi[-1] * density[
        -1
    ]  # the last term: residuals that pass the limit
    return float(np.sqrt(density.sum() * (psi**2 * density).sum()) * (x[1] - x[0]) / slope)


def gaussian_radius(covariance: Float64Array, confidence: float = CONFIDENCE) -> float:
    """The radius around the mean that contains a fraction of a normal distribution in two or three dimensions.

    In polar coordinates of the whitened space, the fraction within r is the mean over directions u of the distribution
    function of χ² at r² / (uᵀ Σ u).

    Args:
        covariance: [D, D], D = 2 or 3.
        confidence: the fraction.

    Returns:
        The radius, in the unit of a standard deviation.
    """
    num_dimensions = len(covariance)
    variances = np.maximum(np.linalg.eigvalsh(covariance), 0)
    if variances.max() == 0:
        return 0.0
    along = np.maximum(_directions(num_dimensions) ** 2 @ variances, variances.max() * 1e-12)
    low, high = 0.0, 20.0 * math.sqrt(variances.max())
    for _ in range(60):
        middle = (low + high) / 2
        fraction = float(_chi2_cdf(middle**2 / along, num_dimensions).mean())
        low, high = (middle, high) if fraction < confidence else (low, middle)
    return (low + high) / 2


def _directions(num_dimensions: int) -> Float64Array:
    """Unit vectors [K, D], uniform over half of the circle or over the sphere (by the golden angle)."""
    if num_dimensions == 2:
        angles = np.pi * (np.arange(512) + 0.5) / 512
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    z = (np.arange(600) + 0.5) / 600
    golden = np.pi * (3 - math.sqrt(5)) * np.arange(600)
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(golden), radius * np.sin(golden), z], axis=1)


def _chi2_cdf(x: Float64Array, num_dimensions: int) -> Float64Array:
    if num_dimensions == 2:
        return np.asarray(1 - np.exp(-x / 2), dtype=np.float64)
    erf = np.array([math.erf(value) for value in np.sqrt(x / 2)], dtype=np.float64)
    return np.asarray(erf - np.sqrt(2 * x / np.pi) * np.exp(-x / 2), dtype=np.float64)


def _student_factor(num_free: int) -> float:
    """Width of Student's 95 % interval relative to that of the normal distribution.

    Source: Abramowitz and Stegun, 26.7.5 (expansion of the quantile).
    """
    v, z = max(num_free, 2), 1.959964
    terms = (
        (z**2 + 1) / (4 * v),
        (5 * z**4 + 16 * z**2 + 3) / (96 * v**2),
        (3 * z**6 + 19 * z**4 + 17 * z**2 - 15) / (384 * v**3),
    )
    return 1 + sum(terms)


def _angle_deg(radius_rad: float) -> float:
    """Degrees of a radius; 180, the largest error, if it is more than a right angle."""
    return math.degrees(radius_rad) if radius_rad <= math.pi / 2 else 180.0
