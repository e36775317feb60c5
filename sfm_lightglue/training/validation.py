"""Validation during training: on held-out pairs, against nearest neighbours, and on data of the caller."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.training.data.batches import BatchSampler
from sfm_lightglue.training.data.pair_pool import ShardSource, wait_for
from sfm_lightglue.training.data.stored_pairs import StoredPairs, pair_block
from sfm_lightglue.training.losses import PairBatch
from sfm_lightglue.training.metrics import Counts, mean_losses, nearest_counts, network_counts
from sfm_lightglue.training.options import RunOptions, TrainingConfig

Validation = Callable[[LightGlue], dict[str, float]]
"""Metrics of a network by name, on data of the caller; the first one, higher is better, selects the best checkpoint."""


class Validator:
    """Metrics of a network on the held-out pairs, and those of the caller's validation.

    Args:
        source: of the shards.
        config: what is trained; how batches are made.
        options: `num_held_out_shards` and `num_held_out_pairs` are used.
        device: on which the metrics are computed.
        validation: more metrics; None for those of the held-out pairs only.
        check: called while the held-out shards are waited for; may raise.

    Raises:
        DataError: if a held-out shard is missing and no worker is making it.
    """

    def __init__(
        self,
        source: ShardSource,
        config: TrainingConfig,
        options: RunOptions,
        device: torch.device,
        validation: Validation | None,
        check: Callable[[], object] | None = None,
    ) -> None:
        self._batches: list[PairBatch] = []
        self._nearest = Counts()
        self._validation = validation
        if options.num_held_out_shards > 0 and options.num_held_out_pairs > 0:
            self._batches = held_out_batches(source, config, options, device, check)
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


def held_out_batches(
    source: ShardSource,
    config: TrainingConfig,
    options: RunOptions,
    device: torch.device,
    check: Callable[[], object] | None = None,
) -> list[PairBatch]:
    """Batches of held-out pairs, evenly spread over the held-out scenes; the same in every call.

    Their views are neither mirrored, rotated nor cropped.

    Raises:
        DataError: if a held-out shard is missing and no worker is making it.
    """
    idxs = sorted(options.held_out_shards)
    wait_for(source, idxs, check)
    max_keypoints = max(options.pool.max_keypoints, config.batches.num_keypoints)
    stored = StoredPairs.of([pair_block(source.read_arrays(idx), max_keypoints) for idx in idxs], device)
    sampler = BatchSampler(stored, config.batches.unchanged, config.features.has_scale_orientation)
    num_pairs, size = len(stored.views), config.batches.batch_size
    rows = np.unique(np.linspace(0, num_pairs - 1, min(options.num_held_out_pairs, num_pairs)).round().astype(np.int64))
    starts = range(0, len(rows), size)
    return [
        sampler.batch(torch.from_numpy(rows[start : start + size]).to(device), start, exchange=False)
        for start in starts
    ]
