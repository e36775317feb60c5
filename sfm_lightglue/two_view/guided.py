"""Guided matching: keypoints, descriptors and a known epipolar geometry -> matches.

All epipolar planes of two images contain the line through both camera centres. So a keypoint is described by one angle,
that of its plane around this line, and keypoints that can match have nearly equal angles. Both images are sorted by the
angle, and blocks of neighbouring keypoints are compared with the interval of the other image that they can match.

Source: angular intervals as in Pixel-accurate epipolar guided matching, arXiv 2603.18401, 2026; the width of an
    interval is the Sampson error of the equation "both angles are equal".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array, IndexArray
from sfm_lightglue.geometry.epipolar import essential_from_pose, homogeneous
from sfm_lightglue.geometry.transforms import Rigid3, cross_matrix
from sfm_lightglue.scene.cameras import calibration_matrix, mean_focal_length, normalized_from_pixels
from sfm_lightglue.two_view.band_search import BandSide, MutualBest, mutual_best
from sfm_lightglue.two_view.guided_config import GuidedConfig
from sfm_lightglue.types import Camera, DenseFeatures, Features, Matches


@dataclass(frozen=True, eq=False, slots=True)
class GuidedView:
    """The keypoints of one image, ready for guided matching with several others.

    Args:
        points: [N, 3] homogeneous points, normalised or in pixels.
        descriptors: [N, D] float32 of length 1.
        rows: [N] of the features; keypoints whose distortion cannot be undone are left out.
        unit_px: pixels per unit of the points.
        size_px: longer side of the image in pixels.
    """

    points: Float64Array
    descriptors: Float32Array
    rows: IndexArray
    unit_px: float
    size_px: int

    @classmethod
    def from_features(cls, features: Features | DenseFeatures, camera: Camera) -> GuidedView:
        """The keypoints of an image on the normalised image plane of its camera."""
        return _view(features, normalized_from_pixels(camera, features.keypoints), mean_focal_length(camera))


def match_guided(
    features0: Features | DenseFeatures,
    features1: Features | DenseFeatures,
    cameras: tuple[Camera, Camera],
    *,
    cam1_from_cam0: Rigid3 | None = None,
    F: Float64Array | None = None,
    covariance: Float64Array | None = None,
    config: GuidedConfig | None = None,
) -> Matches:
    """Match keypoints along the epipolar lines of a known geometry.

    A match is the best one of both keypoints among those within the band around the epipolar line, and clearly better
    than the second best one. With a pose, its point lies in front of both cameras.

    Args:
        features0: of image 0.
        features1: of image 1, with descriptors of the same kind.
        cameras: intrinsics of both images.
        cam1_from_cam0: relative pose; the length of t has no effect. Exactly one of pose and F is given.
        F: fundamental matrix [3, 3] on pixels, without lens distortion.
        covariance: [6, 6] of the pose: of a rotation vector w (radians) and a step dt, with the true pose
            (exp(w) R, t + dt). It widens the band. None for an exact pose.
        config: thresholds.

    Returns:
        Matches sorted by the keypoints of image 0. A score is 1 minus the ratio of the distances of the best and the
        second best descriptor in the band.

    Raises:
        ValueError: for both or none of pose and F, a pose without translation, a covariance without a pose, or
            descriptors of two kinds.

    Example:
        >>> result = sfm_lightglue.match_images("left.jpg", "right.jpg")
        >>> pose = result.relative_pose.cam1_from_cam0
        >>> guided = sfm_lightglue.match_guided(*result.features, result.cameras, cam1_from_cam0=pose)
        >>> guided.indices.shape[1]
        2
    """
    config = config or GuidedConfig()
    if (cam1_from_cam0 is None) == (F is None):
        raise ValueError("match_guided: give either cam1_from_cam0 or F")
    if features0.descriptors.shape[1] != features1.descriptors.shape[1]:
        widths = features0.descriptors.shape[1], features1.descriptors.shape[1]
        raise ValueError(f"match_guided: descriptors of {widths[0]} and {widths[1]} numbers cannot be compared")
    if cam1_from_cam0 is not None:
        view0, view1 = (
            GuidedView.from_features(one, camera) for one, camera in zip((features0, features1), cameras, strict=True)
        )
        return match_views(view0, view1, cam1_from_cam0, covariance, config)
    if covariance is not None:
        raise ValueError("match_guided: a covariance needs a pose, not F")
    (view0, T0), (view1, T1) = (
        _view_in_pixels(one, camera) for one, camera in zip((features0, features1), cameras, strict=True)
    )
    return _match(view0, view1, _pencils_of_matrix(T1.T @ _checked(F) @ T0, view0, view1), None, config)


def match_views(
    view0: GuidedView,
    view1: GuidedView,
    cam1_from_cam0: Rigid3,
    covariance: Float64Array | None = None,
    config: GuidedConfig | None = None,
) -> Matches:
    """`match_guided` of prepared views, whose points are normalised, with a pose.

    Raises:
        ValueError: for a pose without translation.
    """
    if not np.linalg.norm(cam1_from_cam0.t) > 1e-12:
        raise ValueError("guided matching needs a translation between the cameras; a rotation has no epipolar lines")
    deviations = None
    if min(len(view0.rows), len(view1.rows)) == 0:
        return Matches.empty()
    if covariance is not None:
        deviations = _line_deviations(cam1_from_cam0, np.asarray(covariance, np.float64), view0, view1)
    pencils = _pencils_of_pose(cam1_from_cam0, view0, view1)
    return _match(view0, view1, pencils, deviations, config or GuidedConfig())


def _view_in_pixels(features: Features | DenseFeatures, camera: Camera) -> tuple[GuidedView, Float64Array]:
    """The keypoints of an image without lens distortion, about 1 unit from the centre, and pixels from them [3, 3]."""
    K = calibration_matrix(camera)
    half = max(camera.size) / 2
    pixels_from_points = np.array([[half, 0, camera.width / 2], [0, half, camera.height / 2], [0, 0, 1]])
    normalized = homogeneous(normalized_from_pixels(camera, features.keypoints))
    points = normalized @ (np.linalg.inv(pixels_from_points) @ K).T
    return _view(features, points[:, :2], half), pixels_from_points


def _view(features: Features | DenseFeatures, points: Float64Array, unit_px: float) -> GuidedView:
    rows = np.flatnonzero(np.isfinite(points).all(axis=1))
    descriptors = _unit(features.descriptors) if isinstance(features, Features) else features.unit_descriptors()
    if len(rows) < len(points):
        descriptors = descriptors[rows]
    return GuidedView(homogeneous(points[rows]), descriptors, rows, unit_px, max(features.image_size))


@dataclass(frozen=True, eq=False, slots=True)
class _Pencil:
    """Keypoints as planes around the baseline.

    Args:
        angles: [N] of the planes, in radians, in [0, period).
        slopes: [N] change of the angle per pixel.
        cotangents: [N] of the angle between ray and baseline, None without a pose. Those of image 1 are larger for a
            point in front of both cameras.
        period: 2 π for half-planes (with a pose), π for planes.
    """

    angles: Float64Array
    slopes: Float64Array
    cotangents: Float64Array | None
    period: float


def _pencils_of_pose(pose: Rigid3, view0: GuidedView, view1: GuidedView) -> tuple[_Pencil, _Pencil]:
    baseline = pose.t / np.linalg.norm(pose.t)
    basis = np.linalg.svd(baseline[None])[2][1:]  # [2, 3]
    pencils = []
    for view, R in ((view0, pose.R), (view1, np.eye(3))):
        axes = basis @ R
        angles, slopes, distance = _angles(view, axes, 2 * np.pi)
        pencils.append(_Pencil(angles, slopes, view.points @ (baseline @ R) / distance, 2 * np.pi))
    return pencils[0], pencils[1]


def _pencils_of_matrix(F: Float64Array, view0: GuidedView, view1: GuidedView) -> tuple[_Pencil, _Pencil]:
    """x1ᵀ F x0 = s1 (u1ᵀ x1) (v1ᵀ x0) + s2 (u2ᵀ x1) (v2ᵀ x0) = 0 means that two angles are equal up to π."""
    U, s, Vt = np.linalg.svd(F)
    axes0 = np.stack([-s[1] * Vt[1], s[0] * Vt[0]])
    axes1 = U.T[:2]
    return (
        _Pencil(*_angles(view0, axes0, np.pi)[:2], None, np.pi),
        _Pencil(*_angles(view1, axes1, np.pi)[:2], None, np.pi),
    )


def _checked(F: Float64Array | None) -> Float64Array:
    matrix = np.asarray(F, np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not matrix.any():
        raise ValueError("match_guided: F must be a finite matrix [3, 3] that is not zero")
    return matrix / np.linalg.norm(matrix)


def _angles(view: GuidedView, axes: Float64Array, period: float) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Angles [N] of points around the third axis, their change per pixel, and the distances from that axis."""
    p, q = axes @ view.points.T
    squared = np.maximum(p**2 + q**2, 1e-24)
    gradients = (p * axes[1, :2, None] - q * axes[0, :2, None]) / squared  # [2, N]
    slopes = np.linalg.norm(gradients, axis=0) / view.unit_px
    return np.mod(np.arctan2(q, p), period), slopes, np.sqrt(squared)


