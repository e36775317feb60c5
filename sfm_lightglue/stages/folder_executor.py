"""Processes on one shared store that divide the work of a scene by leases: each computes batches that no other does."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.stages.distributed import SharedWork
from sfm_lightglue.store.leases import Leases
from sfm_lightglue.store.store import Store, make_key

logger = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")

_POLL_S = 0.25
"""Time between two looks at the work of other processes, in seconds."""


class FolderExecutor(ThreadExecutor):
    """An executor that shares work with other processes that were started by hand on the same store.

    Args:
        num_workers: threads of this process; 0 for one per usable core.
        store: which all processes use.
        leases: beside the store.
        images_per_batch: number of images that are claimed together.
        pairs_per_batch: number of pairs that are claimed together.
    """

    def __init__(
        self, num_workers: int, store: Store, leases: Leases, images_per_batch: int, pairs_per_batch: int
    ) -> None:
        super().__init__(num_workers)
        self._store = store
        self._leases = leases
        self._size_from_stage = {"extract": images_per_batch, "match": pairs_per_batch}

    def fill(self, work: SharedWork[ItemT], progress: Progress = silent) -> None:
        """Compute batches that no other process computes, until there are none, and the others are done as well.

        A batch whose process has ended is taken over. Items that cannot be computed are tried by every process.
        """
        left = self._pass(work, work.batches(self._size_from_stage[work.stage]), 0, progress)
        while left:
            tried = left
            left = self._pass(work, tried, len(work) - sum(map(len, tried)), progress)
            if len(left) == len(tried):
                time.sleep(_POLL_S)

    def _pass(
        self, work: SharedWork[ItemT], batches: Iterable[list[ItemT]], num_done: int, progress: Progress
    ) -> list[list[ItemT]]:
        """Try batches once; returns those that another process computes."""
        self._store.look_again()
        progress(work.stage, num_done, len(work))
        left = []
        for batch, is_done in self.map(lambda batch: (batch, self._try(work, batch)), batches):
            if not is_done:
                left.append(batch)
                continue
            num_done += len(batch)
            progress(work.stage, num_done, len(work))
        return left

    def _try(self, work: SharedWork[ItemT], batch: Sequence[ItemT]) -> bool:
        """Compute a batch unless another process does; returns whether it is done."""
        keyed = [(item, work.keys(item)) for item in batch]
        if all(work.has(keys) for _, keys in keyed):
            return True
        with self._leases.held(make_key("lease", work.stage, [keys for _, keys in keyed])) as is_held:
            if is_held:
                self._store.look_again()  # the last holder has finished, or was killed
                work.compute([item for item, keys in keyed if not work.has(keys)])
                self._store.flush()
        return is_held

    @contextlib.contextmanager
    def alone(self, name: str, work: str = "builds the models") -> Iterator[None]:
        """Let one process after the other run the block.

        Args:
            name: a key of what the block makes.
            work: what the block does, for a message to the user of a process that waits.
        """
        has_told = False
        while not self._leases.claim(name):
            holder = self._leases.holder(name)
            if holder is not None and not has_told:
                logger.info("process %d on %s %s; this one waits for its end", holder.process, holder.host, work)
                has_told = True
            time.sleep(_POLL_S)
        try:
            self._store.look_again()
            yield
        finally:
            self._leases.release(name)
