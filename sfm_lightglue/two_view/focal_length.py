"""The focal length that a pair of images shows by itself, where nobody has told it.

The epipolar geometry of two views holds seven numbers; a pose has five. So one focal length that both images share,
or that of one image beside a known one, can be found together with the pose: by least squares over the six, from
several starts. How well depends on the motion: where the optical axes meet in front of the cameras at equal
distances, or are parallel, nothing at all is shown, and the information of the least squares says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3, project_to_rotation
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.two_view.correspondences import Correspondences
from sfm_lightglue.two_view.noise import robust_noise
from sfm_lightglue.two_view.pose import recover_pose
from sfm_lightglue.two_view.residuals import EpipolarResiduals, LogScales, RotationResiduals, focal_derivative, jacobian
from sfm_lightglue.types import Camera

GUESS_LOG_SIGMA = 0.35
"""Standard deviation of the logarithm of a guessed focal length: lenses from 0.6 to 2.4 times the longer side are
within two of them around the guess of 1.2 times."""

MAX_LOG_SIGMA = 0.04
"""An estimate that the matches determine no better than this, by their noise, is none."""

MODEL_LOG_SIGMA = 0.03
"""What lens distortion and a principal point off the centre, which are not modelled, add to the noise: measured on
photographs, where the errors are some 2 to 5 % however many matches there are."""

MIN_MATCHES = 50
"""Fewer inliers show no focal length."""

_MIN_NOISE_PX = 0.3
"""Fewer pixels of noise are not believed: what the model lacks is no smaller than that."""

_STARTS = (0.55, 0.9, 1.4, 2.2)
"""Factors on the guess."""

_RANGE = 0.3, 4.0
"""Factors on the guess beyond which no focal length is believed."""


@dataclass(frozen=True, slots=True)
class FocalEstimate:
    """A focal length by the matches of a pair.

    Args:
        factor: by which the guess is to be multiplied.
        noise_log_sigma: standard deviation of its logarithm, by the noise of the matches alone.
    """

    factor: float
    noise_log_sigma: float

    @property
    def log_sigma(self) -> float:
        """Standard deviation of the logarithm, of all causes."""
        return math.hypot(self.noise_log_sigma, MODEL_LOG_SIGMA)

    @property
    def is_reliable(self) -> bool:
        """Whether the matches determine it well, and it is one that lenses have."""
        return self.noise_log_sigma <= MAX_LOG_SIGMA and _RANGE[0] < self.factor < _RANGE[1]


def focal_from_motion(data: Correspondences, F: Float64Array, sides: Sequence[int]) -> FocalEstimate | None:
    """The focal length that makes a fundamental matrix an essential one, refined together with the pose.

    Args:
        data: inliers, normalised by the guess.
        F: [3, 3] on the same points.
        sides: the images whose focal length is to be found, 0 and 1; both share it.

    Source: Sturm, On focal length calibration from two views, 2001 (what can be found, and when not).
    """
    if len(data.points0) < MIN_MATCHES:
        return None
    everything = np.ones(len(data.points0), np.bool_)
    fits = []
    for start in _STARTS:
        # Points divided by a factor f have the essential matrix diag(f, f, 1) F diag(f, f, 1), and their own signs
        # of depth.
        scale0, scale1 = (np.array([start, start, 1.0]) if side in sides else np.ones(3) for side in (0, 1))
        scaled = replace(data, points0=data.points0 / scale0[:2], points1=data.points1 / scale1[:2])
        pose = recover_pose(scaled, scale1[:, None] * F * scale0, everything)
        if pose is not None:
            fits.append(_fit(EpipolarResiduals(data, pose), start, sides, data.focal_px))
    return _best(fits)


def focal_from_rotation(data: Correspondences, H: Float64Array, sides: Sequence[int]) -> FocalEstimate | None:
    """The focal length that makes a homography a rotation, refined together with the rotation.

    Args:
        data: inliers, normalised by the guess.
        H: [3, 3] on the same points, of a camera that only turned.
        sides: the images whose focal length is to be found, 0 and 1; both share it.

    Source: Hartley, Self-calibration from multiple views with a rotating camera, 1994.
    """
    if len(data.points0) < MIN_MATCHES:
        return None
    fits = []
    for start in _STARTS:
        # Points divided by f have the homography diag(1, 1, f) H diag(1, 1, 1 / f), of any length.
        scale0, scale1 = (np.array([start, start, 1.0]) if side in sides else np.ones(3) for side in (0, 1))
        pose = Rigid3(project_to_rotation((H * scale0) / scale1[:, None]), np.zeros(3))
        fits.append(_fit(RotationResiduals(data, pose), start, sides, data.focal_px))
    return _best(fits)


def with_focal_factor(camera: Camera, factor: float) -> Camera:
    """The camera with its focal lengths multiplied, marked as estimated."""
    params = list(camera.params)
    for i in as_pycolmap(camera).focal_length_idxs():
        params[i] *= factor
    return replace(camera, params=tuple(params), source="estimated")


_Fit = tuple[float, FocalEstimate]
"""Cost, and what was found."""


def _best(fits: Sequence[_Fit]) -> FocalEstimate | None:
    return min(fits, key=lambda fit: fit[0])[1] if fits else None


def _fit(model: EpipolarResiduals | RotationResiduals, start: float, sides: Sequence[int], focal_px: float) -> _Fit:
    """Robust least squares over pose and focal length, with the guess as a weak prior."""
    noise = model.limit / 4

    def log_scales(log_factor: float) -> LogScales:
        return (log_factor if 0 in sides else 0.0), (log_factor if 1 in sides else 0.0)

    def residuals(parameters: Float64Array) -> Float64Array:
        log_factor = float(np.clip(parameters[-1], -3, 3))
        values = model.at(parameters[:-1], log_scales(log_factor)).ravel() / noise
        return np.append(values, log_factor / GUESS_LOG_SIGMA)

    first = np.append(np.zeros(model.num_parameters), math.log(start))
    solution = least_squares(residuals, first, loss="soft_l1", f_scale=2.0, max_nfev=30, x_scale=1e-2, ftol=1e-6)
    log_factor = float(np.clip(solution.x[-1], -3, 3))
    moved = model.moved(solution.x[:-1], log_scales(log_factor))
    sigma, _ = robust_noise(moved.values, moved.limit, _MIN_NOISE_PX / focal_px)
    return float(solution.cost), FocalEstimate(math.exp(log_factor), sigma / math.sqrt(_information(moved, sides)))


def _information(model: EpipolarResiduals | RotationResiduals, sides: Sequence[int]) -> float:
    """Of the logarithm of the focal length, per noise², when the pose adapts to it (the Schur complement)."""
    J, b = jacobian(model), focal_derivative(model, sides)
    unexplained = b - J @ np.linalg.lstsq(J, b, rcond=None)[0]
    return max(float(unexplained @ unexplained), 1e-12)
