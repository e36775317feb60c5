"""Work that several executors share on one folder: every batch is computed once, whoever ends, fails or waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.errors import StoreError
from sfm_lightglue.stages.distributed import FillsStore, in_batches
from sfm_lightglue.stages.folder_executor import FolderExecutor
from sfm_lightglue.store.leases import FOLDER_NAME, Leases
from sfm_lightglue.store.store import Store, make_key


@dataclass
class Squares:
    """Squares of numbers as small entries of a store; negative numbers cannot be computed."""

    store: Store
    numbers: Sequence[int]
    stage: str = "match"
    computed: list[int] = field(default_factory=list)
    seconds_each: float = 0.0
    num_ordered: int = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def batches(self, size: int) -> Iterator[list[int]]:
        self.num_ordered += 1
        return in_batches(self.numbers, size)

    def keys(self, item: int) -> tuple[str, ...]:
        return (make_key("square", item),)

    def has(self, keys: tuple[str, ...]) -> bool:
        return self.store.has("matches", keys[0])

    def compute(self, items: Sequence[int]) -> None:
        for item in items:
            time.sleep(self.seconds_each)
            self.computed.append(item)
            if item >= 0:
                self.store.save("matches", self.keys(item)[0], {"square": np.array(item * item)})


class Process:
    """What a process has: its own store and leases on a shared folder."""

    def __init__(self, root: Path, num_workers: int = 1, lease_s: float = 60.0) -> None:
        self.store = Store(root)
        self.leases = Leases(root / FOLDER_NAME, lease_s)
        self.executor = FolderExecutor(num_workers, self.store, self.leases, 2, 3)


def test_it_fills_the_store_and_is_recognised(tmp_path: Path) -> None:
    one = Process(tmp_path)
    assert isinstance(one.executor, FillsStore)
    told: list[tuple[str, int, int]] = []
    work = Squares(one.store, range(8))
    one.executor.fill(work, lambda *progress: told.append(progress))
    assert work.computed == list(range(8))
    assert told == [("match", 0, 8), ("match", 3, 8), ("match", 6, 8), ("match", 8, 8)]
    again = Squares(Store(tmp_path), range(8))
    Process(tmp_path).executor.fill(again)
    assert again.computed == []
    one.executor.fill(Squares(one.store, ()))


@pytest.mark.parametrize("num_workers", [1, 3])
def test_executors_at_the_same_time_compute_each_item_once(tmp_path: Path, num_workers: int) -> None:
    processes = [Process(tmp_path, num_workers) for _ in range(3)]
    works = [Squares(one.store, range(60), seconds_each=0.001) for one in processes]
    threads = [
        threading.Thread(target=one.executor.fill, args=(work,)) for one, work in zip(processes, works, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(item for work in works for item in work.computed) == list(range(60))
    for work in works:
        assert all(work.has(work.keys(item)) for item in range(60)), "each sees the results of the others"


def test_a_batch_of_another_process_is_waited_for(tmp_path: Path) -> None:
    """It is done when the other has released it; if the other has saved nothing by then, it is computed here."""
    one, other = Process(tmp_path), Process(tmp_path)
    work = Squares(one.store, range(6))
    leases = [make_key("lease", "match", [work.keys(item) for item in batch]) for batch in ([0, 1, 2], [3, 4, 5])]
    assert all(map(other.leases.claim, leases))
    waiting = threading.Thread(target=one.executor.fill, args=(work,))
    waiting.start()
    waiting.join(0.6)
    assert waiting.is_alive() and work.computed == []
    Squares(other.store, range(3)).compute(range(3))
    other.store.flush()
    for lease in leases:
        other.leases.release(lease)
    waiting.join(20)
    assert not waiting.is_alive() and work.computed == [3, 4, 5]
    assert work.num_ordered == 1, "ordering many pairs again and again takes long"


def test_items_that_cannot_be_computed_are_tried_by_each_process_and_end(tmp_path: Path) -> None:
    for _ in range(2):
        work = Squares(Store(tmp_path), [-1, 2])
        Process(tmp_path).executor.fill(work)
        assert -1 in work.computed


def test_an_error_ends_the_lease(tmp_path: Path) -> None:
    one = Process(tmp_path)

    class Full(Squares):
        def compute(self, items: Sequence[int]) -> None:
            raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="full"):
        one.executor.fill(Full(one.store, range(3)))
    work = Squares(one.store, range(3))
    Process(tmp_path).executor.fill(work)
    assert work.computed == [0, 1, 2]


def test_one_process_after_the_other_is_alone(tmp_path: Path) -> None:
    processes = [Process(tmp_path) for _ in range(3)]
    inside, seen = [], []

    def enter(one: Process) -> None:
        with one.executor.alone("models"):
            inside.append(one)
            seen.append(len(inside))
            time.sleep(0.02)
            inside.remove(one)

    threads = [threading.Thread(target=enter, args=(one,)) for one in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1, 1, 1]
