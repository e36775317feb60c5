"""A queue of keyframes that are mapped in a thread of their own, or at once."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sfm_lightglue.execution.threads import on_one_core
from sfm_lightglue.tracking.reference import Reference

MAX_WAITING = 4
"""Keyframes that wait for mapping at most, beside the one that is mapped. If they are as many, no keyframe is made."""


class MappingThread:
    """Maps keyframes in the order in which they were made.

    Args:
        map_keyframe: what is done with each.
        threads: 1 does it at once, in the thread of the caller; otherwise there is one thread for it.
    """

    def __init__(self, map_keyframe: Callable[[Reference], None], threads: int) -> None:
        self._map_keyframe = map_keyframe
        self.waited_s = 0.0
        """Time for which callers waited so far, in seconds."""
        self._queue: queue.Queue[Reference | None] = queue.Queue()
        self._error: BaseException | None = None
        self._is_abandoned = False
        self._thread: threading.Thread | None = None
        if threads != 1:
            self._thread = threading.Thread(target=self._run, name="mapping", daemon=True)
            self._thread.start()

    @property
    def num_unfinished(self) -> int:
        """Keyframes that wait, and the one that is mapped in the thread."""
        return self._queue.unfinished_tasks

    @property
    def is_full(self) -> bool:
        """Whether as many keyframes wait as may."""
        return self._queue.unfinished_tasks > MAX_WAITING

    def wait_for_room(self) -> None:
        """Wait until a keyframe more may wait."""
        with self._timed():
            while self.is_full and self._error is None:
                time.sleep(0.005)

    def submit(self, reference: Reference) -> None:
        """Map a keyframe, now or later; waits for room.

        Raises:
            Exception: that the mapping of an earlier keyframe raised.
        """
        self.wait_for_room()
        self._raise_error()
        if self._thread is None:
            self._map_keyframe(reference)
        else:
            self._queue.put(reference)

    def wait(self) -> None:
        """Wait until all keyframes are mapped.

        Raises:
            Exception: that the mapping of a keyframe raised.
        """
        with self._timed():
            self._queue.join()
        self._raise_error()

    def wait_until(self, deadline: float, num_left: int = 0) -> bool:
        """Wait until so few keyframes are not mapped yet, but no longer than until some time.

        Args:
            deadline: the time, one of `time.monotonic`.
            num_left: the keyframes.

        Returns:
            Whether they are so few.
        """
        with self._timed():
            while self._queue.unfinished_tasks > num_left and self._error is None and time.monotonic() < deadline:
                time.sleep(0.005)
        return self._queue.unfinished_tasks <= num_left

    def close(self) -> None:
        """Map what waits, and end the thread.

        Raises:
            Exception: that the mapping of a keyframe raised.
        """
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        self._raise_error()

    def abandon(self) -> None:
        """End the thread without mapping what waits."""
        self._is_abandoned = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.waited_s += time.perf_counter() - start

    def _raise_error(self) -> None:
        if self._error is not None:  # it stays: to take it away here could take away a later one
            raise self._error

    def _run(self) -> None:
        with on_one_core():
            while (reference := self._queue.get()) is not None:
                try:
                    if self._error is None and not self._is_abandoned:
                        self._map_keyframe(reference)
                except BaseException as error:  # the caller's thread raises it
                    self._error = error
                finally:
                    self._queue.task_done()
        self._queue.task_done()
