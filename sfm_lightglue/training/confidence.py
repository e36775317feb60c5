"""The last stage of training: only the confidence heads are trained, all other weights are fixed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import get_args

import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.training.losses import ConfidenceTarget, PairBatch, confidence_loss


@dataclass(frozen=True, slots=True)
class ConfidenceConfig:
    """Options of the training of the confidence heads."""

    num_steps: int = 200
    """Number of batches, if the stage has no plan of time."""

    learning_rate: float = 0.03
    """Of Adam at the start; it falls to 0 on a half cosine."""

    unsettled_weight: float = 5.0
    """Weight of points whose match still changes in a later layer; other points have weight 1. For target "point"."""

    target: ConfidenceTarget = "point"
    """What the heads predict. "point", as in the paper: whether the match of a point is that of the last layer.
    "pair": the fraction of the last layer's matches of the pair that is found already. If two images overlap little,
    most points are early found to have no match. With target "point", such hard pairs then stop first; with "pair",
    easy pairs stop first. Points that `width_confidence` prunes have target 1: `depth_confidence` must be larger
    than their fraction in pairs that should not stop."""

    width_confidence: float = 0.99
    """Value with which matchers will prune: points that it prunes have target 1. For target "pair"."""

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.learning_rate <= 0 or self.unsettled_weight <= 0:
            raise ConfigError(
                "train: num_steps, learning_rate and unsettled_weight of the confidence heads must be positive"
            )
        if not 0 <= self.width_confidence <= 1:
            raise ConfigError(f"train: width_confidence must lie in [0, 1], got {self.width_confidence}")
        if self.target not in get_args(ConfidenceTarget):
            raise ConfigError(f"train: the target of the confidence heads must be point or pair, got {self.target!r}")


def train_confidence(
    network: LightGlue,
    batches: Iterable[PairBatch],
    config: ConfidenceConfig,
    bfloat16: bool = True,
    report: Callable[[int, float], None] | None = None,
    share_done: Callable[[int], float] | None = None,
) -> None:
    """Train the confidence heads in place; all other weights stay fixed.

    Args:
        network: a LightGlue with confidence heads.
        batches: as many as there are steps, on any device.
        config: options.
        bfloat16: compute matrix products in bfloat16.
        report: called after each step with the number of steps and the loss.
        share_done: fraction of the stage that is done after a number of steps, such as that of its time; the stage ends
            at 1. None ends it after `config.num_steps`.

    Source: LightGlue, section 3.3 (second stage of training).
    """
    device = next(network.parameters()).device
    heads = network.confidences.requires_grad_(True)
    optimizer = torch.optim.Adam(heads.parameters(), lr=config.learning_rate)
    network.eval()
    share_done = share_done or (lambda step: step / config.num_steps)
    for step, batch in enumerate(batches):
        if (done := share_done(step)) >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * config.learning_rate * (1 + math.cos(math.pi * done))
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss = confidence_loss(
                network, batch.to(device), config.unsettled_weight, config.target, config.width_confidence
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if report is not None:
            report(step + 1, float(loss.detach()))
