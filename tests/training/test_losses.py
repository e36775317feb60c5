"""Labels in batches, the loss compared with a loop, and the order of the data loader."""

from __future__ import annotations

import copy
import math

import cv2
import numpy as np
import pytest
import torch

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.lightglue import upright_positions
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.training.confidence import ConfidenceConfig, train_confidence
from sfm_lightglue.training.data.batches import BatchConfig, collate, sample_pair
from sfm_lightglue.training.data.data_loader import LoaderConfig, LoaderState, PairLoader, assemble
from sfm_lightglue.training.data.labelled_scenes import PairLabels, TrainingView, quantised
from sfm_lightglue.training.data.labels import UNMATCHABLE
from sfm_lightglue.training.losses import PairBatch, assignment_loss, confidence_loss, training_losses
from sfm_lightglue.types import Features
from tests.helpers.training_scenes import TINY, Shards, make_batch, make_scene, tiny_network


@pytest.mark.parametrize("best_share", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_labels_are_those_of_the_sampled_keypoints(best_share, seed):
    scene = make_scene(seed)
    labels, views = scene.pairs[0], scene.views
    config = BatchConfig(num_keypoints=35, best_share=best_share, turned_share=0.0, mirrored_share=0.0)
    sample = sample_pair(*views, labels, config, np.random.default_rng(seed))
    rows = []  # view and index of each sampled keypoint
    for drawn in (sample.view0, sample.view1):
        found = [
            np.flatnonzero((np.abs(drawn.descriptors[:, None] - view.root_sift[None]).max(2) < 1e-6).any(0))
            for view in views
        ]
        side = int(len(found[1]) > len(found[0]))
        idx = np.abs(drawn.descriptors[:, None] - views[side].root_sift[None]).max(2).argmin(1)
        assert len(idx) == 35
        rows.append((side, idx))
    (side0, idx0), (side1, idx1) = rows
    assert {side0, side1} == {0, 1}
    columns = (idx0, idx1) if side0 == 0 else (idx1, idx0)
    order = slice(None) if side0 == 0 else slice(None, None, -1)
    drawn_matches = sample.matches[:, order]
    pairs = {(int(columns[0][i]), int(columns[1][j])) for i, j in drawn_matches}
    wanted = {(int(i), int(j)) for i, j in labels.matches if i in columns[0] and j in columns[1]}
    assert pairs == wanted and len(pairs) == len(drawn_matches) > 5
    for (side, idx), drawn in zip(rows, (sample.view0, sample.view1), strict=True):
        state = (labels.state0, labels.state1)[side]
        assert np.array_equal(drawn.unmatchable, state[idx] == UNMATCHABLE)


def test_random_sampling_keeps_the_fraction_of_matches():
    scene = make_scene(3, num_points=400)
    config = BatchConfig(num_keypoints=100, best_share=0.0)
    rng = np.random.default_rng(0)
    shares = [len(sample_pair(*scene.views, scene.pairs[0], config, rng).matches) / 100 for _ in range(10)]
    assert 0.5 < np.mean(shares) <= 0.65  # of 0.6; independent sampling would leave 0.15


@pytest.mark.parametrize("mirrored_share", [0.0, 1.0])
def test_rotated_views_equal_those_of_a_rotated_image(mirrored_share):
    """Positions equal those that the matcher computes for an image with this orientation, mirrored first."""
    scene = make_scene(0)
    config = BatchConfig(num_keypoints=100, turned_share=1.0, mirrored_share=mirrored_share)
    sample = sample_pair(*scene.views, scene.pairs[0], config, np.random.default_rng(1))
    wanted = []
    for view in scene.views:
        keypoints, orientations = view.keypoints.copy(), view.orientations
        if mirrored_share:
            keypoints[:, 0] = view.image_size[0] - keypoints[:, 0]
            orientations = np.float32(np.pi) - orientations
        parts = (keypoints, view.scores, view.root_sift, view.image_size, view.scales, orientations)
        wanted += [upright_positions(Features(*parts, turns), True) for turns in range(1, 4)]
    for drawn in (sample.view0, sample.view1):
        assert sum(np.array_equal(drawn.positions, one) for one in wanted) == 1


def test_mirrored_views_equal_those_of_a_mirrored_image(tmp_path):
    """Keypoints and descriptors equal those of SIFT in the mirrored image."""
    pixels = np.clip(cv2.GaussianBlur(np.random.default_rng(0).normal(128, 400, (240, 320)), (0, 0), 2.5), 0, 255)
    pixels = np.asarray(pixels, np.uint8)
    extractor = SiftExtractor(SiftConfig(max_keypoints=500))
    found = []
    for name, image in (("straight", pixels), ("mirrored", pixels[:, ::-1])):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
        found.append(extractor.extract(Image.read(tmp_path / f"{name}.png")))
    straight, mirrored = found
    view = TrainingView(
        straight.keypoints,
        straight.scales,
        straight.orientations,
        straight.scores,
        quantised(straight.descriptors),
        straight.image_size,
    )
    states = np.full(len(view), UNMATCHABLE, np.int8)
    labels = PairLabels(0, 0, np.zeros((0, 2), np.int32), states, states, 1.0)
    config = BatchConfig(num_keypoints=500, turned_share=0.0, mirrored_share=1.0)
    drawn = sample_pair(view, view, labels, config, np.random.default_rng(0)).view0
    wanted = upright_positions(mirrored, with_scale_orientation=True)
    # Rounding changes a few keypoints; those with the same position, scale and angle are compared.
    differences = np.abs(drawn.positions[:, None] - wanted[None]) / (0.01, 0.01, 0.5, 0.05)
    partner = differences.max(2).argmin(1)
    same = differences.max(2).min(1) < 1
    assert same.mean() > 0.8 and len(view) > 100
    cosines = (drawn.descriptors[same] * mirrored.descriptors[partner[same]]).sum(1)
    assert np.median(cosines) > 0.999
    straight_cosines = (view.root_sift[same] * mirrored.descriptors[partner[same]]).sum(1)
    assert np.median(straight_cosines) < 0.95


def test_padding_has_no_labels():
    samples = [
        sample_pair(*scene.views, scene.pairs[0], BatchConfig(), np.random.default_rng(0))
        for scene in (make_scene(0, 20), make_scene(1, 40))
    ]
    batch = collate(samples, 50)
    assert batch.inputs.mask0.sum(1).tolist() == [20, 40]
    assert batch.targets.match_mask.sum(1).tolist() == [12, 24]
    assert not (batch.targets.unmatchable0 & ~batch.inputs.mask0).any()
    assert not (batch.targets.unmatchable1 & ~batch.inputs.mask1).any()


def test_a_pair_without_points_gives_finite_gradients():
    empty = make_scene(0, 0)
    scenes = [empty, make_scene(1)]
    batch = assemble([(scene, scene.pairs[0]) for scene in scenes], BatchConfig(2, 48), (0,))
    network = tiny_network()
    losses = training_losses(network, batch)
    (losses.assignment + losses.confidence).backward()
    assert math.isfinite(losses.assignment.item())
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


def slow_loss(network: LightGlue, batch: PairBatch) -> list[float]:
    """Equation 10 of the paper, point by point, over the whole assignment of each layer."""
    losses = []
    for prediction in network.forward_all_layers(*batch.inputs.sides):
        total = 0.0
        for b, assignment in enumerate(prediction.log_assignment.double()):
            matches = batch.targets.matches[b][batch.targets.match_mask[b]].tolist()
            positive = [-assignment[i, j].item() for i, j in matches]
            alone0 = [-assignment[i, -1].item() for i in batch.targets.unmatchable0[b].nonzero().flatten().tolist()]
            alone1 = [-assignment[-1, j].item() for j in batch.targets.unmatchable1[b].nonzero().flatten().tolist()]
            total += 0.5 * np.mean(positive) + 0.25 * (np.mean(alone0) + np.mean(alone1))
        losses.append(total / len(batch.inputs.mask0))
    return losses


def test_the_loss_is_that_of_the_paper():
    network, batch = tiny_network(num_layers=3), make_batch()
    with torch.no_grad():
        losses = training_losses(network, batch)
        assert losses.by_layer.tolist() == pytest.approx(slow_loss(network, batch), rel=1e-5)
    assert losses.assignment.item() == pytest.approx(losses.by_layer.mean().item())


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
    assert len(losses) == 40 and np.mean(losses[-5:]) < 0.9 * losses[0]
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
    idx0, idx1 = batch.targets.matches[0][batch.targets.match_mask[0]].T
    labelled[idx0] = labelled[idx1 + context.num_points0] = True
    has_gradient = states.grad[0].abs().sum(1) > 0
    assert torch.equal(has_gradient, labelled)
    assert 0 < labelled.sum() < torch.cat([batch.inputs.mask0, batch.inputs.mask1], 1).sum()


def test_deep_supervision_needs_all_heads():
    network = LightGlue(LightGlueArchitecture(128, 128, 2, 2, use_scale_orientation=True, has_layer_assignments=False))
    with pytest.raises(ValueError, match="every layer"):
        training_losses(network, make_batch())


def first_batches(loader: PairLoader, num_batches: int) -> tuple[list[PairBatch], LoaderState]:
    batches, state = [], LoaderState()
    iterator = iter(loader)
    for _ in range(num_batches):
        batch, state = next(iterator)
        batches.append(batch)
    iterator.close()
    return batches, state


def test_the_data_loader_continues_from_its_state(shards):
    options = (shards, TINY.batches, 0, TINY.loader)
    straight, _ = first_batches(PairLoader(*options), 20)
    before, state = first_batches(PairLoader(*options), 9)
    after, _ = first_batches(PairLoader(*options, LoaderState(**state.as_dict())), 11)
    for one, other in zip(straight, [*before, *after], strict=True):
        assert torch.equal(one.inputs.descriptors0, other.inputs.descriptors0)
        assert torch.equal(one.targets.matches, other.targets.matches)
    assert not torch.equal(straight[0].inputs.keypoints0, straight[8].inputs.keypoints0)


def test_held_out_shards_are_not_used_and_new_shards_come_next():
    source = Shards(6, 4)
    source.num_ready = 2
    loader = PairLoader(source, TINY.batches, 0, LoaderConfig(shards_at_once=1), excluded=frozenset({0}))
    iterator = iter(loader)
    visits = []
    for _ in range(40):
        _, state = next(iterator)
        visits.append(tuple(state.shard_idxs))
        source.num_ready = 6 if len(visits) > 8 else 2
    iterator.close()
    assert set(visits[:8]) == {(1,)}
    assert {(idx,) for idx in range(1, 6)} == set(visits)
    assert all(visits.count((idx,)) >= 4 for idx in range(2, 6))


def test_no_shards_and_no_worker_is_an_error():
    source = Shards(1)
    with pytest.raises(DataError, match="no worker"):
        next(iter(PairLoader(source, TINY.batches, 0, excluded=frozenset({0}))))
