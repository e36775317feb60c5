"""Matches -> `TwoViewGeometry` or `Rejected`: robust estimation, verdict, refinement.

Both images are brought to an ideal camera of one focal length without distortion, each by its own
intrinsics, so that two different cameras are no special case.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3, project_to_rotation
from sfm_lightglue.scene.cameras import calibration_matrix
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import (
    HOMOGRAPHY_ERROR_RATIO,
    Correspondences,
    homography_errors,
    normalize_matches,
    rays_of,
)
from sfm_lightglue.two_view.estimators.base import Sampling, load_estimator
from sfm_lightglue.two_view.matrices import Model, estimate_epipolar, estimate_homography
from sfm_lightglue.two_view.pose import in_front, num_supporting, poses_from_homography, recover_pose, refine_pose
from sfm_lightglue.types import Camera, Features, Matches, Rejected, TwoViewGeometry

_VERDICT_VERSION = 2
"""Part of the store's keys; raised whenever the same matches start to give another verdict or pose."""


def verification_identity(config: TwoViewConfig) -> tuple[str, object]:
    """All that a verification depends on, beside its input: for the keys of the store.

    The estimator counts by its version, not by its name in the options: two names of the same one share results.

    Raises:
        ConfigError: where the estimator's library is not installed.
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
    """Find the relative pose that most matches agree with, or, where many disagree, the surest of them.

    Where both focal lengths are given or from EXIF data, an essential matrix is estimated; otherwise a
    fundamental matrix, and the pose then rests on a guessed focal length.

    Args:
        features0: of image 0.
        features1: of image 1.
        matches: between them.
        camera0: intrinsics of image 0.
        camera1: intrinsics of image 1.
        config: thresholds.
        seed: of the random samples; the same seed gives the same result.

    Raises:
        ConfigError: where the estimator's library is not installed.
    """
    config = config or TwoViewConfig()
    num_matches = len(matches)
    if num_matches < config.min_inliers:
        return Rejected("too_few_matches", num_matches)
    data, usable = normalize_matches(features0, features1, matches, camera0, camera1, config)
    if usable.sum() < config.min_inliers:
        return Rejected("too_few_matches", num_matches, 0)
    data = data.rows(usable)
    calibrated = "guessed" not in {camera0.source, camera1.source}
    estimator, sampling = load_estimator(config.estimator), _sampling(data, config, seed)
    enough = max(config.min_inliers, config.min_inlier_ratio * num_matches)
    epipolar = estimate_epipolar(data, matches.scores[usable], calibrated, estimator, sampling, math.ceil(enough))
    homography = estimate_homography(data, estimator, sampling)
    num_best = max(
        0 if epipolar is None else int(epipolar[1].sum()),
        0 if homography is None else int(homography[1].sum()),
    )
    if epipolar is None and homography is None:
        return Rejected("no_model", num_matches)
    if num_best < enough:
        return Rejected("too_few_inliers", num_matches, num_best)
    found = _classify(data, epipolar, homography, calibrated, config)
    if isinstance(found, Rejected):
        return Rejected(found.reason, num_matches, found.num_inliers)
    return _in_pixels(found, usable, camera0, camera1, data.focal_px, calibrated)


def _sampling(data: Correspondences, config: TwoViewConfig, seed: int) -> Sampling:
    return Sampling(data.max_error_px, config.confidence, config.max_iterations, seed % (1 << 31))


@dataclass(frozen=True, eq=False, slots=True)
class _Found:
    kind: str
    pose: Rigid3
    matrix: Float64Array
    H: Float64Array | None
    mask: BoolArray


def _classify(
    data: Correspondences,
    epipolar: Model | None,
    homography: Model | None,
    calibrated: bool,
    config: TwoViewConfig,
) -> _Found | Rejected:
    """General, planar or pure rotation? COLMAP's rule: by the share of inliers that a homography explains."""
    num_epipolar = 0 if epipolar is None else int(epipolar[1].sum())
    H, mask_H = homography if homography is not None else (None, np.zeros(len(data.points0), np.bool_))
    is_flat = homography is not None and _is_flat(data, homography, epipolar, config)
    if is_flat and homography is not None:
        rotation = _pure_rotation(data, homography, epipolar, calibrated, config)
        if rotation is not None:
            R, (H, mask) = rotation
            return _Found("pure_rotation", Rigid3(R, np.zeros(3)), H, H, mask)
    candidates: list[Float64Array] = [] if epipolar is None else [epipolar[0]]
    if is_flat and homography is not None:
        candidates += [essential_from_pose(pose) for pose in poses_from_homography(homography[0])]
    poses = [
        pose
        for matrix in candidates
        if (pose := recover_pose(data, matrix, mask_H if is_flat else _mask(epipolar))) is not None
    ]
    if not poses:
        return Rejected("degenerate", len(data.points0), max(num_epipolar, int(mask_H.sum())))
    # Refinement takes most of the time, and the third best of a plane's poses never becomes the best by it.
    poses.sort(key=lambda pose: -num_supporting(data, pose))
    refined = [refine_pose(data, pose) for pose in poses[:2]]
    counts = [(num_supporting(data, pose), -index) for index, pose in enumerate(refined)]
    pose = refined[-max(counts)[1]]
    matrix = essential_from_pose(pose)
    mask = in_front(data, pose) & (squared_sampson_errors(matrix, data.points0, data.points1) <= data.max_error**2)
    if not calibrated and not is_flat and epipolar is not None:
        # The focal length is a guess: F is what was measured, and its inliers are the ones to keep.
        matrix, mask = epipolar
    if mask.sum() < max(config.min_inliers, config.min_inlier_ratio * len(data.points0)):
        return Rejected("too_few_inliers", len(data.points0), int(mask.sum()))
    return _Found("planar" if is_flat else "general", pose, matrix, H if is_flat else None, mask)


