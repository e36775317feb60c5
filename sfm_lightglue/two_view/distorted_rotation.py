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
    HOMOGRAPHY_ERROR_RATIO,
    Correspondences,
    homography_errors,
    rays_of,
)
from sfm_lightglue.two_view.lens_fits import LensProblem
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

_MIN_HOMOGRAPHY_RATIO = 0.25
"""A pair is tried only if a homography fits at least this fraction of the inliers."""

_MIN_SMOOTH_RATIO = 0.85
"""A pair is tried only if the errors of the homography are a smooth function of the point, for this fraction."""

_MIN_INLIER_RATIO = 0.85
"""The rotation must fit at least this fraction of the inliers of the best matrix."""

_NUM_SAMPLED = 150
"""Largest number of matches of the first, cheap fits."""

_MAX_NOISE_RATIO = 1.3
"""Largest noise of the rotation, as a multiple of that of an epipolar geometry with the same freedom."""

_ROUNDING_PX = 0.05
"""Noise that is added to the allowed noise: rounding, and what one radial coefficient leaves of a distortion."""

_MIN_GAIN = 1.15
"""The noise of the best rotation without distortion must be at least this multiple of the noise with it."""


@dataclass(frozen=True, eq=False, slots=True)
class LensRotation:
    """A rotation together with the lens that makes it fit.

    Args:
        R: `cam1_from_cam0`, [3, 3].
        factor: by which normalised points are multiplied: assumed focal length over the fitted one.
        coefficients: radial distortion of image 0 and 1, for points that were multiplied by the factor.
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
        points0, points1 = (
            undistort(points * self.factor, k) / self.factor
            for points, k in zip((data.points0, data.points1), self.coefficients, strict=True)
        )
        return replace(data, points0=points0, points1=points1)


def lens_problem(data: Correspondences, cameras: tuple[Camera, Camera]) -> LensProblem:
    """State what is unknown about the lens of a pair.

    Args:
        data: matches.
        cameras: of image 0 and of image 1.
    """
    sigma = max(_LOG_FOCAL_SIGMA[camera.source] for camera in cameras)
    return LensProblem(data, open_distortion(cameras), sigma)


def distorted_rotation(
    problem: LensProblem, epipolar: Model | None, homography: Model | None, config: TwoViewConfig
) -> tuple[LensRotation, BoolArray] | None:
    """Find the rotation and the lens that fit the matches as well as any motion does.

    Args:
        problem: all matches, and what is unknown about their lens.
        epipolar: E or F without distortion, with its inliers.
        homography: without distortion, with its inliers.
        config: thresholds.

    Returns:
        The rotation with its lens, and the mask [M] of its inliers; None if the camera moved, if the distortion is
        known, or if the rotation fits as well without a distortion.
    """
    if homography is None or len(problem.distortion.groups) == 0:
        return None
    either = homography[1] if epipolar is None else homography[1] | epipolar[1]
    num_best = max(int(model[1].sum()) for model in (epipolar, homography) if model is not None)
    min_inliers = max(config.min_inliers, _MIN_INLIER_RATIO * num_best)
    if homography[1].sum() < max(config.min_inliers, _MIN_HOMOGRAPHY_RATIO * num_best):
        return None
    if _smooth_ratio(problem.rows(_some_of(either)).data, homography[0]) < _MIN_SMOOTH_RATIO:
        return None
    found = _fit_all(problem, homography[1], either, min_inliers)
    if found is None:
        return None
    rotation, lens, mask = found
    fitted = problem.rows(mask)
    noise = _rotation_noise(fitted, rotation, lens)
    if abs(lens[0]) > _MAX_LOG_FACTOR or np.abs(lens[1:]).max() > _MAX_COEFFICIENT:
        return None
    if _parallax_deg(fitted, rotation, lens) > config.min_parallax_deg:
        return None
    if _noise_without_distortion(fitted, rotation, lens) < _MIN_GAIN * noise:
        return None
    rounding = _ROUNDING_PX / problem.data.focal_px * np.exp(lens[0])
    if noise > _MAX_NOISE_RATIO * _epipolar_noise(fitted, rotation, lens, epipolar) + rounding:
        return None
    return LensRotation(rotation, float(np.exp(lens[0])), problem.distortion.coefficients(lens[1:])), mask


def _some_of(mask: BoolArray) -> BoolArray:
    """At most `_NUM_SAMPLED` of the matches in a mask, evenly over their order."""
    idxs = np.flatnonzero(mask)
    some = np.zeros_like(mask)
    some[idxs[np.linspace(0, len(idxs) - 1, min(len(idxs), _NUM_SAMPLED)).astype(int)]] = True
    return some


def _smooth_ratio(data: Correspondences, H: Float64Array) -> float:
    """Fraction of the matches whose transfer errors a cubic polynomial of the point explains.

    Distortion is such a function of the point. Parallax is not, unless the scene is smooth.
    """
    mapped = homogeneous(data.points0) @ H.T
    errors = mapped[:, :2] / np.maximum(mapped[:, 2:], 0.05) - data.points1
    u, v = data.points1.T
    A = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v, u**3, u * u * v, u * v * v, v**3], axis=1)
    limit = HOMOGRAPHY_ERROR_RATIO * data.max_error
    squared, scale = (errors**2).sum(axis=1), 4 * limit
    for _ in range(3):
        weighted = A.T / (1 + squared / scale**2)
        solution = np.linalg.solve(weighted @ A + 1e-9 * np.eye(A.shape[1]), weighted @ errors)
        squared, scale = ((errors - A @ solution) ** 2).sum(axis=1), limit
    return float((squared <= limit**2).mean())


_Fit = tuple[Float64Array, Float64Array, BoolArray]
"""Rotation [3, 3], lens [1 + G], and mask [M] of the inliers."""


def _fit_all(problem: LensProblem, start: BoolArray, either: BoolArray, min_inliers: float) -> _Fit | None:
    """Fit rotation and lens to some of the matches, then to all that fit; None if too few do."""
    limit = HOMOGRAPHY_ERROR_RATIO * problem.data.max_error
    some = problem.rows(_some_of(either))
    fits = []
    for log_factor in (0.0,) if problem.log_focal_sigma < 0.1 else (-0.6, 0.0, 0.6):
        lens = np.append(log_factor, np.zeros(len(problem.distortion.groups)))
        R, lens = some.fit_rotation(_aligned(problem.rows(start), lens), lens, 6)
        fits.append((int((some.transfer_lengths(R, lens) <= limit).sum()), R, lens))
    _, R, lens = max(fits, key=lambda fit: fit[0])
    for _ in range(2):
        mask = problem.transfer_lengths(R, lens) <= limit
        if mask.sum() < 0.5 * min_inliers:
            return None
        R, lens = problem.rows(mask).fit_rotation(R, lens, 3)
    mask = problem.transfer_lengths(R, lens) <= limit
    return (R, lens, mask) if mask.sum() >= min_inliers else None


def _aligned(problem: LensProblem, lens: Float64Array) -> Float64Array:
    """The rotation [3, 3] that aligns the rays of all matches."""
    rays0, rays1 = (rays_of(points) for points in problem.undistorted(lens))
    return project_to_rotation(rays1.T @ rays0)


def _rotation_noise(problem: LensProblem, R: Float64Array, lens: Float64Array) -> float:
    """Noise per coordinate of undistorted points under a rotation."""
    errors = homography_errors(R, *problem.undistorted(lens))
    return median_noise(errors**2 / 2, 2)


def _parallax_deg(problem: LensProblem, R: Float64Array, lens: Float64Array) -> float:
    rays0, rays1 = (rays_of(points) for points in problem.undistorted(lens))
    return float(np.degrees(np.median(np.linalg.norm(rays0 @ R.T - rays1, axis=1))))


def _noise_without_distortion(problem: LensProblem, R: Float64Array, lens: Float64Array) -> float:
    """Noise of the best rotation with a free focal length alone, in the units of the undistorted points."""
    plain = replace(problem, distortion=OpenDistortion(()))
    R, plain_lens = plain.fit_rotation(R, lens[:1], 4)
    return _rotation_noise(plain, R, plain_lens) * float(np.exp(lens[0] - plain_lens[0]))


def _epipolar_noise(problem: LensProblem, R: Float64Array, lens: Float64Array, epipolar: Model | None) -> float:
    """Noise of the best epipolar geometry, in the units of the undistorted points.

    Candidates are the given matrix, and poses that are refined together with a lens: from the rotation and the
    direction that explains its residuals best, and from the pose of the given matrix.
    """
    data = problem.data
    starts = [(Rigid3(R, _direction(problem, R, lens)), lens)]
    noises = []
    if epipolar is not None:
        matrix = epipolar[0]
        squared = squared_sampson_errors(matrix, data.points0, data.points1)
        noises.append(median_noise(squared, 1) * float(np.exp(lens[0])))
        pose = recover_pose(data, matrix, np.ones(len(data.points0), np.bool_))
        starts += [] if pose is None else [(pose, np.zeros_like(lens))]
    noises += [_refined_noise(problem, *start) * float(np.exp(lens[0])) for start in starts]
    return min(noises)


def _refined_noise(problem: LensProblem, pose: Rigid3, lens: Float64Array) -> float:
    """Noise of a pose that is refined together with a lens, in the units of the data."""
    refined, lens = problem.fit_epipolar(pose, lens, 8)
    squared = squared_sampson_errors(essential_from_pose(refined), *problem.undistorted(lens))
    return median_noise(squared, 1) / float(np.exp(lens[0]))


def _direction(problem: LensProblem, R: Float64Array, lens: Float64Array) -> Float64Array:
    """The direction of a translation [3] that explains the residuals of a rotation best."""
    points0, points1 = problem.undistorted(lens)
    normals = np.cross(rays_of(points1), rays_of(points0) @ R.T)
    limit = HOMOGRAPHY_ERROR_RATIO * problem.data.max_error
    weighted = normals.T / (1 + (normals**2).sum(axis=1) / limit**2)
    direction: Float64Array = np.linalg.eigh(weighted @ normals)[1][:, 0]
    return direction
