"""All options of tracking a sequence, in one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.registry.components import (
    check_device,
    check_num_threads,
    check_seed,
    config_from_tables,
    tables_from_config,
)
from sfm_lightglue.registry.fitting_weights import with_fitting_weights
from sfm_lightglue.registry.registry import Choice

_REFERENCE_SIZE_PX = 640


def pixel_factor(size: tuple[int, int]) -> float:
    """Factor on limits that are stated in pixels of an image of 640 px: larger images have larger ones.

    Args:
        size: (width, height) of the image in pixels.
    """
    return max(1.0, max(size) / _REFERENCE_SIZE_PX)


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """How points are followed from frame to frame."""

    max_corners: int = 800
    """Largest number of points that are followed, with those of the map. Corners are added at keyframes."""

    spacing_px: float = 8.0
    """Smallest distance between corners, in pixels of the image that is tracked."""

    window_px: int = 21
    """Side of the window of the optical flow."""

    max_difference: float = 20.0
    """A point is dropped if the grey values of its window, of 255, differ by more in the mean."""

    max_backward_error_px: float = 1.0
    """A point is dropped if following it back to the frame before ends at a larger distance from its start."""


@dataclass(frozen=True, slots=True)
class InitializationConfig:
    """When two frames start a map."""

    min_parallax_deg: float = 1.2
    """Smallest median angle between the two rays to a point."""

    max_direction_error_deg: float = 4.0
    """Largest uncertainty (95 %) of the direction in which the camera moved."""

    min_points: int = 50
    """Fewest points of a start."""

    max_focal_wait_s: float = 3.0
    """Longest time for which pairs of frames are awaited that determine an unknown focal length, in seconds."""


@dataclass(frozen=True, slots=True)
class KeyframeConfig:
    """When a frame becomes a keyframe."""

    min_tracked_share: float = 0.6
    """A frame in which a smaller fraction of the points of its reference keyframe is followed becomes a keyframe."""

    min_points: int = 100
    """A frame with fewer points of the map becomes a keyframe, unless its reference keyframe had as few."""

    max_parallax_deg: float = 2.5
    """A frame with a larger median angle between its rays and those of its reference keyframe becomes a keyframe."""

    max_interval_s: float = 2.0
    """Longest time between keyframes while the camera moves, in seconds."""

    min_parallax_deg: float = 0.5
    """Median angle from which the camera counts as moved."""

    max_lag_s: float = 10.0
    """Longest time, in seconds, for which a frame that becomes a keyframe, or whose points are lost, waits for the
    mapping of earlier keyframes; only with more than one of `threads`. It waits until one at most is not mapped yet.
    After that time, a keyframe is made if at most four others are not mapped yet, else none. A small limit makes the
    poses depend on the speed of the machine."""

    max_camera_lag_s: float = 0.15
    """Largest `max_lag_s` where `track` reads a camera or a stream: frames that come while it waits are dropped. For a
    camera of your own and `Tracker`, set `max_lag_s`."""

    def __post_init__(self) -> None:
        if not min(self.max_lag_s, self.max_camera_lag_s) >= 0:
            raise ConfigError("`keyframes.max_lag_s` and `keyframes.max_camera_lag_s` must not be negative")


@dataclass(frozen=True, slots=True)
class PoseConfig:
    """How the pose of a frame is found from points of the map."""

    max_error_px: float = 3.0
    """Largest reprojection error of an inlier, in pixels of an image of 640 px; larger images have a larger one."""

    min_inliers: int = 20
    """A frame with fewer inliers is lost."""


@dataclass(frozen=True, slots=True)
class RecoveryConfig:
    """What happens while the camera is lost."""

    max_lost_s: float = 1.0
    """A camera that is lost for so many seconds, and `min_lost_frames`, may start another map."""

    min_lost_frames: int = 5
    """See `max_lost_s`."""


@dataclass(frozen=True, slots=True)
class MappingConfig:
    """How keyframes become a map. Limits in pixels are for an image of 640 px; larger images have larger ones."""

    window: int = 10
    """Number of covisible keyframes that are adjusted together at each new one."""

    num_partners: int = 2
    """Number of covisible keyframes that a new one is matched with by the matcher; 1 while other keyframes wait."""

    num_final_partners: int = 4
    """Number of covisible keyframes that each one is matched with when the sequence has ended, with the earlier
    ones."""

    min_parallax_deg: float = 1.0
    """Smallest angle between two rays to a new point."""

    max_error_px: float = 3.0
    """Observations of a point with a larger reprojection error after adjustment are removed."""

    loss_px: float = 2.0
    """Reprojection errors beyond it count linearly, not squared."""

    max_iterations: int = 8
    """Steps of the adjustment at each keyframe."""

    remove_redundant: bool = True
    """Remove keyframes nine tenths of whose points are observed by three others."""

    align_patches: bool = True
    """When the sequence has ended, align the observations of each point with its image in one keyframe, and adjust the
    maps by the precision of the observations. Each keyframe keeps its grey image for it, about 0.1 MB of 640 x 480 px.
    """

    def __post_init__(self) -> None:
        if self.window < 1 or self.max_iterations < 1:
            raise ConfigError("`mapping.window` and `mapping.max_iterations` must be positive")
        if min(self.num_partners, self.num_final_partners) < 0:
            raise ConfigError("`mapping.num_partners` and `mapping.num_final_partners` must not be negative")
        if min(self.min_parallax_deg, self.max_error_px, self.loss_px) <= 0:
            raise ConfigError("`mapping.min_parallax_deg`, `mapping.max_error_px`, `mapping.loss_px` must be positive")


MAX_KEYPOINTS = 1024
"""Default of `extractor.max_keypoints` for SIFT: fewer than in photos, as keyframes are close together."""

CONTRAST_THRESHOLD = 0.01
"""Default of `extractor.contrast_threshold` for SIFT: lower than in photos, as frames of quick motions are blurred."""

MATCHER_MEMORY_MB = 256
"""Default of `matcher.memory_mb` for LightGlue: most pairs of frames are matched once, so that little is kept."""

_SIFT = {"max_keypoints": MAX_KEYPOINTS, "contrast_threshold": CONTRAST_THRESHOLD}
_LIGHTGLUE = {"memory_mb": MATCHER_MEMORY_MB}
_DEFAULTS = (("extractor", "sift", _SIFT), ("matcher", "lightglue", _LIGHTGLUE))
"""Tables whose component has other defaults here: name of the table, of the component, and the options."""


def _default_extractor() -> Choice:
    return EXTRACTORS.choose("sift", _SIFT)


def _default_matcher() -> Choice:
    return MATCHERS.choose("lightglue", _LIGHTGLUE)


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """How a sequence is tracked and mapped.

    Example:
        >>> config = sfm_lightglue.TrackerConfig.from_mapping({"extractor": {"max_keypoints": 512}, "threads": 1})
        >>> config.extractor.config.max_keypoints, config.threads
        (512, 1)
    """

    extractor: Choice = field(default_factory=_default_extractor)
    """The local features of keyframes."""

    matcher: Choice = field(default_factory=_default_matcher)
    """What matches keyframes. A LightGlue without weights gets the weights that fit the extractor."""

    flow: FlowConfig = field(default_factory=FlowConfig)
    """How points are followed from frame to frame."""

    initialization: InitializationConfig = field(default_factory=InitializationConfig)
    """When two frames start a map."""

    pose: PoseConfig = field(default_factory=PoseConfig)
    """How the pose of a frame is found from points of the map."""

    keyframes: KeyframeConfig = field(default_factory=KeyframeConfig)
    """When a frame becomes a keyframe."""

    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    """What happens while the camera is lost."""

    mapping: MappingConfig = field(default_factory=MappingConfig)
    """How keyframes become a map."""

    max_image_size: int = 1280
    """Longer side in pixels to which larger frames are shrunk for tracking and features."""

    camera_model: str = "SIMPLE_RADIAL"
    """COLMAP's camera model of a camera whose intrinsics are unknown."""

    refine_camera: bool = False
    """Refine the intrinsics also of a camera whose intrinsics are given; unknown ones are always refined."""

    loop_closing: bool = True
    """Recognise places that were seen before, and correct the drift there."""

    seed: int = 0
    """Of everything random."""

    threads: int = 2
    """1 maps between the frames: two runs give the same bytes. Otherwise mapping has a thread of its own, and another
    one extracts the features of the next keyframe. Each keyframe is matched with its partners in up to so many threads,
    no more than partners, while tracking goes on: up to 2 + `mapping.num_partners` cores are busy.
    When the sequence has ended, so many threads match keyframes and align patches."""

    device: str = "cpu"
    """Where networks run: "cpu", "cuda", "cuda:1", or "auto" for CUDA if there is any."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "matcher", with_fitting_weights(self.matcher, self.extractor))
        check_num_threads(self.threads)
        check_device(self.device)
        check_seed(self.seed)
        if self.max_image_size < 64:
            raise ConfigError(f"`max_image_size` must be at least 64, got {self.max_image_size}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """From nested mappings, as a TOML file holds them.

        Raises:
            ConfigError: for an unknown table or option (the nearest one is named), or a bad value.
        """
        for table, name, options in _DEFAULTS:
            given = values.get(table, {})
            if isinstance(given, Mapping) and given.get("name", name) == name:
                values = {**values, table: {**options, **given}}
        return config_from_tables(cls, values)

    def as_mapping(self) -> dict[str, Any]:
        """Nested mappings of plain values: what `from_mapping` takes."""
        return tables_from_config(self)
