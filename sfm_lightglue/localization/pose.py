"""The pose of a camera from matches of its image with 3D points: LO-RANSAC, refinement and covariance by pycolmap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.types import Camera

MIN_MATCHES = 6
"""Fewest matches from which a pose is estimated."""

_MIN_FOR_FOCAL_LENGTH, _MIN_FOR_DISTORTION = 50, 200
"""Fewest inliers with which the focal length of EXIF data, and the distortion, are refined."""

_MAX_FOCAL_CHANGE = 1.15
"""Largest factor between the focal length of the EXIF data and the refined one: else the former is kept."""

_FOCAL_RANGE = (0.2, 20.0)
"""Estimated focal lengths beyond this range, as multiples of the longer side, are not believed."""

_NUM_CELLS = 8
"""Cells per side of the image, within which residuals may be alike."""

_GRADIENT_TOLERANCE = 1e-6
_STEP = 1e-6


@dataclass(frozen=True, eq=False, slots=True)
class EstimatedPose:
    """A pose, and how well it is determined.

    Args:
        cam_from_world: the pose.
        camera: the intrinsics, refined if they were not known exactly.
        inlier_mask: [M] which matches fit it.
        covariance: [6, 6] of (rotation in radians, translation in units of the map), see `pose_covariance`; None if
            the pose is not determined.
    """

    cam_from_world: Rigid3
    camera: Camera
    inlier_mask: BoolArray
    covariance: Float64Array | None


def estimate_pose(
    pixels: Float64Array, xyz: Float64Array, camera: Camera, max_error_px: float, seed: int
) -> EstimatedPose | None:
    """Estimate the pose of a camera from matches of which many may be wrong.

    A focal length that is given stays as it is. One of EXIF data is refined if there are enough inliers. A guessed one
    is estimated together with the pose.

    Args:
        pixels: [M, 2] keypoints.
        xyz: [M, 3] points in the world.
        camera: intrinsics, and where they are from.
        max_error_px: largest reprojection error of an inlier.
        seed: of the random samples.

    Returns:
        None if no pose fits six matches.
    """
    if len(pixels) < MIN_MATCHES:
        return None
    native = as_pycolmap(camera)
    options, refinement = pycolmap.AbsolutePoseEstimationOptions(), _refinement(focal=camera.source == "guessed")
    options.ransac.max_error = max_error_px
    options.ransac.min_inlier_ratio = 0.05
    options.ransac.max_num_trials = 5000
    options.ransac.random_seed = seed
    options.estimate_focal_length = camera.source == "guessed"
    with quiet_log():
        found = pycolmap.estimate_and_refine_absolute_pose(pixels, xyz, native, options, refinement)
    if found is None:
        return None
    pose = Rigid3.from_matrix(np.asarray(found["cam_from_world"].matrix()))
    inliers = fitting(pose, native, pixels, xyz, max_error_px)
    if inliers.sum() < MIN_MATCHES or not _is_plausible(native):
        return None
    refined = _with_intrinsics(pose, native, pixels, xyz, inliers, camera)
    if refined is not None:
        again = fitting(*refined, pixels, xyz, max_error_px)
        if again.sum() >= inliers.sum():
            (pose, native), inliers = refined, again
    return _estimated(pose, native, camera, pixels, xyz, inliers)


def refined_pose(
    start: EstimatedPose, pixels: Float64Array, xyz: Float64Array, camera: Camera, max_error_px: float
) -> EstimatedPose | None:
    """Refine a pose by further matches, with a robust loss; intrinsics are refined as in `estimate_pose`.

    Args:
        start: the pose.
        pixels: [M, 2] keypoints.
        xyz: [M, 3] points in the world.
        camera: intrinsics before any estimate, and where they are from.
        max_error_px: largest reprojection error of an inlier, before and after.

    Returns:
        None if too few matches fit, or the result is no plausible camera.
    """
    pose, native = start.cam_from_world, as_pycolmap(start.camera)
    inliers = fitting(pose, native, pixels, xyz, max_error_px)
    if inliers.sum() < MIN_MATCHES:
        return None
    refined = _with_intrinsics(pose, native, pixels, xyz, inliers, camera)
    if refined is None:
        refined = _refined(pose, native, pixels, xyz, inliers, _refinement(focal=False))
    if refined is None:
        return None
    inliers = fitting(*refined, pixels, xyz, max_error_px)
    if inliers.sum() < MIN_MATCHES:
        return None
    return _estimated(*refined, camera, pixels, xyz, inliers)


def _estimated(
    pose: Rigid3,
    native: pycolmap.Camera,
    camera: Camera,
    pixels: Float64Array,
    xyz: Float64Array,
    inliers: BoolArray,
) -> EstimatedPose:
    changed = _changed_params(native, camera)
    covariance = pose_covariance(pose, native, pixels[inliers], xyz[inliers], changed)
    source = "estimated" if camera.source == "guessed" else camera.source
    own = Camera(camera.model, camera.width, camera.height, tuple(native.params), source)
    return EstimatedPose(pose, own, inliers, covariance)


def fitting(
    pose: Rigid3, camera: pycolmap.Camera, pixels: Float64Array, xyz: Float64Array, max_error_px: float
) -> BoolArray:
    """Which points [M, 3] lie in front of a camera and project to within a distance of their pixels [M, 2]."""
    in_cam = pose @ xyz
    is_before = in_cam[:, 2] > 1e-9
    in_cam[~is_before] = (0, 0, 1)
    errors = np.linalg.norm(np.asarray(camera.img_from_cam(in_cam)).reshape(-1, 2) - pixels, axis=1)
    fits: BoolArray = is_before & (errors <= max_error_px)
    return fits


def pose_covariance(
    pose: Rigid3, camera: pycolmap.Camera, pixels: Float64Array, xyz: Float64Array, params: tuple[int, ...] = ()
) -> Float64Array | None:
    """Covariance of a pose that minimises reprojection errors.

    The six parameters are a rotation vector w (radians, in the frame of the camera) and a change v of the translation:
    the true pose is x_cam = exp(w) R x_world + t + v. The noise is that of the residuals. Those of neighbouring
    keypoints can be alike, by errors of points, blur, or a lens that is not quite known; then they count less.

    Args:
        pose: at the minimum.
        camera: of the image.
        pixels: [M, 2] inliers.
        xyz: [M, 3] their points.
        params: indices of the intrinsics that were estimated too, whose uncertainty is taken into account.

    Returns:
        [6, 6]; None if the matches do not determine the pose.

    Source: Triggs et al., Bundle adjustment: a modern synthesis, 2000, section 8 (inverse of the normal matrix); Liang
        and Zeger, Longitudinal data analysis using generalized linear models, 1986 (variance with groups of residuals
        that are alike).
    """
    num_free = 2 * len(pixels) - 6 - len(params)
    if num_free < 1:
        return None
    in_cam = pose @ xyz
    depth = float(np.median(in_cam[:, 2]))
    values = np.array(camera.params, np.float64)

    def projected(step: Float64Array) -> Float64Array:
        moved = (in_cam - pose.t) @ rotation_from_rotvec(step[:3]).T + pose.t + step[3:6]
        changed = values.copy()
        changed[list(params)] += step[6:]
        other = pycolmap.Camera(model=camera.model, width=camera.width, height=camera.height, params=changed)
        return np.asarray(other.img_from_cam(moved), np.float64).ravel()

    scales = np.array([1.0] * 3 + [depth] * 3 + [max(1.0, abs(values[i])) for i in params])
    J = _jacobian(projected, scales)
    residuals = projected(np.zeros(len(scales))) - pixels.ravel()
    if not np.isfinite(J).all() or np.linalg.cond(J) > 1e7:
        return None
    variance = float(residuals @ residuals) / num_free * _excess(J, residuals, pixels, camera)
    scaled = variance * np.linalg.inv(J.T @ J) * np.outer(scales, scales)
    return np.asarray((scaled + scaled.T)[:6, :6] / 2, np.float64)


def _excess(J: Float64Array, residuals: Float64Array, pixels: Float64Array, camera: pycolmap.Camera) -> float:
    """By how much the variance is larger than with independent residuals: those of a cell of the image may be alike."""
    cells = np.floor(pixels / (camera.width, camera.height) * _NUM_CELLS).clip(0, _NUM_CELLS - 1) @ (1, _NUM_CELLS)
    names, cell = np.unique(cells, return_inverse=True)
    products = (J * residuals[:, None]).reshape(len(pixels), 2, -1).sum(axis=1)  # [M, P], of each keypoint
    sums = np.stack([np.bincount(cell.ravel(), column, len(names)) for column in products.T], axis=1)
    mean_squared = float(residuals @ residuals) / max(len(residuals) - J.shape[1], 1)
    effect = np.trace(np.linalg.solve(J.T @ J, sums.T @ sums)) / (J.shape[1] * max(mean_squared, 1e-300))
    return max(1.0, float(effect))


def position_covariance(pose: Rigid3, covariance: Float64Array) -> Float64Array:
    """Covariance [3, 3] of the camera centre, from that of the pose [6, 6]."""
    x, y, z = pose.t
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    J = -pose.R.T @ np.hstack([cross, np.eye(3)])
    return np.asarray(J @ covariance @ J.T, np.float64)


def _jacobian(function: Callable[[Float64Array], Float64Array], scales: Float64Array) -> Float64Array:
    """Central differences at 0, one column for each parameter in units of its scale."""
    columns = []
    for row in np.eye(len(scales)) * _STEP:
        columns.append((function(row * scales) - function(-row * scales)) / (2 * _STEP))
    return np.stack(columns, axis=1)


def _refinement(focal: bool, extra: bool = False) -> pycolmap.AbsolutePoseRefinementOptions:
    options = pycolmap.AbsolutePoseRefinementOptions()
    options.refine_focal_length, options.refine_extra_params = focal, extra
    options.gradient_tolerance = _GRADIENT_TOLERANCE
    return options


def _with_intrinsics(
    pose: Rigid3, native: pycolmap.Camera, pixels: Float64Array, xyz: Float64Array, inliers: BoolArray, camera: Camera
) -> tuple[Rigid3, pycolmap.Camera] | None:
    """Pose and intrinsics refined together; None if they are given, or too few inliers or bad values say no."""
    if camera.source not in {"exif", "guessed", "estimated"} or inliers.sum() < _MIN_FOR_FOCAL_LENGTH:
        return None
    options = _refinement(focal=True, extra=bool(inliers.sum() >= _MIN_FOR_DISTORTION))
    found = _refined(pose, native, pixels, xyz, inliers, options)
    if found is None or not _is_plausible(found[1]):
        return None
    change = found[1].mean_focal_length() / as_pycolmap(camera).mean_focal_length()
    if camera.source == "exif" and not 1 / _MAX_FOCAL_CHANGE <= change <= _MAX_FOCAL_CHANGE:
        return None
    return found


def _refined(
    pose: Rigid3,
    camera: pycolmap.Camera,
    pixels: Float64Array,
    xyz: Float64Array,
    inliers: BoolArray,
    options: pycolmap.AbsolutePoseRefinementOptions,
) -> tuple[Rigid3, pycolmap.Camera] | None:
    """A pose refined from its start, and a copy of the camera with refined intrinsics."""
    refined = pycolmap.Camera(model=camera.model, width=camera.width, height=camera.height, params=camera.params)
    start = pycolmap.Rigid3d(np.column_stack([pose.R, pose.t]))
    with quiet_log():
        found = pycolmap.refine_absolute_pose(start, pixels, xyz, inliers, refined, options)
    return None if found is None else (Rigid3.from_matrix(np.asarray(found["cam_from_world"].matrix())), refined)


def _is_plausible(camera: pycolmap.Camera) -> bool:
    """Whether the intrinsics are those of a real camera."""
    least, most = _FOCAL_RANGE
    ratio = camera.mean_focal_length() / max(camera.width, camera.height)
    extra = [camera.params[i] for i in camera.extra_params_idxs()]
    return bool(least <= ratio <= most and all(abs(value) < 2 for value in extra))


def _changed_params(native: pycolmap.Camera, camera: Camera) -> tuple[int, ...]:
    """Indices of the intrinsics that were estimated."""
    return tuple(int(i) for i in np.flatnonzero(np.array(native.params) != np.array(camera.params)))
