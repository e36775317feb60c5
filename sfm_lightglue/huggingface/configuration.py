"""Configuration with the field names of Hugging Face, so that files and code can be used unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.detector_configuration import (
    DETECTOR_CONFIGS,
    Configuration,
    detector_config_from,
    known_options,
)
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.models.lightglue_types import LightGlueArchitecture, LightGlueThresholds
from sfm_lightglue.weights.hub import find_file, read_json, write_json

CONFIG_FILE = "config.json"


@dataclass
class LightGlueConfig(Configuration):
    """Configuration of `LightGlueForKeypointMatching`.

    Raises:
        ConfigError: on impossible values, and on `trust_remote_code`.

    Example:
        >>> config = sfm_lightglue.LightGlueConfig(num_hidden_layers=4, filter_threshold=0.2)
        >>> config.num_hidden_layers
        4
    """

    model_type: ClassVar[str] = "lightglue"

    keypoint_detector_config: Any = None
    """A configuration of `detector_configuration` or `transformers`, or a dictionary with "model_type"; None is
    SuperPoint."""
    descriptor_dim: int = 256
    """Dimension of the states; descriptors of another dimension are projected."""
    num_hidden_layers: int = 9
    """Number of layers of self- and cross-attention."""
    num_attention_heads: int = 4
    """Number of attention heads of the queries."""
    num_key_value_heads: int | None = None
    """Number of heads of keys and values: None for as many as queries, 1 for shared ones, else grouped."""
    depth_confidence: float = 0.95
    """A pair stops when this fraction of its points is confident; 0 or less always runs all layers."""
    width_confidence: float = 0.99
    """Points with matchability below 1 minus this are pruned; 0 or less prunes no point."""
    filter_threshold: float = 0.1
    """Matches have a score above this."""
    initializer_range: float = 0.02
    """Standard deviation of untrained weights; that of the position encoding is 1."""
    hidden_act: str = "gelu"
    """Activation in the feed-forward blocks: a name of Hugging Face, without trainable weights."""
    attention_dropout: float = 0.0
    """Fraction of the attention weights that are set to 0 in training mode."""
    attention_bias: bool = True
    """Whether the projections of attention have biases."""
    trust_remote_code: bool = False
    """Always refused: code that comes with weights is not run."""
    output_attentions: bool = False
    """Default of this argument of `forward`."""
    output_hidden_states: bool = False
    """Default of this argument of `forward`."""
    return_dict: bool = True
    """Default of this argument of `forward`; False returns a plain tuple."""

    def validate(self) -> None:
        """Check all values; see the base class."""
        if self.trust_remote_code:
            raise ConfigError(
                "trust_remote_code=True is refused: code that comes with weights is not run; the detectors"
                f" {', '.join(DETECTOR_CONFIGS)} are built in: remove the option"
            )
        self.keypoint_detector_config = detector_config_from(self.keypoint_detector_config)
        self.keypoint_detector_config.validate()
        if not self.initializer_range > 0:
            raise ConfigError(f"lightglue: initializer_range must be positive, got {self.initializer_range}")
        self.architecture()
        self.thresholds()

    @property
    def hidden_size(self) -> int:
        """Same as `descriptor_dim`, by its name in `transformers`."""
        return self.descriptor_dim

    @property
    def intermediate_size(self) -> int:
        """Dimension of the hidden layer of a feed-forward block."""
        return 2 * self.descriptor_dim

    def architecture(self) -> LightGlueArchitecture:
        """The architecture; cross-attention has separate queries and keys, as in `transformers`."""
        try:
            return LightGlueArchitecture(
                input_dim=self.keypoint_detector_config.descriptor_decoder_dim,
                descriptor_dim=self.descriptor_dim,
                num_layers=self.num_hidden_layers,
                num_heads=self.num_attention_heads,
                num_key_value_heads=self.num_key_value_heads,
                attention_bias=self.attention_bias,
                tied_cross_attention=False,
                use_scale_orientation=self.keypoint_detector_config.model_type == "sift",
                hidden_act=self.hidden_act,
                attention_dropout=float(self.attention_dropout),
            )
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise ConfigError(f"lightglue: {error}") from error

    def thresholds(self) -> LightGlueThresholds:
        """The thresholds; adaptive depth and width are None if their value is 0 or less."""
        try:
            return LightGlueThresholds(
                self.depth_confidence if self.depth_confidence > 0 else None,
                self.width_confidence if self.width_confidence > 0 else None,
                self.filter_threshold,
            )
        except (ValueError, TypeError) as error:
            raise ConfigError(f"lightglue: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """All fields as values of JSON."""
        values = super().to_dict()
        del values["trust_remote_code"]
        return {
            **values,
            "architectures": ["LightGlueForKeypointMatching"],
            "keypoint_detector_config": self.keypoint_detector_config.to_dict(),
            "num_key_value_heads": self.num_key_value_heads or self.num_attention_heads,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> LightGlueConfig:
        """From the content of a config.json of `transformers` or this library.

        Args:
            values: keys without effect on the network are ignored; unknown keys are ignored with a warning.
            overrides: fields that replace those of `values`.

        Raises:
            ConfigError: on another type of model, misspelt keys and impossible values.
        """
        model_type = values.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ConfigError(f"model_type: expected {cls.model_type!r}, got {model_type!r}")
        known = known_options(cls, values, "lightglue")
        if _has_code_of_built_in_detector(values):
            del known["trust_remote_code"]
        unknown = overrides.keys() - {field.name for field in fields(cls)}
        if unknown:
            name = min(unknown)
            raise ConfigError(f"lightglue: unknown option {name!r}{nearest_hint(name, [f.name for f in fields(cls)])}")
        return cls(**{**known, **overrides})

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **overrides: Any) -> LightGlueConfig:
        """Read the config.json of a folder, or of a repository on the hub.

        Raises:
            ConfigError: if the file is not a configuration of a LightGlue.
            WeightsError: if the file is missing.
        """
        path = find_file(name_or_path, CONFIG_FILE)
        try:
            return cls.from_dict(read_json(path), **overrides)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a config.json, which `transformers` can read if it has the detector.

        Raises:
            StoreError: if the file cannot be written.
        """
        write_json(Path(folder) / CONFIG_FILE, self.to_dict())


def _has_code_of_built_in_detector(values: Mapping[str, Any]) -> bool:
    """Whether the only remote code is that of a detector that is built in here but not in `transformers`."""
    detector = values.get("keypoint_detector_config")
    if not values.get("trust_remote_code") or not isinstance(detector, Mapping):
        return False
    return "auto_map" in detector and detector.get("model_type") in DETECTOR_CONFIGS
