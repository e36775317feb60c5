"""Options of guided matching."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.errors import ConfigError


@dataclass(frozen=True, slots=True)
class GuidedConfig:
    """Options of guided matching: which keypoints can match, and which of them do.

    Example:
        >>> sfm_lightglue.GuidedConfig(max_error_px=1.0).max_ratio
        0.9
    """

    max_error_px: float = 2.0
    """Largest Sampson error of a match, in pixels of the full-resolution images. For images larger than
    `reference_size_px` it grows in proportion."""

    reference_size_px: float = 1600.0
    """Longer side of an image, in pixels, up to which `max_error_px` is used unchanged."""

    max_ratio: float = 0.9
    """Largest ratio of the descriptor distances of the best and the second best keypoint of the band, in both images;
    1 switches the test off."""

    max_distance: float = 0.9
    """Largest distance of two unit-length descriptors, between 0 and 2; 2 switches the test off."""

    num_deviations: float = 2.5
    """The band of a pose with a covariance is wider by so many standard deviations of the epipolar line."""

    def __post_init__(self) -> None:
        if self.max_error_px <= 0 or self.reference_size_px <= 0:
            raise ConfigError("`max_error_px` and `reference_size_px` of guided matching must be positive")
        if not 0 < self.max_ratio <= 1:
            raise ConfigError(f"`max_ratio` of guided matching must lie in (0, 1], got {self.max_ratio}")
        if not 0 < self.max_distance <= 2:
            raise ConfigError(f"`max_distance` of guided matching must lie in (0, 2], got {self.max_distance}")
        if self.num_deviations < 0:
            raise ConfigError(f"`num_deviations` of guided matching must not be negative, got {self.num_deviations}")
