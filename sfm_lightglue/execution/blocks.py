"""Blocks of memory for large temporary arrays, used again for the next image.

The system clears the pages of fresh memory. For the blurred images of SIFT, this takes up to a third of the processor
time of an image.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np

from sfm_lightglue.arrays import Float32Array

_lock = threading.Lock()
_free: list[Float32Array] = []
_keepers: list[object] = []
"""One for each `blocks_kept` that is entered."""


@contextlib.contextmanager
def blocks_kept() -> Iterator[None]:
    """Keep blocks that are no longer used during the block of this statement, in all threads, for others to use."""
    keeper = object()
    with _lock:
        _keepers.append(keeper)
    try:
        yield
    finally:
        with _lock:
            _keepers.remove(keeper)
            if not _keepers:
                _free.clear()


@contextlib.contextmanager
def borrowed_block(size: int) -> Iterator[Float32Array]:
    """An array [size] float32 with any content, which is no longer used after the block of this statement.

    Inside of `blocks_kept`, there are at most as many kept blocks as were borrowed at a time.
    """
    block = _taken(size)
    if block is None:
        block = np.empty(size, np.float32)
    try:
        yield block[:size]
    finally:
        with _lock:
            if _keepers:
                _free.append(block)


def _taken(size: int) -> Float32Array | None:
    """The smallest kept block of at least this size; if all are smaller, one of them makes room for a new one."""
    with _lock:
        _free.sort(key=len)
        for index, block in enumerate(_free):
            if len(block) >= size:
                return _free.pop(index)
        if _free:
            _free.pop()
        return None
