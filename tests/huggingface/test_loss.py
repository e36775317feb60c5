"""The loss of the model: equal to that of the trainer, gradients for LightGlue only, labels checked."""

from __future__ import annotations

import pytest
import torch

from sfm_lightglue.huggingface.loss import labels_as_tensor, matching_loss
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.training.losses import NetworkInputs, PairBatch, Targets, training_losses
from tests.helpers.matching_references import make_both, make_inputs

pytestmark = pytest.mark.usefixtures("torch_seed")

B, N = 3, 24


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_both(tmp_path_factory.mktemp("reference"))[1]


def make_batch() -> tuple[PairBatch, torch.Tensor, torch.Tensor]:
    """Random pairs with padding, their labels [B, 2, N] and mask."""
    mask = torch.ones(B, 2, N, dtype=torch.bool)
    mask[0, 1, 20:] = False
    mask[2, 0, 15:] = False
    labels = torch.full((B, 2, N), -100)
    partners = torch.full((B, N), -1)
    for row, count in enumerate((6, 4, 0)):  # the last pair has no match
        idx0, idx1 = torch.randperm(15)[:count], torch.randperm(20)[:count]
        labels[row, 0, idx0], labels[row, 1, idx1] = idx1, idx0
        partners[row, idx0] = idx1
    labels[(labels == -100) & (torch.rand(B, 2, N) < 0.4) & mask] = -1
    unmatchable = labels == -1
    inputs = NetworkInputs(
        torch.rand(B, N, 2), torch.rand(B, N, 2), torch.randn(B, N, 8), torch.randn(B, N, 8), mask[:, 0], mask[:, 1]
    )
    return PairBatch(inputs, Targets(partners, unmatchable[:, 0], unmatchable[:, 1])), labels, mask


@pytest.mark.parametrize("has_confidence", [True, False])
def test_the_loss_is_that_of_the_trainer(has_confidence):
    network = LightGlue(LightGlueArchitecture(8, 16, 3, 2, has_confidence=has_confidence))
    batch, labels, mask = make_batch()
    expected = training_losses(network, batch, confidence_share=1.0)
    loss = matching_loss(network.forward_all_layers(*batch.inputs.sides), labels_as_tensor(labels, mask), mask)
    torch.testing.assert_close(loss, expected.assignment + expected.confidence)
    parameters = list(network.parameters())
    mine = torch.autograd.grad(loss, parameters)
    theirs = torch.autograd.grad(expected.assignment + expected.confidence, parameters)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def find_matches(model, inputs):
    """Labels for the points of a call with pairs whose second image is the first one, shifted."""
    with torch.no_grad():
        output = model(inputs)
    pixels = output.keypoints * torch.tensor([inputs.shape[4], inputs.shape[3]])
    moved = (pixels[:, 0] + torch.tensor([16, 8]))[:, :, None] - pixels[:, 1][:, None]
    near = (moved.norm(dim=-1) < 1.5) & output.mask0.bool()[:, :, None] & output.mask1.bool()[:, None]
    labels = torch.full_like(output.matches, -1)
    for row, idx0, idx1 in near.nonzero().tolist():
        if labels[row, 0, idx0] == labels[row, 1, idx1] == -1:
            labels[row, 0, idx0], labels[row, 1, idx1] = idx1, idx0
    return output, labels


def test_training_with_labels_lowers_the_loss(model):
    """After a few steps the loss is lower; the detector is unchanged, and labels do not change the matches."""
    inputs = make_inputs(2)
    before, labels = find_matches(model, inputs)
    assert int((labels[:, 0] >= 0).sum()) > 40
    output = model(inputs, labels=labels)
    assert next(iter(output)) == "loss" and output.loss.shape == () and torch.equal(output.matches, before.matches)
    assert model(inputs, labels=labels, return_dict=False)[0] == output.loss
    state = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(6):
        loss = model(inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    changed = {key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, state[key])}
    model.load_state_dict(state)
    assert losses[-1] < 0.8 * losses[0] and changed == {"lightglue"}
    assert all(parameter.grad is None for parameter in model.keypoint_detector.parameters())


def test_lists_of_labels_are_padded_and_completed():
    mask = torch.ones(2, 2, 4, dtype=torch.bool)
    mask[0, 1, 3] = False
    labels = labels_as_tensor([[[2, -1], [-1, -100, -100]], [[], [0, -1]]], mask)
    assert labels.tolist() == [
        [[2, -1, -100, -100], [-1, -100, 0, -100]],
        [[-100 if index else 0 for index in range(4)], [0, -1, -100, -100]],
    ]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(3, 2, 4), "expected"),
        ([[[0]], [[0]]], "expected"),
        ([[[0] * 5, []], [[], []]], "at most 4 for image 0 of pair 0, got 5"),
        ([[[7], []], [[], []]], "must be indices"),
        ([[[3], []], [[], []]], "must be indices"),  # image 1 of pair 0 has three points
        ([[[-2], []], [[], []]], "must be indices"),
        ([[[1], [-1, 2]], [[], []]], "pair 0"),
        ([[[1, 1], []], [[], []]], "pair 0"),
        ([[[1], [-1, -1]], [[], []]], "pair 0, point 0 of image 0 matches point 1 of image 1"),
    ],
)
def test_impossible_labels_are_refused(labels, message):
    mask = torch.ones(2, 2, 4, dtype=torch.bool)
    mask[0, 1, 3] = False
    with pytest.raises(ValueError, match=message):
        labels_as_tensor(labels, mask)
