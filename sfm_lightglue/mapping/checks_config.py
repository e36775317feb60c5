"""Limits of the judgement of models."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ChecksConfig:
    """Limits that a model must keep to be published."""

    max_rotation_error_deg: float = 5.0
    """Before mapping, verified pairs whose rotation differs by more than this angle, in degrees, from the one that the
    other pairs imply are left out. The same limit holds between pairs and models."""

    min_points_per_image: int = 12
    """Images in which fewer points are observed are doubtful."""

    min_support: float = 0.5
    """Images are doubtful if a smaller weighted fraction of their verified pairs agrees with the model."""

    max_pair_error_px: float = 3.0
    """A verified pair agrees with a model if most of its inliers lie this near to the epipolar lines of the model's
    poses, in pixels of images of up to 1600 pixels (for larger images it grows in proportion), or if its own pose is
    nearly that of the model."""

    min_kept_images: float = 0.5
    """A model is rejected if a larger part of its images is doubtful than one minus this fraction."""

    min_agreement: float = 0.8
    """A model is rejected if a smaller weighted fraction of the verified pairs of its images agrees with it."""

    min_triangulated: float = 0.55
    """A model is rejected if, of the verified matches that should be points of it, a smaller fraction are points. The
    others do not fit its poses."""

    min_triangulation_angle_deg: float = 1.0
    """Smallest median triangulation angle of the points of a model, in degrees."""

    min_cheirality: float = 0.95
    """Smallest fraction of the observations whose point lies in front of the camera."""

    max_focal_ratio: float = 6.0
    """Largest focal length that was not given, as a multiple of the longer side of the image."""

    min_focal_ratio: float = 0.25
    """Smallest focal length that was not given, as a multiple of the longer side of the image."""

    max_focal_change: float = 1.6
    """Largest factor between a refined focal length and the one of the EXIF data."""

    max_focal_uncertainty: float = 0.1
    """Largest relative standard deviation of a refined focal length. It is larger if the images do not determine the
    focal length, for example those of a flat scene seen from straight above."""

    max_center_uncertainty: float = 0.06
    """Largest standard deviation of a camera centre, as a fraction of the largest distance between two centres of the
    model. It is larger if a few images have too little parallax or too few points. Models of more than 20 images, of
    rigs and of known poses are not asked."""

    min_distortion_slope: float = 0.3
    """Smallest change of the distance from the image centre when the undistorted distance changes by 1. Distortion that
    folds or nearly folds the image has a smaller one."""

    max_static_pairs: float = 0.9
    """Largest weighted fraction of verified pairs in which the camera only rotated or stood still."""

    max_conflict: float = 0.1
    """A model is folded, and rejected, if two groups of its images contradict each other more: in images that see the
    same place from nearly the same side, the points of the other group are missing. Mean over the pairs of images of
    the natural logarithm of the likelihood ratio that they show different places. Before, the scene is mapped again
    without the pairs that join such groups."""

    def __post_init__(self) -> None:
        for name in (
            "min_support",
            "min_kept_images",
            "min_agreement",
            "min_triangulated",
            "min_cheirality",
            "max_static_pairs",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"`checks.{name}` must lie in [0, 1], got {getattr(self, name)}")
        for name in (
            "max_rotation_error_deg",
            "max_pair_error_px",
            "max_focal_ratio",
            "max_focal_uncertainty",
            "max_center_uncertainty",
        ):
            if not getattr(self, name) > 0:
                raise ConfigError(f"`checks.{name}` must be positive, got {getattr(self, name)}")
        for name in (
            "min_points_per_image",
            "min_triangulation_angle_deg",
            "min_focal_ratio",
            "min_distortion_slope",
            "max_conflict",
        ):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"`checks.{name}` must not be negative, got {getattr(self, name)}")
        if not self.max_focal_change >= 1:
            raise ConfigError(f"`checks.max_focal_change` must be at least 1, got {self.max_focal_change}")
