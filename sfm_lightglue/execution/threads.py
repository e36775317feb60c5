"""Work on several threads with results in order and a bounded number of items in progress."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sfm_lightglue.execution.blas import one_blas_thread

_pool = threading.local()

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def num_usable_cores() -> int:
    """Processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def num_cores_of_this_thread() -> int:
    """Processor cores that this thread may use: all, a share in the threads of `ordered_map`, one in `on_one_core`."""
    return max(1, num_usable_cores() // int(getattr(_pool, "num_threads", 1)))


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """Let this thread use one core during the block, as other processes of this machine use the others."""
    before = getattr(_pool, "num_threads", 1)
    _join_pool(num_usable_cores())
    try:
        yield
    finally:
        _join_pool(before)


@contextlib.contextmanager
def as_one_of(num_threads: int) -> Iterator[None]:
    """Compute in this thread as one of the threads of `ordered_map` would, to measure its time.

    Args:
        num_threads: of `ordered_map`; this thread gets its share of the cores.
    """
    before = getattr(_pool, "num_threads", 1)
    with one_blas_thread():
        _join_pool(max(1, num_threads))
        try:
            yield
        finally:
            _join_pool(before)


def _join_pool(num_threads: int) -> None:
    _pool.num_threads = num_threads


def ordered_map(function: Callable[[ItemT], ResultT], items: Iterable[ItemT], num_threads: int) -> Iterator[ResultT]:
    """Yield the results of `function` in the order of the items, computed by several threads.

    At most 2 * num_threads + 1 items are in progress or waiting for the caller, so results do not accumulate.
    If the caller stops early or an item raises, items that have not started are cancelled. Matrix products of NumPy use
    one thread meanwhile.

    Args:
        function: function that is safe to call from several threads.
        items: the items, possibly without an end.
        num_threads: number of threads; 1 computes in the calling thread.
    """
    with one_blas_thread():
        yield from _results(function, items, num_threads)


def _results(function: Callable[[ItemT], ResultT], items: Iterable[ItemT], num_threads: int) -> Iterator[ResultT]:
    if num_threads <= 1:
        yield from map(function, items)
        return
    under_way: deque[Future[ResultT]] = deque()
    pool = ThreadPoolExecutor(num_threads, initializer=_join_pool, initargs=(num_threads,))
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > 2 * num_threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