def _line_deviations(pose: Rigid3, covariance: Float64Array, view0: GuidedView, view1: GuidedView) -> Float64Array:
    """Standard deviation [N0] of the epipolar line of each keypoint of image 0, in pixels of image 1.

    It is the larger of those at the two ends of the line in image 1; between them it is smaller.

    Raises:
        ValueError: for another shape, or a matrix that is no covariance.
    """
    if covariance.shape != (6, 6) or not np.isfinite(covariance).all():
        raise ValueError("match_guided: the covariance must be a finite matrix [6, 6]")
    variances, directions = np.linalg.eigh((covariance + covariance.T) / 2)
    if variances.min() < -1e-9 * max(abs(variances).max(), 1e-300):
        raise ValueError("match_guided: the covariance has a negative variance")
    lines = view0.points @ essential_from_pose(pose).T
    norms = np.maximum(np.linalg.norm(lines[:, :2], axis=1, keepdims=True), 1e-24)
    low, high = view1.points[:, :2].min(axis=0), view1.points[:, :2].max(axis=0)
    centre, reach = (low + high) / 2, np.linalg.norm(high - low) / 2
    normals = lines[:, :2] / norms
    distances = normals @ centre + lines[:, 2] / norms[:, 0]
    feet = centre - distances[:, None] * normals
    along = np.stack([-normals[:, 1], normals[:, 0]], axis=1)
    ends = [homogeneous(np.clip(feet + sign * reach * along, low, high)) for sign in (-1, 1)]
    squared = np.zeros((2, len(lines)))
    for deviation, direction in zip(np.sqrt(np.maximum(variances, 0)), directions.T, strict=True):
        w, dt = deviation * direction[:3], deviation * direction[3:]
        moved = view0.points @ ((cross_matrix(pose.t) @ cross_matrix(w) + cross_matrix(dt)) @ pose.R).T
        squared += [((end * moved).sum(axis=1) / norms[:, 0]) ** 2 for end in ends]
    return np.asarray(np.sqrt(squared.max(axis=0)) * view1.unit_px)