def _mask(model: Model | None) -> BoolArray:
    assert model is not None
    return model[1]


def _pure_rotation(
    data: Correspondences, homography: Model, epipolar: Model | None, calibrated: bool, config: TwoViewConfig
) -> tuple[Float64Array, Model] | None:
    """The rotation that explains the matches as well as anything does, if there is one.

    Returns:
        The rotation [3, 3], and its homography with its inliers; None where the camera moved.
    """
    # Where the focal length is a guess, a factor on it is searched for that makes the homography a rotation.
    factors = np.ones(1) if calibrated else np.geomspace(0.4, 2.5, 41)
    fits = [fit for factor in factors if (fit := _fit_rotation(data, homography, float(factor), config)) is not None]
    if not fits:
        return None
    noise, R, H = min(fits, key=lambda fit: fit[0])
    mask_H = homography[1]
    agreeing = homography_errors(H, data.points0, data.points1) <= HOMOGRAPHY_ERROR_RATIO * data.max_error
    if agreeing.sum() < config.max_homography_ratio * mask_H.sum():
        return None
    return (R, (H, agreeing)) if noise <= _allowed_noise(data, homography, epipolar) else None


def _is_flat(data: Correspondences, homography: Model, epipolar: Model | None, config: TwoViewConfig) -> bool:
    """Whether a homography explains the matches as well as the epipolar geometry does."""
    H, mask = homography
    num_epipolar = 0 if epipolar is None else int(epipolar[1].sum())
    if mask.sum() < max(config.min_inliers, config.max_homography_ratio * num_epipolar):
        return False
    # Noise alone makes the errors of a homography larger: it predicts two coordinates of a point, not one.
    errors = homography_errors(H, data.points0[mask], data.points1[mask])
    return _noise_of_distances(errors**2 / 2, 2) <= _allowed_noise(data, homography, epipolar)


def _allowed_noise(data: Correspondences, homography: Model, epipolar: Model | None) -> float:
    """Noise per coordinate up to which a simpler model is as good as the epipolar geometry."""
    if epipolar is None:
        return np.inf
    explained = epipolar[1] & homography[1]
    if not explained.any():
        return 0.0
    errors = squared_sampson_errors(epipolar[0], data.points0[explained], data.points1[explained])
    return _MAX_NOISE_RATIO * _noise_of_distances(errors, 1) + _ROUNDING_PX / data.focal_px


def _fit_rotation(
    data: Correspondences, homography: Model, factor: float, config: TwoViewConfig
) -> tuple[float, Float64Array, Float64Array] | None:
    """Noise per coordinate, rotation and its homography, for a focal length divided by a factor."""
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
    return _noise_of_distances(errors**2 / 2, 2), R, H_of_R


_MAX_NOISE_RATIO = 1.3
"""A homography or rotation that leaves more than this times the noise of the epipolar geometry is none: the rest is
parallax."""

_ROUNDING_PX = 0.05
"""Noise that is never held against a rotation: undistortion and float32 keypoints leave as much."""


def _noise_of_distances(squared: Float64Array, num_dimensions: int) -> float:
    """Standard deviation per coordinate by the median of squared distances [N] in one or two dimensions."""
    return float(np.sqrt(np.median(squared) / {1: 0.4549, 2: 1.3863}[num_dimensions]))


def _in_pixels(
    found: _Found, usable: BoolArray, camera0: Camera, camera1: Camera, focal_px: float, calibrated: bool
) -> TwoViewGeometry:
    K0_inverse, K1 = np.linalg.inv(calibration_matrix(camera0)), calibration_matrix(camera1)
    mask = np.zeros(len(usable), dtype=np.bool_)
    mask[usable] = found.mask
    rotation_only = found.kind == "pure_rotation"
    E = np.zeros((3, 3)) if rotation_only else found.matrix
    return TwoViewGeometry(
        kind=found.kind,  # type: ignore[arg-type]
        inlier_mask=mask,
        cam1_from_cam0=found.pose,
        F=np.linalg.inv(K1).T @ E @ K0_inverse,
        E=E if calibrated else None,
        H=None if found.H is None else K1 @ found.H @ K0_inverse,
    )
