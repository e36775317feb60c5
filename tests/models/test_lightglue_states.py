"""Internals of our LightGlue: predictions of all layers, gradients, positions, attention, precision."""

from __future__ import annotations

import math

import pytest
import torch

from sfm_lightglue.models.lightglue import MASKED_LOG_SCORE, LightGlue, LightGlueThresholds
from sfm_lightglue.models.lightglue_attention import Context, SelfAttention, rotate, rotations_from_angles
from tests.helpers.steered_lightglue import (
    ALL_LAYERS,
    LAYERS,
    PAIRS,
    make_network,
    make_pair,
    match_alone,
    match_batch,
    padded_sides,
    single_sides,
)

pytestmark = pytest.mark.usefixtures("torch_seed")


def test_last_layer_of_training_equals_inference():
    network = make_network()
    pairs = [make_pair(*spec) for spec in PAIRS]
    predictions = network.forward_all_layers(*padded_sides(pairs))
    output = match_batch(network, pairs, ALL_LAYERS)
    assert len(predictions) == LAYERS
    probabilities = predictions[-1].log_assignment.exp()
    for row, column in torch.nonzero(output.matches0 >= 0).tolist():
        score = probabilities[row, column, output.matches0[row, column]]
        torch.testing.assert_close(score, output.matching_scores0[row, column], atol=1e-5, rtol=0)
    for index, pair in enumerate(pairs):
        alone = network.forward_all_layers(*single_sides(pair))
        n0, n1 = len(pair[0]), len(pair[1])
        for mine, batched in zip(alone, predictions, strict=True):
            torch.testing.assert_close(
                batched.log_assignment[index, :n0, :n1],
                mine.log_assignment[0, :n0, :n1],
                atol=1e-4,
                rtol=1e-5,
            )
            torch.testing.assert_close(
                batched.log_assignment[index, :n0, -1], mine.log_assignment[0, :n0, -1], atol=1e-4, rtol=1e-5
            )
            assert (batched.log_assignment[index, n0:-1] == MASKED_LOG_SCORE).all()
            assert (batched.log_assignment[index, :, n1:-1] == MASKED_LOG_SCORE).all()
    # A row of the double softmax times the matchability, and the dustbin: at most 1.
    assert (probabilities[0, :70].sum(-1) <= 1 + 1e-5).all()


def test_gradients_are_finite_with_padding_and_confidences_do_not_affect_states():
    network = make_network().train()
    pairs = [make_pair(*spec) for spec in ((20, 12, 2.0), (0, 9, 2.0), (15, 15, 2.0))]
    predictions = network.forward_all_layers(*padded_sides(pairs))
    confidence = sum(p.confidence_logits0.sum() + p.confidence_logits1.sum() for p in predictions[:-1])
    grads = torch.autograd.grad(
        confidence, [p for n, p in network.named_parameters() if n.startswith("layers.")], allow_unused=True
    )
    assert all(grad is None for grad in grads)
    predictions = network.forward_all_layers(*padded_sides(pairs))
    sum(prediction.log_assignment.clamp(min=-50).sum() for prediction in predictions).backward()
    for name, parameter in network.named_parameters():
        if not name.startswith("confidences."):
            assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
            assert name.endswith("bias") or float(parameter.grad.abs().max()) > 0, name


def test_scale_and_orientation_are_part_of_the_positions():
    network = make_network(use_scale_orientation=True)
    k0, k1, d0, d1 = make_pair(*PAIRS[0])
    extra0, extra1 = torch.rand(len(k0), 2) * 6, torch.rand(len(k1), 2) * 6
    pair = (torch.cat([k0, extra0], 1), torch.cat([k1, extra1], 1), d0, d1)
    turned = (torch.cat([k0, extra0 + torch.tensor([0.0, 1.0]) * extra0], 1), *pair[1:])
    one = match_alone(network, pair, ALL_LAYERS, return_hidden_states=True)
    other = match_alone(network, turned, ALL_LAYERS, return_hidden_states=True)
    assert float((one.hidden_states[-1] - other.hidden_states[-1]).abs().max()) > 1e-3
    with pytest.raises(ValueError, match="keypoints0: expected"):
        match_alone(network, (k0, k1, d0, d1), ALL_LAYERS)


