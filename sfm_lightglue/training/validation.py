"""Validation during training: on held-out pairs, against nearest neighbours, and on data of the caller."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.training.data.batches import BatchConfig
from sfm_lightglue.training.data.data_loader import ShardSource, held_out_batches, wait_for
from sfm_lightglue.training.losses import PairBatch
from sfm_lightglue.training.metrics import Counts, mean_losses, nearest_counts, network_counts
from sfm_lightglue.training.options import RunOptions

Validation = Callable[[LightGlue], dict[str, float]]
"""Metrics of a network by name, on data of the caller; the first one, higher is better, selects the best checkpoint."""


class Validator:
    """Metrics of a network on the held-out pairs, and those of the caller's validation.

    Args:
        source: of the shards.
        batches: how batches are made of pairs.
        options: `held_out_shard` and `num_held_out_pairs` are used.
        validation: more metrics; None for those of the held-out pairs only.

    Raises:
        DataError: if the held-out shard is missing and no worker is making it.
    """

    def __init__(
        self, source: ShardSource, batches: BatchConfig, options: RunOptions, validation: Validation | None
    ) -> None:
        self._batches: list[PairBatch] = []
        self._nearest = Counts()
        self._validation = validation
        if options.held_out_shard is not None:
            wait_for(source, options.held_out_shard)
            scenes = source.read(options.held_out_shard)
            self._batches = held_out_batches(scenes, batches, options.num_held_out_pairs)
            self._nearest = nearest_counts(self._batches)

    def __call__(self, network: LightGlue, device: torch.device) -> tuple[dict[str, float], float]:
        """Metrics by name, and the score that selects the best checkpoint."""
        metrics: dict[str, float] = {}
        score = 0.0
        if len(self._batches) > 0:
            counts = network_counts(network, self._batches, device)
            all_layers, last = mean_losses(network, self._batches, device)
            metrics = {"held_out_loss": all_layers, "held_out_last": last}
            metrics |= {"recall": counts.recall, "precision": counts.precision}
            metrics |= {"nearest_recall": self._nearest.recall, "nearest_precision": self._nearest.precision}
            score = counts.f1
        if self._validation is not None:
            found = self._validation(network)
            metrics |= found
            score = next(iter(found.values()), score)
        return metrics, score
