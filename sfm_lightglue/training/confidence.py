"""The last stage of training: the confidence heads alone, on a network that stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import get_args

import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.training.losses import ConfidenceTarget, PairBatch, confidence_loss


@dataclass(frozen=True, slots=True)
class ConfidenceConfig:
    """How the confidence heads are taught."""

    num_steps: int = 200
    """Batches."""

    learning_rate: float = 0.03
    """Of Adam, at the start; it falls to 0 like half a cosine."""

    unsettled_weight: float = 5.0
    """Weight of the points whose answer will still change, beside those that keep theirs; of target "point"."""

    target: ConfidenceTarget = "point"
    """What the heads are asked: whether a point's answer is the last one, or what share of its pair's matches are
    found. The paper asks the first. But where views hardly overlap, most points are soon sure to have no match, so
    that pairs stop the earlier, the harder they are; the second question knows easy pairs from hard ones. Points that
    `width_confidence` lets go count as sure all the same, as pruned ones do: `depth_confidence` has to be larger than
    their share in pairs that are not to stop."""

    width_confidence: float = 0.99
    """What matchers will prune by: the heads are to be sure of the points that it lets go; of target "pair"."""

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.learning_rate <= 0 or self.unsettled_weight <= 0:
            raise ConfigError("train: the confidence heads need steps, a learning rate and a weight above 0")
        if not 0 <= self.width_confidence <= 1:
            raise ConfigError(f"train: width_confidence must lie in [0, 1], got {self.width_confidence}")
        if self.target not in get_args(ConfidenceTarget):
            raise ConfigError(f"train: the confidence heads' target is point or pair, not {self.target!r}")


def teach_confidence(
    network: LightGlue,
    batches: Iterable[PairBatch],
    config: ConfidenceConfig,
    bfloat16: bool = True,
    report: Callable[[int, float], None] | None = None,
) -> None:
    """Trains the confidence heads in place; all other weights stay.

    Args:
        network: with confidence heads.
        batches: at least as many as there are steps, on any device.
        config: how.
        bfloat16: matrix products in bfloat16, as the network will run.
        report: receives the number of steps and the loss after each.

    Source: section 3.3 of the paper, where this is the second stage.
    """
    device = next(network.parameters()).device
    heads = network.confidences.requires_grad_(True)
    optimizer = torch.optim.Adam(heads.parameters(), lr=config.learning_rate)
    network.eval()
    for step, batch in enumerate(islice(batches, config.num_steps)):
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * config.learning_rate * (1 + math.cos(math.pi * step / config.num_steps))
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss = confidence_loss(
                network, batch.to(device), config.unsettled_weight, config.target, config.width_confidence
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if report is not None:
            report(step + 1, float(loss.detach()))