def test_attention_depends_on_relative_positions_only():
    """A shift of all points of an image changes nothing: the law of rotary encoding."""
    attention = SelfAttention(32, 4, 4, bias=True)
    x, angles = torch.randn(1, 20, 32), torch.randn(1, 20, 4)
    shifted = angles + torch.randn(1, 1, 4)
    with torch.no_grad():
        results = [attention(x, Context(rotations_from_angles(a), 12, None, None)) for a in (angles, shifted)]
        unmoved = attention(x, Context(rotations_from_angles(torch.zeros_like(angles)), 12, None, None))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0)
    assert float((results[0] - unmoved).abs().max()) > 1e-3
    quarter = rotate(
        torch.tensor([[[[1.0, 0.0, 0.0, 2.0]]]]), rotations_from_angles(torch.full((1, 1, 2), math.pi / 2))
    )
    torch.testing.assert_close(quarter, torch.tensor([[[[0.0, 1.0, -2.0, 0.0]]]]))


@pytest.mark.parametrize("n", [100, 400])
@pytest.mark.parametrize("options", [{}, {"tied_cross_attention": False}, {"num_key_value_heads": 1}])
def test_fused_and_explicit_attention_are_equal(n, options):
    network = make_network(**options)
    pair = make_pair(n, n - 30, 4.0)
    fused = match_alone(network, pair, ALL_LAYERS, return_hidden_states=True)
    explicit = match_alone(network, pair, ALL_LAYERS, return_hidden_states=True, return_attentions=True)
    for one, other in zip(fused.hidden_states, explicit.hidden_states, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    for weights in explicit.attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_hidden_states_and_attentions_are_aligned_with_the_input():
    network = make_network()
    pairs = [make_pair(*spec) for spec in PAIRS]
    thresholds = LightGlueThresholds(depth_confidence=0.9)
    options = {"return_hidden_states": True, "return_attentions": True}
    batch = match_batch(network, pairs, thresholds, **options)
    assert len(batch.attentions) == 4 * (len(batch.hidden_states) - 1)
    n0 = batch.matches0.shape[1]
    for index, pair in enumerate(pairs):
        alone = match_alone(network, pair, thresholds, **options)
        m0, m1 = len(pair[0]), len(pair[1])
        for layer, states in enumerate(alone.hidden_states):
            got = batch.hidden_states[layer][index]
            torch.testing.assert_close(got[:m0], states[0, :m0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(got[n0 : n0 + m1], states[0, m0:], atol=1e-4, rtol=1e-4)
        for layer, weights in enumerate(alone.attentions):
            rows, columns = weights.shape[-2:]
            torch.testing.assert_close(
                batch.attentions[layer][index, :, :rows, :columns], weights[0], atol=1e-5, rtol=0
            )
        removed = torch.cat([alone.num_layers0, alone.num_layers1], 1)[0] < alone.stop_layer
        assert bool(removed.any()) and (alone.hidden_states[-1][0, removed] == 0).all()


def test_bfloat16_autocast_and_bfloat16_weights_stay_close():
    network = make_network()
    pair = make_pair(200, 180, 4.0)
    exact = match_alone(network, pair, ALL_LAYERS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = match_alone(network, pair, ALL_LAYERS)
    assert rough.matching_scores0.dtype == torch.float32
    halved = match_alone(make_copy(network).to(torch.bfloat16), pair, ALL_LAYERS)
    for other in (rough, halved):
        equal = (exact.matches0 == other.matches0).float().mean()
        assert float(equal) > 0.9 and not torch.equal(exact.matching_scores0, other.matching_scores0)


def make_copy(network: LightGlue) -> LightGlue:
    copy = LightGlue(network.architecture).eval()
    copy.load_state_dict(network.state_dict())
    return copy
