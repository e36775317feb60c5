"""Options of the dense layer of points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.two_view.guided_config import GuidedConfig

DensityLevel = Literal["sparse", "normal", "dense"]
"""sparse: the points of the matcher only. normal: as many points as COLMAP. dense: twice as many keypoints, and image
pairs with narrow baselines too."""

_NARROW_FACTOR = 1 / 3
"""Factor on the smallest angle of an image pair for the level dense."""


@dataclass(frozen=True, slots=True)
class DensityConfig:
    """Options of densifying a finished model by guided matching."""

    level: DensityLevel = "normal"
    """sparse keeps the points of the mapping; normal adds those of about `extractor.max_keypoints_dense` places per
    image, with SIFT and DoGHardNet of at most half as many more; dense adds those of twice as many, also from image
    pairs with narrow baselines."""

    max_error_px: float = 2.0
    """Largest Sampson error of a match and largest reprojection error of an observation, in pixels of images of up to
    1600 pixels; it grows in proportion for larger ones."""

    max_ratio: float = 0.9
    """Largest ratio of the descriptor distances of the best and the second best keypoint along an epipolar line."""

    max_distance: float = 0.9
    """Largest distance of two unit-length descriptors, between 0 and 2."""

    min_shared_points: int = 15
    """Image pairs with fewer common points of the model are not matched, unless the model predicts an overlap."""

    min_pair_angle_deg: float = 1.5
    """Smallest median angle between the rays of two images to their common points; the level dense takes a third."""

    min_point_angle_deg: float = 1.5
    """Points with a smaller triangulation angle are left out: their depth is uncertain."""

    max_partners: int = 20
    """Largest number of images that each image chooses, in which its points are looked for: those with the most common
    points. Images that choose it come on top."""

    max_matched_partners: int = 4
    """Largest number of these with which each image chooses to be matched, half of them with a wide baseline; not more
    than `max_partners`. Images that choose it come on top. Points that two images have are found in the others by
    projection, in a small part of the time. Below 4, fewer points are matched in four images, with which points of two
    matched images are compared: more of these are wrong. An image that comes into a finished model is
    matched with at most six, whatever the value."""

    min_track_length: int = 3
    """Smallest number of images in which a point is observed; 2 in a model of two images."""

    max_rounds: int = 2
    """Pairs are matched up to so many times. The pairs of images from which the adjustment takes away a large part of
    the reprojection error are matched again with the adjusted poses. Pairs that were not matched yet are matched too,
    at once with these, or if more than 15 % of all are new, which only images with fewer partners than they may have
    can bring. If the dense model shows more than 15 % more pairs that see the same surface, tracks are continued
    there."""

    def __post_init__(self) -> None:
        if self.level not in get_args(DensityLevel):
            raise ConfigError(f"`density.level` {self.level!r}: expected one of {', '.join(get_args(DensityLevel))}")
        for name in ("max_error_px", "min_pair_angle_deg", "min_point_angle_deg"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"`density.{name}` must be positive, got {getattr(self, name)}")
        for name, least in (
            ("min_shared_points", 1),
            ("max_partners", 1),
            ("max_matched_partners", 1),
            ("min_track_length", 2),
            ("max_rounds", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"`density.{name}` must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.max_ratio <= 1 or not 0 < self.max_distance <= 2:
            raise ConfigError("`density.max_ratio` must lie in (0, 1], `density.max_distance` in (0, 2]")

    @property
    def is_on(self) -> bool:
        """Whether models are densified."""
        return self.level != "sparse"

    @property
    def keypoints_factor(self) -> int:
        """Factor on `extractor.max_keypoints_dense`."""
        return {"sparse": 0, "normal": 1, "dense": 2}[self.level]

    def min_views(self, num_images: int) -> int:
        """Smallest number of images that observe a point of a model of `num_images` images."""
        return min(self.min_track_length, num_images)

    def num_matched_partners(self, num_images: int) -> int:
        """With how many others each image of a model of `num_images` images chooses to be matched."""
        return max(min(self.max_matched_partners, self.max_partners, num_images - 1), 0)

    @property
    def pair_angle_deg(self) -> float:
        """Smallest median angle of an image pair at this level."""
        return self.min_pair_angle_deg * (_NARROW_FACTOR if self.level == "dense" else 1.0)

    @property
    def guided(self) -> GuidedConfig:
        """Options of the guided matching."""
        return GuidedConfig(max_error_px=self.max_error_px, max_ratio=self.max_ratio, max_distance=self.max_distance)
