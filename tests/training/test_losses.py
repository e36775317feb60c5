"""The loss compared with a loop, by rows and by one matrix; the losses of the confidence heads."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.training import losses as losses_module
from sfm_lightglue.training.confidence import ConfidenceConfig, train_confidence
from sfm_lightglue.training.losses import (
    PairBatch,
    assignment_loss,
    confidence_loss,
    matched_by_matrix,
    matched_by_rows,
    training_losses,
)
from tests.helpers.training_scenes import batch_of, make_batch, make_scene, tiny_network


@pytest.mark.parametrize("by", [matched_by_rows, matched_by_matrix])
def test_a_pair_without_points_gives_finite_gradients(by, monkeypatch):
    monkeypatch.setattr(losses_module, "matched_by_rows", by)
    empty = make_scene(0, 0)
    network = tiny_network()
    losses = training_losses(network, batch_of([empty, make_scene(1)], 48))
    (losses.assignment + losses.confidence).backward()
    assert math.isfinite(losses.assignment.item())
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


def slow_loss(network: LightGlue, batch: PairBatch) -> list[float]:
    """Equation 10 of the paper, point by point, over the whole assignment of each layer."""
    losses = []
    for prediction in network.forward_all_layers(*batch.inputs.sides):
        total = 0.0
        for b, assignment in enumerate(prediction.log_assignment.double()):
            matches = [(i, j) for i, j in enumerate(batch.targets.partners[b].tolist()) if j >= 0]
            positive = [-assignment[i, j].item() for i, j in matches]
            alone0 = [-assignment[i, -1].item() for i in batch.targets.unmatchable0[b].nonzero().flatten().tolist()]
            alone1 = [-assignment[-1, j].item() for j in batch.targets.unmatchable1[b].nonzero().flatten().tolist()]
            total += 0.5 * np.mean(positive) + 0.25 * (np.mean(alone0) + np.mean(alone1))
        losses.append(total / len(batch.inputs.mask0))
    return losses


@pytest.mark.parametrize("by", [matched_by_rows, matched_by_matrix])
def test_the_loss_is_that_of_the_paper(by, monkeypatch):
    """By the rows of the matches, as on a CPU, and by the whole matrix, as on a GPU."""
    monkeypatch.setattr(losses_module, "matched_by_rows", by)
    network, batch = tiny_network(num_layers=3), make_batch()
    with torch.no_grad():
        losses = training_losses(network, batch)
        assert losses.by_layer.tolist() == pytest.approx(slow_loss(network, batch), rel=1e-5)
    assert losses.assignment.item() == pytest.approx(losses.by_layer.mean().item())


def test_rows_and_matrix_have_the_same_gradients(monkeypatch):
    gradients = []
    for by in (matched_by_rows, matched_by_matrix):
        monkeypatch.setattr(losses_module, "matched_by_rows", by)
        network = tiny_network()
        training_losses(network, make_batch(), 0.0).assignment.backward()
        gradients.append([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_without_share_the_confidence_heads_are_not_trained():
    assert training_losses(tiny_network(), make_batch(), 0.0).confidence.item() == 0.0


def test_a_batch_is_divided_into_equal_parts():
    batch = make_batch(4)
    parts = batch.split(2)
    assert [len(part.inputs.mask0) for part in parts] == [2, 2]
    for whole, *divided in zip((*batch.inputs, *batch.targets), *((*p.inputs, *p.targets) for p in parts), strict=True):
        assert torch.equal(torch.cat(divided), whole)


def test_the_confidence_target_is_whether_a_match_is_that_of_the_last_layer():
    network, batch = tiny_network(num_layers=3), make_batch()
    with torch.no_grad():
        for assignment in network.assignments:  # so that some matches differ between layers
            assignment.projection.weight.mul_(20)
            assignment.matchability.bias.fill_(6.0)
        predictions = network.forward_all_layers(*batch.inputs.sides)
        answers = [
            torch.cat([p.log_assignment[:, :-1].argmax(2), p.log_assignment[:, :, :-1].argmax(1)], 1)
            for p in predictions
        ]
        valid = torch.cat([batch.inputs.mask0, batch.inputs.mask1], 1)
        wanted = []
        for prediction, answer in zip(predictions[:-1], answers[:-1], strict=True):
            settled = (answer == answers[-1])[valid]
            assert 0 < settled.sum() < len(settled)
            sure = torch.sigmoid(torch.cat([prediction.confidence_logits0, prediction.confidence_logits1], 1))[valid]
            wanted.append(-torch.where(settled, sure, 1 - sure).log().mean().item())
        found = training_losses(network, batch, confidence_share=1.0).confidence.item()
    assert found == pytest.approx(np.mean(wanted), rel=1e-5)


def test_the_confidence_loss_has_gradients_for_the_heads_only():
    network = tiny_network(num_layers=3)
    training_losses(network, make_batch()).confidence.backward()
    with_gradient = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert with_gradient == {f"confidences.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")}


def test_the_last_stage_changes_the_heads_only_and_weighs_unsettled_points():
    network = tiny_network(num_layers=3)
    with torch.no_grad():
        for assignment in network.assignments:  # so that some matches differ between layers
            assignment.projection.weight.mul_(20)
            assignment.matchability.bias.fill_(6.0)
    before = copy.deepcopy(network.state_dict())
    batches = [make_batch(seed=10 * k) for k in range(40)]
    losses: list[float] = []
    train_confidence(network, batches, ConfidenceConfig(40, 0.1), False, lambda _, loss: losses.append(loss))
    assert len(losses) == 40 and np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"confidences.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")}
    assert confidence_loss(network, batches[0], 1.0).item() == pytest.approx(
        training_losses(network, batches[0], confidence_share=1.0).confidence.item()
    )

    def mean_confidence(unsettled_weight: float) -> float:
        train_confidence(network, batches, ConfidenceConfig(40, 0.1, unsettled_weight), False)
        prediction = network.forward_all_layers(*batches[0].inputs.sides)[0]
        return torch.sigmoid(prediction.confidence_logits0).mean().item()

    assert mean_confidence(20.0) < mean_confidence(0.1) - 0.2


MATCHABLE = 1 / (1 + math.exp(-3.0))


def differing_layers() -> tuple[LightGlue, PairBatch]:
    """A network with some matches that differ between layers, and a batch."""
    network = tiny_network(num_layers=3)
    with torch.no_grad():
        for assignment in network.assignments:
            assignment.projection.weight.mul_(20)
            assignment.matchability.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
            assignment.matchability.bias.fill_(3.0)  # the logit of MATCHABLE
    return network, make_batch()


def shares_found(network: LightGlue, batch: PairBatch) -> list[list[float]]:
    """Fraction of the matches of the last layer that each other layer has found, by layer and pair."""
    predictions = network.forward_all_layers(*batch.inputs.sides)
    answers = [
        torch.cat([p.log_assignment[:, :-1].argmax(2), p.log_assignment[:, :, :-1].argmax(1)], 1) for p in predictions
    ]
    valid = torch.cat([batch.inputs.mask0, batch.inputs.mask1], 1)
    n0, n1 = (size - 1 for size in predictions[0].log_assignment.shape[1:])
    none = torch.cat([torch.full((n0,), n1), torch.full((n1,), n0)])
    shares = []
    for answer in answers[:-1]:
        shares.append([])
        for b in range(len(answer)):
            matched = valid[b] & (answers[-1][b] != none)
            same = (answer[b] == answers[-1][b])[matched].double()
            shares[-1].append(float(same.mean()) if len(same) else 1.0)
    return shares


def test_the_target_of_a_pair_is_the_fraction_of_its_matches_that_is_found():
    network, batch = differing_layers()
    with torch.no_grad():
        shares = shares_found(network, batch)
        assert len({round(share, 6) for layer in shares for share in layer}) > 2
        valid = torch.cat([batch.inputs.mask0, batch.inputs.mask1], 1)
        x, context = network.embed(*batch.inputs.sides)
        wanted, num_leaving = [], 0
        for layer, prediction in enumerate(network.forward_all_layers(*batch.inputs.sides)[:-1]):
            x = network.layers[layer](x, context)
            logits = torch.cat([prediction.confidence_logits0, prediction.confidence_logits1], 1).double()
            leaves = torch.sigmoid(network.assignments[layer].matchability(x).squeeze(-1)) < MATCHABLE
            for b, share in enumerate(shares[layer]):
                target = torch.where(leaves[b], 1.0, share)
                sure = torch.sigmoid(logits[b])
                losses = -(target * sure.log() + (1 - target) * (1 - sure).log())[valid[b]]
                wanted.append(losses.mean().item())
                num_leaving += int((leaves[b] & valid[b]).sum())
        found = confidence_loss(network, batch, target="pair", width_confidence=1 - MATCHABLE).item()
    assert 0.1 < num_leaving / (2 * int(valid.sum())) < 0.9
    assert found == pytest.approx(np.mean(wanted), rel=1e-5)


def test_heads_with_target_pair_predict_the_fraction_that_is_found():
    network, batch = differing_layers()
    train_confidence(network, [batch] * 120, ConfidenceConfig(120, 0.1, target="pair", width_confidence=1.0), False)
    with torch.no_grad():
        shares = np.array(shares_found(network, batch))
        predictions = network.forward_all_layers(*batch.inputs.sides)[:-1]
        valid = torch.cat([batch.inputs.mask0, batch.inputs.mask1], 1)
        predicted_shares = [
            [
                torch.sigmoid(torch.cat([p.confidence_logits0, p.confidence_logits1], 1)[b])[valid[b]].mean().item()
                for b in range(len(valid))
            ]
            for p in predictions
        ]
    assert np.corrcoef(np.ravel(predicted_shares), np.ravel(shares))[0, 1] > 0.8


def test_an_unknown_target_of_the_confidence_heads_is_refused():
    with pytest.raises(ConfigError, match="point or pair"):
        ConfidenceConfig(target="image")  # type: ignore[arg-type]


def test_ignored_points_have_no_gradient():
    """States of ignored points get no gradient from the matchability of the last head."""
    batch = make_batch(1, 70)
    network = tiny_network(num_layers=1)
    x, context = network.embed(*batch.inputs.sides)
    states = network.layers[0](x, context).detach().requires_grad_()
    head = network.assignments[0]
    torch.nn.init.zeros_(head.projection.weight)  # then only the matchability depends on the states
    assignment_loss(head, states, context, batch.targets).backward()
    labelled = torch.cat([batch.targets.unmatchable0, batch.targets.unmatchable1], 1)[0]
    partners = batch.targets.partners[0]
    idx0, idx1 = torch.nonzero(partners >= 0).flatten(), partners[partners >= 0]
    labelled[idx0] = labelled[idx1 + context.num_points0] = True
    has_gradient = states.grad[0].abs().sum(1) > 0
    assert torch.equal(has_gradient, labelled)
    assert 0 < labelled.sum() < torch.cat([batch.inputs.mask0, batch.inputs.mask1], 1).sum()


def test_deep_supervision_needs_all_heads():
    network = LightGlue(LightGlueArchitecture(128, 128, 2, 2, use_scale_orientation=True, has_layer_assignments=False))
    with pytest.raises(ValueError, match="every layer"):
        training_losses(network, make_batch())
