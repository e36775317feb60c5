"""The attention of LightGlue: rotary positions, self-attention, bidirectional cross-attention.

Both images of a pair share one tensor [B, N, D] with N = N0 + N1, points of image 0 first. Projections apply to each
point separately, so one matrix product serves both images. B is the number of pairs, H of heads, KV of heads of keys
and values, d the width of a head.

Source: Lindenberger, Sarlin and Pollefeys, LightGlue, ICCV 2023, section 3.1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Context(NamedTuple):
    """Data of the points of a batch that all layers use."""

    rotations: Tensor
    """[B, N, 2, d] from `rotations_from_angles`."""
    num_points0: int
    """N0: index at which the points of image 1 begin."""
    mask0: Tensor | None
    """[B, N0] bool, True on points; None if there is no padding."""
    mask1: Tensor | None
    """[B, N1] bool."""


class SelfAttention(nn.Module):
    """Every point attends to the points of its own image, with rotary positions (equations 2 to 4).

    Args:
        dim: width D of the states.
        num_heads: number of heads of the queries.
        kv_heads: number of heads of keys and values, a divisor of `num_heads`.
        bias: whether the projections have biases.
        dropout: fraction of the weights that are set to 0 during training.
    """

    def __init__(self, dim: int, num_heads: int, kv_heads: int, bias: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.num_heads, self.kv_heads, self.head_dim = num_heads, kv_heads, dim // num_heads
        self.projection = nn.Linear(dim, dim + 2 * kv_heads * self.head_dim, bias=bias)  # rows: q, k, v
        self.output = nn.Linear(dim, dim, bias=bias)

    def forward(self, x: Tensor, context: Context, weights: list[Tensor] | None = None) -> Tensor:
        """Computes a message for every point.

        Args:
            x: states [B, N, D].
            context: positions and masks.
            weights: a list to which the attention weights [B, H, N0, N0] and [B, H, N1, N1] are appended, or None.

        Returns:
            [B, N, D].
        """
        n0, groups = context.num_points0, self.num_heads // self.kv_heads
        dropout = self.dropout if self.training else 0.0
        heads = self.projection(x).unflatten(-1, (-1, self.head_dim))  # [B, N, D + 2 KV d] -> [B, N, H + 2 KV, d]
        qk, value = torch.split(heads, [self.num_heads + self.kv_heads, self.kv_heads], dim=2)
        query, key = torch.split(rotate(qk, context.rotations), [self.num_heads, self.kv_heads], dim=2)
        query, key, value = query.transpose(1, 2), repeat_heads(key, groups), repeat_heads(value, groups)
        message0 = attend(
            query[:, :, :n0], key[:, :, :n0], value[:, :, :n0], key_bias(context.mask0, query.dtype), weights, dropout
        )
        message1 = attend(
            query[:, :, n0:], key[:, :, n0:], value[:, :, n0:], key_bias(context.mask1, query.dtype), weights, dropout
        )
        message: Tensor = self.output(merge_heads(message0, message1))
        return message


class CrossAttention(nn.Module):
    """Every point attends to the points of the other image, without positions (equation 5).

    Args:
        dim: width D of the states.
        num_heads: number of heads of the queries.
        kv_heads: number of heads of keys and values, a divisor of `num_heads`.
        bias: whether the projections have biases.
        tied: queries equal keys, so one similarity serves both directions; requires `kv_heads == num_heads`.
        dropout: fraction of the weights that are set to 0 during training.
    """

    def __init__(self, dim: int, num_heads: int, kv_heads: int, bias: bool, tied: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.num_heads, self.kv_heads, self.head_dim, self.tied = num_heads, kv_heads, dim // num_heads, tied
        kv_dim = kv_heads * self.head_dim
        self.projection = nn.Linear(dim, dim + (kv_dim if tied else 2 * kv_dim), bias=bias)  # rows: q(k), (k,) v
        self.output = nn.Linear(dim, dim, bias=bias)

    def forward(self, x: Tensor, context: Context, weights: list[Tensor] | None = None) -> Tensor:
        """Computes a message for every point.

        Args:
            x: states [B, N, D].
            context: masks; positions are not used.
            weights: a list to which the attention weights [B, H, N0, N1] and [B, H, N1, N0] are appended, or None.

        Returns:
            [B, N, D].
        """
        n0, groups = context.num_points0, self.num_heads // self.kv_heads
        dropout = self.dropout if self.training else 0.0
        heads = self.projection(x).unflatten(-1, (-1, self.head_dim))  # [B, N, rows] -> [B, N, rows / d, d]
        query = heads[:, :, : self.num_heads].transpose(1, 2)  # [B, N, H, d] -> [B, H, N, d]
        value = repeat_heads(heads[:, :, -self.kv_heads :], groups)
        key = query if self.tied else repeat_heads(heads[:, :, self.num_heads : -self.kv_heads], groups)
        query0, query1 = query[:, :, :n0], query[:, :, n0:]
        key0, key1 = key[:, :, :n0], key[:, :, n0:]
        value0, value1 = value[:, :, :n0], value[:, :, n0:]
        bias0, bias1 = key_bias(context.mask0, query.dtype), key_bias(context.mask1, query.dtype)
        if self.tied and prefers_explicit(query, max(n0, x.shape[1] - n0)):
            similarity = (query0 * self.head_dim**-0.5) @ key1.transpose(-1, -2)  # [B, H, N0, N1], both directions
            message0 = attend_by_similarity(similarity, value1, bias1, weights, dropout)
            message1 = attend_by_similarity(similarity.transpose(-1, -2), value0, bias0, weights, dropout)
        else:
            message0 = attend(query0, key1, value1, bias1, weights, dropout)
            message1 = attend(query1, key0, value0, bias0, weights, dropout)
        message: Tensor = self.output(merge_heads(message0, message1))
        return message


def rotations_from_angles(angles: Tensor) -> Tensor:
    """[B, N, d / 2] radians -> [B, N, 2, d]: each cosine twice; each sine twice, the first with negative sign."""
    cosines, sines = angles.cos().repeat_interleave(2, dim=-1), angles.sin()
    return torch.stack([cosines, torch.stack([-sines, sines], dim=-1).flatten(-2)], dim=-2)


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Rotary encoding: rotates each two consecutive entries of a head by the angles of its point (equation 4).

    With gradients it uses real numbers, since compilers do not fuse complex ones. Without, on a CPU, complex numbers
    take a tenth of the time.

    Args:
        x: queries or keys [B, N, H, d].
        rotations: [B, N, 2, d] from `rotations_from_angles`.

    Returns:
        [B, N, H, d].
    """
    if x.device.type == "cpu" and x.dtype == rotations.dtype == torch.float32 and not torch.is_grad_enabled():
        turns = torch.complex(rotations[:, :, None, 0, ::2], rotations[:, :, None, 1, 1::2])  # [B, N, 1, d / 2]
        return torch.view_as_real(torch.view_as_complex(torch.unflatten(x, -1, (-1, 2))) * turns).flatten(-2)
    cosine, sine = rotations[:, :, None].unbind(-2)  # [B, N, 1, d] each
    swapped = torch.unflatten(x, -1, (-1, 2)).flip(-1).flatten(-2)  # swaps each two entries
    rotated = x * cosine + swapped * sine
    return rotated.to(x.dtype)


