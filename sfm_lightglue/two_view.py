"""Matches -> `TwoViewGeometry` or `Rejected`: robust estimation by OpenCV, verdict, refinement.

Both images are brought to an ideal camera of one focal length without distortion, each by its own
intrinsics, so that two different cameras are no special case.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import least_squares

from sfm_lightglue.cameras import calibration_matrix, mean_focal_length, normalized_from_pixels
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry import (
    AnyArray,
    Float64Array,
    Rigid3,
    essential_from_pose,
    homogeneous,
    project_to_rotation,
    rotation_from_rotvec,
    squared_sampson_errors,
)
from sfm_lightglue.types import BoolArray, Camera, Features, Matches, Rejected, TwoViewGeometry

ESTIMATOR_VERSION = f"1-opencv-{cv2.__version__}"
"""Part of the store's keys; its number is raised whenever the same input starts to give something else."""


@dataclass(frozen=True, slots=True)
class TwoViewConfig:
    """Options of the two-view verification."""

    max_error_px: float = 2.0
    """Largest distance of an inlier to its epipolar line, in pixels of the full-resolution images; for larger
    images than `reference_size_px` in proportion, since their keypoints are as much coarser."""

    reference_size_px: float = 1600.0
    """Longer side of an image up to which `max_error_px` is taken as it is."""

    min_inliers: int = 15
    """Fewer make the pair `Rejected`."""

    min_inlier_ratio: float = 0.1
    """A smaller share of inliers makes the pair `Rejected`: chance agrees with as many."""

    confidence: float = 0.9999
    """Probability that the best geometry was found."""

    max_iterations: int = 10000
    """Upper limit on the samples drawn."""

    max_homography_ratio: float = 0.8
    """A homography that explains a larger share of the inliers makes the pair planar or a pure rotation."""

    min_parallax_deg: float = 0.5
    """A larger median angle between the rays is parallax, however well a rotation explains the matches."""

    def __post_init__(self) -> None:
        for name in ("max_error_px", "reference_size_px", "max_iterations"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"two_view: {name} must be positive, got {getattr(self, name)}")
        for name in ("min_inlier_ratio", "max_homography_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"two_view: {name} must lie in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.min_parallax_deg <= 180:
            raise ConfigError(f"two_view: min_parallax_deg must lie in [0, 180], got {self.min_parallax_deg}")
        if self.min_inliers < 5:
            raise ConfigError(f"two_view: min_inliers must be at least 5, got {self.min_inliers}")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"two_view: confidence must lie in (0, 1), got {self.confidence}")


@dataclass(frozen=True, eq=False, slots=True)
class _Correspondences:
    """Normalised image points [M, 2], the focal length that scales them to pixels, an error limit there."""

    points0: Float64Array
    points1: Float64Array
    focal_px: float
    max_error_px: float

    @property
    def max_error(self) -> float:
        return self.max_error_px / self.focal_px

    def rows(self, mask: BoolArray) -> _Correspondences:
        return _Correspondences(self.points0[mask], self.points1[mask], self.focal_px, self.max_error_px)


def estimate_two_view_geometry(
    features0: Features,
    features1: Features,
    matches: Matches,
    camera0: Camera,
    camera1: Camera,
    config: TwoViewConfig | None = None,
    seed: int = 0,
) -> TwoViewGeometry | Rejected:
    """Find the relative pose that most matches agree with.

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

    Source: Barath et al., MAGSAC++, a fast, reliable and accurate robust estimator, 2020 (by OpenCV's USAC).
    """
    config = config or TwoViewConfig()
    num_matches = len(matches)
    if num_matches < config.min_inliers:
        return Rejected("too_few_matches", num_matches)
    data, usable = _normalize(features0, features1, matches, camera0, camera1, config)
    if usable.sum() < config.min_inliers:
        return Rejected("too_few_matches", num_matches, 0)
    data = data.rows(usable)
    calibrated = "guessed" not in {camera0.source, camera1.source}
    epipolar = _estimate_epipolar(data, calibrated, config, seed)
    homography = _estimate_homography(data, config, seed)
    num_best = max(
        0 if epipolar is None else int(epipolar[1].sum()),
        0 if homography is None else int(homography[1].sum()),
    )
    if epipolar is None and homography is None:
        return Rejected("no_model", num_matches)
    if num_best < max(config.min_inliers, config.min_inlier_ratio * num_matches):
        return Rejected("too_few_inliers", num_matches, num_best)
    found = _judge(data, epipolar, homography, calibrated, config)
    if isinstance(found, Rejected):
        return Rejected(found.reason, num_matches, found.num_inliers)
    return _in_pixels(found, usable, camera0, camera1, data.focal_px, calibrated)


