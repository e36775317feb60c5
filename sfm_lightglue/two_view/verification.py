"""Matches -> `TwoViewGeometry` or `Rejected`: robust estimation, classification, refinement.

The keypoints of both images are normalised by the intrinsics of their own cameras, so two different cameras need no
special case.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array
from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3, project_to_rotation
from sfm_lightglue.scene.cameras import calibration_matrix
from sfm_lightglue.two_view.a_contrario import (
    ESSENTIAL_SAMPLE,
    FUNDAMENTAL_SAMPLE,
    HOMOGRAPHY_SAMPLE,
    epipolar_chance,
    homography_chance,
    log10_false_alarms,
)
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import (
    HOMOGRAPHY_ERROR_RATIO,
    Correspondences,
    MatchedPair,
    homography_errors,
    normalize_matches,
    rays_of,
)
from sfm_lightglue.two_view.distorted_rotation import MIN_HOMOGRAPHY_RATIO, LensRotation, distorted_rotation
from sfm_lightglue.two_view.estimators.base import Sampling, load_estimator
from sfm_lightglue.two_view.evidence import measure_evidence
from sfm_lightglue.two_view.matrices import Model, estimate_matrices
from sfm_lightglue.two_view.noise import median_noise
from sfm_lightglue.two_view.pose import poses_from_homography, refine_poses
from sfm_lightglue.two_view.pose_batch import PointPairs, Poses, inlier_masks, pose_qualities, poses_from_essentials
from sfm_lightglue.types import Camera, Features, Matches, Rejected, TwoViewGeometry, TwoViewKind

_VERDICT_VERSION = 8
"""Part of the store's keys. Raise it when the same matches start to give another verdict or pose."""

_MAX_NOISE_RATIO = 1.3
"""A homography or rotation whose noise is larger than this multiple of the noise of the epipolar geometry is refused:
the difference is parallax."""

_PREFERENCE = 1.02
"""Factor on the quality of the epipolar matrix's pose when it is compared with the poses of a homography. Two poses fit
a plane nearly equally well; the matrix was fitted to the matches beside the plane too."""

_ROUNDING_PX = 0.05
"""Noise that undoing the distortion and float32 keypoints cause; it is added to the allowed noise."""


def verification_identity(config: TwoViewConfig) -> tuple[str, object]:
    """Everything that a verification depends on beside its input, for the keys of the store.

    The estimator enters by its version, not by its name: two names of the same estimator share results.

    Raises:
        ConfigError: if the estimator's library is not installed.
    """
    options = {field.name: getattr(config, field.name) for field in fields(config) if field.name != "estimator"}
    return f"{_VERDICT_VERSION}-{load_estimator(config.estimator).version}", [type(config).__qualname__, options]


def estimate_two_view_geometry(
    features0: Features,
    features1: Features,
    matches: Matches,
    camera0: Camera,
    camera1: Camera,
    config: TwoViewConfig | None = None,
    seed: int = 0,
) -> TwoViewGeometry | Rejected:
    """Estimate the relative pose that fits the matches best, weighted by their scores.

    If both focal lengths are given or from EXIF data, an essential matrix is estimated; otherwise a fundamental
    matrix, and the pose depends on a guessed focal length.

    Args:
        features0: of image 0.
        features1: of image 1.
        matches: between them.
        camera0: intrinsics of image 0.
        camera1: intrinsics of image 1.
        config: thresholds.
        seed: of the random samples; the same seed gives the same result.

    Raises:
        ConfigError: if the estimator's library is not installed.
    """
    pair = MatchedPair((features0, features1), matches, (camera0, camera1))
    verified = verify_pair(pair, config or TwoViewConfig(), seed)
    return verified if isinstance(verified, Rejected) else verified.geometry


@dataclass(frozen=True, eq=False, slots=True)
class VerifiedPair:
    """A two-view geometry with the normalised correspondences from which it was estimated.

    Args:
        geometry: with matrices on pixels.
        data: all M matches.
        usable: [M] the matches whose distortion could be undone.
        matrix: E, or F of a pair without calibration, [3, 3] on normalised points; zeros for a pure rotation.
        H: [3, 3] on normalised points; None for a general geometry.
        lens: of a pure rotation that fits only with a lens distortion; None else.
    """

    geometry: TwoViewGeometry
    data: Correspondences
    usable: BoolArray
    matrix: Float64Array
    H: Float64Array | None
    lens: LensRotation | None = None


