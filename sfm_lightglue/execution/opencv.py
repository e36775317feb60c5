"""Threads of OpenCV."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SEQUENTIAL = 0
"""OpenCV's number for the calling thread alone; on macOS (Grand Central Dispatch) it supports no other limit."""

_lock = threading.Lock()
_blocks = 0
_before = 0


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Limits OpenCV to the calling thread within the block, in the whole process.

    Threads that work on images of their own would wait for OpenCV's helpers, and these spin while they wait: with two
    threads on two cores, features take a third more processor time. Blocks may overlap: the number of threads of before
    is set again at the end of the last one. Until OpenCV is loaded, nothing is limited.
    """
    is_limited = _enter()
    try:
        yield
    finally:
        if is_limited:
            _leave()


def _enter() -> bool:
    global _blocks, _before
    cv2 = sys.modules.get("cv2")
    if cv2 is None or not hasattr(cv2, "setNumThreads"):  # not loaded, or another thread is loading it
        return False
    with _lock:
        _blocks += 1
        if _blocks == 1:
            _before = cv2.getNumThreads()
            cv2.setNumThreads(_SEQUENTIAL)
    return True


def _leave() -> None:
    global _blocks
    with _lock:
        _blocks -= 1
        if _blocks == 0:
            sys.modules["cv2"].setNumThreads(_before)
