"""The loss of the paper for labels of each point, over the whole assignment of every layer.

`training.losses` computes the same loss only at labelled points, which is faster; this follows the equations.

Source: Lindenberger, Sarlin and Pollefeys, LightGlue, ICCV 2023, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sfm_lightglue.models.lightglue import LayerPrediction

UNMATCHED = -1
IGNORED = -100


def labels_as_tensor(labels: Any, mask: Tensor) -> Tensor:
    """Check and pad labels.

    Args:
        labels: [B, 2, N], or for each pair two sequences of at most N values: the index of the matching point in
            the other image, -1 for no match, -100 for unknown.
        mask: [B, 2, N] bool, True on points.

    Returns:
        [B, 2, N] int64; a match that is labelled in one image is labelled in both; -100 on padding.

    Raises:
        ValueError: on other shapes, on indices outside of the points, and on labels of both images that contradict
            each other.
    """
    batch, _, n = mask.shape
    full = torch.full((batch, 2, n), IGNORED, dtype=torch.int64, device=mask.device)
    if len(labels) != batch or any(len(pair) != 2 for pair in labels):
        raise ValueError(f"labels: expected [{batch}, 2, {n}], or two sequences for each of {batch} pairs")
    for row, pair in enumerate(labels):
        for side, values in enumerate(pair):
            if len(values) > n:
                raise ValueError(f"labels: expected at most {n} for image {side} of pair {row}, got {len(values)}")
            full[row, side, : len(values)] = torch.as_tensor(values, dtype=torch.int64, device=mask.device)
    full = full.masked_fill(~mask, IGNORED)
    counts = mask.sum(2).flip(1)[:, :, None]  # [B, 2, 1] points of the other image
    if bool(((full >= counts) | ((full < UNMATCHED) & (full != IGNORED))).any()):
        raise ValueError(f"labels: must be indices of points of the other image, {UNMATCHED} or {IGNORED}")
    return torch.stack([_completed(full, 0), _completed(full, 1)], dim=1)


def matching_loss(predictions: Sequence[LayerPrediction], labels: Tensor, mask: Tensor) -> Tensor:
    """Mean over the layers of the loss of the assignment, plus the loss of the confidence heads.

    Args:
        predictions: of all layers.
        labels: [B, 2, N] of `labels_as_tensor`.
        mask: [B, 2, N] bool, True on points.

    Returns:
        Scalar, float32.
    """
    layers = torch.stack([assignment_loss(each.log_assignment, labels) for each in predictions])
    return layers.mean() + confidence_loss(predictions, mask)


def assignment_loss(log_assignment: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of the assignment of one layer, half on matches, half on unmatched points.

    Args:
        log_assignment: [B, N + 1, N + 1], the last row and column for no match.
        labels: [B, 2, N].

    Returns:
        Scalar, the mean over the pairs.

    Source: equation 10.
    """
    labels0, labels1 = labels.unbind(1)
    at_labels = log_assignment[:, :-1].gather(2, labels0.clamp(min=0)[..., None]).squeeze(-1)  # [B, N]
    matched = _mean_per_pair(-at_labels, labels0 >= 0)
    unmatched0 = _mean_per_pair(-log_assignment[:, :-1, -1], labels0 == UNMATCHED)
    unmatched1 = _mean_per_pair(-log_assignment[:, -1, :-1], labels1 == UNMATCHED)
    return (0.5 * matched + 0.25 * (unmatched0 + unmatched1)).mean()


def confidence_loss(predictions: Sequence[LayerPrediction], mask: Tensor) -> Tensor:
    """Binary cross-entropy of whether matches are those of the last layer; 0 without confidence heads.

    Args:
        predictions: of all layers.
        mask: [B, 2, N] bool, True on points.

    Source: equation 11.
    """
    final = _choices(predictions[-1].log_assignment)
    losses = []
    for each in predictions[:-1]:
        if each.confidence_logits0 is None or each.confidence_logits1 is None:
            continue
        logits = torch.stack([each.confidence_logits0, each.confidence_logits1], dim=1).float()
        settled = (_choices(each.log_assignment) == final).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, settled, reduction="none")
        losses.append((loss * mask).sum() / mask.sum().clamp(min=1))
    return torch.stack(losses).mean() if losses else predictions[-1].log_assignment.new_zeros(())


def _choices(log_assignment: Tensor) -> Tensor:
    """The most likely match of each point, N for no match: [B, 2, N]."""
    with torch.no_grad():
        return torch.stack([log_assignment[:, :-1].argmax(2), log_assignment[:, :, :-1].argmax(1)], dim=1)


def _mean_per_pair(losses: Tensor, mask: Tensor) -> Tensor:
    """Mean [B] over the entries of a mask [B, K]; 0 for an empty mask."""
    return (losses * mask).sum(1) / mask.sum(1).clamp(min=1)


def _completed(labels: Tensor, side: int) -> Tensor:
    """Labels [B, N] of one image, completed with matches that only the other image has.

    Raises:
        ValueError: if labels contradict each other.
    """
    mine, other = labels[:, side].clone(), labels[:, 1 - side]
    for row, idx in (other >= 0).nonzero().tolist():
        target = int(other[row, idx])
        if int(mine[row, target]) not in (IGNORED, idx):
            raise ValueError(
                f"labels: in pair {row}, point {idx} of image {1 - side} matches point {target} of image {side}, whose"
                f" label is {int(mine[row, target])}"
            )
        mine[row, target] = idx
    return mine
