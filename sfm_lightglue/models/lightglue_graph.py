"""LightGlue as a graph without decisions: all layers, all points, plain products. For ONNX and `torch.export`.

The matches are those of `LightGlue` with both adaptivities off. Sizes may be dynamic; no operation depends on values.

Source: Lindenberger, Sarlin and Pollefeys, LightGlue, ICCV 2023, section 3.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm_lightglue.models.lightglue import MLP, LightGlue, TransformerLayer
from sfm_lightglue.models.lightglue_assignment import Assignment
from sfm_lightglue.models.lightglue_attention import CrossAttention, SelfAttention

_MASKED = -1e9
"""Similarity of padding: its weight is exactly 0 in float32."""


class GraphSide(nn.Module):
    """States of the points of one image before the first layer.

    Args:
        network: whose weights are used.
    """

    def __init__(self, network: LightGlue) -> None:
        super().__init__()
        self.input_projection, self.position_projection = network.input_projection, network.position_projection

    def forward(self, positions: Tensor, descriptors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions [B, N, P] and descriptors [B, N, D'] -> states [B, N, D], cosines and sines [B, 1, N, d / 2]."""
        angles = self.position_projection(positions)[:, None]
        return self.input_projection(descriptors), angles.cos(), angles.sin()


class LightGlueGraph(nn.Module):
    """The matches of pairs of images, with fixed control flow.

    Args:
        network: whose weights are used; not copied.
        filter_threshold: matches with a lower score are left out.
    """

    def __init__(self, network: LightGlue, filter_threshold: float) -> None:
        super().__init__()
        self.filter_threshold = filter_threshold
        self.side = GraphSide(network)
        self.layers, self.assignment = network.layers, network.assignments[-1]
        self._is_gelu = network.architecture.hidden_act == "gelu"

    def forward(
        self,
        positions0: Tensor,
        positions1: Tensor,
        descriptors0: Tensor,
        descriptors1: Tensor,
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Match B pairs.

        Args:
            positions0: [B, N0, 2], normalised, or [B, N0, 4] with scale and orientation.
            positions1: [B, N1, 2 or 4].
            descriptors0: [B, N0, D'].
            descriptors1: [B, N1, D'].
            mask0: [B, N0] booleans, True on points; None without padding.
            mask1: [B, N1].

        Returns:
            Matches [B, N0] and [B, N1] (index or -1), and scores [B, N0] and [B, N1] of mutual neighbours.
        """
        x0, *rotation0 = self.side(positions0, descriptors0)
        x1, *rotation1 = self.side(positions1, descriptors1)
        bias0, bias1 = _bias(mask0, x0), _bias(mask1, x1)
        for layer in self.layers:
            block = cast(TransformerLayer, layer)
            x0 = x0 + self._update(block.self_mlp, x0, _within(block.self_attention, x0, rotation0, bias0))
            x1 = x1 + self._update(block.self_mlp, x1, _within(block.self_attention, x1, rotation1, bias1))
            message0, message1 = _across(block.cross_attention, x0, x1, bias0, bias1)
            x0 = x0 + self._update(block.cross_mlp, x0, message0)
            x1 = x1 + self._update(block.cross_mlp, x1, message1)
        scores = _log_assignment(cast(Assignment, self.assignment), x0, x1, bias0, bias1)
        return _filtered(scores, self.filter_threshold)

    def _update(self, mlp: MLP, x: Tensor, message: Tensor) -> Tensor:
        """The update of states [B, N, D] by messages [B, N, D] (equation 1)."""
        hidden = mlp.norm(mlp.fc1(torch.cat([x, message], dim=-1)))
        if self._is_gelu:
            half = 0.5 * hidden  # OpenCV 5.0.0 crashes on the usual order of these operations
            activated = half + half * torch.erf(hidden * math.sqrt(0.5))
        else:
            activated = mlp.activation(hidden)
        return cast(Tensor, mlp.fc2(activated))


def _bias(mask: Tensor | None, x: Tensor) -> Tensor | None:
    """[B, N] booleans -> [B, 1, 1, N] that is added to similarities; None without padding."""
    if mask is None:
        return None
    return torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, _MASKED)[:, None, None]


def _within(attention: SelfAttention, x: Tensor, rotation: list[Tensor], bias: Tensor | None) -> Tensor:
    """Self-attention (equations 2 to 4): states [B, N, D] -> messages [B, N, D]."""
    heads = attention.projection(x).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)  # [B, H + 2 KV, N, d]
    query, key, value = torch.split(heads, [attention.num_heads, attention.kv_heads, attention.kv_heads], dim=1)
    groups = attention.num_heads // attention.kv_heads
    query, key = _rotated(query, *rotation), _rotated(key, *rotation)
    message = _attend(query, _repeated(key, groups), _repeated(value, groups), bias)
    return cast(Tensor, attention.output(_merged(message)))


def _across(
    attention: CrossAttention, x0: Tensor, x1: Tensor, bias0: Tensor | None, bias1: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Cross-attention (equation 5): states [B, N0, D] and [B, N1, D] -> their messages."""
    groups, num_heads, kv_heads = attention.num_heads // attention.kv_heads, attention.num_heads, attention.kv_heads
    sides = []
    for x in (x0, x1):
        heads = attention.projection(x).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        query, value = heads[:, :num_heads], _repeated(heads[:, heads.shape[1] - kv_heads :], groups)
        key = query if attention.tied else _repeated(heads[:, num_heads : num_heads + kv_heads], groups)
        sides.append((query, key, value))
    (query0, key0, value0), (query1, key1, value1) = sides
    message0, message1 = _attend(query0, key1, value1, bias1), _attend(query1, key0, value0, bias0)
    return attention.output(_merged(message0)), attention.output(_merged(message1))


def _rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary encoding of queries or keys [B, H, N, d]: each two consecutive entries are turned by their angle."""
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cosines - odd * sines, even * sines + odd * cosines], dim=-1).flatten(-2)


def _repeated(x: Tensor, groups: int) -> Tensor:
    """Heads of keys or values [B, KV, N, d], each for a group of queries: [B, KV groups, N, d]."""
    return x if groups == 1 else x.repeat_interleave(groups, dim=1)


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    similarity = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return torch.softmax(similarity if bias is None else similarity + bias, dim=-1) @ value


def _merged(message: Tensor) -> Tensor:
    return message.transpose(1, 2).flatten(-2)  # [B, H, N, d] -> [B, N, D]


def _log_assignment(
    assignment: Assignment, x0: Tensor, x1: Tensor, bias0: Tensor | None, bias1: Tensor | None
) -> Tensor:
    """Log assignment [B, N0, N1] (equations 6 to 8); padding has a score that no match has."""
    scale = x0.shape[-1] ** -0.25
    similarity = (assignment.projection(x0) * scale) @ (assignment.projection(x1) * scale).transpose(1, 2)
    over0 = similarity if bias0 is None else similarity + bias0[:, 0].transpose(1, 2)
    over1 = similarity if bias1 is None else similarity + bias1[:, 0]
    scores = F.log_softmax(over1, dim=2) + F.log_softmax(over0, dim=1)
    certainty0, certainty1 = (F.logsigmoid(assignment.matchability(x)) for x in (x0, x1))  # [B, N, 1]
    scores = scores + certainty0 + certainty1.transpose(1, 2)
    if bias0 is not None:
        scores = scores + bias0[:, 0].transpose(1, 2)
    return scores if bias1 is None else scores + bias1[:, 0]


def _filtered(scores: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mutual nearest neighbours with a score above the threshold (section 3.2)."""
    # One more point in each image, which nothing matches: there is no maximum of an image without points.
    scores = F.pad(scores, (0, 1, 0, 1), value=_MASKED)
    best0, nearest0 = scores.max(2)
    nearest1 = scores.argmax(1)
    rows0 = torch.arange(scores.shape[1], device=scores.device)[None]
    rows1 = torch.arange(scores.shape[2], device=scores.device)[None]
    is_mutual0 = nearest1.gather(1, nearest0) == rows0
    is_mutual1 = nearest0.gather(1, nearest1) == rows1
    scores0 = best0.exp() * is_mutual0
    scores1 = scores0.gather(1, nearest1) * is_mutual1
    matches0 = torch.where(is_mutual0 & (scores0 > threshold), nearest0, -1)
    matches1 = torch.where(is_mutual1 & (scores1 > threshold), nearest1, -1)
    return matches0[:, :-1], matches1[:, :-1], scores0[:, :-1], scores1[:, :-1]