def _normalize(
    features0: Features,
    features1: Features,
    matches: Matches,
    camera0: Camera,
    camera1: Camera,
    config: TwoViewConfig,
) -> tuple[_Correspondences, BoolArray]:
    points0 = normalized_from_pixels(camera0, features0.keypoints[matches.indices[:, 0]])
    points1 = normalized_from_pixels(camera1, features1.keypoints[matches.indices[:, 1]])
    usable: BoolArray = np.isfinite(np.concatenate([points0, points1], axis=1)).all(axis=1)
    focals = [mean_focal_length(camera) for camera in (camera0, camera1)]
    # The error limit is an angle: that of the coarser of the two cameras.
    limits = [
        config.max_error_px * max(1.0, max(camera.size) / config.reference_size_px) / focal
        for camera, focal in zip((camera0, camera1), focals, strict=True)
    ]
    focal = float(np.mean(focals))
    return _Correspondences(points0, points1, focal, max(limits) * focal), usable


def _usac_parameters(data: _Correspondences, config: TwoViewConfig, seed: int) -> cv2.UsacParams:
    parameters = cv2.UsacParams()
    parameters.threshold = data.max_error_px
    parameters.confidence = config.confidence
    parameters.maxIterations = config.max_iterations
    parameters.randomGeneratorState = seed % (1 << 31)
    parameters.score = cv2.SCORE_METHOD_MAGSAC
    parameters.loMethod = cv2.LOCAL_OPTIM_SIGMA
    parameters.loIterations = 10
    parameters.loSampleSize = 50
    parameters.final_polisher = cv2.MAGSAC
    return parameters


Model = tuple[Float64Array, BoolArray]
"""A matrix [3, 3] on normalised points, and the mask [M] of those that agree with it."""


def _estimate_epipolar(data: _Correspondences, calibrated: bool, config: TwoViewConfig, seed: int) -> Model | None:
    """E where the cameras are calibrated, else F in the same normalised coordinates."""
    pixels0, pixels1 = data.points0 * data.focal_px, data.points1 * data.focal_px
    parameters = _usac_parameters(data, config, seed)
    K = np.diag([data.focal_px, data.focal_px, 1.0])
    try:
        if calibrated:
            no_distortion = np.zeros(0)
            matrix, _ = cv2.findEssentialMat(pixels0, pixels1, K, K, no_distortion, no_distortion, parameters)
        else:
            matrix, _ = cv2.findFundamentalMat(pixels0, pixels1, parameters)
    except cv2.error:
        return None  # OpenCV's solvers throw on degenerate samples that they do not recognise
    if matrix is None or matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not matrix.any():
        return None
    normalized = np.asarray(matrix if calibrated else K @ matrix @ K, dtype=np.float64)
    normalized /= np.linalg.norm(normalized)
    errors = squared_sampson_errors(normalized, data.points0, data.points1)
    return normalized, errors <= data.max_error**2


def _estimate_homography(data: _Correspondences, config: TwoViewConfig, seed: int) -> Model | None:
    pixels0, pixels1 = data.points0 * data.focal_px, data.points1 * data.focal_px
    try:
        matrix, _ = cv2.findHomography(pixels0, pixels1, _usac_parameters(data, config, seed))
    except cv2.error:
        return None
    if matrix is None or matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        return None
    K = np.diag([data.focal_px, data.focal_px, 1.0])
    normalized = np.linalg.inv(K) @ matrix @ K
    determinant = np.linalg.det(normalized)
    if abs(determinant) < 1e-12:
        return None
    normalized /= np.cbrt(determinant)
    errors = homography_errors(normalized, data.points0, data.points1)
    return normalized, errors <= _HOMOGRAPHY_LEEWAY * data.max_error


def homography_errors(H: AnyArray, points0: AnyArray, points1: AnyArray) -> Float64Array:
    """Transfer errors of correspondences under a homography, the larger of both directions.

    Args:
        H: [3, 3] from image 0 to image 1.
        points0: [N, 2].
        points1: [N, 2].

    Returns:
        [N] in the unit of the points; infinity for points that land behind the camera.
    """

    def transfer(matrix: AnyArray, source: AnyArray, target: AnyArray) -> Float64Array:
        mapped = homogeneous(source) @ matrix.T
        depth = mapped[:, 2:]
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.linalg.norm(mapped[:, :2] / depth - target, axis=1)
        return np.where(depth[:, 0] > 0, error, np.inf)

    forward = transfer(H / np.cbrt(np.linalg.det(H)), points0, points1)
    inverse = np.linalg.inv(H)
    return np.maximum(forward, transfer(inverse / np.cbrt(np.linalg.det(inverse)), points1, points0))


@dataclass(frozen=True, eq=False, slots=True)
class _Found:
    kind: str
    pose: Rigid3
    matrix: Float64Array
    H: Float64Array | None
    mask: BoolArray


