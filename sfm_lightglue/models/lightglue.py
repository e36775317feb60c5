"""LightGlue: matches the local features of two images, as deep and as wide as the pair needs.

Source: Lindenberger, Sarlin and Pollefeys, LightGlue: Local Feature Matching at Light Speed, ICCV 2023.
The file follows the paper's section 3 from top to bottom; `lightglue_adaptive.py` runs the network layer by
layer on a batch whose pairs stop and lose points each on its own.

Both images of a pair live in one tensor [B, N, D] with N = N0 + N1: everything but attention treats points
alone, so that one matrix product serves both. B is the number of pairs, H of heads, d the width of a head.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    LayerPrediction,
    LightGlueArchitecture,
    LightGlueOutput,
    LightGlueThresholds,
)

__all__ = [
    "MASKED_LOG_SCORE",
    "Assignment",
    "LayerPrediction",
    "LightGlue",
    "LightGlueArchitecture",
    "LightGlueOutput",
    "LightGlueThresholds",
    "filter_matches",
    "normalize_keypoints",
]


def normalize_keypoints(keypoints: Tensor, image_size: Tensor | tuple[float, float]) -> Tensor:
    """Centres pixels on the image and divides them by half its longer side.

    Args:
        keypoints: [..., N, 2] (x, y) in pixels.
        image_size: (width, height) in pixels, or a tensor [..., 2] of one size per image.

    Returns:
        [..., N, 2] in [-1, 1].

    Source: section 3.1 of the paper leaves it open; the authors' code does so.
    """
    size = torch.as_tensor(image_size, dtype=keypoints.dtype, device=keypoints.device)[..., None, :]
    return (keypoints - size / 2) / (size.amax(-1, keepdim=True) / 2)


class MLP(nn.Module):
    """Turns a state and its message into an update of the state (equation 1).

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

        A list `weights` receives the weights of four attentions, a list `messages` four tensors [B, N, D]:
        message and update within the images, message and update across.
        """
        message = self.self_attention(x, context, weights)
        update = cast(Tensor, self.self_mlp(x, message))
        x = x + update
        across = self.cross_attention(x, context, weights)
        update_across = cast(Tensor, self.cross_mlp(x, across))
        if messages is not None:
            messages += [message, update, across, update_across]
        return x + update_across


def blank(x: Tensor, mask: Tensor | None) -> Tensor:
    """[B, N, D] with 0 where the mask [B, N] is False."""
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

    def forward(
        self,
        keypoints0: Tensor,
        keypoints1: Tensor,
        descriptors0: Tensor,
        descriptors1: Tensor,
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
        thresholds: LightGlueThresholds | None = None,
        return_hidden_states: bool = False,
        return_attentions: bool = False,
        return_messages: bool = False,
    ) -> LightGlueOutput:
        """Matches pairs, each with as many layers and points as it needs; without gradients.

        A pair gets the same matches in any batch, and swapped images give swapped matches; in bfloat16 both but for
        rounding. Adaptivity that the architecture has no heads for is off.

        Args:
            keypoints0: [B, N0, 2] (x, y) from `normalize_keypoints`, or [B, N0, 4] with scale in pixels and
                orientation in radians.
            keypoints1: [B, N1, 2 or 4].
            descriptors0: [B, N0, input_dim].
            descriptors1: [B, N1, input_dim].
            mask0: [B, N0] bool, False on padding, which may hold anything; None where there is none.
            mask1: [B, N1] bool.
            thresholds: when to stop, what to prune, what to keep.
            return_hidden_states: adds the states after each layer.
            return_attentions: adds the attention weights of each layer; slower, and B H N² numbers a layer.
            return_messages: adds what moved the states in each layer.

        Returns:
            Matches, scores, and how deep each pair and each point went.

        Raises:
            ValueError: where shapes disagree with each other or the architecture.

        Source: section 3.3 of the paper; stop and pruning rules as in the authors' code.
        """
        self._check(keypoints0, keypoints1, descriptors0, descriptors1, mask0, mask1)
        with torch.no_grad():
            active = ActivePairs.of(*self._embed(keypoints0, keypoints1, descriptors0, descriptors1, mask0, mask1))
            results = Results(active, return_hidden_states, return_attentions, return_messages)
            return self._match(active, thresholds or LightGlueThresholds(), results)

    def forward_all_layers(
        self,
        keypoints0: Tensor,
        keypoints1: Tensor,
        descriptors0: Tensor,
        descriptors1: Tensor,
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
    ) -> list[LayerPrediction]:
        """What every layer believes, with gradients and without adaptivity: the forward pass of training.

        Args:
            keypoints0: as in `forward`, like all others.
            keypoints1: [B, N1, 2 or 4].
            descriptors0: [B, N0, input_dim].
            descriptors1: [B, N1, input_dim].
            mask0: [B, N0] bool.
            mask1: [B, N1] bool.

        Returns:
            One prediction a layer; of the last layer alone where it alone has an assignment.

        Raises:
            ValueError: where shapes disagree with each other or the architecture.
        """
        self._check(keypoints0, keypoints1, descriptors0, descriptors1, mask0, mask1)
        x, context = self._embed(keypoints0, keypoints1, descriptors0, descriptors1, mask0, mask1)
        predictions = []
        for index, layer in enumerate(self.layers):
            x = layer(x, context)
            assignment = self._assignment(index)
            if assignment is not None:
                predictions.append(self._predict(index, assignment, x, context))
        return predictions

    def stop_threshold(self, layer_idx: int) -> float:
        """Confidence that makes a point confident after a layer; early layers, less sure of it, need more.

        Source: the authors' code, `0.8 + 0.1 exp(-4 i / L)`.
        """
        return 0.8 + 0.1 * math.exp(-4.0 * layer_idx / self.architecture.num_layers)

    def _check(
        self,
        keypoints0: Tensor,
        keypoints1: Tensor,
        descriptors0: Tensor,
        descriptors1: Tensor,
        mask0: Tensor | None,
        mask1: Tensor | None,
    ) -> None:
        arch, batch = self.architecture, len(keypoints0)
        sides = ((keypoints0, descriptors0, mask0), (keypoints1, descriptors1, mask1))
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

    def _embed(
        self,
        keypoints0: Tensor,
        keypoints1: Tensor,
        descriptors0: Tensor,
        descriptors1: Tensor,
        mask0: Tensor | None,
        mask1: Tensor | None,
    ) -> tuple[Tensor, Context]:
        """States [B, N0 + N1, D] before the first layer; padding is blanked, since NaN times 0 is NaN."""
        mask0 = None if mask0 is None or bool(mask0.all()) else mask0
        mask1 = None if mask1 is None or bool(mask1.all()) else mask1
        positions = torch.cat([blank(keypoints0, mask0), blank(keypoints1, mask1)], dim=1)  # [B, N0 + N1, 2 or 4]
        x = torch.cat([blank(descriptors0, mask0), blank(descriptors1, mask1)], dim=1)
        weight = self.position_projection.weight
        x = x.to(weight.dtype)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would place points 8 bits coarse
            dtype = torch.promote_types(weight.dtype, torch.float32)
            rotations = rotations_from_angles(F.linear(positions.to(dtype), weight.to(dtype)))
        x = self.input_projection(x).to(weight.dtype)  # the sum of updates stays exact under autocast
        return x, Context(rotations, keypoints0.shape[1], mask0, mask1)

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

    def _match(self, active: ActivePairs, thresholds: LightGlueThresholds, results: Results) -> LightGlueOutput:
        """Sends the pairs through the layers until all have stopped."""
        num_points = active.valid().sum(1)
        keep = active.valid()
        active = active.select(active.has_points(keep), keep)
        for index, layer in enumerate(self.layers):
            if len(active.pairs) == 0:
                break
            weights: list[Tensor] | None = [] if results.wants_attentions else None
            messages: list[Tensor] | None = [] if results.wants_messages else None
            active = replace(active, x=layer(active.x, active.context, weights, messages))
            results.add_layer(active, index + 1, weights, messages)
            stops, keep = self._decide(index, active, num_points[active.pairs], thresholds)
            if bool(stops.any()):
                assignment = cast(Assignment, self._assignment(index))
                done = active.select(stops, active.valid())
                scores, _ = assignment(done.x, done.context)
                results.add_matches(done, *filter_matches(scores, done.context, thresholds.filter_threshold))
            active = active.select(~stops & active.has_points(keep), keep)
        return results.as_output()

    def _decide(
        self, layer_idx: int, active: ActivePairs, num_points: Tensor, thresholds: LightGlueThresholds
    ) -> tuple[Tensor, Tensor]:
        """Which pairs [A] stop after a layer, and which points [A, N0 + N1] the others keep.

        `num_points` [A] came in; those that were pruned since count as confident (section 3.3).
        """
        keep = active.valid()
        if layer_idx == self.architecture.num_layers - 1:
            return torch.ones_like(active.pairs, dtype=torch.bool), keep
        stops = torch.zeros_like(active.pairs, dtype=torch.bool)
        assignment = self._assignment(layer_idx)
        if assignment is None:
            return stops, keep
        confident = None
        if thresholds.depth_confidence is not None and self.architecture.has_confidence:
            confidence = torch.sigmoid(self.confidences[layer_idx](active.x).squeeze(-1).float())
            threshold = self.stop_threshold(layer_idx)
            confident = confidence > threshold
            unsure = (confidence < threshold) & keep
            stops = 1.0 - unsure.sum(1) / num_points > thresholds.depth_confidence
        if thresholds.width_confidence is not None and not bool(stops.all()):
            matchable = assignment.matchable(active.x)
            kept = matchable > 1.0 - thresholds.width_confidence
            kept = keep & (kept if confident is None else kept | ~confident)
            keep = active.rounded_up(kept, matchable, thresholds.width_multiple)
        return stops, keep
