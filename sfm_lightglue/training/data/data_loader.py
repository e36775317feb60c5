"""Data loader: batches of shuffled pairs from the shards that exist, least used shards first.

The order depends only on the seed and on the shards that exist at each time. The position in it is a small state in
the checkpoint, so that a resumed run continues with the next batch.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.training.data.batches import BatchConfig, collate, sample_pair
from sfm_lightglue.training.data.labelled_scenes import PairLabels, TrainingScene
from sfm_lightglue.training.losses import PairBatch

_POLL_S = 0.5

LabelledPair = tuple[TrainingScene, PairLabels]


class ShardSource(Protocol):
    """Source of shards, such as `ShardProducer`, which makes them in the background."""

    def available(self) -> Sequence[int]:
        """Indices of the shards that can be read now; empty if none is ready yet.

        Raises:
            StoreError: if shards cannot be written.
            DataError: if making shards failed otherwise.
        """

    def read(self, shard_idx: int) -> list[TrainingScene]:
        """Read one of the available shards."""

    @property
    def is_working(self) -> bool:
        """Whether more shards may become available."""


@dataclass(frozen=True, slots=True)
class LoaderConfig:
    """How the data loader mixes shards."""

    shards_at_once: int = 8
    """Number of shards whose pairs are shuffled together; each takes about 15 MB of memory."""

    num_threads: int = 1
    """Number of threads that prepare batches in advance."""


@dataclass(slots=True)
class LoaderState:
    """Position in the order of the data: plain values, part of a checkpoint."""

    round_idx: int = 0
    """Index of the current set of shards; part of the seed of the shuffling."""

    batch_idx: int = 0
    """Index of the next batch within the current set."""

    shard_idxs: list[int] = field(default_factory=list)
    """The current set; empty before the first set is chosen."""

    next_shard_idxs: list[int] = field(default_factory=list)
    """The next set, which is read while the current set is used."""

    num_visits: dict[int, int] = field(default_factory=dict)
    """How often each shard was in a set. A new shard starts with the lowest count of the others."""

    def copy(self) -> LoaderState:
        """A deep copy."""
        return LoaderState(
            self.round_idx, self.batch_idx, list(self.shard_idxs), list(self.next_shard_idxs), dict(self.num_visits)
        )

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, for a checkpoint."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Job:
    pairs: tuple[LabelledPair, ...]
    seed: tuple[int, int, int]
    following: LoaderState


class PairLoader:
    """An endless sequence of batches.

    Args:
        source: of the shards.
        batches: how batches are made of pairs.
        seed: of the order of pairs and of the sampling of keypoints.
        config: how shards are mixed.
        state: position at which to continue; None starts at the beginning.
        excluded: indices of shards that are not used, such as the held-out shard.
    """

    def __init__(
        self,
        source: ShardSource,
        batches: BatchConfig,
        seed: int,
        config: LoaderConfig | None = None,
        state: LoaderState | None = None,
        excluded: frozenset[int] = frozenset(),
    ) -> None:
        self._source, self._batches, self._seed = source, batches, seed
        self._config, self._excluded = config or LoaderConfig(), excluded
        self._state = LoaderState() if state is None else state.copy()

    def __iter__(self) -> Generator[tuple[PairBatch, LoaderState], None, None]:
        """Batches on the CPU, each with the state from which to continue after it."""
        # With one thread, `ordered_map` would prepare no batch in advance.
        yield from ordered_map(self._assemble, self._jobs(), max(2, self._config.num_threads))

    def _jobs(self) -> Iterator[_Job]:
        state, num_shards = self._state, self._config.shards_at_once
        with ThreadPoolExecutor(1) as reader:
            if len(state.shard_idxs) == 0:
                state.shard_idxs = _choose_shards(state.num_visits, self._wait(), num_shards)
            next_pairs = reader.submit(self._read, tuple(state.shard_idxs))
            while True:
                if len(state.next_shard_idxs) == 0:
                    state.next_shard_idxs = _choose_shards(state.num_visits, self._wait(), num_shards)
                pairs, next_pairs = next_pairs.result(), reader.submit(self._read, tuple(state.next_shard_idxs))
                yield from self._round(pairs, state)
                state.round_idx, state.batch_idx = state.round_idx + 1, 0
                state.shard_idxs, state.next_shard_idxs = state.next_shard_idxs, []

    def _round(self, pairs: Sequence[LabelledPair], state: LoaderState) -> Iterator[_Job]:
        """Every pair of a set of shards once, except those of a last batch that would not be full."""
        size = self._batches.batch_size
        order = np.random.default_rng([self._seed, 1, state.round_idx]).permutation(len(pairs))
        if 0 < len(order) < size:
            order = np.resize(order, size)
        for batch_idx in range(state.batch_idx, len(order) // size):
            rows = order[batch_idx * size : (batch_idx + 1) * size]
            state.batch_idx = batch_idx + 1
            seed = (self._seed, state.round_idx, batch_idx)
            yield _Job(tuple(pairs[row] for row in rows), seed, state.copy())

    def _read(self, shard_idxs: Sequence[int]) -> list[LabelledPair]:
        return [(scene, pair) for idx in shard_idxs for scene in self._source.read(idx) for pair in scene.pairs]

    def _wait(self) -> Sequence[int]:
        while True:
            is_working = self._source.is_working
            available = [idx for idx in self._source.available() if idx not in self._excluded]
            if len(available) > 0:
                return available
            if not is_working:
                raise DataError("no shards of training scenes except the held-out one, and no worker is making more")
            time.sleep(_POLL_S)

    def _assemble(self, job: _Job) -> tuple[PairBatch, LoaderState]:
        return assemble(job.pairs, self._batches, job.seed), job.following


def assemble(pairs: Sequence[LabelledPair], config: BatchConfig, seed: Sequence[int]) -> PairBatch:
    """A batch of pairs whose keypoints are sampled with a seed."""
    rng = np.random.default_rng([*seed, 2])
    samples = [
        sample_pair(scene.views[labels.view0], scene.views[labels.view1], labels, config, rng)
        for scene, labels in pairs
    ]
    return collate(samples, config.num_keypoints)


def held_out_batches(scenes: Sequence[TrainingScene], config: BatchConfig, num_pairs: int) -> list[PairBatch]:
    """Batches of at most `num_pairs` pairs, evenly spread over scenes; the same in every call."""
    pairs = [(scene, pair) for scene in scenes for pair in scene.pairs]
    rows = np.unique(np.linspace(0, len(pairs) - 1, min(num_pairs, len(pairs))).round().astype(np.int64))
    starts = range(0, len(rows), config.batch_size)
    return [
        assemble([pairs[row] for row in rows[start : start + config.batch_size]], config, (0, start))
        for start in starts
    ]


def wait_for(source: ShardSource, shard_idx: int) -> None:
    """Wait until a shard can be read.

    Raises:
        DataError: if the shard is missing and no worker is making it.
    """
    while shard_idx not in source.available():
        if not source.is_working:
            if shard_idx in source.available():  # it appeared between the two checks
                return
            raise DataError(f"shard {shard_idx} of the training scenes is missing, and no worker is making it")
        time.sleep(_POLL_S)


def _choose_shards(num_visits: dict[int, int], available: Sequence[int], num_shards: int) -> list[int]:
    """Choose the least visited shards, of equal ones those with the lower index, and count the visit."""
    least = min((num_visits[idx] for idx in available if idx in num_visits), default=0)
    for idx in available:
        num_visits.setdefault(idx, least)
    chosen = sorted(available, key=lambda idx: (num_visits[idx], idx))[:num_shards]
    for idx in chosen:
        num_visits[idx] += 1
    return sorted(chosen)
