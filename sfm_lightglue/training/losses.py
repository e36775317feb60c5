"""The loss of LightGlue with deep supervision, computed only where there are labels.

The paper's loss needs the log assignment at the true matches, and matchabilities. A layer's whole assignment
[N0, N1] costs a third of a training step; here its rows and columns are computed at the matches alone. The
tests compare this with a loop over the whole assignment of `LightGlue.forward_all_layers`.

B is the number of pairs, N0 and N1 of points, M of matches (padded), D the width of a state, L of layers.

Source: Lindenberger, Sarlin and Pollefeys, LightGlue, ICCV 2023, sections 3.2 and 3.3.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from sfm_lightglue.models.lightglue import Assignment, LightGlue
from sfm_lightglue.models.lightglue_attention import Context


class Targets(NamedTuple):
    """What is known of a batch of pairs; points that are neither matched nor unmatchable are ignored."""

    matches: Tensor
    """[B, M, 2] int64: true matches, padded by zeros."""
    match_mask: Tensor
    """[B, M] bool, False on padding."""
    unmatchable0: Tensor
    """[B, N0] bool: points that surely have no match."""
    unmatchable1: Tensor
    """[B, N1] bool."""


class NetworkInputs(NamedTuple):
    """What `LightGlue.forward` takes, in its order."""

    keypoints0: Tensor
    """[B, N0, 4] (x, y) in [-1, 1], scale in pixels, orientation in radians."""
    keypoints1: Tensor
    """[B, N1, 4]."""
    descriptors0: Tensor
    """[B, N0, 128]."""
    descriptors1: Tensor
    """[B, N1, 128]."""
    mask0: Tensor
    """[B, N0] bool, False on padding."""
    mask1: Tensor
    """[B, N1] bool."""


class PairBatch(NamedTuple):
    """Pairs of images, padded to equal sizes, and their labels."""

    inputs: NetworkInputs
    targets: Targets

    def to(self, device: torch.device) -> PairBatch:
        """The same batch on a device."""
        inputs = NetworkInputs(*(tensor.to(device, non_blocking=True) for tensor in self.inputs))
        return PairBatch(inputs, Targets(*(tensor.to(device, non_blocking=True) for tensor in self.targets)))


class Losses(NamedTuple):
    """What a step minimises, and what it reports."""

    assignment: Tensor
    """Mean of `by_layer`, with gradients."""
    confidence: Tensor
    """Binary cross-entropy of the confidence heads; 0 without such heads. No gradient reaches other weights."""
    by_layer: Tensor
    """[L] the assignment's loss of each layer, detached."""


class LayerChoices(NamedTuple):
    """What a layer would answer for some pairs, and how sure its confidence head is."""

    choices: Tensor
    """[b, N0 + N1] int64: index into the other image, or its number of points for "none"."""
    matchability: Tensor
    """[b, N0 + N1] in [0, 1]."""
    confidence_logits: Tensor | None
    """[b, N0 + N1]; None in the last layer."""


def training_losses(network: LightGlue, batch: PairBatch, confidence_share: float = 0.125) -> Losses:
    """The loss of all layers, and of the confidence heads.

    The confidence heads learn along with everything else rather than afterwards: they see detached states, so
    nothing is spoilt, and one linear map of 128 inputs follows the states within few steps. For the same
    reason a share of the pairs is enough for them, which saves whole assignments for the other pairs.

    Args:
        network: with an assignment head in every layer.
        batch: the pairs.
        confidence_share: of the batch's pairs, the first ones, that teach the confidence heads; at least one.

    Raises:
        ValueError: where the network has not an assignment in every layer.
    """
    if not network.architecture.has_layer_assignments:
        raise ValueError("training_losses: deep supervision needs a network with an assignment in every layer")
    x, context = network._embed(*batch.inputs)  # the steps of `forward_all_layers`, with another end
    num_taught = max(1, round(confidence_share * len(x))) if network.architecture.has_confidence else 0
    by_layer, taught = [], []
    for index, layer in enumerate(network.layers):
        x = layer(x, context)
        assignment = cast(Assignment, network.assignments[index])
        by_layer.append(assignment_loss(assignment, x, context, batch.targets))
        if num_taught:
            taught.append(_choose(network, index, x[:num_taught].detach(), _first(context, num_taught)))
    losses = torch.stack(by_layer)
    valid = torch.cat([batch.inputs.mask0, batch.inputs.mask1], dim=1)[:num_taught]
    confidence = _confidence_loss(taught, valid) if len(taught) > 1 else losses.new_zeros(())
    return Losses(losses.mean(), confidence, losses.detach())