def verify_pair(pair: MatchedPair, config: TwoViewConfig, seed: int) -> VerifiedPair | Rejected:
    """`estimate_two_view_geometry` that also returns the normalised correspondences and matrices."""
    num_matches = len(pair.matches)
    if num_matches < config.min_inliers:
        return Rejected("too_few_matches", num_matches)
    data, usable = normalize_matches(pair, config)
    if usable.sum() < config.min_inliers:
        return Rejected("too_few_matches", num_matches)
    enough = max(config.min_inliers, config.min_inlier_ratio * num_matches)
    fits = _fit_matrices(data.rows(usable), pair.matches.scores[usable], pair.is_calibrated, config, seed, enough)
    if fits.epipolar is None and fits.homography is None:
        return Rejected("no_model", num_matches)
    if fits.num_best < enough:
        return Rejected("too_few_inliers", num_matches, fits.num_best)
    found = _classify(fits, pair.cameras)
    if isinstance(found, Rejected):
        return replace(found, num_matches=num_matches)
    false_alarms = _log10_false_alarms(found, data.rows(usable), pair.is_calibrated)
    if false_alarms > math.log10(config.max_false_alarms):
        return Rejected("chance", num_matches, int(found.mask.sum()))
    geometry = _in_pixels(found, usable, pair)
    geometry = replace(geometry, evidence=measure_evidence(pair, geometry.inlier_mask, false_alarms))
    return VerifiedPair(geometry, data, usable, found.matrix, found.H, found.lens)


@dataclass(frozen=True, eq=False, slots=True)
class _Fits:
    """The matrices that were fitted to the usable matches of a pair, and what their classification needs."""

    data: Correspondences
    scores: Float32Array
    epipolar: Model | None
    homography: Model | None
    is_calibrated: bool
    config: TwoViewConfig

    @property
    def num_best(self) -> int:
        """Number of inliers of the matrix with the most inliers."""
        return max(_num_inliers(self.epipolar), _num_inliers(self.homography))


def _num_inliers(model: Model | None) -> int:
    return 0 if model is None else int(model[1].sum())


def _fit_matrices(
    data: Correspondences,
    scores: Float32Array,
    is_calibrated: bool,
    config: TwoViewConfig,
    seed: int,
    min_inliers: float,
) -> _Fits:
    estimator = load_estimator(config.estimator)
    sampling = Sampling(data.max_error_px, config.confidence, config.max_iterations, seed % (1 << 31))
    enough = math.ceil(min_inliers)
    options = is_calibrated, estimator, sampling, enough, MIN_HOMOGRAPHY_RATIO
    epipolar, homography = estimate_matrices(data, scores, *options)
    return _Fits(data, scores, epipolar, homography, is_calibrated, config)


@dataclass(frozen=True, eq=False, slots=True)
class _Found:
    """A classified geometry: matrices on normalised points, mask over the usable matches."""

    kind: TwoViewKind
    pose: Rigid3
    matrix: Float64Array
    H: Float64Array | None
    mask: BoolArray
    lens: LensRotation | None = None


def _log10_false_alarms(found: _Found, data: Correspondences, is_calibrated: bool) -> float:
    if found.kind == "pure_rotation" and found.H is not None:
        chance, sample_size = homography_chance(found.H, data), HOMOGRAPHY_SAMPLE
    else:
        chance = epipolar_chance(found.matrix, data)
        sample_size = ESSENTIAL_SAMPLE if is_calibrated else FUNDAMENTAL_SAMPLE
    return log10_false_alarms(len(data.points0), int(found.mask.sum()), chance, sample_size)


def _classify(fits: _Fits, cameras: tuple[Camera, Camera]) -> _Found | Rejected:
    """Classify as general, planar or pure rotation by COLMAP's rule: the fraction of inliers that fit a homography."""
    data, config = fits.data, fits.config
    plane = _homography_of_plane(fits)
    rotation = None if plane is None else _pure_rotation(fits, plane)
    if rotation is None:
        rotation = _distorted_rotation(fits, cameras)
    if rotation is not None:
        return rotation
    points = PointPairs.of(data)
    pose = _best_pose(fits, plane, points)
    if pose is None:
        return Rejected("degenerate", len(data.points0), fits.num_best)
    matrix, mask = essential_from_pose(pose), inlier_masks(points, Poses.of(pose))[0]
    if not fits.is_calibrated and plane is None and fits.epipolar is not None:
        # The pose depends on a guessed focal length. F does not, so keep its inliers.
        matrix, mask = fits.epipolar
    if mask.sum() < max(config.min_inliers, config.min_inlier_ratio * len(data.points0)):
        return Rejected("too_few_inliers", len(data.points0), int(mask.sum()))
    kind: TwoViewKind = "general" if plane is None else "planar"
    return _Found(kind, pose, matrix, None if plane is None else plane[0], mask)


def _homography_of_plane(fits: _Fits) -> Model | None:
    """The homography, if it fits the matches as well as the epipolar geometry does."""
    homography, config = fits.homography, fits.config
    if homography is None:
        return None
    H, mask = homography
    if mask.sum() < max(config.min_inliers, config.max_homography_ratio * _num_inliers(fits.epipolar)):
        return None
    # A homography predicts two coordinates of a point, so the same noise gives it larger errors.
    errors = homography_errors(H, fits.data.points0[mask], fits.data.points1[mask])
    return homography if median_noise(errors**2 / 2, 2) <= _allowed_noise(fits, homography) else None


