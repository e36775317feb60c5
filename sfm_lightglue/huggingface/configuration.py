"""Configurations with the names that Hugging Face's have, so that files and code move over as they are."""

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
        ConfigError: on values that no network can have, and on `trust_remote_code`.
    """

    model_type: ClassVar[str] = "lightglue"

    keypoint_detector_config: Any = None
    """One of `detector_configuration`, its dictionary with "model_type", or an object of `transformers`; None is
    SuperPoint."""
    descriptor_dim: int = 256
    """Width of a point's state; descriptors of another width are projected."""
    num_hidden_layers: int = 9
    """Layers of self- and cross-attention."""
    num_attention_heads: int = 4
    """Heads of the queries."""
    num_key_value_heads: int | None = None
    """Heads of keys and values: None as many as queries, 1 shared by all, else grouped."""
    depth_confidence: float = 0.95
    """A pair stops once this share of its points is confident; 0 or less: all layers, whatever the width does."""
    width_confidence: float = 0.99
    """Points less matchable than 1 minus this leave; 0 or less: all stay, whatever the depth does."""
    filter_threshold: float = 0.1
    """Matches need a score above this."""
    initializer_range: float = 0.02
    """Standard deviation of weights that nobody trained, but for the position encoding, which starts at 1."""
    hidden_act: str = "gelu"
    """Activation within the updates: one of Hugging Face's names without weights of its own."""
    attention_dropout: float = 0.0
    """Share of the attention weights that training mode sets to 0."""
    attention_bias: bool = True
    """Whether the projections of attention have biases."""
    trust_remote_code: bool = False
    """Always refused: nothing here runs code that comes with weights."""
    output_attentions: bool = False
    """What `forward` does where it is not told."""
    output_hidden_states: bool = False
    """What `forward` does where it is not told."""
    return_dict: bool = True
    """What `forward` does where it is not told; False gives a plain tuple."""

    def validate(self) -> None:
        """As in the base class."""
        if self.trust_remote_code:
            raise ConfigError(
                "trust_remote_code=True is refused: nothing here runs code that comes with weights; the detectors"
                f" {', '.join(DETECTOR_CONFIGS)} are built in, leave the option out"
            )
        self.keypoint_detector_config = detector_config_from(self.keypoint_detector_config)
        self.keypoint_detector_config.validate()
        if not self.initializer_range > 0:
            raise ConfigError(f"lightglue: initializer_range must be positive, got {self.initializer_range}")
        self.architecture()
        self.thresholds()

    @property
    def hidden_size(self) -> int:
        """Their second name of `descriptor_dim`."""
        return self.descriptor_dim

    @property
    def intermediate_size(self) -> int:
        """Width within an update."""
        return 2 * self.descriptor_dim

    def architecture(self) -> LightGlueArchitecture:
        """The network; cross-attention has queries and keys of its own, as theirs."""
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
        """How much work is enough; 0 and less switches each adaptivity off."""
        try:
            return LightGlueThresholds(
                self.depth_confidence if self.depth_confidence > 0 else None,
                self.width_confidence if self.width_confidence > 0 else None,
                self.filter_threshold,
            )
        except (ValueError, TypeError) as error:
            raise ConfigError(f"lightglue: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON has them."""
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
        """From the content of a config.json, theirs or ours.

        Args:
            values: keys that say nothing about the network are passed over, others that nobody knows too, with
                a warning.
            overrides: fields that count more than the same of `values`.

        Raises:
            ConfigError: on another kind of model, misspelt keys and impossible values.
        """
        model_type = values.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ConfigError(f"config of a {model_type!r}, expected model_type {cls.model_type!r}")
        known = known_options(cls, values, "lightglue")
        if _brings_code_for_what_is_built_in(values):
            del known["trust_remote_code"]
        unknown = overrides.keys() - {field.name for field in fields(cls)}
        if unknown:
            name = min(unknown)
            raise ConfigError(f"lightglue: unknown option {name!r}{nearest_hint(name, [f.name for f in fields(cls)])}")
        return cls(**{**known, **overrides})

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **overrides: Any) -> LightGlueConfig:
        """Reads the config.json of a folder, or of a repository on the hub.

        Raises:
            ConfigError: where the file holds no configuration of a LightGlue.
            WeightsError: where there is no such file.
        """
        path = find_file(name_or_path, CONFIG_FILE)
        try:
            return cls.from_dict(read_json(path), **overrides)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes a config.json that `transformers` reads too, where the detector is one of its own.

        Raises:
            StoreError: where it cannot be written.
        """
        write_json(Path(folder) / CONFIG_FILE, self.to_dict())


def _brings_code_for_what_is_built_in(values: Mapping[str, Any]) -> bool:
    """Whether a file asks for remote code only because `transformers` lacks a detector that we have."""
    detector = values.get("keypoint_detector_config")
    if not values.get("trust_remote_code") or not isinstance(detector, Mapping):
        return False
    return "auto_map" in detector and detector.get("model_type") in DETECTOR_CONFIGS
