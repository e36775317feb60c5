"""Laws of our LightGlue's matches: batches, padding, stopping and pruning, swapped images, empty images."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sfm_lightglue.models.lightglue import (
    LightGlueArchitecture,
    LightGlueOutput,
    LightGlueThresholds,
    Side,
    normalize_keypoints,
)
from tests.helpers.steered_lightglue import (
    ADAPTIVITY,
    DIM,
    LAYERS,
    PAIRS,
    make_network,
    make_pair,
    match_alone,
    match_batch,
)

pytestmark = pytest.mark.usefixtures("torch_seed")


def assert_pair_equals(batch: LightGlueOutput, index: int, alone: LightGlueOutput) -> None:
    for name, value in alone._asdict().items():
        if value is None:
            continue
        row = getattr(batch, name)[index]
        if name == "stop_layer":
            assert int(row) == int(value)
            continue
        n = value.shape[1]
        if "scores" in name:
            torch.testing.assert_close(row[:n], value[0], atol=1e-5, rtol=0)
            assert (row[n:] == 0).all()
        else:
            assert torch.equal(row[:n], value[0]), name
            assert (row[n:] == (-1 if "matches" in name else 0)).all()


@pytest.mark.parametrize("thresholds", ADAPTIVITY)
@pytest.mark.parametrize("architecture", [{}, {"num_key_value_heads": 2}])
def test_pair_in_a_batch_equals_the_pair_alone_in_every_stop_order(thresholds, architecture):
    network = make_network(**architecture)
    pairs = [make_pair(*spec) for spec in PAIRS]
    alone = [match_alone(network, pair, thresholds) for pair in pairs]
    stops = [int(output.stop_layer) for output in alone]
    if thresholds.depth_confidence is not None:
        assert stops[0] < stops[1] < stops[2], stops
    else:
        assert stops == [LAYERS] * 3
    pruned = [int((output.num_layers0 < output.stop_layer).sum()) for output in alone]
    if thresholds.width_confidence is not None:
        assert all(0 < count < len(pair[0]) for count, pair in zip(pruned, pairs, strict=True)), pruned
        assert len(set(pruned)) > 1
    else:
        assert pruned == [0, 0, 0]
    assert all(int((output.matches0 >= 0).sum()) >= 15 for output in alone)
    for order in itertools.permutations(range(3)):
        batch = match_batch(network, [pairs[index] for index in order], thresholds)
        assert batch.stop_layer.tolist() == [stops[index] for index in order]
        for row, index in enumerate(order):
            assert_pair_equals(batch, row, alone[index])


@pytest.mark.parametrize("thresholds", ADAPTIVITY)
def test_empty_pairs_do_not_affect_their_batch(thresholds):
    network = make_network()
    sizes = ((0, 50, 2.0), PAIRS[1], (50, 0, 2.0), (0, 0, 2.0), PAIRS[0], (1, 1, 2.0), (1, 30, 2.0))
    pairs = [make_pair(*size) for size in sizes]
    batch = match_batch(network, pairs, thresholds)
    for index, pair in enumerate(pairs):
        assert_pair_equals(batch, index, match_alone(network, pair, thresholds))
    assert batch.stop_layer[[0, 2, 3]].tolist() == [0, 0, 0]
    assert (batch.matches0[[0, 2, 3]] == -1).all()
    assert int((batch.matches0[[1, 4]] >= 0).sum()) >= 30


@pytest.mark.parametrize(("batch", "n0", "n1"), [(1, 0, 9), (1, 9, 0), (1, 0, 0), (0, 9, 9), (2, 0, 0), (3, 4, 0)])
def test_no_points_no_matches(batch, n0, n1):
    output = make_network()(
        Side(torch.zeros(batch, n0, 2), torch.zeros(batch, n0, DIM)),
        Side(torch.zeros(batch, n1, 2), torch.zeros(batch, n1, DIM)),
    )
    assert output.matches0.shape == (batch, n0) and output.matches1.shape == (batch, n1)
    assert (output.matches0 == -1).all() and (output.matches1 == -1).all()
    assert output.stop_layer.tolist() == [0] * batch


def test_pair_whose_points_are_all_pruned_has_no_matches():
    network = make_network()
    pruned, kept = make_pair(30, 30, 9.0), make_pair(*PAIRS[2])
    pruned[2][:, 1], pruned[2][:, 0] = -3.0, 2.0  # no point of image 0 is matchable, with high confidence
    thresholds = LightGlueThresholds()
    batch = match_batch(network, [pruned, kept], thresholds)
    assert int(batch.stop_layer[0]) < int(batch.stop_layer[1])
    assert (batch.matches0[0] == -1).all() and (batch.matches1[0] == -1).all()
    assert (batch.num_layers0[0, :30] == batch.stop_layer[0]).all()
    assert_pair_equals(batch, 0, match_alone(network, pruned, thresholds))
    assert_pair_equals(batch, 1, match_alone(network, kept, thresholds))


@pytest.mark.parametrize("thresholds", ADAPTIVITY)
@pytest.mark.parametrize("tied", [True, False])
def test_swapped_images_give_swapped_matches(thresholds, tied):
    network = make_network(tied_cross_attention=tied)
    pairs = [make_pair(*spec) for spec in PAIRS]
    forward = match_batch(network, pairs, thresholds)
    backward = match_batch(network, [(k1, k0, d1, d0) for k0, k1, d0, d1 in pairs], thresholds)
    assert int((forward.matches0 >= 0).sum()) >= 50
    assert torch.equal(forward.matches0, backward.matches1)
    assert torch.equal(forward.matches1, backward.matches0)
    assert torch.equal(forward.stop_layer, backward.stop_layer)
    assert torch.equal(forward.num_layers0, backward.num_layers1)
    torch.testing.assert_close(forward.matching_scores0, backward.matching_scores1, atol=1e-5, rtol=0)


def test_matches_are_mutual_and_scores_are_those_of_the_matches():
    network = make_network()
    output = match_alone(network, make_pair(*PAIRS[0]), LightGlueThresholds(filter_threshold=0.3))
    rows = torch.nonzero(output.matches0[0] >= 0)[:, 0]
    columns = output.matches0[0, rows]
    assert len(rows) >= 15
    assert torch.equal(output.matches1[0, columns], rows)
    assert torch.equal(output.matching_scores0[0, rows], output.matching_scores1[0, columns])
    assert (output.matching_scores0[0, rows] > 0.3).all()
    rejected = output.matching_scores0[0][output.matches0[0] < 0]
    assert (rejected <= 0.3).all() and (rejected > 0).any()


def test_mask_may_have_holes_anywhere():
    network = make_network()
    pair = make_pair(50, 40, 3.0)
    holes0 = torch.rand(60).argsort().argsort() < 50
    holes1 = torch.rand(70).argsort().argsort() < 40
    spread = []
    for tensor, holes in zip(pair, (holes0, holes1, holes0, holes1), strict=True):
        full = torch.full((len(holes), tensor.shape[1]), math.inf)
        full[holes] = tensor
        spread.append(full[None])
    keypoints0, keypoints1, descriptors0, descriptors1 = spread
    output = network(Side(keypoints0, descriptors0, holes0[None]), Side(keypoints1, descriptors1, holes1[None]))
    alone = match_alone(network, pair, LightGlueThresholds())
    matches = alone.matches0[0]
    expected = torch.where(matches < 0, -1, torch.nonzero(holes1)[:, 0][matches.clamp(min=0)])
    assert int((matches >= 0).sum()) >= 15
    assert torch.equal(output.matches0[0, holes0], expected)
    assert (output.matches0[0, ~holes0] == -1).all()
    assert torch.equal(output.num_layers0[0, holes0], alone.num_layers0[0])


def test_adaptivity_obeys_its_thresholds():
    network = make_network()
    pair = make_pair(*PAIRS[1])
    eager = match_alone(network, pair, LightGlueThresholds(depth_confidence=0.0, width_confidence=None))
    assert int(eager.stop_layer) == 1 or float(eager.stop_layer) < LAYERS
    never = match_alone(network, pair, LightGlueThresholds(depth_confidence=1.0, width_confidence=None))
    assert int(never.stop_layer) == LAYERS  # a fraction cannot exceed 1
    unpruned = match_alone(network, pair, LightGlueThresholds(depth_confidence=None, width_confidence=1.0))
    assert (unpruned.num_layers0 == LAYERS).all()
    assert network.stop_threshold(0) == pytest.approx(0.9)
    assert network.stop_threshold(LAYERS) == pytest.approx(0.8 + 0.1 * math.exp(-4))


@torch.no_grad()
def test_stopping_and_pruning_follow_the_rules_for_each_pair_separately():
    """Recomputed from the hidden states; pruned points count as confident."""
    network = make_network()
    pairs = [make_pair(*spec) for spec in PAIRS]
    thresholds = LightGlueThresholds(depth_confidence=0.9, width_confidence=0.99)
    output = match_batch(network, pairs, thresholds, return_hidden_states=True)
    layers = torch.cat([output.num_layers0, output.num_layers1], dim=1)
    valid = layers > 0
    num_removed = num_unsure = 0
    for index in range(LAYERS - 1):
        present = layers > index
        logits = network.confidences[index](output.hidden_states[index + 1]).squeeze(-1)
        unsure = (logits.sigmoid() < network.stop_threshold(index)) & present
        confident = 1 - unsure.sum(1) / valid.sum(1)
        for pair in range(3):
            if index < int(output.stop_layer[pair]):
                assert (float(confident[pair]) > 0.9) == (int(output.stop_layer[pair]) == index + 1)
        # Confident unmatchable points are removed; points without confidence stay, even if unmatchable.
        matchable = network.assignments[index].matchable(output.hidden_states[index + 1])
        continues = present & (output.stop_layer > index + 1)[:, None]
        removed = continues & (layers == index + 1)
        assert torch.equal(removed, continues & (matchable <= 0.01) & ~unsure)
        num_removed += int(removed.sum())
        num_unsure += int((continues & (matchable <= 0.01) & unsure).sum())
    assert num_removed > 5 and num_unsure > 5


@torch.no_grad()
def test_numbers_of_points_are_multiples_and_the_most_matchable_stay():
    """Recomputed from the hidden states, without adaptive depth, so confidences are not used."""
    network = make_network()
    pairs = [make_pair(*spec) for spec in PAIRS]
    thresholds = LightGlueThresholds(depth_confidence=None, width_confidence=0.99, width_multiple=8)
    output = match_batch(network, pairs, thresholds, return_hidden_states=True)
    layers = torch.cat([output.num_layers0, output.num_layers1], dim=1)
    sides = slice(0, output.num_layers0.shape[1]), slice(output.num_layers0.shape[1], None)
    num_added = num_removed = 0
    for index in range(LAYERS - 1):
        matchable = network.assignments[index].matchable(output.hidden_states[index + 1])
        for row, side in itertools.product(range(3), sides):
            present, stays, score = layers[row, side] > index, layers[row, side] > index + 1, matchable[row, side]
            kept = present & (score > 0.01)
            assert int(stays.sum()) == min(-(-int(kept.sum()) // 8) * 8, int(present.sum()))
            assert (stays | ~kept).all()
            added, removed = stays & ~kept, present & ~stays
            if added.any() and removed.any():
                assert score[added].min() >= score[removed].max()
            num_added, num_removed = num_added + int(added.sum()), num_removed + int(removed.sum())
    assert num_added > 5 and num_removed > 5


def test_networks_without_heads_run_all_layers():
    pair = make_pair(*PAIRS[0])
    for options in ({"has_confidence": False}, {"has_confidence": False, "has_layer_assignments": False}):
        network = make_network(**options)
        output = match_alone(network, pair, LightGlueThresholds())
        assert int(output.stop_layer) == LAYERS
        assert int((output.matches0 >= 0).sum()) >= 15
        assert bool((output.num_layers0 < LAYERS).any()) == ("has_layer_assignments" not in options)


def test_inputs_do_not_change_and_inference_makes_no_graph():
    network = make_network()
    pair = make_pair(*PAIRS[0])
    before = [tensor.clone() for tensor in pair]
    output = match_alone(network, pair, LightGlueThresholds())
    assert all(torch.equal(one, other) for one, other in zip(pair, before, strict=True))
    assert not output.matching_scores0.requires_grad


def test_normalized_keypoints_are_centred_and_isotropic():
    corners = torch.tensor([[0.0, 0.0], [640.0, 480.0], [320.0, 240.0]])
    torch.testing.assert_close(
        normalize_keypoints(corners, (640, 480)), torch.tensor([[-1.0, -0.75], [1.0, 0.75], [0.0, 0.0]])
    )
    sizes = torch.tensor([[640.0, 480.0], [100.0, 200.0]])
    batch = normalize_keypoints(torch.stack([corners, corners]), sizes)
    torch.testing.assert_close(batch[0], normalize_keypoints(corners, (640, 480)))
    torch.testing.assert_close(batch[1], normalize_keypoints(corners, (100, 200)))


@pytest.mark.parametrize(
    "options",
    [
        {"descriptor_dim": 30, "num_heads": 4},
        {"num_heads": 0},
        {"num_key_value_heads": 3},
        {"num_key_value_heads": 0},
        {"num_layers": 0},
        {"descriptor_dim": 12, "num_heads": 4},
    ],
)
def test_impossible_architectures_are_refused(options):
    with pytest.raises(ValueError, match="LightGlueArchitecture"):
        LightGlueArchitecture(**options)


def test_wrong_shapes_are_refused():
    network = make_network()
    k0, k1, d0, d1 = (tensor[None] for tensor in make_pair(9, 8, 1.0))
    with pytest.raises(ValueError, match="descriptors1: expected"):
        network(Side(k0, d0), Side(k1, d1[:, :5]))
    with pytest.raises(ValueError, match="mask0: expected booleans"):
        network(Side(k0, d0, torch.ones(1, 9)), Side(k1, d1))
    with pytest.raises(ValueError, match="mask1: expected"):
        network(Side(k0, d0), Side(k1, d1, torch.ones(1, 9, dtype=torch.bool)))
    with pytest.raises(ValueError, match="filter_threshold"):
        LightGlueThresholds(filter_threshold=1.5)
    with pytest.raises(ValueError, match="width_multiple"):
        LightGlueThresholds(width_multiple=0)


@pytest.mark.parametrize("thresholds", ADAPTIVITY)
def test_encoded_images_serve_all_pairs_of_an_image(thresholds):
    network = make_network()
    (k0, k1, d0, d1), (_, k2, _, d2) = (make_pair(*spec) for spec in PAIRS[:2])
    first, second, third = (network.encode(Side(k[None], d[None])) for k, d in ((k0, d0), (k1, d1), (k2, d2)))
    assert not first.x.requires_grad
    for (keypoints, descriptors), other in (((k1, d1), second), ((k2, d2), third)):
        alone = match_alone(network, (k0, keypoints, d0, descriptors), thresholds)
        assert_pair_equals(network.match_encoded(first, other, thresholds), 0, alone)
    assert int((network.match_encoded(first, second, thresholds).matches0 >= 0).sum()) >= 15


def test_encoding_one_image_does_not_need_the_other():
    """The states of an image after `encode` are those of the first half of a layer that sees both images."""
    network = make_network()
    k0, k1, d0, d1 = (tensor[None] for tensor in make_pair(*PAIRS[0]))
    x, context = network.embed(Side(k0, d0), Side(k1, d1))
    both = network.layers[0].within(x, context)
    for side, states in ((Side(k0, d0), both[:, : k0.shape[1]]), (Side(k1, d1), both[:, k0.shape[1] :])):
        torch.testing.assert_close(network.encode(side).x, states, atol=1e-5, rtol=1e-5)