def _judge(
    data: _Correspondences,
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
        candidates += [essential_from_pose(pose) for pose in _poses_from_homography(homography[0])]
    poses = [
        pose
        for matrix in candidates
        if (pose := _recover_pose(data, matrix, mask_H if is_flat else _mask(epipolar))) is not None
    ]
    if not poses:
        return Rejected("degenerate", len(data.points0), max(num_epipolar, int(mask_H.sum())))
    # Refinement takes most of the time, and the third best of a plane's poses never becomes the best by it.
    poses.sort(key=lambda pose: -_support(data, pose))
    refined = [_refine(data, pose) for pose in poses[:2]]
    counts = [(_support(data, pose), -index) for index, pose in enumerate(refined)]
    pose = refined[-max(counts)[1]]
    matrix = essential_from_pose(pose)
    mask = _in_front(data, pose) & (squared_sampson_errors(matrix, data.points0, data.points1) <= data.max_error**2)
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
    data: _Correspondences, homography: Model, epipolar: Model | None, calibrated: bool, config: TwoViewConfig
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
    agreeing = homography_errors(H, data.points0, data.points1) <= _HOMOGRAPHY_LEEWAY * data.max_error
    if agreeing.sum() < config.max_homography_ratio * mask_H.sum():
        return None
    return (R, (H, agreeing)) if noise <= _allowed_noise(data, homography, epipolar) else None


def _is_flat(data: _Correspondences, homography: Model, epipolar: Model | None, config: TwoViewConfig) -> bool:
    """Whether a homography explains the matches as well as the epipolar geometry does."""
    H, mask = homography
    num_epipolar = 0 if epipolar is None else int(epipolar[1].sum())
    if mask.sum() < max(config.min_inliers, config.max_homography_ratio * num_epipolar):
        return False
    # Noise alone makes the errors of a homography larger: it predicts two coordinates of a point, not one.
    errors = homography_errors(H, data.points0[mask], data.points1[mask])
    return _noise_of_distances(errors**2 / 2, 2) <= _allowed_noise(data, homography, epipolar)


def _allowed_noise(data: _Correspondences, homography: Model, epipolar: Model | None) -> float:
    """Noise per coordinate up to which a simpler model is as good as the epipolar geometry."""
    if epipolar is None:
        return np.inf
    explained = epipolar[1] & homography[1]
    if not explained.any():
        return 0.0
    errors = squared_sampson_errors(epipolar[0], data.points0[explained], data.points1[explained])
    return _MAX_NOISE_RATIO * _noise_of_distances(errors, 1) + _ROUNDING_PX / data.focal_px


def _fit_rotation(
    data: _Correspondences, homography: Model, factor: float, config: TwoViewConfig
) -> tuple[float, Float64Array, Float64Array] | None:
    """Noise per coordinate, rotation and its homography, for a focal length divided by a factor."""
    S = np.diag([factor, factor, 1.0])
    H, mask = homography
    rays0, rays1 = (_rays(points * factor) for points in (data.points0, data.points1))
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


_HOMOGRAPHY_LEEWAY = float(np.sqrt(2 * 5.99 / 3.84))
"""Where an epipolar distance has an error limit, the transfer error of a homography has this times as much: it
gathers the noise of both images, and of two coordinates (95 % quantiles of chi-squared)."""

_MAX_NOISE_RATIO = 1.3
"""A homography or rotation that leaves more than this times the noise of the epipolar geometry is none: the rest is
parallax."""

_ROUNDING_PX = 0.05
"""Noise that is never held against a rotation: undistortion and float32 keypoints leave as much."""


def _noise_of_distances(squared: Float64Array, num_dimensions: int) -> float:
    """Standard deviation per coordinate by the median of squared distances [N] in one or two dimensions."""
    return float(np.sqrt(np.median(squared) / {1: 0.4549, 2: 1.3863}[num_dimensions]))


def _rays(points: Float64Array) -> Float64Array:
    rays = homogeneous(points)
    unit: Float64Array = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit


def _poses_from_homography(H: Float64Array) -> list[Rigid3]:
    """The poses that a plane's homography allows, by OpenCV (Malis and Vargas, 2007)."""
    _, rotations, translations, _ = cv2.decomposeHomographyMat(H, np.eye(3))
    return [
        Rigid3(project_to_rotation(R), t[:, 0] / np.linalg.norm(t))
        for R, t in zip(rotations, translations, strict=True)
        if np.linalg.norm(t) > 1e-9 and np.linalg.det(R) > 0
    ]


def _recover_pose(data: _Correspondences, matrix: Float64Array, mask: BoolArray) -> Rigid3 | None:
    """Of the four poses of an essential matrix the one with most points before both cameras.

    `cv2.recoverPose` counts no point beyond 50 baselines, so that it guesses where the parallax is small.
    """
    if mask.sum() < 5:
        return None
    R0, R1, t = cv2.decomposeEssentialMat(matrix)
    if not all(np.isfinite(part).all() for part in (R0, R1, t)):
        return None
    direction = t[:, 0] / np.linalg.norm(t)
    poses = [Rigid3(project_to_rotation(R), sign * direction) for R in (R0, R1) for sign in (1, -1)]
    inliers = data.rows(mask)
    counts = [int(_before_both(inliers, pose).sum()) for pose in poses]
    return poses[int(np.argmax(counts))] if max(counts) > 0 else None


def _before_both(data: _Correspondences, pose: Rigid3) -> BoolArray:
    """[M] whether a point, triangulated, lies before both cameras.

    With both rays in the frame of camera 1, r1 and R r0, the signs of the depths are those of
    (t × r1)·(r1 × R r0) and (t × R r0)·(r1 × R r0).
    """
    rays1 = _rays(data.points1)
    rays0 = _rays(data.points0) @ pose.R.T
    normal = np.cross(rays1, rays0)
    depth0 = np.einsum("ni,ni->n", np.cross(pose.t, rays1), normal)
    depth1 = np.einsum("ni,ni->n", np.cross(pose.t, rays0), normal)
    mask: BoolArray = (depth0 > 0) & (depth1 > 0)
    return mask


def _in_front(data: _Correspondences, pose: Rigid3) -> BoolArray:
    """[M] as `_before_both`, but far points may be a little past infinity."""
    rays1 = _rays(data.points1)
    rays0 = _rays(data.points0) @ pose.R.T
    nearly_parallel = np.linalg.norm(np.cross(rays1, rays0), axis=1) <= 2 * data.max_error
    same_way = np.einsum("ni,ni->n", rays0, rays1) > 0
    mask: BoolArray = _before_both(data, pose) | (nearly_parallel & same_way)
    return mask


def _support(data: _Correspondences, pose: Rigid3) -> int:
    errors = squared_sampson_errors(essential_from_pose(pose), data.points0, data.points1)
    return int(((errors <= data.max_error**2) & _in_front(data, pose)).sum())


def _refine(data: _Correspondences, pose: Rigid3) -> Rigid3:
    """Least squares of the Sampson errors of the inliers over rotation and direction, five parameters."""
    for _ in range(2):
        errors = squared_sampson_errors(essential_from_pose(pose), data.points0, data.points1)
        mask = (errors <= data.max_error**2) & _in_front(data, pose)
        if mask.sum() < 8:
            return pose
        pose = _refine_on(data.rows(mask), pose)
    return pose


def _refine_on(data: _Correspondences, pose: Rigid3) -> Rigid3:
    x0, x1 = homogeneous(data.points0), homogeneous(data.points1)
    tangent = np.linalg.svd(pose.t[None])[2][1:]  # [2, 3] the directions in which t can turn

    def moved(parameters: Float64Array) -> Rigid3:
        t = pose.t + parameters[3:] @ tangent
        return Rigid3(rotation_from_rotvec(parameters[:3]) @ pose.R, t / np.linalg.norm(t))

    def residuals(parameters: Float64Array) -> Float64Array:
        E = essential_from_pose(moved(parameters))
        lines1, lines0 = x0 @ E.T, x1 @ E
        norms = np.sqrt((lines1[:, :2] ** 2).sum(1) + (lines0[:, :2] ** 2).sum(1))
        values: Float64Array = np.einsum("ni,ni->n", x1, lines1) / np.maximum(norms, 1e-12)
        return values / data.max_error

    solution = least_squares(
        residuals, np.zeros(5), loss="soft_l1", f_scale=0.5, max_nfev=20, x_scale=1e-2, ftol=1e-4, xtol=1e-5
    )
    return moved(solution.x)


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


def parallax_deg(geometry: TwoViewGeometry, points0: AnyArray, points1: AnyArray) -> float:
    """Median angle between the rays of the inliers in degrees: how well depth is known.

    Args:
        geometry: of the two images.
        points0: [M, 2] normalised points of the matches in image 0.
        points1: [M, 2] the same in image 1.
    """
    rays0 = _rays(np.asarray(points0)[geometry.inlier_mask]) @ geometry.cam1_from_cam0.R.T
    rays1 = _rays(np.asarray(points1)[geometry.inlier_mask])
    if not len(rays0):
        return 0.0
    sines = np.linalg.norm(np.cross(rays0, rays1), axis=1)
    return float(np.degrees(np.median(np.arcsin(np.clip(sines, 0, 1)))))


__all__ = ["ESTIMATOR_VERSION", "TwoViewConfig", "estimate_two_view_geometry", "homography_errors", "parallax_deg"]
