"""Threads of matrix products by NumPy and SciPy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_lock = threading.Lock()
_blocks = 0
_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limits matrix products of NumPy and SciPy to the calling thread within the block, in the whole process.

    Threads that work on items of their own, each with small matrix products, would wait for each other's helpers.
    Blocks may overlap: the number of threads of before is set again at the end of the last one. Without threadpoolctl,
    nothing is limited.
    """
    try:
        _enter()
        yield
    finally:
        _leave()


def _enter() -> None:
    global _blocks, _limit
    with _lock:
        _blocks += 1
        if _blocks == 1:
            with suppress(ImportError):  # training must run without threadpoolctl
                from threadpoolctl import threadpool_limits

                _limit = threadpool_limits(limits=1, user_api="blas")


def _leave() -> None:
    global _blocks, _limit
    with _lock:
        _blocks -= 1
        if _blocks == 0 and _limit is not None:
            _limit.restore_original_limits()
            _limit = None
