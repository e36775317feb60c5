"""The layers for inference in bfloat16, and attention in bfloat16, against the network in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.models.lightglue_attention import Context, attend, key_bias, rotations_from_angles
from sfm_lightglue.models.lightglue_inference import for_inference_in_bfloat16
from tests.helpers.steered_lightglue import (
    ALL_LAYERS,
    DIM,
    PAIRS,
    make_network,
    make_pair,
    match_alone,
    match_batch,
    single_sides,
)

pytestmark = pytest.mark.usefixtures("torch_seed")

ARCHITECTURES = (
    {},
    {"tied_cross_attention": False},
    {"num_key_value_heads": 2},
    {"attention_bias": False, "hidden_act": "relu"},
    {"use_scale_orientation": True},
)


def with_large_weights(network: LightGlue) -> LightGlue:
    """Weights as different from zero as trained ones: all parts of a layer change its result."""
    with torch.no_grad():
        for layer in network.layers:
            for name, each in layer.named_parameters():
                each.normal_(1.0 if name.endswith("norm.weight") else 0.0, 0.3 if each.ndim == 1 else 0.15)
    return network


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("options", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("is_masked", [False, True])
def test_layers_equal_those_of_the_network_but_for_rounding(options, is_masked):
    network = with_large_weights(make_network(**options))
    quick, exact = for_inference_in_bfloat16(network), copy.deepcopy(network).double()
    x, angles = torch.randn(2, 110, DIM), 3 * torch.randn(2, 110, network.architecture.head_dim // 2)
    masks = [torch.arange(n) < torch.tensor([[n], [n // 2]]) for n in (60, 50)] if is_masked else [None, None]
    valid = torch.cat(masks, dim=1) if is_masked else torch.ones(2, 110, dtype=torch.bool)
    contexts = [Context(rotations_from_angles(each), 60, *masks) for each in (angles, angles.double())]
    with torch.no_grad():
        for part in ("within", "across", "forward"):
            found = getattr(quick.layers[1], part)(x, contexts[0])
            expected = getattr(exact.layers[1], part)(x.double(), contexts[1])
            assert found.dtype == torch.float32
            update, exact_update = (found - x)[valid], (expected - x)[valid]
            assert float(exact_update.norm() / x[valid].norm()) > 0.2  # a layer without effect would prove nothing
            assert relative_error(update, exact_update) < 0.03, part


def test_matches_and_encoding_are_close_to_float32_also_in_batches():
    network = make_network()
    quick = for_inference_in_bfloat16(network)
    pairs = [make_pair(*each) for each in PAIRS]
    exact = [match_alone(network, pair, ALL_LAYERS) for pair in pairs]
    alone = [match_alone(quick, pair, ALL_LAYERS) for pair in pairs]
    batch = match_batch(quick, pairs, ALL_LAYERS)
    for row, (expected, found, pair) in enumerate(zip(exact, alone, pairs, strict=True)):
        assert found.matching_scores0.dtype == torch.float32
        assert int((expected.matches0 >= 0).sum()) > 20
        assert float((expected.matches0 == found.matches0).float().mean()) > 0.9
        assert float((batch.matches0[row, : len(pair[0])] == found.matches0[0]).float().mean()) > 0.9
    side, _ = single_sides(pairs[0])
    assert relative_error(quick.encode(side).x, network.encode(side).x.double()) < 0.01


def test_the_network_itself_stays_as_it_is():
    network = make_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    quick = for_inference_in_bfloat16(network)
    assert quick.assignments is network.assignments and quick.layers is not network.layers
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("option", ["return_attentions", "return_messages"])
def test_what_the_layers_do_not_have_is_refused(option):
    quick, pair = for_inference_in_bfloat16(make_network()), make_pair(*PAIRS[0])
    with pytest.raises(ValueError, match="neither weights of attention nor messages"):
        match_alone(quick, pair, ALL_LAYERS, **{option: True})


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("size", [0.3, 3.0, 12.0])
def test_attention_in_bfloat16_equals_a_softmax(size, is_masked):
    """Also for products whose exponentials are infinite (size 12)."""
    query, key, value = (
        (each * torch.randn(2, n, 6, 32)).bfloat16()[:, :, :2].transpose(1, 2)
        for each, n in ((size, 700), (size, 300), (1.0, 300))
    )
    mask = torch.arange(300).expand(2, -1) < torch.tensor([[300], [120]]) if is_masked else None
    with torch.no_grad():
        message = attend(query, key, value, key_bias(mask, query.dtype), None)
    similarity = query.double() @ key.double().transpose(-1, -2) / math.sqrt(32)
    if mask is not None:
        similarity = similarity.masked_fill(~mask[:, None, None], -torch.inf)
    expected = similarity.softmax(-1) @ value.double()
    assert message.dtype == torch.bfloat16 and message.shape == expected.shape
    assert relative_error(message, expected) < 0.02