ConfidenceTarget = Literal["point", "pair"]
"""What a confidence head is asked: whether a point's answer is the last layer's already, as in the paper, or what
share of the matches of the point's pair are found already, which is the same for all points of a pair but those that
may leave."""


def confidence_loss(
    network: LightGlue,
    batch: PairBatch,
    unsettled_weight: float = 1.0,
    target: ConfidenceTarget = "point",
    width_confidence: float = 0.99,
) -> Tensor:
    """The loss of the confidence heads of all pairs, for a network that learns nothing else any more.

    Args:
        network: with confidence heads.
        batch: the pairs; their labels play no role.
        unsettled_weight: of the points whose answer will still change. Few do, most of all where few match at
            all; with weight 1 the heads learn little more than that.
        target: what the heads are asked.
        width_confidence: the heads are to be sure of points less matchable than 1 minus this, since none but sure
            points leave; of target "pair".
    """
    taught = []
    with torch.no_grad():
        x, context = network._embed(*batch.inputs)
    for index, layer in enumerate(network.layers):
        with torch.no_grad():
            x = layer(x, context)
        taught.append(_choose(network, index, x, context))
    valid = torch.cat([batch.inputs.mask0, batch.inputs.mask1], dim=1)
    if target == "pair":
        return _found_share_loss(taught, valid, batch.inputs.mask0.shape[1], width_confidence)
    return _confidence_loss(taught, valid, unsettled_weight)


def assignment_loss(assignment: Assignment, x: Tensor, context: Context, targets: Targets) -> Tensor:
    """Negative log-likelihood of one layer's assignment, half on matches, half on unmatchable points.

    Every pair counts the same; within a pair the mean over its matches, and half the means over the
    unmatchable points of either image, are added (equation 10 of the paper for one layer).

    Args:
        assignment: the layer's head.
        x: states [B, N0 + N1, D].
        context: padding.
        targets: labels.

    Returns:
        Scalar, float32.
    """
    n0 = context.num_points0
    projected = assignment.projection(x).float() * x.shape[-1] ** -0.25
    logits = assignment.matchability(x).squeeze(-1).float()  # [B, N0 + N1]
    idx0, idx1 = targets.matches.unbind(-1)  # [B, M] each
    with torch.autocast(x.device.type, enabled=False):
        projected0, projected1 = projected[:, :n0], projected[:, n0:]
        over1 = _cross_entropy(_rows(projected0, idx0), projected1, context.mask1, idx1)
        over0 = _cross_entropy(_rows(projected1, idx1), projected0, context.mask0, idx0)
        certainty = F.logsigmoid(logits)
        matchable = certainty[:, :n0].gather(1, idx0) + certainty[:, n0:].gather(1, idx1)
        matched = _mean_per_pair(over1 + over0 - matchable, targets.match_mask)
        uncertainty = -F.logsigmoid(-logits)
        unmatched0 = _mean_per_pair(uncertainty[:, :n0], targets.unmatchable0)
        unmatched1 = _mean_per_pair(uncertainty[:, n0:], targets.unmatchable1)
        return (0.5 * matched + 0.25 * (unmatched0 + unmatched1)).mean()


def _cross_entropy(queries: Tensor, keys: Tensor, mask: Tensor | None, true_idx: Tensor) -> Tensor:
    """[B, M] cross-entropy of queries [B, M, D] over keys [B, N, D], of which those with a mask count."""
    similarity = queries @ keys.transpose(1, 2)  # [B, M, N]
    if mask is not None:
        similarity = similarity.masked_fill(~mask[:, None, :], torch.finfo(similarity.dtype).min)
    losses = F.cross_entropy(similarity.flatten(0, 1), true_idx.flatten(), reduction="none")
    return losses.view(true_idx.shape)


