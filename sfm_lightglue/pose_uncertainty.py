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

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.geometry.epipolar import essential_from_pose, homogeneous
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.relative_pose import HOMOGRAPHY_LEEWAY, LOSS_SCALE, Correspondences

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
        self.limit = HOMOGRAPHY_LEEWAY * data.max_error
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


def pose_covariance(
    model: EpipolarResiduals | RotationResiduals, noise: float, focals: Sequence[FocalPrior] = ()
) -> Float64Array:
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


def _pseudo_inverse(hessian: Float64Array) -> Float64Array:
    """The inverse; where a direction is not observed at all, a variance so large that it shows."""
    values, vectors = np.linalg.eigh(hessian)
    floor = max(values.max() * 1e-14, 1e-300)
    inverse: Float64Array = (vectors / np.maximum(values, floor)) @ vectors.T
    return inverse


def robust_noise(residuals: Float64Array, limit: float = math.inf, floor: float = 1e-12) -> tuple[float, float]:
    """Standard deviation per coordinate of residuals [N, D], D = 1 or 2, without their tail.

    The residuals within 2.5 (in two dimensions 3) deviations, and within the limit beyond which none were kept, are
    averaged; a normal distribution cut at that place tells what the deviation was before.

    Args:
        residuals: of a fit.
        limit: largest length of a residual.
        floor: positive and far below the limit; no smaller deviation is believed, even where all residuals are 0.

    Returns:
        The deviation, and which share of its variance the residuals below the limit have.

    Source: Rousseeuw and Leroy, Robust regression and outlier detection, 1987, section 5.1 (reweighted scale).
    """
    num_dimensions = residuals.shape[1]
    squared = (residuals**2).sum(axis=1)
    cut_deviations = 2.5 if num_dimensions == 1 else 3.0
    # Residuals as even as if there were no noise, only the limit, tell no deviation: it is at least 2/3 of it.
    highest = limit / 1.5
    middle = float(np.median(squared))
    noise = max(min(math.sqrt(middle / {1: 0.4549, 2: 1.3863}[num_dimensions]), highest), floor)
    for _ in range(20):
        cut = min(cut_deviations * noise, limit)
        below = squared <= max(cut**2, middle)
        mean = float(squared[below].mean()) / num_dimensions
        noise = max(min(math.sqrt(mean / _variance_below(cut / noise, num_dimensions)), highest), floor)
    return noise, _variance_below(limit / noise, num_dimensions)


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


def _variance_below(k: float, num_dimensions: int) -> float:
    """Variance per coordinate of unit normal deviates that are no longer than k."""
    k = min(k, 30.0)
    density = math.exp(-(k**2) / 2)
    if num_dimensions == 1:
        return 1 - 2 * k * density / math.sqrt(2 * math.pi) / math.erf(k / math.sqrt(2))
    return 1 - k**2 / 2 * density / (1 - density)


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


__all__ = [
    "CONFIDENCE",
    "EpipolarResiduals",
    "FocalPrior",
    "PoseUncertainty",
    "RotationResiduals",
    "focal_derivative",
    "gaussian_radius",
    "jacobian",
    "pose_covariance",
    "pose_uncertainty",
    "robust_noise",
    "sampson_residuals",
]
