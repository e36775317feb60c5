"""The layers of LightGlue for inference in bfloat16 on a CPU: fewer and larger products, and no conversions of weights.

They compute what `TransformerLayer` computes, up to rounding:

- The rotary encoding needs queries and keys with each two entries swapped. They come from the same product, whose
  weights have these rows twice; to swap entries takes longer.
- The output of an attention is used by one linear map alone, so both are one.
- Weights are bfloat16; under autocast, each product would convert them again.

Updates are added to the states in the type of the states.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm_lightglue.models.lightglue import MLP, LightGlue, TransformerLayer
from sfm_lightglue.models.lightglue_attention import (
    Context,
    CrossAttention,
    SelfAttention,
    key_bias,
    merge_heads,
    repeat_heads,
)


def for_inference_in_bfloat16(network: LightGlue) -> LightGlue:
    """A network with the same results except for rounding, whose layers are bfloat16.

    Args:
        network: with weights of at least float32; its other parts are shared. Later changes of its layers have no
            effect.
    """
    quick = copy.copy(network)
    quick._modules = dict(network._modules)  # the copy gets layers of its own, the other modules are the same
    quick.layers = nn.ModuleList(_InferenceLayer(cast(TransformerLayer, layer)) for layer in network.layers)
    return quick


class _InferenceLayer(nn.Module):
    """A `TransformerLayer` without gradients, weights of attention and messages."""

    def __init__(self, layer: TransformerLayer) -> None:
        super().__init__()
        attention, crossing = layer.self_attention, layer.cross_attention
        self.self_attention, self.cross_attention = _Attention(attention), _Attention(crossing)
        self.self_update, self.cross_update = _Update(layer.self_mlp, attention), _Update(layer.cross_mlp, crossing)

    def forward(
        self,
        x: Tensor,
        context: Context,
        weights: list[Tensor] | None = None,
        messages: list[Tensor] | None = None,
    ) -> Tensor:
        """States [B, N, D] -> states [B, N, D]."""
        return self.across(self.within(x, context), context, weights, messages)

    def within(self, x: Tensor, context: Context) -> Tensor:
        """Self-attention and its update."""
        states = x.to(torch.bfloat16)
        query, key, value = self.self_attention.rotated(states, context.rotations)
        message = _attend(query, key, value, context, is_crossing=False)
        update: Tensor = self.self_update(states, message)
        return x + update

    def across(
        self,
        x: Tensor,
        context: Context,
        weights: list[Tensor] | None = None,
        messages: list[Tensor] | None = None,
    ) -> Tensor:
        """Cross-attention and its update.

        Raises:
            ValueError: weights of attention or messages are asked for, which these layers do not have.
        """
        if weights is not None or messages is not None:
            raise ValueError("layers for inference in bfloat16 give neither weights of attention nor messages")
        states = x.to(torch.bfloat16)
        message = _attend(*self.cross_attention.plain(states), context, is_crossing=True)
        update: Tensor = self.cross_update(states, message)
        return x + update


class _Attention(nn.Module):
    """The projections of an attention to queries, keys and values."""

    def __init__(self, attention: SelfAttention | CrossAttention) -> None:
        super().__init__()
        self.num_heads, self.kv_heads, self.head_dim = attention.num_heads, attention.kv_heads, attention.head_dim
        self.tied = isinstance(attention, CrossAttention) and attention.tied
        weight: Tensor = attention.projection.weight
        bias: Tensor | None = attention.projection.bias
        if isinstance(attention, SelfAttention):
            num_turned = (self.num_heads + self.kv_heads) * self.head_dim
            swapped = torch.arange(num_turned).view(-1, 2).flip(-1).flatten()
            weight = torch.cat([weight[:num_turned], weight[swapped], weight[num_turned:]])
            bias = None if bias is None else torch.cat([bias[:num_turned], bias[swapped], bias[num_turned:]])
        self.weight = _constant(weight)
        self.bias = None if bias is None else _constant(bias)

    def rotated(self, states: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, H, N, d] of states [B, N, D], with rotary positions [B, N, 2, d]."""
        num_turned = self.num_heads + self.kv_heads
        heads = torch.unflatten(F.linear(states, self.weight, self.bias), -1, (-1, self.head_dim))
        qk, swapped, value = torch.split(heads, [num_turned, num_turned, self.kv_heads], dim=2)
        cosine, sine = rotations.to(heads.dtype)[:, :, None].unbind(-2)  # [B, N, 1, d] each
        qk.mul_(cosine).addcmul_(swapped, sine)
        query, key = torch.split(qk, [self.num_heads, self.kv_heads], dim=2)
        return self._by_head(query, key, value)

    def plain(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, H, N, d] of states [B, N, D]; keys are queries if both are tied."""
        heads = torch.unflatten(F.linear(states, self.weight, self.bias), -1, (-1, self.head_dim))
        query, value = heads[:, :, : self.num_heads], heads[:, :, -self.kv_heads :]
        return self._by_head(query, query if self.tied else heads[:, :, self.num_heads : -self.kv_heads], value)

    def _by_head(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        groups = self.num_heads // self.kv_heads
        key = query.transpose(1, 2) if key is query else repeat_heads(key, groups)
        return query.transpose(1, 2), key, repeat_heads(value, groups)


class _Update(nn.Module):
    """The output of an attention and the MLP after it: what is added to the states."""

    def __init__(self, mlp: MLP, attention: SelfAttention | CrossAttention) -> None:
        super().__init__()
        first, output = mlp.fc1, attention.output
        dim = first.in_features // 2
        of_message = first.weight[:, dim:].double()
        bias = first.bias.double()
        if output.bias is not None:
            bias = bias + of_message @ output.bias.double()
        self.weight1 = _constant(
            torch.cat([first.weight[:, :dim].double(), of_message @ output.weight.double()], dim=1)
        )
        self.bias1 = _constant(bias)
        self.norm_weight, self.norm_bias = _constant(mlp.norm.weight), _constant(mlp.norm.bias)
        self.norm_shape, self.norm_eps = tuple(mlp.norm.normalized_shape), mlp.norm.eps
        self.weight2, self.bias2 = _constant(mlp.fc2.weight), _constant(mlp.fc2.bias)
        self.activation = mlp.activation

    def forward(self, states: Tensor, message: Tensor) -> Tensor:
        """States and values of the attention, [B, N, D] each -> update [B, N, D]."""
        hidden = F.linear(torch.cat([states, message], dim=-1), self.weight1, self.bias1)
        hidden = F.layer_norm(hidden, self.norm_shape, self.norm_weight, self.norm_bias, self.norm_eps)
        update: Tensor = F.linear(self.activation(hidden), self.weight2, self.bias2)
        return update


def _attend(query: Tensor, key: Tensor, value: Tensor, context: Context, is_crossing: bool) -> Tensor:
    """Attention [B, N, D] of both images, to their own points or to those of the other image, from [B, H, N, d]."""
    n0 = context.num_points0
    queries, keys, values = ((each[:, :, :n0], each[:, :, n0:]) for each in (query, key, value))
    masks, messages = (context.mask0, context.mask1), []
    for side in (0, 1):
        other = 1 - side if is_crossing else side
        if queries[side].shape[2] == 0:
            messages.append(queries[side])
            continue
        bias = key_bias(masks[other], query.dtype)
        messages.append(F.scaled_dot_product_attention(queries[side], keys[other], values[other], attn_mask=bias))
    return merge_heads(*messages)


def _constant(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().to(torch.bfloat16), requires_grad=False)
