"""Configuration with the field names of Hugging Face, so that files and code can be used unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.configuration_base import Configuration
from sfm_lightglue.huggingface.detector_configuration import DETECTOR_CONFIGS, SuperPointConfig, detector_config_from
from sfm_lightglue.models.lightglue_types import LightGlueArchitecture, LightGlueThresholds


class LightGlueConfig(Configuration):
    """Configuration of `LightGlueForKeypointMatching`.

    Other keys, such as those that `transformers` writes, are kept as attributes.

    Raises:
        ConfigError: on values of a wrong type, impossible values, misspelt names, and `trust_remote_code`.

    Example:
        >>> config = sfm_lightglue.LightGlueConfig(num_hidden_layers=4, filter_threshold=0.2)
        >>> config.num_hidden_layers
        4
    """

    model_type: ClassVar[str] = "lightglue"
    sub_configs: ClassVar[dict[str, Any]] = {"keypoint_detector_config": SuperPointConfig}
    derived: ClassVar[frozenset[str]] = frozenset({"hidden_size", "intermediate_size"})

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
    """Number of heads of keys and values: None becomes that of the queries, 1 is for shared ones, else grouped."""
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
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
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
        heads = self.num_key_value_heads
        try:
            return LightGlueArchitecture(
                input_dim=self.keypoint_detector_config.descriptor_decoder_dim,
                descriptor_dim=self.descriptor_dim,
                num_layers=self.num_hidden_layers,
                num_heads=self.num_attention_heads,
                num_key_value_heads=None if heads in (None, self.num_attention_heads) else heads,
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
        """All fields as values of JSON, and the sizes that follow from `descriptor_dim`, as in `transformers`."""
        values = super().to_dict()
        del values["trust_remote_code"]
        sizes = {name: getattr(self, name) for name in sorted(self.derived)}
        return {"architectures": ["LightGlueForKeypointMatching"], **values, **sizes}

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], return_unused_kwargs: bool = False, **overrides: Any) -> Any:
        """As in the base class; code that comes with a detector that is built in here is not needed."""
        values = dict(config_dict)
        if _has_code_of_built_in_detector(values):
            del values["trust_remote_code"]
        return super().from_dict(values, return_unused_kwargs, **overrides)


def _has_code_of_built_in_detector(values: Mapping[str, Any]) -> bool:
    """Whether the only remote code is that of a detector that is built in here but not in `transformers`."""
    detector = values.get("keypoint_detector_config")
    if not values.get("trust_remote_code") or not isinstance(detector, Mapping):
        return False
    return "auto_map" in detector and detector.get("model_type") in DETECTOR_CONFIGS