def _match(
    view0: GuidedView,
    view1: GuidedView,
    pencils: tuple[_Pencil, _Pencil],
    line_deviations: Float64Array | None,
    config: GuidedConfig,
) -> Matches:
    if min(len(view0.rows), len(view1.rows)) == 0:
        return Matches.empty()
    limit_px = max(config.max_error_px * max(1.0, view.size_px / config.reference_size_px) for view in (view0, view1))
    limits0, limits1 = (np.full(len(view.rows), limit_px) for view in (view0, view1))
    other_limits = limits0 if line_deviations is None else limits0 + config.num_deviations * line_deviations
    found = mutual_best(
        _side(view0, pencils[0], limits0, other_limits, -1),
        _side(view1, pencils[1], limits1, limits1, 1),
        pencils[0].period,
    )
    return _accepted(view0, view1, found, config)


def _side(
    view: GuidedView, pencil: _Pencil, limits_px: Float64Array, other_limits_px: Float64Array, sign: int
) -> BandSide:
    depths = np.zeros(len(view.rows))
    if pencil.cotangents is not None:
        # The tolerance of a cotangent to an error in pixels; points at infinity have equal cotangents.
        depths = pencil.cotangents + sign * limits_px / view.unit_px * (1 + pencil.cotangents**2)
    return BandSide(pencil.angles, pencil.slopes, limits_px, other_limits_px, depths, view.descriptors)


def _accepted(view0: GuidedView, view1: GuidedView, found: MutualBest, config: GuidedConfig) -> Matches:
    """Mutual best keypoints that are near in descriptor space and clearly better than the second best."""
    gap = np.maximum(1 - found.similarities, 0)
    next_gap = 1 - found.next_similarities
    accepted = (2 * gap <= config.max_distance**2) & (gap <= config.max_ratio**2 * next_gap)
    indices = np.stack([view0.rows[found.rows0[accepted]], view1.rows[found.rows1[accepted]]], axis=1)
    scores = 1 - np.sqrt(gap[accepted] / np.maximum(next_gap[accepted], 1e-12))
    return Matches(indices.astype(np.int32), np.clip(scores, 0, 1).astype(np.float32))


def _unit(descriptors: Float32Array) -> Float32Array:
    norms = np.linalg.norm(descriptors, axis=1, keepdims=True)
    unit: Float32Array = descriptors / np.maximum(norms, np.float32(1e-12))
    return unit
