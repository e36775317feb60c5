"""The loss of LightGlue with deep supervision, computed only at labelled points.

The loss needs the log assignment at the true matches, and the matchabilities. On a CPU, the whole assignment [N0, N1]
of every layer would take a third of a training step, so only the rows and columns of the matches are computed. On a
GPU, one matrix of similarities with fixed shape is faster. The tests compare both with a loop over the whole assignment
of `LightGlue.forward_all_layers`.

B is the number of pairs, N0 and N1 of points, M of matches (padded), D the dimension of a state, L of layers.

Source: Lindenberger, Sarlin and Pollefeys, LightGlue, ICCV 2023, sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from sfm_lightglue.models.lightglue import Assignment, LightGlue, Side
from sfm_lightglue.models.lightglue_attention import Context

_MASKED_SIMILARITY = -1e30
"""Its exponential is 0, and sums of two are finite."""


class Targets(NamedTuple):
    """Labels of a batch of pairs; points that are neither matched nor unmatchable are ignored."""

    partners: Tensor
    """[B, N0] int64: index of the matching point of image 1, -1 for none."""
    unmatchable0: Tensor
    """[B, N0] bool: points of image 0 that have no match."""
    unmatchable1: Tensor
    """[B, N1] bool: points of image 1 that have no match."""


class NetworkInputs(NamedTuple):
    """Inputs of `LightGlue.forward_all_layers` as single tensors."""

    keypoints0: Tensor
    """[B, N0, 4]: (x, y) in [-1, 1], scale in pixels, orientation in radians."""
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

    @property
    def sides(self) -> tuple[Side, Side]:
        """The points of image 0 and of image 1."""
        return (
            Side(self.keypoints0, self.descriptors0, self.mask0),
            Side(self.keypoints1, self.descriptors1, self.mask1),
        )


class PairBatch(NamedTuple):
    """Pairs of images, padded to equal numbers of points, and their labels."""

    inputs: NetworkInputs
    targets: Targets

    def to(self, device: torch.device) -> PairBatch:
        """The same batch on a device."""
        # A copy from a GPU that is not waited for could be read before it is complete.
        is_async = device.type != "cpu"
        inputs = NetworkInputs(*(tensor.to(device, non_blocking=is_async) for tensor in self.inputs))
        return PairBatch(inputs, Targets(*(tensor.to(device, non_blocking=is_async) for tensor in self.targets)))

    def split(self, num_parts: int) -> list[PairBatch]:
        """Parts with equal numbers of pairs; the number of pairs must be a multiple of `num_parts`."""
        if num_parts == 1:
            return [self]
        inputs, targets = (
            zip(*(t.chunk(num_parts) for t in part), strict=True) for part in (self.inputs, self.targets)
        )
        return [PairBatch(NetworkInputs(*one), Targets(*other)) for one, other in zip(inputs, targets, strict=True)]


class Losses(NamedTuple):
    """Losses of one step."""

    assignment: Tensor
    """Mean of `by_layer`, with gradient."""
    confidence: Tensor
    """Binary cross-entropy of the confidence heads, 0 without them; its gradient reaches only these heads."""
    by_layer: Tensor
    """[L] loss of the assignment of each layer, detached."""


class LayerChoices(NamedTuple):
    """Matches that a layer finds for some pairs, and the output of its confidence head."""

    choices: Tensor
    """[b, N0 + N1] int64: index of the match in the other image, or its number of points for no match."""
    matchability: Tensor
    """[b, N0 + N1] in [0, 1]."""
    confidence_logits: Tensor | None
    """[b, N0 + N1]; None in the last layer."""


AssignmentLoss = Callable[[Assignment, Tensor, Context, Targets], Tensor]
"""`assignment_loss`, or a compiled one."""


def training_losses(
    network: LightGlue,
    batch: PairBatch,
    confidence_share: float = 0.125,
    layer_loss: AssignmentLoss | None = None,
) -> Losses:
    """The loss of all layers, and that of the confidence heads.

    The confidence heads are trained together with the other weights. Their input is detached, so they do not affect
    the other weights. A head is one linear map of 128 inputs and follows the states within few steps, so a fraction
    of the pairs is enough. The whole assignments are computed only for these pairs.

    Args:
        network: with an assignment head in every layer.
        batch: the pairs.
        confidence_share: fraction of the pairs, the first ones, that train the confidence heads: at least one pair,
            but none if it is 0.
        layer_loss: computes the loss of a layer; None for `assignment_loss`.

    Raises:
        ValueError: if a layer of the network has no assignment head.
    """
    if not network.architecture.has_layer_assignments:
        raise ValueError("training_losses: deep supervision needs a network with an assignment in every layer")
    x, context = network.embed(*batch.inputs.sides)  # the same steps as in `forward_all_layers`
    trains_heads = network.architecture.has_confidence and confidence_share > 0
    num_trained = max(1, round(confidence_share * len(x))) if trains_heads else 0
    by_layer, predicted = [], []
    for index, layer in enumerate(network.layers):
        x = layer(x, context)
        assignment = cast(Assignment, network.assignments[index])
        by_layer.append((layer_loss or assignment_loss)(assignment, x, context, batch.targets))
        if num_trained:
            predicted.append(_choose(network, index, x[:num_trained].detach(), _first(context, num_trained)))
    losses = torch.stack(by_layer)
    valid = torch.cat([batch.inputs.mask0, batch.inputs.mask1], dim=1)[:num_trained]
    confidence = _confidence_loss(predicted, valid) if len(predicted) > 1 else losses.new_zeros(())
    return Losses(losses.mean(), confidence, losses.detach())


ConfidenceTarget = Literal["point", "pair"]
"""What a confidence head predicts. "point", as in the paper: whether the match of a point is that of the last layer.
"pair": the fraction of the last layer's matches of the pair that is found already, the same for all points that are not
pruned."""


def confidence_loss(
    network: LightGlue,
    batch: PairBatch,
    unsettled_weight: float = 1.0,
    target: ConfidenceTarget = "point",
    width_confidence: float = 0.99,
) -> Tensor:
    """The loss of the confidence heads on all pairs, for a network whose other weights are fixed.

    Args:
        network: with confidence heads.
        batch: the pairs; their labels are not used.
        unsettled_weight: weight of the points whose match still changes in a later layer. These are few, most of all
            in pairs with few matches: with weight 1, the heads predict little more than this average.
        target: what the heads predict.
        width_confidence: for target "pair": points with matchability of at most 1 minus this have target 1, because
            a matcher prunes only points with high confidence.
    """
    predicted = []
    with torch.no_grad():
        x, context = network.embed(*batch.inputs.sides)
    for index, layer in enumerate(network.layers):
        with torch.no_grad():
            x = layer(x, context)
        predicted.append(_choose(network, index, x, context))
    valid = torch.cat([batch.inputs.mask0, batch.inputs.mask1], dim=1)
    if target == "pair":
        return _found_share_loss(predicted, valid, batch.inputs.mask0.shape[1], width_confidence)
    return _confidence_loss(predicted, valid, unsettled_weight)


def assignment_loss(assignment: Assignment, x: Tensor, context: Context, targets: Targets) -> Tensor:
    """Negative log-likelihood of the assignment of one layer, half on matches, half on unmatchable points.

    All pairs have the same weight. The loss of a pair is the mean over its matches, plus half the means over the
    unmatchable points of each image, divided by 2.

    Args:
        assignment: head of the layer.
        x: states [B, N0 + N1, D].
        context: of the layers, with the masks of padding.
        targets: labels.

    Returns:
        Scalar, float32.

    Source: LightGlue, equation 10.
    """
    n0 = context.num_points0
    projected = assignment.projection(x).float() * x.shape[-1] ** -0.25
    logits = assignment.matchability(x).squeeze(-1).float()  # [B, N0 + N1]
    with torch.autocast(x.device.type, enabled=False):
        sides = projected[:, :n0], projected[:, n0:]
        log_likelihoods = matched_by_rows if x.device.type == "cpu" else matched_by_matrix
        matched = log_likelihoods(*sides, F.logsigmoid(logits), context, targets.partners)
        uncertainty = -F.logsigmoid(-logits)
        unmatched0 = _mean_per_pair(uncertainty[:, :n0], targets.unmatchable0)
        unmatched1 = _mean_per_pair(uncertainty[:, n0:], targets.unmatchable1)
        return (0.5 * matched + 0.25 * (unmatched0 + unmatched1)).mean()


def matched_by_rows(
    projected0: Tensor, projected1: Tensor, certainty: Tensor, context: Context, partners: Tensor
) -> Tensor:
    """Mean negative log-likelihood [B] of the matches of each pair, from the rows and columns of the matches only.

    Args:
        projected0: [B, N0, D].
        projected1: [B, N1, D].
        certainty: [B, N0 + N1] logarithm of the matchability.
        context: with the masks of padding.
        partners: [B, N0] of `Targets`.
    """
    n0 = projected0.shape[1]
    num_matches = max(1, int((partners >= 0).sum(1).max()))
    found = (partners >= 0).float().topk(num_matches, 1)
    mask, idx0 = found.values > 0, found.indices  # [B, M]
    idx1 = partners.gather(1, idx0).clamp(min=0)
    over1 = _cross_entropy(_rows(projected0, idx0), projected1, context.mask1, idx1)
    over0 = _cross_entropy(_rows(projected1, idx1), projected0, context.mask0, idx0)
    matchable = certainty[:, :n0].gather(1, idx0) + certainty[:, n0:].gather(1, idx1)
    return _mean_per_pair(over1 + over0 - matchable, mask)


def matched_by_matrix(
    projected0: Tensor, projected1: Tensor, certainty: Tensor, context: Context, partners: Tensor
) -> Tensor:
    """As `matched_by_rows`, from one matrix of similarities: shapes are fixed, and nothing waits for the device."""
    n0 = projected0.shape[1]
    similarity = projected0 @ projected1.transpose(1, 2)  # [B, N0, N1]
    over1, over0 = similarity, similarity
    if context.mask1 is not None:
        over1 = similarity.masked_fill(~context.mask1[:, None, :], _MASKED_SIMILARITY)
    if context.mask0 is not None:
        over0 = similarity.masked_fill(~context.mask0[:, :, None], _MASKED_SIMILARITY)
    idx1 = partners.clamp(min=0)
    totals = over1.logsumexp(2) + over0.logsumexp(1).gather(1, idx1)
    matchable = certainty[:, :n0] + certainty[:, n0:].gather(1, idx1)
    true = similarity.gather(2, idx1[..., None]).squeeze(-1)
    return _mean_per_pair(totals - 2 * true - matchable, partners >= 0)


def _cross_entropy(queries: Tensor, keys: Tensor, mask: Tensor | None, true_idx: Tensor) -> Tensor:
    """Cross-entropy [B, M] of queries [B, M, D] over the keys [B, N, D] whose mask is True."""
    similarity = queries @ keys.transpose(1, 2)  # [B, M, N]
    if mask is not None:
        similarity = similarity.masked_fill(~mask[:, None, :], torch.finfo(similarity.dtype).min)
    losses = F.cross_entropy(similarity.flatten(0, 1), true_idx.flatten(), reduction="none")
    return losses.view(true_idx.shape)


def _rows(x: Tensor, idx: Tensor) -> Tensor:
    """Rows idx [B, M] of x [B, N, D] -> [B, M, D]."""
    return x.gather(1, idx[..., None].expand(-1, -1, x.shape[-1]))


def _mean_per_pair(losses: Tensor, mask: Tensor) -> Tensor:
    """Mean [B] over the entries of a mask [B, K]; 0 for an empty mask."""
    return torch.where(mask, losses, 0.0).sum(1) / mask.sum(1).clamp(min=1)


def _first(context: Context, num_pairs: int) -> Context:
    masks = [None if mask is None else mask[:num_pairs] for mask in (context.mask0, context.mask1)]
    return Context(context.rotations[:num_pairs], context.num_points0, *masks)


def _choose(network: LightGlue, layer_idx: int, x: Tensor, context: Context) -> LayerChoices:
    """The most likely match of each point by the assignment of a layer, or no match if that is more likely."""
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


def _confidence_loss(predicted: list[LayerChoices], valid: Tensor, unsettled_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy of whether the match of a point is that of the last layer.

    Args:
        predicted: of all layers.
        valid: [b, N0 + N1] bool, False on padding.
        unsettled_weight: weight of the points whose match is not that of the last layer.

    Source: LightGlue, equation 11.
    """
    final = predicted[-1].choices
    losses = []
    for layer in predicted[:-1]:
        assert layer.confidence_logits is not None
        settled = (layer.choices == final).to(layer.confidence_logits.dtype)
        loss = F.binary_cross_entropy_with_logits(layer.confidence_logits, settled, reduction="none")
        weight = valid * (unsettled_weight + (1 - unsettled_weight) * settled)
        losses.append((loss * weight).sum() / weight.sum().clamp(min=1))
    return torch.stack(losses).mean()


def _found_share_loss(
    predicted: list[LayerChoices], valid: Tensor, num_points0: int, width_confidence: float
) -> Tensor:
    """Binary cross-entropy of the fraction of the last layer's matches that a layer has found.

    Args:
        predicted: of all layers.
        valid: [b, N0 + N1] bool, False on padding.
        num_points0: N0.
        width_confidence: points with matchability of at most 1 minus this have target 1, so that they are pruned.
    """
    final = predicted[-1].choices
    none = torch.full_like(final, num_points0)
    none[:, :num_points0] = final.shape[1] - num_points0
    matched = valid & (final != none)
    losses = []
    for layer in predicted[:-1]:
        assert layer.confidence_logits is not None
        num_found = ((layer.choices == final) & matched).sum(1)
        num_matched = matched.sum(1)
        # Without any match, everything is found.
        share = torch.where(num_matched > 0, num_found / num_matched.clamp(min=1), 1.0)
        leaves = layer.matchability <= 1 - width_confidence
        wanted = torch.where(leaves, 1.0, share[:, None])
        loss = F.binary_cross_entropy_with_logits(layer.confidence_logits, wanted, reduction="none")
        losses.append(_mean_per_pair(loss, valid).mean())
    return torch.stack(losses).mean()
