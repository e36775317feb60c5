"""Choices that depend on the device, made by measuring: the type of matrix products, and the kind of attention."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sfm_lightglue.models.lightglue_attention import attend_by_similarity, key_bias

_NUM_REPEATS = 3

_ATTENTIONS_PER_LAYER = 4
"""Self-attention and cross-attention of both images."""

_BYTES_PER_WEIGHT = 6
"""The weights in float32, of the softmax, and in bfloat16, of the product with the values."""

_MEMORY_SHARE = 0.3


def faster_in_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are faster; processors without such instructions emulate them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))

    def seconds(dtype: torch.dtype) -> float:
        a, b = (torch.ones(size, 256, dtype=dtype, device=device) for size in (768, 256))
        return _seconds(lambda: a @ b, device)

    return seconds(torch.bfloat16) < seconds(torch.float32)


def faster_with_explicit_attention(
    device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int, int], num_layers: int
) -> bool:
    """Whether matmul, softmax, matmul with their gradients are faster than the fused kernel, with padding masks.

    They are measured as a training step runs them. Explicit attention is also refused if the weights of all layers,
    which are kept for the gradients, would fill much of the memory.

    Args:
        device: on which to measure.
        dtype: of queries, keys and values; bfloat16 stands for automatic mixed precision.
        shape: (pairs, heads, keys, width of a head); there are as many queries as keys.
        num_layers: of the network.
    """
    batch_size, num_heads, num_keys, head_dim = shape
    kept_bytes = _ATTENTIONS_PER_LAYER * num_layers * batch_size * num_heads * num_keys**2 * _BYTES_PER_WEIGHT
    if device.type == "cuda" and kept_bytes > _MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]:
        return False
    query, key, value = (torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
    bias = key_bias(torch.ones(batch_size, num_keys, dtype=torch.bool, device=device), dtype)

    def explicit() -> Tensor:
        similarity = (query * head_dim**-0.5) @ key.transpose(-1, -2)
        return attend_by_similarity(similarity, value, bias, None)

    def fused() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)

    def with_gradients(attend: Callable[[], Tensor]) -> float:
        def run() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                message = attend()
            torch.autograd.grad(message.sum(), (query, key, value))

        return _seconds(run, device)

    return with_gradients(explicit) < with_gradients(fused)


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
