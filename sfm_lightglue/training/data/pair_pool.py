"""Pairs of many shards on the device of the training, from which every batch is drawn.

Pairs that were used less are drawn more often. New shards join as soon as they are on the disk. When the memory is
full, the most used shard is exchanged for the least used one whenever its number of pairs has been drawn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.errors import DataError
from sfm_lightglue.training.data.batches import BatchConfig, BatchSampler
from sfm_lightglue.training.data.shards import ShardArrays
from sfm_lightglue.training.data.stored_pairs import BlockRows, PairBlock, StoredPairs, pair_block
from sfm_lightglue.training.losses import PairBatch

_POLL_S = 0.5
_FIRST_SHARDS = 16
"""Number of existing shards that are read before the first batch."""

_PAIRS_PER_VIEW = 3
_VIEWS_ON_CPU, _MOST_VIEWS = 2_000, 100_000
_GPU_MEMORY_SHARE = 0.4


class ShardSource(Protocol):
    """Source of shards, such as `ShardProducer`, which makes them in the background."""

    def available(self) -> Sequence[int]:
        """Indices of the shards that can be read now; empty if none is ready yet.

        Raises:
            StoreError: if shards cannot be written.
            DataError: if making shards failed otherwise.
        """

    def read_arrays(self, shard_idx: int) -> ShardArrays:
        """Read one of the available shards."""

    @property
    def is_working(self) -> bool:
        """Whether more shards may become available."""


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """How much is kept on the device; it may differ between sessions of a run."""

    max_views: int = 0
    """Number of views; 0 takes 40 % of the free memory of a GPU, or 2,000 views (240 MB) on a CPU."""

    max_keypoints: int = 768
    """Largest number of keypoints of a stored view."""


class PairPool:
    """An endless sequence of batches from the pairs of a source.

    Args:
        source: of the shards.
        batches: how batches are made of pairs.
        has_scale_orientation: whether the network takes scales and orientations.
        seed: of the choice of pairs and the sampling of keypoints.
        config: what is kept.
        device: of the batches.
        state: of `state`, to continue a run; None for a new run.
        excluded: indices of shards that are not used, such as held-out ones.
        check: called while the pool waits for its first shard; may raise.
    """

    def __init__(
        self,
        source: ShardSource,
        batches: BatchConfig,
        has_scale_orientation: bool,
        seed: int,
        config: PoolConfig,
        device: torch.device,
        state: Mapping[str, Any] | None = None,
        excluded: frozenset[int] = frozenset(),
        check: Callable[[], object] | None = None,
    ) -> None:
        self._check = check
        self._source, self._batches, self._has_scale_orientation = source, batches, has_scale_orientation
        self._seed, self._config, self._device, self._excluded = seed, config, device, excluded
        self._reader = ThreadPoolExecutor(1)
        self._reading: tuple[int, Future[PairBlock]] | None = None
        self._residents: dict[int, BlockRows] = {}
        self._largest = (0, 0)
        self._num_uses: dict[int, Tensor] = {}
        """How often each pair of a shard was drawn, for shards that are not on the device."""
        self._first: list[int] = []
        self._rows = torch.zeros(0, dtype=torch.int64)
        self._num_draws_since_exchange = 0
        self._next_look_s = 0.0
        self._available: list[int] = []
        self._waiting_s = 0.0
        if state is not None:
            self._num_uses = {int(idx): uses.clone() for idx, uses in state["num_uses"].items()}
            self._first, self._num_draws_since_exchange = list(state["residents"]), state["num_draws_since_exchange"]

    def batch(self, step: int, num_keypoints: int | None = None, is_used: bool = True) -> PairBatch:
        """The batch of a step. Waits until the first shard is there.

        Args:
            step: index of the step; the same step, seed and shards give the same batch.
            num_keypoints: of each view; None for that of the configuration.
            is_used: False for a batch that is not trained on.

        Raises:
            DataError: if there is no shard and no worker is making any, or a shard is damaged.
            StoreError: if shards cannot be written.
        """
        start = time.perf_counter()
        while self.num_pairs == 0:  # the few scenes of a shard may have no pair
            self._fill()
        self._update()
        self._waiting_s += time.perf_counter() - start
        rows, size = self._rows, self._batches.batch_size
        choice, sampling = (int(word) for word in np.random.SeedSequence([self._seed, step]).generate_state(2))
        self._generator.manual_seed(choice)
        drawn = rows[self._draw(1 / (1 + self._uses[rows]), size)]
        if is_used:
            self._uses.index_add_(0, drawn, torch.ones_like(drawn, dtype=torch.float32))
            self._num_draws_since_exchange += size
        return self._sampler.batch(drawn, sampling, num_keypoints)

    def _draw(self, weights: Tensor, size: int) -> Tensor:
        """Indices by their weights, different ones if there are as many. Nothing waits for the device."""
        if len(weights) < size:
            return torch.multinomial(weights, size, replacement=True, generator=self._generator)
        # The smallest of exponential variables with these rates are a draw without replacement.
        times = torch.empty_like(weights).exponential_(generator=self._generator) / weights
        return times.topk(size, largest=False).indices

    def take_waiting_s(self) -> float:
        """Seconds since the last call in which no batch could be made because shards were missing or read."""
        waiting_s, self._waiting_s = self._waiting_s, 0.0
        return waiting_s

    @property
    def state(self) -> dict[str, Any]:
        """Plain values and tensors from which a run continues, for a checkpoint."""
        counts = dict(self._num_uses)
        for idx, rows in self._residents.items():
            counts[idx] = self._uses[rows.pairs.to(self._device)].cpu()
        return {
            "num_uses": dict(sorted(counts.items())),
            "residents": sorted(self._residents),
            "num_draws_since_exchange": self._num_draws_since_exchange,
        }

    @property
    def num_shards(self) -> int:
        """Number of shards that were used so far."""
        return len(self._num_uses.keys() | self._residents.keys())

    @property
    def num_pairs(self) -> int:
        """Number of pairs on the device."""
        return len(self._rows)

    def close(self) -> None:
        """End the thread that reads shards."""
        self._reader.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> PairPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _fill(self) -> None:
        """Read the first shards; of a resumed run, those that were on the device."""
        available = wait_for_shards(self._source, self._excluded | self._residents.keys(), self._check)
        first = [idx for idx in self._first if idx in available] or self._least_used(available)[:_FIRST_SHARDS]
        for idx in first:
            block = self._read(idx)
            if not self._residents:
                self._reserve(block)
            if not self._stored.has_room(*block.size):
                break
            self._put(idx, block)

    def _reserve(self, like: PairBlock) -> None:
        """Reserve the memory, enough for at least two shards like the first one."""
        num_views, num_pairs = like.size
        max_views = max(self._config.max_views or _views_that_fit(like, self._device), 2 * num_views)
        max_pairs = int(max_views * max(_PAIRS_PER_VIEW, 2 * num_pairs / max(num_views, 1)))
        self._stored = StoredPairs(max_views, max_pairs, like, self._device)
        self._sampler = BatchSampler(self._stored, self._batches, self._has_scale_orientation)
        self._uses = torch.zeros(max_pairs, device=self._device)
        self._generator = torch.Generator(self._device)

    def _update(self) -> None:
        """Put the shard that is being read into its place, and begin to read the next one."""
        if self._reading is None:
            self._read_next()
        if self._reading is None:
            return
        idx, future = self._reading
        is_full = not self._stored.has_room(*self._largest)
        if not (self._is_exchange_due() if is_full else future.done()):
            return
        block = future.result()
        while not self._stored.has_room(*block.size) and self._residents:
            self._remove_most_used()
        if not self._stored.has_room(*block.size):
            raise DataError(f"shard {idx} of the training scenes does not fit into the memory for views")
        self._put(idx, block)
        self._read_next()

    def _read_next(self) -> None:
        """Begin to read the least used shard that is not on the device, if there is one."""
        self._reading = None
        now = time.monotonic()
        if now >= self._next_look_s:
            self._available = [idx for idx in self._source.available() if idx not in self._excluded]
            self._next_look_s = now + _POLL_S
        missing = [idx for idx in self._available if idx not in self._residents]
        if missing:
            idx = self._least_used(missing)[0]
            self._reading = (idx, self._reader.submit(self._read, idx))

    def _read(self, idx: int) -> PairBlock:
        block = pair_block(self._source.read_arrays(idx), max(self._config.max_keypoints, self._batches.num_keypoints))
        return block.pinned() if self._device.type == "cuda" else block

    def _is_exchange_due(self) -> bool:
        """Whether as many pairs were drawn since the last exchange as a shard has."""
        return self._num_draws_since_exchange * len(self._residents) >= self.num_pairs

    def _least_used(self, idxs: Sequence[int]) -> list[int]:
        def mean_uses(idx: int) -> float:
            uses = self._num_uses.get(idx)
            return 0.0 if uses is None or len(uses) == 0 else float(uses.mean())

        return sorted(idxs, key=lambda idx: (mean_uses(idx), idx))

    def _put(self, idx: int, block: PairBlock) -> None:
        rows = self._stored.put(block)
        self._uses[rows.pairs.to(self._device)] = self._num_uses.pop(idx, torch.zeros(len(rows.pairs))).to(self._device)
        self._residents[idx] = rows
        self._largest = (max(self._largest[0], block.size[0]), max(self._largest[1], block.size[1]))
        self._rows_have_changed()

    def _remove_most_used(self) -> None:
        uses = {idx: self._uses[rows.pairs.to(self._device)].cpu() for idx, rows in self._residents.items()}
        idx = min(uses, key=lambda idx: (-float(uses[idx].mean()), idx))
        self._num_uses[idx] = uses[idx]
        self._stored.remove(self._residents.pop(idx))
        self._num_draws_since_exchange = 0
        self._rows_have_changed()

    def _rows_have_changed(self) -> None:
        """Order the rows by shard, so that the choice of pairs does not depend on where they are stored."""
        rows = [self._residents[idx].pairs for idx in sorted(self._residents)]
        self._rows = torch.cat(rows).to(self._device) if rows else torch.zeros(0, dtype=torch.int64)


def wait_for_shards(
    source: ShardSource, excluded: frozenset[int] = frozenset(), check: Callable[[], object] | None = None
) -> list[int]:
    """Wait until a shard can be read; returns the indices of those that can. `check` is called meanwhile.

    Raises:
        DataError: if there is none and no worker is making any, or a worker failed.
        StoreError: if shards cannot be written.
    """
    while True:
        is_working = source.is_working
        available = [idx for idx in source.available() if idx not in excluded]
        if available:
            return available
        if not is_working:
            raise DataError("no shards of training scenes except held-out ones, and no worker is making more")
        if check is not None:
            check()
        time.sleep(_POLL_S)


def wait_for(source: ShardSource, shard_idxs: Sequence[int], check: Callable[[], object] | None = None) -> None:
    """Wait until some shards can be read. `check` is called meanwhile.

    Raises:
        DataError: if one is missing and no worker is making it.
        StoreError: if shards cannot be written.
    """
    while True:
        is_working = source.is_working
        missing = sorted(set(shard_idxs) - set(source.available()))
        if not missing:
            return
        if not is_working:
            raise DataError(f"shard {missing[0]} of the training scenes is missing, and no worker is making it")
        if check is not None:
            check()
        time.sleep(_POLL_S)


def _views_that_fit(like: PairBlock, device: torch.device) -> int:
    if device.type != "cuda":
        return _VIEWS_ON_CPU
    num_views, num_pairs = like.size
    view_bytes = sum(tensor.nbytes for tensor in (like.points, like.descriptors)) / max(num_views, 1)
    pair_bytes = sum(tensor.nbytes for tensor in (like.partners, like.unmatchable)) / max(num_pairs, 1)
    cached_bytes = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free_bytes = torch.cuda.mem_get_info(device)[0] + cached_bytes
    return min(_MOST_VIEWS, int(_GPU_MEMORY_SHARE * free_bytes / (view_bytes + _PAIRS_PER_VIEW * pair_bytes)))
