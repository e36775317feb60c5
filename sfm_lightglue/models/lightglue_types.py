"""Types of LightGlue: sizes, thresholds, outputs.

Source: Lindenberger, Sarlin and Pollefeys, LightGlue: Local Feature Matching at Light Speed, ICCV 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sfm_lightglue.models.lightglue_activations import ACTIVATIONS

MASKED_LOG_SCORE = -1e4
"""Log assignment of padding: finite, so that its product with 0 is 0; its exponential is 0."""


@dataclass(frozen=True, slots=True)
class LightGlueArchitecture:
    """Sizes of the weights, and properties that the shapes alone do not define.

    Raises:
        ValueError: numbers that are not positive or do not divide; an unknown activation.
    """

    input_dim: int = 256
    """Width of the input descriptors; if it differs from `descriptor_dim`, a linear layer adapts them."""
    descriptor_dim: int = 256
    """Width D of a point's state."""
    num_layers: int = 9
    """Layers of self- and cross-attention."""
    num_heads: int = 4
    """Number H of heads of the queries; the width of a head, `descriptor_dim / num_heads`, must be even."""
    num_key_value_heads: int | None = None
    """Number of heads of keys and values: None for that of the queries (MHA), 1 for MQA, others for GQA."""
    attention_bias: bool = True
    """Whether the projections of attention have biases."""
    tied_cross_attention: bool = True
    """Queries and keys of cross-attention are equal, as in the paper; not possible with grouped queries."""
    use_scale_orientation: bool = False
    """Positions have 4 entries (x, y, scale, orientation), as for SIFT, instead of 2."""
    has_confidence: bool = True
    """Whether there are confidence heads; without them, no pair can stop early."""
    has_layer_assignments: bool = True
    """Whether every layer has an assignment head. If only the last has one, no pair can stop early or be pruned."""
    hidden_act: str = "gelu"
    """Activation between the two linear maps of an update; names of `lightglue_activations`."""
    attention_dropout: float = 0.0
    """Fraction of the attention weights that are set to 0 during training."""

    def __post_init__(self) -> None:
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(
                f"LightGlueArchitecture: unknown hidden_act {self.hidden_act!r}; known are {', '.join(ACTIVATIONS)}"
            )
        if not 0 <= self.attention_dropout < 1:
            raise ValueError(
                f"LightGlueArchitecture: attention_dropout must lie in [0, 1), got {self.attention_dropout}"
            )
        for name in ("input_dim", "descriptor_dim", "num_layers", "num_heads", "kv_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"LightGlueArchitecture: {name} must be positive, got {getattr(self, name)}")
        if self.descriptor_dim % (2 * self.num_heads):
            raise ValueError(
                f"LightGlueArchitecture: descriptor_dim {self.descriptor_dim} must be an even multiple of "
                f"num_heads {self.num_heads}"
            )
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"LightGlueArchitecture: num_heads {self.num_heads} must be a multiple of "
                f"num_key_value_heads {self.kv_heads}"
            )

    @property
    def head_dim(self) -> int:
        """Width d of a head."""
        return self.descriptor_dim // self.num_heads

    @property
    def kv_heads(self) -> int:
        """Number of heads of keys and values."""
        return self.num_heads if self.num_key_value_heads is None else self.num_key_value_heads

    @property
    def cross_is_tied(self) -> bool:
        """Whether cross-attention uses one projection for queries and keys."""
        return self.tied_cross_attention and self.kv_heads == self.num_heads

    @property
    def position_dim(self) -> int:
        """Entries of a position: 2 or 4."""
        return 4 if self.use_scale_orientation else 2


@dataclass(frozen=True, slots=True)
class LightGlueThresholds:
    """Thresholds of inference; independent of the weights.

    Raises:
        ValueError: values outside [0, 1].
    """

    depth_confidence: float | None = 0.95
    """A pair stops as soon as this fraction of its points is confident; None runs all layers."""
    width_confidence: float | None = 0.99
    """Points whose matchability is below 1 minus this are removed between layers; None keeps all."""
    filter_threshold: float = 0.1
    """Matches have a score above this."""
    width_multiple: int = 1
    """The number of remaining points of an image is rounded up to a multiple of this with the most matchable of the
    points to remove. If kernels are compiled for each shape, few shapes are faster than small shapes."""

    def __post_init__(self) -> None:
        if self.width_multiple < 1:
            raise ValueError(f"LightGlueThresholds: width_multiple must be positive, got {self.width_multiple}")
        for name in ("depth_confidence", "width_confidence", "filter_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"LightGlueThresholds: {name} must lie in [0, 1], got {value}")


class Side(NamedTuple):
    """The points of one image of each pair of a batch."""

    keypoints: Tensor
    """[B, N, 2] (x, y) from `normalize_keypoints`, or [B, N, 4] with scale in pixels and orientation in radians."""
    descriptors: Tensor
    """[B, N, input_dim]."""
    mask: Tensor | None = None
    """[B, N] bool, False on padding, whose values are ignored; None if there is no padding."""


class EncodedSide(NamedTuple):
    """One image of each pair of a batch, after the part of the network that depends on no other image."""

    x: Tensor
    """[B, N, D] states after self-attention of the first layer."""
    rotations: Tensor
    """[B, N, 2, d] rotary encoding of the positions."""
    mask: Tensor | None = None
    """[B, N] bool, False on padding; None if there is no padding."""


class LightGlueOutput(NamedTuple):
    """Matches of a batch of pairs; padding has match -1, score 0 and 0 layers."""

    matches0: Tensor
    """[B, N0] int64: index into image 1, or -1."""
    matches1: Tensor
    """[B, N1] int64: index into image 0, or -1."""
    matching_scores0: Tensor
    """[B, N0] float: score in [0, 1] of mutual nearest neighbours, also below the threshold; else 0."""
    matching_scores1: Tensor
    """[B, N1] float, likewise."""
    stop_layer: Tensor
    """[B] int64: number of layers that were run for the pair; 0 if an image has no points."""
    num_layers0: Tensor
    """[B, N0] int64: number of layers that were run for each point before it was pruned or its pair stopped."""
    num_layers1: Tensor
    """[B, N1] int64, likewise."""
    is_wanted0: Tensor
    """[B, N0] bool: True for points that no layer judged to be without a match. Others may have stayed, to fill up a
    multiple. False on padding."""
    is_wanted1: Tensor
    """[B, N1] bool, likewise."""
    hidden_states: tuple[Tensor, ...] | None = None
    """If requested: the input and the output of each layer [B, N0 + N1, D]; 0 for removed points."""
    attentions: tuple[Tensor, ...] | None = None
    """If requested, four per layer, as (queries, keys): 0 0 [B, H, N0, N0], 1 1, 0 1 [B, H, N0, N1], 1 0."""
    messages: tuple[Tensor, ...] | None = None
    """If requested, four [B, N0 + N1, D] per layer: message and update of self-attention, then of cross-attention; 0
    for removed points."""


class LayerPrediction(NamedTuple):
    """Prediction of one layer, for a loss with deep supervision."""

    log_assignment: Tensor
    """[B, N0 + 1, N1 + 1] float32; the last column and row contain log(1 - matchability), the corner 0, padding
    `MASKED_LOG_SCORE`."""
    confidence_logits0: Tensor | None
    """[B, N0]; None in the last layer and without confidence heads. Their gradient does not reach the states."""
    confidence_logits1: Tensor | None
    """[B, N1]."""