def _rows(x: Tensor, idx: Tensor) -> Tensor:
    """Rows idx [B, M] of x [B, N, D] -> [B, M, D]."""
    return x.gather(1, idx[..., None].expand(-1, -1, x.shape[-1]))


def _mean_per_pair(losses: Tensor, mask: Tensor) -> Tensor:
    """Mean over the entries of a mask [B, K], 0 where there is none -> [B]."""
    return (losses * mask).sum(1) / mask.sum(1).clamp(min=1)


def _first(context: Context, num_pairs: int) -> Context:
    masks = [None if mask is None else mask[:num_pairs] for mask in (context.mask0, context.mask1)]
    return Context(context.rotations[:num_pairs], context.num_points0, *masks)


def _choose(network: LightGlue, layer_idx: int, x: Tensor, context: Context) -> LayerChoices:
    """The best partner of each point by a layer's assignment, or none where that is likelier."""
    n0 = context.num_points0
    with torch.no_grad():
        scores, logits = cast(tuple[Tensor, Tensor], network.assignments[layer_idx](x, context))
        if context.mask0 is not None:
            scores = scores.masked_fill(~context.mask0[:, :, None], -torch.inf)
        if context.mask1 is not None:
            scores = scores.masked_fill(~context.mask1[:, None, :], -torch.inf)
        none = F.logsigmoid(-logits)
        best0, best1 = scores.max(2), scores.max(1)
        choices0 = best0.indices.masked_fill(best0.values < none[:, :n0], scores.shape[2])
        choices1 = best1.indices.masked_fill(best1.values < none[:, n0:], n0)
        choices = torch.cat([choices0, choices1], dim=1)
    matchability = torch.sigmoid(logits.detach().float())
    if layer_idx >= len(network.confidences):
        return LayerChoices(choices, matchability, None)
    return LayerChoices(choices, matchability, network.confidences[layer_idx](x).squeeze(-1).float())


def _confidence_loss(taught: list[LayerChoices], valid: Tensor, unsettled_weight: float = 1.0) -> Tensor:
    """Whether a layer's answer is the last layer's already, by binary cross-entropy (equation 11).

    Args:
        taught: of all layers.
        valid: [b, N0 + N1] bool, False on padding.
        unsettled_weight: of the points where it is not.
    """
    final = taught[-1].choices
    losses = []
    for layer in taught[:-1]:
        assert layer.confidence_logits is not None
        settled = (layer.choices == final).to(layer.confidence_logits.dtype)
        loss = F.binary_cross_entropy_with_logits(layer.confidence_logits, settled, reduction="none")
        weight = valid * (unsettled_weight + (1 - unsettled_weight) * settled)
        losses.append((loss * weight).sum() / weight.sum().clamp(min=1))
    return torch.stack(losses).mean()


def _found_share_loss(taught: list[LayerChoices], valid: Tensor, num_points0: int, width_confidence: float) -> Tensor:
    """What share of the last layer's matches a layer has already, by binary cross-entropy.

    Args:
        taught: of all layers.
        valid: [b, N0 + N1] bool, False on padding.
        num_points0: N0.
        width_confidence: points less matchable than 1 minus this are to leave, for which heads must be sure of them.
    """
    final = taught[-1].choices
    none = torch.full_like(final, num_points0)
    none[:, :num_points0] = final.shape[1] - num_points0
    matched = valid & (final != none)
    losses = []
    for layer in taught[:-1]:
        assert layer.confidence_logits is not None
        num_found = ((layer.choices == final) & matched).sum(1)
        num_matched = matched.sum(1)
        # Where nothing matches there is nothing left to find.
        share = torch.where(num_matched > 0, num_found / num_matched.clamp(min=1), 1.0)
        leaves = layer.matchability <= 1 - width_confidence
        wanted = torch.where(leaves, 1.0, share[:, None])
        loss = F.binary_cross_entropy_with_logits(layer.confidence_logits, wanted, reduction="none")
        losses.append(_mean_per_pair(loss, valid).mean())
    return torch.stack(losses).mean()
