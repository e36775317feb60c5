"""Options of localization, in one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.registry.components import (
    check_device,
    check_num_threads,
    check_seed,
    config_from_tables,
    default_choice,
    tables_from_config,
)
from sfm_lightglue.registry.fitting_weights import with_fitting_weights
from sfm_lightglue.registry.matching_steps import with_first_keypoints
from sfm_lightglue.registry.registry import Choice


@dataclass(frozen=True, slots=True)
class PoseLimits:
    """When a pose is sure enough."""

    max_error_px: float = 8.0
    """Largest reprojection error of an inlier, in pixels of an image whose longer side is 1600. It is proportional to
    the size of the image, but not smaller than half of this number."""

    min_inliers: int = 20
    """Fewest keypoints of an image that must fit its pose."""

    min_inlier_share: float = 0.2
    """Smallest fraction of the matches with the best image of the map that must fit the pose."""

    min_cells: int = 5
    """Fewest cells of a grid of 8 x 8 over the image in which inliers must be."""

    max_rival_share: float = 0.6
    """A second, different pose with more than this fraction of the inliers makes the pose ambiguous."""

    max_position_uncertainty: float = 0.1
    """Largest standard deviation of the position in its most uncertain direction, relative to the distance of the
    points."""

    def __post_init__(self) -> None:
        for name, least in (("min_inliers", 6), ("min_cells", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"`limits.{name}` must be at least {least}, got {getattr(self, name)}")
        for name in ("max_error_px", "max_position_uncertainty"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"`limits.{name}` must be positive, got {getattr(self, name)}")
        for name in ("min_inlier_share", "max_rival_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"`limits.{name}` must lie in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class LocalizeConfig:
    """How images are found in a map.

    Example:
        >>> sfm_lightglue.LocalizeConfig.from_mapping({"num_images": 12}).num_images
        12
    """

    extractor: Choice = field(default_factory=lambda: default_choice("extractor"))
    """The local features of queries, and of the images of the map."""

    matcher: Choice = field(default_factory=lambda: default_choice("matcher"))
    """What matches them. A LightGlue without weights gets the weights that fit the extractor."""

    num_images: int = 8
    """Largest number of images of the map that each query is matched with."""

    first_images: int = 3
    """Number of similar images that each query is matched with at first, beside those of other places that look nearly
    as similar. The others follow only if these give no sure pose."""

    enough_inliers: int = 120
    """With so many keypoints that fit an accepted pose, the pose of the first images is sure."""

    guided: bool = True
    """Whether an accepted pose is made more exact by a guided search: keypoints of the dense layer near the projections
    of points of the map."""

    same_camera: bool = False
    """Whether queries are of the camera of the map, zoomed and focused alike: one without given parameters gets the
    intrinsics of the most similar image of the map that has its size. Else they are estimated from the query alone."""

    limits: PoseLimits = field(default_factory=PoseLimits)
    """When a pose is sure enough; else the image is refused with a reason."""

    seed: int = 0
    """Of the random samples."""

    num_threads: int = 0
    """Images of the map that are read at the same time, 0 for one per core."""

    device: str = "auto"
    """Where networks run: "cpu", "cuda", "cuda:1", or "auto" for CUDA if there is any."""

    def __post_init__(self) -> None:
        matcher = with_first_keypoints(with_fitting_weights(self.matcher, self.extractor))
        object.__setattr__(self, "matcher", matcher)
        check_device(self.device)
        check_seed(self.seed)
        check_num_threads(self.num_threads)
        for name in ("num_images", "first_images", "enough_inliers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be at least 1, got {getattr(self, name)}")

    @property
    def max_keypoints_dense(self) -> int:
        """Largest number of keypoints of the dense layer of an image; 0 without a guided search."""
        return int(getattr(self.extractor.config, "max_keypoints_dense", 0)) if self.guided else 0

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> LocalizeConfig:
        """From nested mappings, as a TOML file holds them: tables `extractor`, `matcher` and `limits`, and values.

        Raises:
            ConfigError: for an unknown table or option (the nearest one is named), or a bad value.
        """
        return config_from_tables(cls, values)

    def as_mapping(self) -> dict[str, Any]:
        """Nested mappings of plain values: what `from_mapping` takes."""
        return tables_from_config(self)
