"""Options of the refinement of keypoints."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.errors import ConfigError

_MIN_PATCH_SIZE, _MAX_PATCH_SIZE = 7, 41


@dataclass(frozen=True, slots=True)
class RefinementConfig:
    """Options of the refinement of keypoints to sub-pixel precision."""

    patch_size: int = 15
    """Samples along a side of the square patch around a keypoint, an odd number; about as many pixels."""

    max_shift_px: float = 2.0
    """Largest distance by which a keypoint is moved. Unit: pixels of an image of which the longer side is at most
    1600; in larger images the distance grows with the longer side."""

    min_correlation: float = 0.8
    """Keypoints of which the aligned patch has a lower normalised correlation with the reference are not moved."""

    max_sigma_px: float = 0.25
    """Keypoints of which the alignment has a larger standard deviation, as along a straight edge, are not moved."""

    num_iterations: int = 5
    """Largest number of steps of the alignment."""

    def __post_init__(self) -> None:
        if self.patch_size % 2 == 0 or not _MIN_PATCH_SIZE <= self.patch_size <= _MAX_PATCH_SIZE:
            raise ConfigError(
                f"`refine.patch_size` must be an odd number from {_MIN_PATCH_SIZE} to {_MAX_PATCH_SIZE},"
                f" got {self.patch_size}"
            )
        if self.max_shift_px <= 0 or self.max_sigma_px <= 0:
            raise ConfigError("`refine.max_shift_px` and `refine.max_sigma_px` must be positive")
        if not 0 <= self.min_correlation <= 1:
            raise ConfigError(f"`refine.min_correlation` must be from 0 to 1, got {self.min_correlation}")
        if self.num_iterations < 1:
            raise ConfigError(f"`refine.num_iterations` must be positive, got {self.num_iterations}")
