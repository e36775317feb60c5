"""Matched points on the normalised image planes of two cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float64Array
from sfm_lightglue.geometry.epipolar import homogeneous
from sfm_lightglue.scene.cameras import mean_focal_length, normalized_from_pixels
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.types import Camera, Features, Matches


@dataclass(frozen=True, eq=False, slots=True)
class MatchedPair:
    """Two images with their features, the matches between them, and their cameras.

    Args:
        features: of image 0 and of image 1.
        matches: between them.
        cameras: intrinsics of image 0 and of image 1.
    """

    features: tuple[Features, Features]
    matches: Matches
    cameras: tuple[Camera, Camera]

    @property
    def is_calibrated(self) -> bool:
        """Whether neither focal length is guessed."""
        return all(camera.source != "guessed" for camera in self.cameras)


@dataclass(frozen=True, eq=False, slots=True)
class Correspondences:
    """Matched points in normalised image coordinates, without lens distortion.

    Args:
        points0: [M, 2] points of image 0, on the plane z = 1 of its camera.
        points1: [M, 2] points of image 1.
        focal_px: focal length that converts normalised units to pixels; the mean of both cameras.
        max_error_px: largest error of an inlier in these pixels.
    """

    points0: Float64Array
    points1: Float64Array
    focal_px: float
    max_error_px: float

    @property
    def max_error(self) -> float:
        """Largest error of an inlier in normalised units."""
        return self.max_error_px / self.focal_px

    def rows(self, mask: BoolArray) -> Correspondences:
        """The matches that a mask [M] selects."""
        return Correspondences(self.points0[mask], self.points1[mask], self.focal_px, self.max_error_px)


HOMOGRAPHY_ERROR_RATIO = float(np.sqrt(2 * 5.99 / 3.84))
"""Error limit of a homography's transfer error, as a multiple of the limit of an epipolar distance. A transfer error
contains the noise of both images and of two coordinates (95 % quantiles of chi-squared)."""


def rays_of(points: Float64Array) -> Float64Array:
    """Unit directions [M, 3] of the rays through normalised points [M, 2]."""
    rays = homogeneous(points)
    unit: Float64Array = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit


def homography_errors(H: AnyArray, points0: AnyArray, points1: AnyArray) -> Float64Array:
    """Transfer errors of correspondences under a homography, the larger of the two directions.

    Args:
        H: [3, 3] from image 0 to image 1.
        points0: [N, 2].
        points1: [N, 2].

    Returns:
        [N] in the unit of the points; infinity for points that are mapped behind the camera.
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


def normalize_matches(pair: MatchedPair, config: TwoViewConfig) -> tuple[Correspondences, BoolArray]:
    """Undo the intrinsics and the lens distortion of all matches.

    Returns:
        All matches, and [M] whether both points are finite: a distortion cannot be undone at every pixel.
    """
    points0, points1 = (
        normalized_from_pixels(camera, features.keypoints[rows])
        for camera, features, rows in zip(pair.cameras, pair.features, pair.matches.indices.T, strict=True)
    )
    usable: BoolArray = np.isfinite(np.concatenate([points0, points1], axis=1)).all(axis=1)
    focals = [mean_focal_length(camera) for camera in pair.cameras]
    # The larger of the two limits as an angle: that of the camera with the coarser pixels.
    limits = [
        config.max_error_px * max(1.0, max(camera.size) / config.reference_size_px) / focal
        for camera, focal in zip(pair.cameras, focals, strict=True)
    ]
    focal = float(np.mean(focals))
    return Correspondences(points0, points1, focal, max(limits) * focal), usable