def prefers_explicit(query: Tensor, num_keys: int) -> bool:
    """Whether matmul, softmax, matmul are faster than the fused kernel for queries [B, H, N, d].

    The fused kernel never writes the N x N weights to memory, but on CPUs its backward pass is slow.
    """
    if torch.is_grad_enabled():
        return num_keys <= _MOST_KEYS_EXPLICIT_IN_TRAINING.get(query.device.type, 0)
    return query.device.type == "cpu" and query.dtype != torch.bfloat16 and num_keys <= 256


_MOST_KEYS_EXPLICIT_IN_TRAINING = {"cpu": 1024}
"""Largest number of keys by type of device for which explicit attention is used with gradients; measured on CPUs."""


def use_explicit_attention_in_training(device_type: str, most_keys: int) -> None:
    """Choose the kind of attention with gradients on a type of device, for all networks of this process.

    Args:
        device_type: such as "cuda".
        most_keys: largest number of keys with which matmul, softmax, matmul are used instead of the fused kernel.
    """
    _MOST_KEYS_EXPLICIT_IN_TRAINING[device_type] = most_keys


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    weights: list[Tensor] | None,
    dropout: float = 0.0,
) -> Tensor:
    """Softmax attention.

    Args:
        query: [B, H, N, d].
        key: [B, H, M, d].
        value: [B, H, M, d].
        bias: [B, 1, 1, M] from `key_bias`.
        weights: a list to which the attention weights [B, H, N, M] are appended, or None.
        dropout: fraction of the weights that are set to 0; the others are scaled up to compensate.

    Returns:
        [B, H, N, d].
    """
    is_plain = weights is None and dropout == 0.0
    if query.shape[2] == 0:
        return query
    if is_plain and not prefers_explicit(query, key.shape[2]):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    similarity = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return attend_by_similarity(similarity, value, bias, weights, dropout)


def attend_by_similarity(
    similarity: Tensor, value: Tensor, bias: Tensor | None, weights: list[Tensor] | None, dropout: float = 0.0
) -> Tensor:
    """As `attend`, from the scaled products [B, H, N, M] of queries and keys."""
    probabilities = torch.softmax(similarity if bias is None else similarity + bias, dim=-1)
    if dropout > 0.0:
        probabilities = F.dropout(probabilities, dropout)
    if weights is not None:
        weights.append(probabilities)
    return probabilities.to(value.dtype) @ value


def key_bias(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """[B, M] bool -> [B, 1, 1, M]: 0 on points, the lowest finite number on padding, which avoids NaN."""
    if mask is None:
        return None
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill_(~mask, torch.finfo(dtype).min)[:, None, None]


def repeat_heads(x: Tensor, groups: int) -> Tensor:
    """Keys or values [B, N, KV, d] -> [B, KV groups, N, d], one per head of the queries."""
    return x.transpose(1, 2) if groups == 1 else x.repeat_interleave(groups, dim=2).transpose(1, 2)


def merge_heads(message0: Tensor, message1: Tensor) -> Tensor:
    """[B, H, N0, d] and [B, H, N1, d] -> [B, N0 + N1, H d]."""
    return torch.cat([message0.transpose(1, 2), message1.transpose(1, 2)], dim=1).flatten(2)
