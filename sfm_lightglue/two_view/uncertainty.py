"""How sure a relative pose is: the covariance of its least squares, and the radius that holds 95 % of the errors.

The residuals are those that the pose minimises: Sampson errors, or differences of rays for a pure rotation. With
J their derivatives at the inliers and σ the noise, the covariance of rotation and direction is σ² (JᵀJ)⁻¹; a focal
length that is not known exactly adds what its own variance moves the pose by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.two_view.correspondences import Correspondences
from sfm_lightglue.two_view.noise import robust_noise
from sfm_lightglue.two_view.pose import LOSS_SCALE
from sfm_lightglue.two_view.residuals import (
    EpipolarResiduals,
    PoseResiduals,
    RotationResiduals,
    focal_derivative,
    jacobian,
)

CONFIDENCE = 0.95
"""Share of errors that a stated radius holds."""


@dataclass(frozen=True, slots=True)
class PoseUncertainty:
    """Radii that hold 95 % of the errors of a relative pose, and the noise they come from.

    That is what synthetic pairs show. On photographs the intrinsics are never exact, and keypoints are found to a tenth
    of a pixel, so that errors of the lens model count more than noise: of fountain-P11 85 % of the errors lie within
    the radius, all within twice that; of Lund door (whose truth is a COLMAP model) 24 % of the rotations and 36 % of
    the directions, 76 and 86 % within twice that.

    What they do not know: another pose that explains the matches as well (the second solution of a plane), inliers
    that are wrong together (a moving object), noise beyond half of the error limit (its tail was cut off as
    outliers), and intrinsics that were given wrong.

    Args:
        rotation_deg: angle of the rotation's error, up to 180.
        direction_deg: angle of the error of t, up to 180, where nothing is known of it; None for a pure rotation.
        noise_px: standard deviation of one coordinate of a keypoint, as the inliers show it.
    """

    rotation_deg: float
    direction_deg: float | None
    noise_px: float


@dataclass(frozen=True, slots=True)
class FocalPrior:
    """A focal length that is not exact.

    Args:
        sides: the images that share it, 0 and 1.
        log_sigma: standard deviation of its logarithm: 0.1 is 10 %.
    """

    sides: tuple[int, ...]
    log_sigma: float


def pose_uncertainty(
    data: Correspondences, pose: Rigid3, is_rotation: bool = False, focals: Sequence[FocalPrior] = ()
) -> PoseUncertainty:
    """The uncertainty of a pose that was refined on inliers.

    Args:
        data: the inliers alone.
        pose: `cam1_from_cam0`, t of length 1.
        is_rotation: the camera only turned: t is not part of the estimate.
        focals: focal lengths that are not exact.

    Source: Hartley and Zisserman, Multiple View Geometry, sections 5.2 (covariance of an estimate) and 11.4.3
        (the Sampson approximation).
    """
    model = RotationResiduals(data, pose) if is_rotation else EpipolarResiduals(data, pose)
    noise, share = robust_noise(model.values, model.limit, _MIN_NOISE_PX / data.focal_px)
    noise *= math.sqrt(model.values.size / max(model.values.size - model.num_parameters, 1))
    # Inliers that end at the limit pull the pose less than noise that goes on, and the loss damps the large ones.
    loss = 1 / math.sqrt(share) if is_rotation else _deviation_by_loss(model.limit / noise)
    covariance = pose_covariance(model, noise * loss, focals)
    # The noise is itself estimated: Student's factor instead of the normal distribution's.
    student = _student_factor(model.values.size - model.num_parameters)
    rotation_rad = gaussian_radius(covariance[:3, :3]) * student
    direction_rad = None if is_rotation else gaussian_radius(covariance[3:, 3:]) * student
    # A transfer error is the noise of both images.
    noise_px = noise * data.focal_px / (math.sqrt(2) if is_rotation else 1)
    return PoseUncertainty(
        _angle_deg(rotation_rad), None if direction_rad is None else _angle_deg(direction_rad), noise_px
    )


_MIN_NOISE_PX = 1e-3
"""No residual is trusted to be smaller: keypoints are float32."""


def pose_covariance(model: PoseResiduals, noise: float, focals: Sequence[FocalPrior] = ()) -> Float64Array:
    """Covariance of the parameters of a model, in radians².

    A residual that contradicts what the others say of it, by more than noise explains, has its own variance: a wrong
    match near its epipolar line bends the pose towards itself, and hides in its residual.

    Args:
        model: residuals and their derivatives.
        noise: standard deviation of a residual.
        focals: focal lengths that are not exact.

    Source: MacKinnon and White, Some heteroskedasticity-consistent covariance matrix estimators with improved finite
        sample properties, 1985 (the jackknife).
    """
    J = jacobian(model)
    inverse = _pseudo_inverse(J.T @ J)
    leverage = np.einsum("ni,ij,nj->n", J, inverse, J)
    deleted = model.values.ravel() / np.maximum(1 - leverage, 1e-6)
    variances = np.where(np.abs(deleted) > _MAX_DEVIATIONS * noise, deleted**2, noise**2)
    covariance = inverse @ ((J * variances[:, None]).T @ J) @ inverse
    for focal in focals:
        # A focal length that is wrong by a factor moves the pose along this line.
        moved = inverse @ (J.T @ focal_derivative(model, focal.sides))
        covariance += focal.log_sigma**2 * np.outer(moved, moved)
    return np.asarray(covariance)


_MAX_DEVIATIONS = 2.5
"""A residual beyond so many standard deviations, measured without itself, is hardly noise."""


def _pseudo_inverse(hessian: Float64Array) -> Float64Array:
    """The inverse; where a direction is not observed at all, a variance so large that it shows."""
    values, vectors = np.linalg.eigh(hessian)
    floor = max(values.max() * 1e-14, 1e-300)
    inverse: Float64Array = (vectors / np.maximum(values, floor)) @ vectors.T
    return inverse


def _deviation_by_loss(k: float) -> float:
    """How much less exact the refinement is than least squares of as many residuals with all of their tail.

    Args:
        k: the limit beyond which residuals were left out, in standard deviations.

    Source: Huber, Robust statistics, 1981, section 3.2 (variance of an M-estimator, here √(∫φ ∫ψ²φ) / ∫ψ'φ).
    """
    x = np.linspace(-min(k, 30.0), min(k, 30.0), 2001)
    density = np.exp(-(x**2) / 2)
    bend = np.sqrt(1 + (x / (LOSS_SCALE * k)) ** 2)
    psi = x / bend
    slope = (density / bend**3).sum() * (x[1] - x[0]) - 2 * psi[-1] * density[-1]  # who passes the limit leaves
    return float(np.sqrt(density.sum() * (psi**2 * density).sum()) * (x[1] - x[0]) / slope)


def gaussian_radius(covariance: Float64Array, confidence: float = CONFIDENCE) -> float:
    """The radius around the mean that holds a share of a normal distribution in two or three dimensions.

    In polar coordinates of the whitened space, the share within r is the mean over directions u of the distribution
    function of χ² at r² / (uᵀ Σ u).

    Args:
        covariance: [D, D], D = 2 or 3.
        confidence: the share.
    """
    num_dimensions = len(covariance)
    variances = np.maximum(np.linalg.eigvalsh(covariance), 0)
    if variances.max() == 0:
        return 0.0
    along = np.maximum(_directions(num_dimensions) ** 2 @ variances, variances.max() * 1e-12)
    low, high = 0.0, 20.0 * math.sqrt(variances.max())
    for _ in range(60):
        middle = (low + high) / 2
        share = float(_chi2_cdf(middle**2 / along, num_dimensions).mean())
        low, high = (middle, high) if share < confidence else (low, middle)
    return (low + high) / 2


def _directions(num_dimensions: int) -> Float64Array:
    """Unit vectors [K, D], evenly spread over half of the circle or over the sphere (by the golden angle)."""
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
    """How much wider Student's 95 % interval is than the normal one.

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
    """Beyond a right angle nothing is known."""
    return math.degrees(radius_rad) if radius_rad <= math.pi / 2 else 180.0
