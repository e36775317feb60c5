"""Options of the refinement of keypoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sfm_lightglue.errors import ConfigError

_MIN_PATCH_SIZE, _MAX_PATCH_SIZE = 7, 41

REFINEMENT_VERSION = 8
"""Part of a model's key. Raise it when the same model would be refined to another one."""

RefinementMode = Literal["auto", "on", "off"]
"""auto is on: the refinement lowers the errors of all measured scenes at a small part of the total time."""


@dataclass(frozen=True, slots=True)
class RefinementConfig:
    """Options of the refinement of keypoints to sub-pixel precision."""

    mode: RefinementMode = "auto"
    """Whether models are refined: auto, on or off."""

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

    complete_tracks: bool = True
    """Whether points are looked for in images without a keypoint of them that should see them, which then get one."""

    @property
    def is_on(self) -> bool:
        """Whether keypoints are refined."""
        return self.mode != "off"

    def __post_init__(self) -> None:
        if self.mode not in get_args(RefinementMode):
            raise ConfigError(f"`refine.mode` {self.mode!r}: expected one of {', '.join(get_args(RefinementMode))}")
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
