"""Recognise a pure rotation of a camera whose lens distortion nobody stated.

Distorted points of a camera that only turns fit neither a homography nor a rotation. The unmodelled distortion looks
like parallax, and an epipolar geometry absorbs a part of it. So a rotation is fitted together with the focal length
and one radial coefficient. An epipolar geometry with the same freedom is its rival: a translation leaves residuals of
the rotation along the epipolar lines, which the rival does not have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.geometry.epipolar import essential_from_pose, homogeneous, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3, project_to_rotation
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import (
    Correspondences,
    homography_errors,
    rays_of,
)
from sfm_lightglue.two_view.lens_fits import EpipolarFit, LensProblem, RotationFit
from sfm_lightglue.two_view.matrices import Model
from sfm_lightglue.two_view.noise import median_noise
from sfm_lightglue.two_view.pose import recover_pose
from sfm_lightglue.two_view.radial import OpenDistortion, open_distortion, undistort
from sfm_lightglue.types import Camera

_MAX_COEFFICIENT = 0.5
"""Largest radial coefficient of a rotation."""

_MAX_LOG_FACTOR = 1.2
"""Largest logarithm of the factor between the assumed and the fitted focal length."""

_LOG_FOCAL_SIGMA = {"given": 0.02, "exif": 0.05, "estimated": 0.05, "guessed": 0.35}
"""Standard deviation of the logarithm of a focal length by its source, where the distortion is unknown."""

MIN_HOMOGRAPHY_RATIO = 0.55
"""A pair is tried only if a homography fits at least this fraction of the inliers."""

_SMOOTH_ERROR_PX = 0.3
"""Noise that is added to the allowed noise around a smooth function: what it leaves of a strong distortion."""

_MIN_INLIER_RATIO = 0.85
"""The rotation must fit at least this fraction of the inliers of the best matrix."""

_NUM_SAMPLED = 100
"""Largest number of matches of the first, cheap fits."""

_NUM_FITTED = 400
"""Largest number of matches of the other fits."""

_NUM_STEPS = 6
"""Steps of the first fit."""

_NUM_FIRST_STEPS = 2
"""Steps before these, after which most other motions are seen not to be a rotation."""

_HOPEFUL = 0.5
"""Fraction of the inliers of a first fit that must be found after `_NUM_FIRST_STEPS`; a rotation has all then."""

_NUM_EPIPOLAR_STEPS = 15
"""Steps of the fit of an epipolar geometry, which few pairs reach."""

_MIN_SAMPLED_RATIO = 0.7
"""The first fits must reach at least this part of the inliers that are needed in the end."""

_MAX_NOISE_RATIO = 1.3
"""Largest noise of the rotation, as a multiple of that of an epipolar geometry with the same freedom."""

_ROUNDING_PX = 0.05
"""Noise that is added to the allowed noise: rounding, and what one radial coefficient leaves of a distortion."""

_MIN_GAIN = 1.15
"""If a rotation without distortion does not fit, its noise must be at least this multiple of the noise with it."""


@dataclass(frozen=True, eq=False, slots=True)
class LensRotation:
    """A rotation together with the lens that makes it fit.

    Args:
        R: `cam1_from_cam0`, [3, 3].
        factor: by which normalised points are multiplied: assumed focal length over the fitted one.
        coefficients: radial distortion of image 0 and 1, for points before that multiplication.
    """

    R: Float64Array
    factor: float
    coefficients: tuple[float, float]

    @property
    def H(self) -> Float64Array:
        """The homography [3, 3] on normalised points, without the distortion."""
        S = np.array([self.factor, self.factor, 1.0])
        H: Float64Array = self.R * S / S[:, None]
        return H

    def without_distortion(self, data: Correspondences) -> Correspondences:
        """The matches with the distortion undone; the focal length stays as it was assumed."""
        k0, k1 = self.coefficients
        points0, points1 = undistort(data.points0, k0), undistort(data.points1, k1)
        return replace(data, points0=points0, points1=points1)


def distorted_rotation(
    data: Correspondences,
    cameras: tuple[Camera, Camera],
    epipolar: Model | None,
    homography: Model | None,
    config: TwoViewConfig,
) -> tuple[LensRotation, BoolArray] | None:
    """Find the rotation and the lens that fit the matches as well as any motion does.

    Args:
        data: all matches.
        cameras: of image 0 and of image 1.
        epipolar: E or F without distortion, with its inliers.
        homography: without distortion, with its inliers.
        config: thresholds.

    Returns:
        The rotation with its lens, and the mask [M] of its inliers; None if the camera moved, if the distortion is
        known, or if the rotation fits as well without a distortion.
    """
    if homography is None:
        return None
    either = homography[1] if epipolar is None else homography[1] | epipolar[1]
    num_best = max(int(model[1].sum()) for model in (epipolar, homography) if model is not None)
    min_inliers = max(config.min_inliers, _MIN_INLIER_RATIO * num_best)
    if homography[1].sum() < max(config.min_inliers, MIN_HOMOGRAPHY_RATIO * num_best):
        return None
    some = _some_of(either, _NUM_SAMPLED)
    sampled = data.rows(some)
    allowed = np.inf if epipolar is None else _MAX_NOISE_RATIO * _matrix_noise(sampled, epipolar[0])
    if _smooth_noise(sampled, homography[0]) > allowed + _SMOOTH_ERROR_PX / data.focal_px:
        return None
    problem = LensProblem(data, open_distortion(cameras), max(_LOG_FOCAL_SIGMA[camera.source] for camera in cameras))
    if len(problem.distortion.groups) == 0:
        return None
    least = _MIN_SAMPLED_RATIO * min_inliers / int(either.sum())
    fit = _fit_some(problem.rows(some), problem.rows(_some_of(homography[1], _NUM_SAMPLED)), least)
    if fit is None:
        return None
    if _noise(fit) > allowed + _SMOOTH_ERROR_PX / data.focal_px:
        return None
    found = _fit_all(problem, fit, min_inliers)
    if found is None or not _explains(found, epipolar, config):
        return None
    coefficients = problem.distortion.coefficients(found.lens[1:])
    return LensRotation(found.R, float(np.exp(found.lens[0])), coefficients), found.errors() <= found.limit


def _explains(fit: RotationFit, epipolar: Model | None, config: TwoViewConfig) -> bool:
    """Whether a rotation with a lens explains its inliers as well as any motion does, and clearly."""
    fit = replace(fit, problem=fit.problem.rows(fit.errors() <= fit.limit))
    if abs(fit.lens[0]) > _MAX_LOG_FACTOR or np.abs(fit.lens[1:]).max() > _MAX_COEFFICIENT * np.exp(2 * fit.lens[0]):
        return False
    if _parallax_deg(fit) > config.min_parallax_deg:
        return False
    noise, data = _noise(fit), fit.problem.data
    rounding = _ROUNDING_PX / data.focal_px
    if epipolar is not None and noise > _MAX_NOISE_RATIO * _matrix_noise(data, epipolar[0]) + rounding:
        return False
    allowed = _MAX_NOISE_RATIO * _epipolar_noise(fit, epipolar) + rounding
    if noise > allowed:
        return False
    plain = replace(fit, problem=replace(fit.problem, distortion=OpenDistortion(())), lens=fit.lens[:1])
    plain_noise = _noise(plain.refined(_NUM_STEPS))
    return plain_noise <= allowed or plain_noise >= _MIN_GAIN * noise


def _some_of(mask: BoolArray, num_sampled: int) -> BoolArray:
    """At most some of the matches in a mask, evenly over their order."""
    idxs = np.flatnonzero(mask)
    some = np.zeros_like(mask)
    some[idxs[np.linspace(0, len(idxs) - 1, min(len(idxs), num_sampled)).astype(int)]] = True
    return some


def _matrix_noise(data: Correspondences, matrix: Float64Array) -> float:
    """Noise of matches under an epipolar matrix."""
    return median_noise(squared_sampson_errors(matrix, data.points0, data.points1), 1)


def _smooth_noise(data: Correspondences, H: Float64Array) -> float:
    """Noise of the transfer errors of a homography around a cubic polynomial of the point.

    Distortion is nearly such a function of the point. Parallax is not, unless the scene is smooth.
    """
    mapped = homogeneous(data.points0) @ H.T
    errors = mapped[:, :2] / np.maximum(mapped[:, 2:], 0.05) - data.points1
    u, v = data.points1.T
    uu, uv, vv = u * u, u * v, v * v
    A = np.stack([np.ones_like(u), u, v, uu, uv, vv, uu * u, uu * v, vv * u, vv * v])
    left, scale = errors, 12 * data.max_error
    for _ in range(2):
        weighted = A / (1 + np.einsum("nd,nd->n", left, left) / scale**2)
        left = errors - A.T @ np.linalg.solve(weighted @ A.T + 1e-9 * np.eye(len(A)), weighted @ errors)
        scale = 2 * data.max_error
    return median_noise(np.einsum("nd,nd->n", left, left) / 2, 2)


def _fit_some(some: LensProblem, start: LensProblem, min_inlier_ratio: float) -> RotationFit | None:
    """Fit rotation and lens to some of the matches, starting from the rotation of the homography's inliers.

    Returns:
        The fit, or None if too few of the matches are its inliers.
    """
    log_factors = (0.0,) if some.log_focal_sigma < 0.1 else (-0.6, -0.3, 0.0, 0.3, 0.6)
    starts = [_aligned(start, log_factor) for log_factor in log_factors]
    fit = replace(min(starts, key=lambda start: float(np.median(start.errors()))), problem=some)
    for num_steps, ratio in ((_NUM_FIRST_STEPS, _HOPEFUL * min_inlier_ratio), (_NUM_STEPS, min_inlier_ratio)):
        fit = fit.refined(num_steps)
        if (fit.errors() <= fit.limit).mean() < ratio:
            return None
    return fit


def _fit_all(problem: LensProblem, fit: RotationFit, min_inliers: float) -> RotationFit | None:
    """Fit rotation and lens to all matches that fit; None if these are too few."""
    for _ in range(2):
        mask = replace(fit, problem=problem).errors() <= fit.limit
        if mask.sum() < _MIN_SAMPLED_RATIO * min_inliers:
            return None
        fit = replace(fit, problem=problem.rows(_some_of(mask, _NUM_FITTED))).refined(3)
    fit = replace(fit, problem=problem)
    return fit if (fit.errors() <= fit.limit).sum() >= min_inliers else None


def _aligned(problem: LensProblem, log_factor: float) -> RotationFit:
    """The rotation that aligns the rays of all matches, without distortion."""
    lens = np.append(log_factor, np.zeros(len(problem.distortion.groups)))
    rays0, rays1 = (rays_of(points) for points in problem.undistorted(lens))
    return RotationFit(problem, lens, project_to_rotation(rays1.T @ rays0))


def _noise(fit: RotationFit) -> float:
    """Noise per coordinate of undistorted points under a rotation, in the units of the data."""
    errors = homography_errors(fit.R, *fit.problem.undistorted(fit.lens))
    return median_noise(errors**2 / 2, 2) / float(np.exp(fit.lens[0]))


def _parallax_deg(fit: RotationFit) -> float:
    rays0, rays1 = (rays_of(points) for points in fit.problem.undistorted(fit.lens))
    return float(np.degrees(np.median(np.linalg.norm(rays0 @ fit.R.T - rays1, axis=1))))


def _epipolar_noise(fit: RotationFit, epipolar: Model | None) -> float:
    """Noise of the best epipolar geometry with a lens of its own, in the units of the data.

    The fit starts from the rotation and the direction that explains its residuals best, and from the pose of the
    epipolar matrix.
    """
    problem = fit.problem
    starts = [(Rigid3(fit.R, _direction(fit)), fit.lens)]
    if epipolar is not None:
        pose = recover_pose(problem.data, epipolar[0], np.ones(len(problem.data.points0), np.bool_))
        starts += [] if pose is None else [(pose, np.zeros_like(fit.lens))]
    some = problem.rows(_some_of(np.ones(len(problem.data.points0), np.bool_), _NUM_FITTED))
    noises = []
    for pose, lens in starts:
        refined = EpipolarFit(some, lens, pose).refined(_NUM_EPIPOLAR_STEPS)
        points = problem.undistorted(refined.lens)
        squared = squared_sampson_errors(essential_from_pose(refined.pose), *points)
        noises.append(median_noise(squared, 1) / float(np.exp(refined.lens[0])))
    return min(noises)


def _direction(fit: RotationFit) -> Float64Array:
    """The direction of a translation [3] that explains the residuals of a rotation best."""
    points0, points1 = fit.problem.undistorted(fit.lens)
    normals = np.cross(rays_of(points1), rays_of(points0) @ fit.R.T)
    weighted = normals.T / (1 + (normals**2).sum(axis=1) / fit.limit**2)
    direction: Float64Array = np.linalg.eigh(weighted @ normals)[1][:, 0]
    return direction
