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

_LARGEST_KEPT = 1 << 27
"""Numbers of the largest block that is kept: 512 MiB. A larger one would take the memory until the end of a stage."""
_LARGEST_RATIO = 4
"""A kept block is used for a request of at least a fourth of its size. Otherwise small images use the blocks of large
ones, for which others are then allocated, until all blocks are large."""

_lock = threading.Lock()
_free: list[Float32Array] = []
_keepers: list[object] = []
"""One for each `blocks_kept` that is entered."""


@contextlib.contextmanager
def blocks_kept() -> Iterator[None]:
    """Keep blocks that are no longer used during the block of this statement, in all threads, for others to use.

    The kept blocks are at most as many as the blocks that were borrowed at the same time, one for each thread that
    extracts features; each has at most 512 MiB. At the end of the outermost statement, all are freed.
    """
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

    Inside of `blocks_kept`, it is part of a kept block if there is one of `size` to 4 * `size` numbers. Blocks of more
    than 512 MiB are never kept.
    """
    block = _taken(size)
    if block is None:
        block = np.empty(size, np.float32)
    try:
        yield block[:size]
    finally:
        with _lock:
            if _keepers and len(block) <= _LARGEST_KEPT:
                _free.append(block)


def _taken(size: int) -> Float32Array | None:
    """The smallest kept block that suits this size; if none does, the largest one makes room for a new one."""
    with _lock:
        _free.sort(key=len)
        for index, block in enumerate(_free):
            if size <= len(block) <= _LARGEST_RATIO * size:
                return _free.pop(index)
        if _free:
            _free.pop()
        return None
