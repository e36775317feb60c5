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
class Correspondences:
    """Matched points of two cameras without distortion.

    Args:
        points0: [M, 2] normalised points of image 0.
        points1: [M, 2] of image 1.
        focal_px: brings normalised points to the scale of pixels.
        max_error_px: largest error of an inlier there.
    """

    points0: Float64Array
    points1: Float64Array
    focal_px: float
    max_error_px: float

    @property
    def max_error(self) -> float:
        """Largest error of an inlier on the normalised plane."""
        return self.max_error_px / self.focal_px

    def rows(self, mask: BoolArray) -> Correspondences:
        """The matches that a mask [M] keeps."""
        return Correspondences(self.points0[mask], self.points1[mask], self.focal_px, self.max_error_px)


HOMOGRAPHY_ERROR_RATIO = float(np.sqrt(2 * 5.99 / 3.84))
"""Where an epipolar distance has an error limit, the transfer error of a homography has this times as much: it
gathers the noise of both images, and of two coordinates (95 % quantiles of chi-squared)."""


def rays_of(points: Float64Array) -> Float64Array:
    """Directions [M, 3] of length 1 through normalised points [M, 2]."""
    rays = homogeneous(points)
    unit: Float64Array = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit


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


def normalize_matches(
    features0: Features,
    features1: Features,
    matches: Matches,
    camera0: Camera,
    camera1: Camera,
    config: TwoViewConfig,
) -> tuple[Correspondences, BoolArray]:
    """All matches on the normalised planes of their cameras, and which of them [M] a camera could undo.

    Args as in `estimate_two_view_geometry`.
    """
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
    return Correspondences(points0, points1, focal, max(limits) * focal), usable
