"""Choices that depend on the device, made by measuring: the type of matrix products, and the kind of attention."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sfm_lightglue.models.lightglue_attention import attend_by_similarity, key_bias

_NUM_REPEATS = 3


def faster_in_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are faster; processors without such instructions emulate them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))

    def seconds(dtype: torch.dtype) -> float:
        a, b = (torch.ones(size, 256, dtype=dtype, device=device) for size in (768, 256))
        return _seconds(lambda: a @ b, device)

    return seconds(torch.bfloat16) < seconds(torch.float32)


def faster_with_explicit_attention(
    device: torch.device, dtype: torch.dtype, batch_size: int, num_heads: int, num_keys: int, head_dim: int
) -> bool:
    """Whether matmul, softmax, matmul with their gradients are faster than the fused kernel, with padding masks.

    Args:
        device: on which to measure.
        dtype: of queries, keys and values.
        batch_size: number of pairs.
        num_heads: number of heads.
        num_keys: number of keys, and of queries.
        head_dim: width of a head.
    """
    shape = (batch_size, num_heads, num_keys, head_dim)
    query, key, value = (torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
    bias = key_bias(torch.ones(batch_size, num_keys, dtype=torch.bool, device=device), dtype)

    def explicit() -> Tensor:
        similarity = (query * head_dim**-0.5) @ key.transpose(-1, -2)
        return attend_by_similarity(similarity, value, bias, None)

    def fused() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)

    def with_gradients(attend: Callable[[], Tensor]) -> float:
        return _seconds(lambda: torch.autograd.grad(attend().sum(), (query, key, value)), device)

    try:
        return with_gradients(explicit) < with_gradients(fused)
    except torch.OutOfMemoryError:  # of the explicit weights
        return False


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """The shortest of some times of a computation, after one that is not measured."""
    times = []
    for _ in range(1 + _NUM_REPEATS):
        _wait_for(device)
        start = time.perf_counter()
        run()
        _wait_for(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
