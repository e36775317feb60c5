"""What LightGlue is built from, told and answers: sizes, thresholds, outputs.

Source: Lindenberger, Sarlin and Pollefeys, LightGlue: Local Feature Matching at Light Speed, ICCV 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sfm_lightglue.models.lightglue_activations import ACTIVATIONS

MASKED_LOG_SCORE = -1e4
"""Log assignment of padding: exp gives 0, and a product with 0 gives 0, which minus infinity would not."""


@dataclass(frozen=True, slots=True)
class LightGlueArchitecture:
    """What the network is: the shapes of its weights, and what they alone do not tell.

    Raises:
        ValueError: where the numbers do not divide, or are not positive; on an unknown activation.
    """

    input_dim: int = 256
    """Width of the descriptors that come in; other than `descriptor_dim`, a linear layer adapts them."""
    descriptor_dim: int = 256
    """Width D of a point's state."""
    num_layers: int = 9
    """Layers of self- and cross-attention."""
    num_heads: int = 4
    """Heads H of the queries; the width of a head is `descriptor_dim / num_heads`, an even number."""
    num_key_value_heads: int | None = None
    """Heads of keys and values: None as many as queries (MHA), 1 shared by all (MQA), else grouped (GQA)."""
    attention_bias: bool = True
    """Whether the projections of attention have biases."""
    tied_cross_attention: bool = True
    """Cross-attention's queries are its keys, as in the paper; grouped queries have keys of their own."""
    use_scale_orientation: bool = False
    """Positions have 4 entries (x, y, scale, orientation), as for SIFT, rather than 2."""
    has_confidence: bool = True
    """Whether there are confidence heads; without them no pair can stop early."""
    has_layer_assignments: bool = True
    """Whether every layer has an assignment head, or the last alone; if so, no pair can stop or be pruned."""
    hidden_act: str = "gelu"
    """Activation between the two linear maps of an update; names of `lightglue_activations`."""
    attention_dropout: float = 0.0
    """Share of the attention weights that training sets to 0."""

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
    """How much work is enough; nothing here changes the weights.

    Raises:
        ValueError: on values outside [0, 1].
    """

    depth_confidence: float | None = 0.95
    """A pair stops once this share of its points is confident; None: every pair goes through all layers."""
    width_confidence: float | None = 0.99
    """Points less matchable than 1 minus this leave the network; None: all stay."""
    filter_threshold: float = 0.1
    """Matches need a score above this."""
    width_multiple: int = 1
    """So many points, or a multiple, stay of an image whose points leave, the most matchable of those that may go
    included: where kernels are made anew for every shape, few shapes are faster than small ones."""

    def __post_init__(self) -> None:
        if self.width_multiple < 1:
            raise ValueError(f"LightGlueThresholds: width_multiple must be positive, got {self.width_multiple}")
        for name in ("depth_confidence", "width_confidence", "filter_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"LightGlueThresholds: {name} must lie in [0, 1], got {value}")


class LightGlueOutput(NamedTuple):
    """Matches of a batch of pairs; padding has match -1, score 0 and 0 layers."""

    matches0: Tensor
    """[B, N0] int64: index into image 1, or -1."""
    matches1: Tensor
    """[B, N1] int64: index into image 0, or -1."""
    matching_scores0: Tensor
    """[B, N0] float: score in [0, 1] of mutual nearest neighbours, passed by the filter or not; else 0."""
    matching_scores1: Tensor
    """[B, N1] float, likewise."""
    stop_layer: Tensor
    """[B] int64: layers that the pair went through; 0 where an image has no points."""
    num_layers0: Tensor
    """[B, N0] int64: layers that each point went through before it was pruned or its pair stopped."""
    num_layers1: Tensor
    """[B, N1] int64, likewise."""
    hidden_states: tuple[Tensor, ...] | None = None
    """Where asked for: the input and each layer's output [B, N0 + N1, D]; 0 for points that had left."""
    attentions: tuple[Tensor, ...] | None = None
    """Where asked for, four a layer, queries first: 0 0 [B, H, N0, N0], 1 1, 0 1 [B, H, N0, N1], 1 0."""
    messages: tuple[Tensor, ...] | None = None
    """Where asked for, four [B, N0 + N1, D] a layer: message and update within the images, then across; 0 for
    points that had left."""


class LayerPrediction(NamedTuple):
    """What one layer believes: the material of a loss with deep supervision."""

    log_assignment: Tensor
    """[B, N0 + 1, N1 + 1] float32; the last column and row hold log(1 - matchability), the corner 0, and
    padding `MASKED_LOG_SCORE`."""
    confidence_logits0: Tensor | None
    """[B, N0]; None in the last layer and without confidence heads. No gradient reaches the states."""
    confidence_logits1: Tensor | None
    """[B, N1]."""
