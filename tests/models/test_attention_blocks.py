"""Attention in blocks of queries, as used on CPUs with bfloat16, against a softmax in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sfm_lightglue.models.lightglue_attention import (
    Context,
    CrossAttention,
    attend_both_ways,
    attend_in_blocks,
    exponentials,
    key_bias,
)

HEADS, WIDTH = 2, 32


def states(num_points: int, size: float, seed: int) -> Tensor:
    """[2, H, N, d], not contiguous, as in the network."""
    generator = torch.Generator().manual_seed(seed)
    whole = size * torch.randn(2, num_points, 3 * HEADS, WIDTH, generator=generator)
    return whole.to(torch.bfloat16)[:, :, HEADS : 2 * HEADS].transpose(1, 2)


def softmax_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    similarity = query.double() @ key.double().transpose(-1, -2) * WIDTH**-0.5
    if mask is not None:
        similarity = similarity.masked_fill(~mask[:, None, None], -torch.inf)
    return similarity.softmax(-1) @ value.double()


# 700 points are blocks of 512 and 188. The exponentials of products of size 12 are infinite.
@pytest.mark.parametrize(("size", "overflows"), [(0.3, False), (1.0, False), (3.0, False), (12.0, True)])
@pytest.mark.parametrize("is_masked", [False, True])
def test_blocks_equal_a_softmax(size, overflows, is_masked):
    query, key, value = states(700, size, 0), states(300, size, 1), states(300, 1.0, 2)
    mask = torch.arange(300).expand(2, -1) < torch.tensor([[300], [120]]) if is_masked else None
    assert bool(exponentials(query * WIDTH**-0.5, key, None, False).isinf().any()) == overflows
    message = attend_in_blocks(query, key, value, key_bias(mask, query.dtype))
    expected = softmax_attention(query, key, value, mask)
    assert message.dtype == torch.bfloat16 and message.shape == expected.shape
    assert error(message, expected) < max(0.02, 0.02 * size**2)  # similarities, as large as size², are rounded


def error(message: Tensor, expected: Tensor) -> float:
    return float((message - expected).norm() / expected.norm())


def test_extreme_points_fall_back_to_the_softmax():
    """The exponentials of one point overflow, those of another underflow, so no common shift works for both."""
    directions = torch.zeros(2, HEADS, 3, WIDTH)
    directions[..., 0, 0], directions[..., 1, 0], directions[..., 2, 0] = 40.0, -40.0, 1.0
    odd = directions.to(torch.bfloat16)  # products with the others: up to 40 * 40 / sqrt(32) = 283
    plain = states(300, 0.1, 0).clone()
    plain[..., 0] = 40.0
    value = states(300, 1.0, 2)
    largest = (odd.double() @ plain.double().transpose(-1, -2) * WIDTH**-0.5).amax(-1)
    assert largest.amax() > 250 and largest.amin() < -250
    message = attend_in_blocks(odd, plain, value, None)
    assert error(message, softmax_attention(odd, plain, value)) < 0.3


@pytest.mark.parametrize(("size", "bound"), [(1.0, 0.02), (40.0, 0.15)])
def test_tied_cross_attention_stays_finite_and_close(size, bound):
    attention = CrossAttention(HEADS * WIDTH, HEADS, HEADS, bias=True, tied=True).to(torch.bfloat16)
    x = size * torch.randn(1, 500, HEADS * WIDTH, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    context = Context(torch.zeros(1, 500, 2, WIDTH), 200, None, None)
    with torch.no_grad():
        message = attention(x, context)
        expected = attention.float()(x.float(), context)
    assert torch.isfinite(message).all()
    assert error(message, expected) < bound


def test_swapped_images_give_swapped_messages_up_to_rounding():
    attention = CrossAttention(HEADS * WIDTH, HEADS, HEADS, bias=True, tied=True).to(torch.bfloat16)
    x = torch.randn(1, 500, HEADS * WIDTH, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    rotations = torch.zeros(1, 500, 2, WIDTH)
    with torch.no_grad():
        message = attention(x, Context(rotations, 200, None, None))
        swapped = attention(torch.cat([x[:, 200:], x[:, :200]], dim=1), Context(rotations, 300, None, None))
    assert error(torch.cat([swapped[:, 300:], swapped[:, :300]], dim=1), message.double()) < 0.01


@pytest.mark.parametrize(("size", "is_shared"), [(0.3, True), (1.0, True), (12.0, False)])
def test_both_ways_equal_two_softmaxes_or_are_refused(size, is_shared):
    query0, query1, value0, value1 = (
        states(*spec) for spec in ((700, size, 0), (300, size, 1), (700, 1.0, 2), (300, 1.0, 3))
    )
    with torch.no_grad():
        messages = attend_both_ways(query0, query1, value0, value1)
    assert (messages is not None) == is_shared
    if messages is not None:
        assert messages[1] is not None
        assert error(messages[0], softmax_attention(query0, query1, value1)) < 0.02
        assert error(messages[1], softmax_attention(query1, query0, value0)) < 0.02


@pytest.mark.parametrize("row", [0, 650])
@pytest.mark.parametrize("factor", [-1.0, 1.0])
def test_one_point_with_underflow_or_overflow_refuses_shared_blocks(row, factor):
    """In either image, in the first or the last block: the sums of both directions are checked."""
    query, value = states(700, 0.01, 0).clone(), states(700, 1.0, 1)
    query[..., 0] = 4.0
    odd = query.clone()
    odd[:, :, row] = 0.0
    odd[:, :, row, 0] = factor * 180.0  # its products with the others: 4 * 180 / sqrt(32) = 127
    with torch.no_grad():
        assert attend_both_ways(query, query, value, value) is not None
        assert attend_both_ways(odd, query, value, value) is None
        messages = attend_both_ways(query, odd, value, value)
    if factor > 0:
        assert messages is None
    else:  # only the weights of the odd point itself are too small
        assert messages is not None and messages[1] is None
        assert error(messages[0], softmax_attention(query, odd, value)) < 0.02


def test_no_points_give_no_messages():
    none, some = states(0, 1.0, 0), states(5, 1.0, 1)
    with torch.no_grad():
        messages = attend_both_ways(none, some, none, some)
        assert attend_in_blocks(none, some, some, None).shape == none.shape
    assert messages is None or messages[0].shape == none.shape


def test_float32_and_gradients_do_not_use_shared_blocks():
    query = states(50, 1.0, 0)
    with torch.no_grad():
        assert attend_both_ways(*[query.float()] * 4) is None
    assert attend_both_ways(*[query.clone().requires_grad_()] * 4) is None
