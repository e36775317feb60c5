"""Configurations of the detectors; the field names are those of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.configuration_base import Configuration


class SuperPointConfig(Configuration):
    """Configuration of SuperPoint, as a detector or as `SuperPointForKeypointDetection`.

    Raises:
        ConfigError: on values of a wrong type, impossible values and misspelt names.

    Example:
        >>> config = sfm_lightglue.SuperPointConfig(max_keypoints=1024)
        >>> sfm_lightglue.LightGlueConfig(config).keypoint_detector_config.max_keypoints
        1024
    """

    model_type: ClassVar[str] = "superpoint"

    encoder_hidden_sizes: tuple[int, ...] = (64, 64, 128, 128)
    """Channels of the stages of the encoder; published weights have four. With n stages, positions are multiples of
    2^(n - 4) pixels."""
    decoder_hidden_size: int = 256
    """Channels of the hidden layer of both decoders."""
    keypoint_decoder_dim: int = 65
    """Outputs per cell: 8 x 8 pixels and "no keypoint"; must be 65."""
    descriptor_decoder_dim: int = 256
    """Dimension of a descriptor."""
    keypoint_threshold: float = 0.005
    """Keypoints have a score above this."""
    max_keypoints: int = -1
    """Keep at most this many highest-scoring keypoints; -1 keeps all."""
    nms_radius: int = 4
    """Radius of non-maximum suppression, in pixels of the network input."""
    border_removal_distance: int = 4
    """Keypoints nearer than this to a border are removed, in pixels of the network input."""
    initializer_range: float = 0.02
    """Standard deviation of untrained weights."""

    def validate(self) -> None:
        """Check all values; see the base class."""
        if len(self.encoder_hidden_sizes) < 2 or self.keypoint_decoder_dim != 65:
            raise ConfigError("superpoint: expected two encoder_hidden_sizes or more, and keypoint_decoder_dim 65")
        sizes = (*self.encoder_hidden_sizes, self.decoder_hidden_size, self.descriptor_decoder_dim)
        if min(sizes) < 1 or self.initializer_range <= 0:
            raise ConfigError("superpoint: sizes and initializer_range must be positive")
        if min(self.keypoint_threshold, self.nms_radius, self.border_removal_distance) < 0 or self.max_keypoints < -1:
            raise ConfigError(
                "superpoint: thresholds and distances must not be negative, max_keypoints must be at least -1"
            )


class SiftDetectorConfig(Configuration):
    """SIFT of OpenCV as the detector, without weights; it runs on the CPU."""

    model_type: ClassVar[str] = "sift"
    derived: ClassVar[frozenset[str]] = frozenset({"descriptor_decoder_dim"})

    max_keypoints: int = 2048
    """Keep at most this many keypoints, spread over the image."""
    contrast_threshold: float = 0.02
    """Contrast threshold of OpenCV; lower values give more keypoints."""
    edge_threshold: float = 10.0
    """Edge threshold of OpenCV, a ratio of curvatures; higher values keep more keypoints on edges."""

    @property
    def descriptor_decoder_dim(self) -> int:
        """Dimension of a descriptor."""
        return 128

    def validate(self) -> None:
        """Check all values; see the base class."""
        if self.max_keypoints < 1 or self.contrast_threshold < 0 or self.edge_threshold <= 0:
            raise ConfigError(
                "sift: max_keypoints and edge_threshold must be positive, contrast_threshold not negative"
            )


class DiskDetectorConfig(Configuration):
    """DISK as the detector; it needs colour: give `do_grayscale=False` to the image processor."""

    model_type: ClassVar[str] = "disk"
    derived: ClassVar[frozenset[str]] = frozenset({"descriptor_decoder_dim", "pad_if_not_divisible", "weights"})

    max_num_keypoints: int | None = None
    """Keep at most this many highest-scoring keypoints; None keeps all."""
    keypoint_threshold: float = 0.0
    """Keypoints have a logit above this."""
    nms_radius: int = 2
    """Radius of non-maximum suppression, in pixels of the network input."""
    initializer_range: float = 0.02
    """Standard deviation of untrained weights."""

    @property
    def descriptor_decoder_dim(self) -> int:
        """Dimension of a descriptor."""
        return 128

    def validate(self) -> None:
        """Check all values; see the base class."""
        if self.nms_radius < 0 or (self.max_num_keypoints or 0) < 0 or self.initializer_range <= 0:
            raise ConfigError("disk: nms_radius and max_num_keypoints must not be negative, initializer_range positive")


DetectorConfig = SuperPointConfig | SiftDetectorConfig | DiskDetectorConfig
DETECTOR_CONFIGS: dict[str, type[DetectorConfig]] = {
    each.model_type: each for each in (SuperPointConfig, SiftDetectorConfig, DiskDetectorConfig)
}
"""Configurations of the built-in detectors, by `model_type`."""


def detector_config_from(value: Any) -> DetectorConfig:
    """The configuration of a detector.

    Args:
        value: None for SuperPoint, a configuration, a dictionary, or an object with `to_dict`, as in `transformers`.

    Raises:
        ConfigError: on a detector that is not built in.
    """
    if isinstance(value, DetectorConfig):
        return value
    if value is None:
        return SuperPointConfig()
    values = value.to_dict() if hasattr(value, "to_dict") else value
    if not isinstance(values, Mapping):
        raise ConfigError(f"keypoint_detector_config: expected a dictionary or a configuration, got {value!r}")
    model_type = values.get("model_type", "superpoint")
    kind = DETECTOR_CONFIGS.get(model_type)
    if kind is None:
        raise ConfigError(
            f"keypoint_detector_config: model_type {model_type!r} is not built in; choose one of"
            f" {', '.join(DETECTOR_CONFIGS)}"
        )
    return kind(**values)
