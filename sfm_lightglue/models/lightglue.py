"""LightGlue: matches the local features of two images, with adaptive depth and width.

Source: Lindenberger, Sarlin and Pollefeys, LightGlue: Local Feature Matching at Light Speed, ICCV 2023.
The file follows section 3 of the paper from top to bottom. `lightglue_adaptive.py` contains the state of a batch
whose pairs stop and lose points separately.

Both images of a pair share one tensor [B, N, D] with N = N0 + N1. Everything except attention applies to each point
separately, so one matrix product serves both images. B is the number of pairs, H of heads, d the width of a head.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sfm_lightglue.models.initialization import draw_normal
from sfm_lightglue.models.lightglue_activations import ACTIVATIONS
from sfm_lightglue.models.lightglue_adaptive import ActivePairs, Results
from sfm_lightglue.models.lightglue_assignment import Assignment, filter_matches
from sfm_lightglue.models.lightglue_attention import (
    Context,
    CrossAttention,
    SelfAttention,
    rotations_from_angles,
)
from sfm_lightglue.models.lightglue_types import (
    MASKED_LOG_SCORE,
    EncodedSide,
    LayerPrediction,
    LightGlueArchitecture,
    LightGlueOutput,
    LightGlueThresholds,
    Side,
)

__all__ = [
    "MASKED_LOG_SCORE",
    "Assignment",
    "EncodedSide",
    "LayerPrediction",
    "LightGlue",
    "LightGlueArchitecture",
    "LightGlueOutput",
    "LightGlueThresholds",
    "Side",
    "filter_matches",
    "normalize_keypoints",
]


def normalize_keypoints(keypoints: Tensor, image_size: Tensor | tuple[float, float]) -> Tensor:
    """Subtracts the centre of the image, and divides by half its longer side.

    Args:
        keypoints: [..., N, 2] (x, y) in pixels.
        image_size: (width, height) in pixels, or a tensor [..., 2] of one size per image.

    Returns:
        [..., N, 2] in [-1, 1].

    Source: the code of the authors; section 3.1 of the paper does not define it.
    """
    size = torch.as_tensor(image_size, dtype=keypoints.dtype, device=keypoints.device)[..., None, :]
    return (keypoints - size / 2) / (size.amax(-1, keepdim=True) / 2)


class MLP(nn.Module):
    """Computes the update of a state from the state and its message (equation 1).

    Args:
        dim: width D of the states.
        hidden_act: name of the activation.
    """

    def __init__(self, dim: int, hidden_act: str = "gelu") -> None:
        super().__init__()
        self.activation = ACTIVATIONS[hidden_act]
        self.fc1 = nn.Linear(2 * dim, 2 * dim)
        self.norm = nn.LayerNorm(2 * dim)
        self.fc2 = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        """Two tensors [B, N, D] -> update [B, N, D]."""
        hidden = self.norm(self.fc1(torch.cat([x.to(message.dtype), message], dim=-1)))
        update: Tensor = self.fc2(self.activation(hidden))
        return update


class TransformerLayer(nn.Module):
    """Self-attention, then cross-attention, each followed by an update of the states (figure 2).

    Args:
        arch: sizes.
    """

    def __init__(self, arch: LightGlueArchitecture) -> None:
        super().__init__()
        sizes = (arch.descriptor_dim, arch.num_heads, arch.kv_heads, arch.attention_bias)
        self.self_attention = SelfAttention(*sizes, dropout=arch.attention_dropout)
        self.self_mlp = MLP(arch.descriptor_dim, arch.hidden_act)
        self.cross_attention = CrossAttention(*sizes, tied=arch.cross_is_tied, dropout=arch.attention_dropout)
        self.cross_mlp = MLP(arch.descriptor_dim, arch.hidden_act)

    def forward(
        self,
        x: Tensor,
        context: Context,
        weights: list[Tensor] | None = None,
        messages: list[Tensor] | None = None,
    ) -> Tensor:
        """States [B, N, D] -> states [B, N, D].

        The weights of four attentions are appended to the list `weights`, if given. Four tensors [B, N, D] are
        appended to the list `messages`, if given: message and update of self-attention, then of cross-attention.
        """
        return self.across(self.within(x, context, weights, messages), context, weights, messages)

    def within(
        self, x: Tensor, context: Context, weights: list[Tensor] | None = None, messages: list[Tensor] | None = None
    ) -> Tensor:
        """The first half of `forward`: self-attention and its update; no image affects the other one."""
        message = self.self_attention(x, context, weights)
        update = cast(Tensor, self.self_mlp(x, message))
        if messages is not None:
            messages += [message, update]
        return x + update

    def across(
        self, x: Tensor, context: Context, weights: list[Tensor] | None = None, messages: list[Tensor] | None = None
    ) -> Tensor:
        """The second half of `forward`: cross-attention and its update."""
        message = self.cross_attention(x, context, weights)
        update = cast(Tensor, self.cross_mlp(x, message))
        if messages is not None:
            messages += [message, update]
        return x + update


def blank(x: Tensor, mask: Tensor | None) -> Tensor:
    """Sets [B, N, D] to 0 where the mask [B, N] is False."""
    return x if mask is None else x.masked_fill(~mask[..., None], 0.0)


class LightGlue(nn.Module):
    """The network.

    Args:
        architecture: sizes; the defaults are those of the paper for SuperPoint.
    """

    def __init__(self, architecture: LightGlueArchitecture | None = None) -> None:
        super().__init__()
        arch = architecture or LightGlueArchitecture()
        self.architecture = arch
        dim, last = arch.descriptor_dim, arch.num_layers - 1
        self.input_projection = nn.Identity() if arch.input_dim == dim else nn.Linear(arch.input_dim, dim)
        self.position_projection = nn.Linear(arch.position_dim, arch.head_dim // 2, bias=False)
        draw_normal(self.position_projection.weight)
        self.layers = nn.ModuleList(TransformerLayer(arch) for _ in range(arch.num_layers))
        self.assignments = nn.ModuleList(
            Assignment(dim) for _ in range(arch.num_layers if arch.has_layer_assignments else 1)
        )
        self.confidences = nn.ModuleList(nn.Linear(dim, 1) for _ in range(last if arch.has_confidence else 0))
        self.recomputes_layers = False
        """Whether training computes each layer again for its gradient: less memory, a third more time."""

    def forward(
        self,
        side0: Side,
        side1: Side,
        thresholds: LightGlueThresholds | None = None,
        return_hidden_states: bool = False,
        return_attentions: bool = False,
        return_messages: bool = False,
    ) -> LightGlueOutput:
        """Matches pairs with adaptive depth and width, without gradients.

        A pair gets the same matches in any batch, and swapped images give swapped matches; in bfloat16, except for
        rounding. Adaptive depth or width is off if the architecture has no heads for it.

        Args:
            side0: points of image 0 of each pair.
            side1: points of image 1 of each pair.
            thresholds: of depth, width and matches.
            return_hidden_states: also return the states after each layer.
            return_attentions: also return the attention weights, B H N² numbers per layer; this is slower.
            return_messages: also return messages and updates of each layer.

        Returns:
            Matches, scores, and the number of layers of each pair and each point.

        Raises:
            ValueError: the shapes do not fit together or do not fit the architecture.

        Source: section 3.3 of the paper; rules for stopping and pruning as in the code of the authors.
        """
        self._check(side0, side1)
        if not (return_hidden_states or return_attentions or return_messages):
            return self.match_encoded(self.encode(side0), self.encode(side1), thresholds)
        with torch.no_grad():
            active = ActivePairs.from_batch(*self.embed(side0, side1))
            results = Results(active, return_hidden_states, return_attentions, return_messages)
            return self._match(active, thresholds or LightGlueThresholds(), results)

    def encode(self, side: Side) -> EncodedSide:
        """The part of the network that depends on one image only, without gradients.

        An image that occurs in several pairs needs it once; it is a fifth of the work of a pair.

        Args:
            side: points of one image of each pair.

        Returns:
            Input of `match_encoded`.

        Raises:
            ValueError: the shapes do not fit together or do not fit the architecture.
        """
        self._check(side)
        with torch.no_grad():
            x, context = self.embed(side, Side(side.keypoints[:, :0], side.descriptors[:, :0]))
            x = cast(TransformerLayer, self.layers[0]).within(x, context)
            return EncodedSide(x, context.rotations, context.mask0)

    def match_encoded(
        self, side0: EncodedSide, side1: EncodedSide, thresholds: LightGlueThresholds | None = None
    ) -> LightGlueOutput:
        """As `forward`, from the results of `encode` for both images of each pair."""
        with torch.no_grad():
            rotations = torch.cat([side0.rotations, side1.rotations], dim=1)
            context = Context(rotations, side0.x.shape[1], side0.mask, side1.mask)
            active = ActivePairs.from_batch(torch.cat([side0.x, side1.x], dim=1), context)
            return self._match(active, thresholds or LightGlueThresholds(), Results(active), is_encoded=True)

    def forward_all_layers(self, side0: Side, side1: Side) -> list[LayerPrediction]:
        """Predictions of all layers, with gradients and without adaptivity: the forward pass of training.

        Args:
            side0: points of image 0 of each pair.
            side1: points of image 1 of each pair.

        Returns:
            One prediction per layer; only that of the last layer if no other layer has an assignment head.

        Raises:
            ValueError: the shapes do not fit together or do not fit the architecture.
        """
        self._check(side0, side1)
        x, context = self.embed(side0, side1)
        predictions = []
        for index, layer in enumerate(self.layers):
            if self.recomputes_layers and self.training and torch.is_grad_enabled():
                x = checkpoint(layer, x, context, use_reentrant=False)
            else:
                x = layer(x, context)
            assignment = self._assignment(index)
            if assignment is not None:
                predictions.append(self._predict(index, assignment, x, context))
        return predictions

    def stop_threshold(self, layer_idx: int) -> float:
        """Confidence above which a point is confident after a layer; higher in early layers.

        Source: the code of the authors, `0.8 + 0.1 exp(-4 i / L)`.
        """
        return 0.8 + 0.1 * math.exp(-4.0 * layer_idx / self.architecture.num_layers)

    def _check(self, *sides: Side) -> None:
        arch, batch = self.architecture, len(sides[0].keypoints)
        for side, (keypoints, descriptors, mask) in enumerate(sides):
            n = keypoints.shape[1] if keypoints.ndim == 3 else -1
            for name, tensor, shape in (
                ("keypoints", keypoints, (batch, n, arch.position_dim)),
                ("descriptors", descriptors, (batch, n, arch.input_dim)),
                ("mask", mask, (batch, n)),
            ):
                if tensor is not None and tuple(tensor.shape) != shape:
                    raise ValueError(f"{name}{side}: expected {list(shape)}, got {list(tensor.shape)}")
            if mask is not None and mask.dtype != torch.bool:
                raise ValueError(f"mask{side}: expected booleans, got {mask.dtype}")

    def embed(self, side0: Side, side1: Side) -> tuple[Tensor, Context]:
        """States [B, N0 + N1, D] before the first layer; padding is set to 0, since NaN times 0 is NaN."""
        mask0, mask1 = (self._needed(side.mask) for side in (side0, side1))
        positions = torch.cat([blank(side0.keypoints, mask0), blank(side1.keypoints, mask1)], dim=1)  # [B, N, 2 or 4]
        x = torch.cat([blank(side0.descriptors, mask0), blank(side1.descriptors, mask1)], dim=1)
        weight = self.position_projection.weight
        x = x.to(weight.dtype)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round positions to 8 bits
            dtype = torch.promote_types(weight.dtype, torch.float32)
            rotations = rotations_from_angles(F.linear(positions.to(dtype), weight.to(dtype)))
        x = self.input_projection(x).to(weight.dtype)  # under autocast too, updates are summed in this type
        return x, Context(rotations, side0.keypoints.shape[1], mask0, mask1)

    def _needed(self, mask: Tensor | None) -> Tensor | None:
        """A mask; None without padding, except in training on a GPU, which would have to wait to know that."""
        if mask is None or (self.training and mask.device.type != "cpu"):
            return mask
        return None if bool(mask.all()) else mask

    def _assignment(self, layer_idx: int) -> Assignment | None:
        if self.architecture.has_layer_assignments:
            return cast(Assignment, self.assignments[layer_idx])
        return cast(Assignment, self.assignments[0]) if layer_idx == self.architecture.num_layers - 1 else None

    def _predict(self, layer_idx: int, assignment: Assignment, x: Tensor, context: Context) -> LayerPrediction:
        n0 = context.num_points0
        scores, logits = assignment(x, context)
        unmatchable = F.pad(F.logsigmoid(-logits), (0, 1))  # [B, N] -> [B, N + 1], the corner is 0
        full = torch.cat([scores, unmatchable[:, :n0, None]], dim=2)  # [B, N0, N1 + 1]
        full = torch.cat([full, unmatchable[:, None, n0:]], dim=1)  # [B, N0 + 1, N1 + 1]
        if context.mask0 is not None:
            full = full.masked_fill(~F.pad(context.mask0, (0, 1), value=True)[:, :, None], MASKED_LOG_SCORE)
        if context.mask1 is not None:
            full = full.masked_fill(~F.pad(context.mask1, (0, 1), value=True)[:, None, :], MASKED_LOG_SCORE)
        if layer_idx >= len(self.confidences):
            return LayerPrediction(full, None, None)
        confidence = self.confidences[layer_idx](x.detach()).squeeze(-1)  # [B, N, 1] -> [B, N]
        return LayerPrediction(full, confidence[:, :n0], confidence[:, n0:])

    def _match(
        self, active: ActivePairs, thresholds: LightGlueThresholds, results: Results, is_encoded: bool = False
    ) -> LightGlueOutput:
        """Runs layers on the pairs until all have stopped; `is_encoded`: the first half of the first layer was run."""
        num_points = active.valid().sum(1)
        keep = active.valid()
        active = active.select(active.has_points(keep), keep)
        for index, layer in enumerate(self.layers):
            if len(active.pairs) == 0:
                break
            weights: list[Tensor] | None = [] if results.wants_attentions else None
            messages: list[Tensor] | None = [] if results.wants_messages else None
            run = cast(TransformerLayer, layer).across if is_encoded and index == 0 else layer
            active = replace(active, x=run(active.x, active.context, weights, messages))
            results.add_layer(active, index + 1, weights, messages)
            stops, keep, wanted = self._decide(index, active, num_points[active.pairs], thresholds)
            if wanted is not None:
                results.add_wanted(active, wanted | stops[:, None])
            if bool(stops.any()):
                assignment = cast(Assignment, self._assignment(index))
                done = active.select(stops, active.valid())
                scores, _ = assignment(done.x, done.context)
                results.add_matches(done, *filter_matches(scores, done.context, thresholds.filter_threshold))
            active = active.select(~stops & active.has_points(keep), keep)
        return results.as_output()

    def _decide(
        self, layer_idx: int, active: ActivePairs, num_points: Tensor, thresholds: LightGlueThresholds
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Selects the pairs [A] that stop after a layer, and the points [A, N0 + N1] that the others keep and want.

        More points are kept than wanted if their number is rounded up; None if all are wanted. `num_points` [A] are the
        numbers of input points; pruned points count as confident (section 3.3).
        """
        keep = active.valid()
        if layer_idx == self.architecture.num_layers - 1:
            return torch.ones_like(active.pairs, dtype=torch.bool), keep, None
        stops = torch.zeros_like(active.pairs, dtype=torch.bool)
        assignment = self._assignment(layer_idx)
        if assignment is None:
            return stops, keep, None
        confident, wanted = None, None
        if thresholds.depth_confidence is not None and self.architecture.has_confidence:
            confidence = torch.sigmoid(self.confidences[layer_idx](active.x).squeeze(-1).float())
            threshold = self.stop_threshold(layer_idx)
            confident = confidence > threshold
            unsure = (confidence < threshold) & keep
            stops = 1.0 - unsure.sum(1) / num_points > thresholds.depth_confidence
        if thresholds.width_confidence is not None and not bool(stops.all()):
            matchable = assignment.matchable(active.x)
            kept = matchable > 1.0 - thresholds.width_confidence
            wanted = keep & (kept if confident is None else kept | ~confident)
            keep = active.rounded_up(wanted, matchable, thresholds.width_multiple)
        return stops, keep, wanted