def _allowed_noise(fits: _Fits, homography: Model) -> float:
    """Noise per coordinate up to which a simpler model is as good as the epipolar geometry."""
    if fits.epipolar is None:
        return np.inf
    matrix, mask = fits.epipolar
    common = mask & homography[1]
    if not common.any():
        return 0.0
    errors = squared_sampson_errors(matrix, fits.data.points0[common], fits.data.points1[common])
    return _MAX_NOISE_RATIO * median_noise(errors, 1) + _ROUNDING_PX / fits.data.focal_px


def _pure_rotation(fits: _Fits, homography: Model) -> _Found | None:
    """The rotation that fits the matches as well as the other models do, or None if the camera moved."""
    # If a focal length is guessed, search for a factor on it that makes the homography a rotation.
    factors = np.ones(1) if fits.is_calibrated else np.geomspace(0.4, 2.5, 41)
    rotations = [fit for factor in factors if (fit := _fit_rotation(fits.data, homography, float(factor), fits.config))]
    if not rotations:
        return None
    noise, R, H = min(rotations, key=lambda fit: fit[0])
    limit = HOMOGRAPHY_ERROR_RATIO * fits.data.max_error
    mask = homography_errors(H, fits.data.points0, fits.data.points1) <= limit
    if mask.sum() < fits.config.max_homography_ratio * homography[1].sum():
        return None
    if noise > _allowed_noise(fits, homography):
        return None
    return _Found("pure_rotation", Rigid3(R, np.zeros(3)), np.zeros((3, 3)), H, mask)


def _distorted_rotation(fits: _Fits, cameras: tuple[Camera, Camera]) -> _Found | None:
    """The rotation that fits the matches as well as a motion does, if an unknown lens distortion is fitted too."""
    fit = distorted_rotation(fits.data, cameras, fits.epipolar, fits.homography, fits.config)
    if fit is None:
        return None
    lens, mask = fit
    return _Found("pure_rotation", Rigid3(lens.R, np.zeros(3)), np.zeros((3, 3)), lens.H, mask, lens)


def _fit_rotation(
    data: Correspondences, homography: Model, factor: float, config: TwoViewConfig
) -> tuple[float, Float64Array, Float64Array] | None:
    """Fit a rotation to the inliers of a homography, with the focal length divided by a factor.

    Returns:
        Noise per coordinate, rotation and its homography; None if it has too few inliers or there is parallax.
    """
    S = np.diag([factor, factor, 1.0])
    H, mask = homography
    rays0, rays1 = (rays_of(points * factor) for points in (data.points0, data.points1))
    R = project_to_rotation(S @ H @ np.linalg.inv(S))
    for _ in range(5):
        distances = np.linalg.norm(rays0 @ R.T - rays1, axis=1)
        inliers = mask & (distances <= max(2.5 * np.median(distances[mask]), 1e-9))
        if inliers.sum() < config.min_inliers:
            return None
        R = project_to_rotation(rays1[inliers].T @ rays0[inliers])
    H_of_R = np.linalg.inv(S) @ R @ S
    errors = homography_errors(H_of_R, data.points0[mask], data.points1[mask])
    parallax = np.median(np.linalg.norm(rays0[mask] @ R.T - rays1[mask], axis=1))
    if parallax > np.radians(config.min_parallax_deg):
        return None
    return median_noise(errors**2 / 2, 2), R, H_of_R


def _best_pose(fits: _Fits, plane: Model | None, points: PointPairs) -> Rigid3 | None:
    """The refined pose with the highest quality, of those that the epipolar matrix and the plane's homography allow."""
    models = [] if fits.epipolar is None else [fits.epipolar]
    if plane is not None:
        H, mask = plane
        of_plane = [essential_from_pose(pose) for pose in poses_from_homography(H)]
        models = [(matrix, mask) for matrix in [*(matrix for matrix, _ in models), *of_plane]]
    if not models:
        return None
    masks = np.stack([mask for _, mask in models])
    poses, num_in_front = poses_from_essentials(points, np.stack([matrix for matrix, _ in models]), masks)
    refined = refine_poses(points, poses)
    if len(models) == 1:
        return refined[0] if num_in_front[0] > 0 else None
    qualities = np.where(num_in_front > 0, pose_qualities(points, refined, fits.scores), -1.0)
    if fits.epipolar is not None:
        qualities[0] *= _PREFERENCE
    best = int(qualities.argmax())
    return refined[best] if num_in_front[best] > 0 else None


def _in_pixels(found: _Found, usable: BoolArray, pair: MatchedPair) -> TwoViewGeometry:
    K0_inverse, K1 = np.linalg.inv(calibration_matrix(pair.cameras[0])), calibration_matrix(pair.cameras[1])
    mask = np.zeros(len(usable), dtype=np.bool_)
    mask[usable] = found.mask
    return TwoViewGeometry(
        kind=found.kind,
        inlier_mask=mask,
        cam1_from_cam0=found.pose,
        F=np.linalg.inv(K1).T @ found.matrix @ K0_inverse,
        E=found.matrix if pair.is_calibrated else None,
        H=None if found.H is None else K1 @ found.H @ K0_inverse,
    )
