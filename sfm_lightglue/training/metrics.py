"""Means of losses over the steps of a run, and recall and precision on labelled matches."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.arrays import Float32Array, IndexArray
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.models.lightglue import LightGlue, LightGlueThresholds
from sfm_lightglue.training.losses import PairBatch, training_losses
from sfm_lightglue.types import Features

_ALL_LAYERS = LightGlueThresholds(depth_confidence=None, width_confidence=None)


@dataclass(slots=True)
class Counts:
    """Numbers of matches over some pairs."""

    true: int = 0
    """Labelled matches."""
    found: int = 0
    """Found matches that can be classified: at least one of the two points has a label."""
    correct: int = 0
    """Found matches that are labelled matches."""

    @property
    def recall(self) -> float:
        """Fraction of the labelled matches that were found; 0 if there is none."""
        return self.correct / max(self.true, 1)

    @property
    def precision(self) -> float:
        """Fraction of the found matches that are labelled matches; 0 if there is none."""
        return self.correct / max(self.found, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision."""
        return 2 * self.correct / max(self.true + self.found, 1)

    def add(self, matches: IndexArray, batch: PairBatch, row: int) -> None:
        """Count the found matches [K, 2] of pair `row` of a batch."""
        targets = batch.targets
        partners, unmatchable0, unmatchable1 = (labels[row].cpu().numpy() for labels in targets)
        known0, known1 = unmatchable0 | (partners >= 0), unmatchable1.copy()
        known1[partners[partners >= 0]] = True
        self.true += int((partners >= 0).sum())
        self.found += int((known0[matches[:, 0]] | known1[matches[:, 1]]).sum())
        self.correct += int((partners[matches[:, 0]] == matches[:, 1]).sum())


class Meter:
    """Means of losses over the steps since the last row; the device is not synchronised in between."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []
        self.restart()

    def restart(self) -> None:
        """Start the clock again, without the time since the last row."""
        self._start = time.perf_counter()

    def add(self, losses: Tensor, norm: Tensor) -> None:
        """Add the losses [3] and the norm of the gradient of a step."""
        self._losses.append(losses)
        self._norms.append(norm)

    def take(self, waiting_s: float = 0.0) -> dict[str, float]:
        """The means since the last call, with the pairs per second and the fraction of the time spent waiting.

        Args:
            waiting_s: seconds since the last call in which the run waited for training scenes.

        Raises:
            FloatingPointError: if the loss or the norm of the gradient is not finite.
        """
        last, mean, confidence = cast(list[float], torch.stack(self._losses).mean(0).tolist())
        norm = float(torch.stack(self._norms).mean())
        seconds = time.perf_counter() - self._start
        row = {"loss": mean, "last": last, "confidence": confidence, "norm": norm}
        row["pairs_per_s"] = len(self._losses) * self._batch_size / max(seconds, 1e-9)
        row["waiting"] = min(1.0, waiting_s / max(seconds, 1e-9))
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise FloatingPointError(f"the loss is {mean} and the norm of the gradient {norm}: lower the learning rate")
        self._losses.clear()
        self._norms.clear()
        self.restart()
        return row


def network_counts(network: LightGlue, batches: Sequence[PairBatch], device: torch.device) -> Counts:
    """Counts for the matches of a network that uses all its layers."""
    counts = Counts()
    for batch in batches:
        output = network(*batch.to(device).inputs.sides, thresholds=_ALL_LAYERS)
        for row, matches0 in enumerate(output.matches0.cpu().numpy()):
            idx0 = np.flatnonzero(matches0 >= 0)
            counts.add(np.stack([idx0, matches0[idx0]], axis=1), batch, row)
    return counts


def nearest_counts(batches: Sequence[PairBatch]) -> Counts:
    """Counts for mutual nearest neighbours with ratio test on the same pairs."""
    counts, matcher = Counts(), NearestMatcher()
    for batch in batches:
        inputs = batch.inputs
        for row in range(len(inputs.mask0)):
            sides = (
                _features(inputs.descriptors0[row][inputs.mask0[row]].cpu().numpy()),
                _features(inputs.descriptors1[row][inputs.mask1[row]].cpu().numpy()),
            )
            own = [np.flatnonzero(mask[row].cpu().numpy()) for mask in (inputs.mask0, inputs.mask1)]
            found = matcher.match(*sides).indices
            counts.add(np.stack([own[side][found[:, side]] for side in (0, 1)], axis=1), batch, row)
    return counts


@torch.no_grad()
def mean_losses(network: LightGlue, batches: Sequence[PairBatch], device: torch.device) -> tuple[float, float]:
    """Mean over batches of the loss of the assignment: of all layers, and of the last one."""
    losses = [training_losses(network, batch.to(device)) for batch in batches]
    means = torch.stack([loss.by_layer for loss in losses]).mean(0)
    return float(means.mean()), float(means[-1])


def _features(descriptors: Float32Array) -> Features:
    n = len(descriptors)
    return Features(np.zeros((n, 2), np.float32), np.zeros(n, np.float32), descriptors, (1, 1))
