"""Estimate an unknown focal length from the matches of two images.

The epipolar geometry of two views has seven degrees of freedom; a relative pose has five. So one focal length can be
estimated together with the pose: one that both images share, or that of one image if the other one is known. The
method is least squares over six parameters from several starts. The accuracy depends on the motion. If the optical
axes are parallel, or meet at equal distances from both cameras, the matches do not determine the focal length; the
information matrix of the least squares shows this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3, project_to_rotation
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.two_view.correspondences import Correspondences
from sfm_lightglue.two_view.noise import robust_noise
from sfm_lightglue.two_view.pose import recover_pose
from sfm_lightglue.two_view.residuals import (
    EpipolarResiduals,
    LogScales,
    PoseResiduals,
    RotationResiduals,
    focal_derivative,
    jacobian,
)
from sfm_lightglue.types import Camera

GUESS_LOG_SIGMA = 0.35
"""Standard deviation of the logarithm of a guessed focal length. The guess is 1.2 times the longer side; two standard
deviations include lenses from 0.6 to 2.4 times the longer side."""

MAX_LOG_SIGMA = 0.04
"""Largest standard deviation, by the noise of the matches, of the logarithm of an estimate that is used."""

MODEL_LOG_SIGMA = 0.03
"""Standard deviation of the logarithm that is due to what is not modelled: lens distortion, and the offset of the
principal point. Measured on photographs: errors are 2 to 5 %, also with many matches."""

MIN_MATCHES = 50
"""Fewest inliers for an estimate."""

_MIN_NOISE_PX = 0.3
"""Smallest assumed noise in pixels: the errors of the model are at least as large."""

_STARTS = (0.55, 0.9, 1.4, 2.2)
"""Start values, as factors on the guess."""

_RANGE = 0.3, 4.0
"""Factors on the guess between which an estimate must lie."""


@dataclass(frozen=True, slots=True)
class FocalEstimate:
    """A focal length that was estimated from the matches of a pair.

    Args:
        factor: estimated focal length over the guessed one.
        noise_log_sigma: standard deviation of the logarithm of the factor, by the noise of the matches alone.
    """

    factor: float
    noise_log_sigma: float

    @property
    def log_sigma(self) -> float:
        """Standard deviation of the logarithm of the factor, from the noise and from the errors of the model."""
        return math.hypot(self.noise_log_sigma, MODEL_LOG_SIGMA)

    @property
    def is_reliable(self) -> bool:
        """Whether the matches determine the focal length well, and its value is plausible."""
        return self.noise_log_sigma <= MAX_LOG_SIGMA and _RANGE[0] < self.factor < _RANGE[1]


def focal_from_motion(data: Correspondences, F: Float64Array, sides: Sequence[int]) -> FocalEstimate | None:
    """Estimate the focal length that makes a fundamental matrix an essential one, together with the pose.

    Args:
        data: inliers, normalised with the guess.
        F: [3, 3] on the same points.
        sides: the images with the unknown focal length, 0 and 1; if both, they share it.

    Returns:
        The estimate, or None if there are too few inliers or no pose.

    Source: Sturm, On focal length calibration from two views, 2001 (when a focal length can be determined).
    """
    if len(data.points0) < MIN_MATCHES:
        return None
    everything = np.ones(len(data.points0), np.bool_)
    fits = []
    for start in _STARTS:
        # Points divided by a factor f have the essential matrix diag(f, f, 1) F diag(f, f, 1). The signs of the
        # depths depend on the factor.
        scale0, scale1 = _scales(start, sides)
        scaled = replace(data, points0=data.points0 / scale0[:2], points1=data.points1 / scale1[:2])
        pose = recover_pose(scaled, scale1[:, None] * F * scale0, everything)
        if pose is not None:
            fits.append(_fit(EpipolarResiduals(data, pose), start, sides, data.focal_px))
    return _best(fits)


def focal_from_rotation(data: Correspondences, H: Float64Array, sides: Sequence[int]) -> FocalEstimate | None:
    """Estimate the focal length that makes a homography a rotation, together with the rotation.

    Args:
        data: inliers, normalised with the guess.
        H: [3, 3] on the same points, of a camera that only rotated.
        sides: the images with the unknown focal length, 0 and 1; if both, they share it.

    Returns:
        The estimate, or None if there are too few inliers.

    Source: Hartley, Self-calibration from multiple views with a rotating camera, 1994.
    """
    if len(data.points0) < MIN_MATCHES:
        return None
    fits = []
    for start in _STARTS:
        # Points divided by f have the homography diag(1, 1, f) H diag(1, 1, 1 / f), up to its scale.
        scale0, scale1 = _scales(start, sides)
        pose = Rigid3(project_to_rotation((H * scale0) / scale1[:, None]), np.zeros(3))
        fits.append(_fit(RotationResiduals(data, pose), start, sides, data.focal_px))
    return _best(fits)


def with_focal_factor(camera: Camera, factor: float) -> Camera:
    """The camera with its focal lengths multiplied by a factor and the source "estimated"."""
    params = list(camera.params)
    for i in as_pycolmap(camera).focal_length_idxs():
        params[i] *= factor
    return replace(camera, params=tuple(params), source="estimated")


def _scales(factor: float, sides: Sequence[int]) -> tuple[Float64Array, Float64Array]:
    """(factor, factor, 1) for the images with the unknown focal length, ones [3] for the others."""
    scale0, scale1 = (np.array([factor, factor, 1.0]) if side in sides else np.ones(3) for side in (0, 1))
    return scale0, scale1


_Fit = tuple[float, FocalEstimate]
"""Cost and estimate."""


def _best(fits: Sequence[_Fit]) -> FocalEstimate | None:
    return min(fits, key=lambda fit: fit[0])[1] if fits else None


def _fit(model: PoseResiduals, start: float, sides: Sequence[int], focal_px: float) -> _Fit:
    """Fit pose and focal length by robust least squares, with the guess as a weak prior."""
    noise = model.limit / 4

    def log_scales(log_factor: float) -> LogScales:
        return (log_factor if 0 in sides else 0.0), (log_factor if 1 in sides else 0.0)

    def residuals(parameters: Float64Array) -> Float64Array:
        log_factor = float(np.clip(parameters[-1], -3, 3))
        values = model.at(parameters[:-1], log_scales(log_factor)).ravel() / noise
        return np.append(values, log_factor / GUESS_LOG_SIGMA)

    first = np.append(np.zeros(model.num_parameters), math.log(start))
    from scipy.optimize import least_squares  # half a second, so only when a pair is refined

    solution = least_squares(residuals, first, loss="soft_l1", f_scale=2.0, max_nfev=30, x_scale=1e-2, ftol=1e-6)
    log_factor = float(np.clip(solution.x[-1], -3, 3))
    moved = model.moved(solution.x[:-1], log_scales(log_factor))
    sigma, _ = robust_noise(moved.values, moved.limit, _MIN_NOISE_PX / focal_px)
    return float(solution.cost), FocalEstimate(math.exp(log_factor), sigma / math.sqrt(_information(moved, sides)))


def _information(model: PoseResiduals, sides: Sequence[int]) -> float:
    """Information on the logarithm of the focal length times noise², with the pose marginalised (Schur complement)."""
    J, b = jacobian(model), focal_derivative(model, sides)
    unexplained = b - J @ np.linalg.lstsq(J, b, rcond=None)[0]
    return max(float(unexplained @ unexplained), 1e-12)
