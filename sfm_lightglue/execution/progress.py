"""The interface for progress reports. The library never prints; the caller decides what to display."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

ResultT = TypeVar("ResultT")


class Progress(Protocol):
    """A function that is called whenever a stage advances."""

    def __call__(self, stage: str, num_done: int, num_total: int) -> None:
        """Display the progress of a stage.

        Args:
            stage: name of the stage, such as "extract" or "match".
            num_done: number of finished items.
            num_total: number of all items.
        """


@runtime_checkable
class WorkProgress(Protocol):
    """What a `Progress` may have too: it is told which items were work, and is then called in this way only."""

    def advance(self, stage: str, num_done: int, num_total: int, num_found: int) -> None:
        """Display the progress of a stage.

        Args:
            stage: name of the stage.
            num_done: number of finished items.
            num_total: number of all items.
            num_found: number of finished items that an earlier run had computed.
        """


def silent(stage: str, num_done: int, num_total: int) -> None:
    """A `Progress` that displays nothing."""


def reporting(results: Iterable[ResultT], stage: str, num_total: int, progress: Progress) -> Iterator[ResultT]:
    """The results of a stage, each reported when it comes.

    Args:
        results: one for each item.
        stage: name of the stage.
        num_total: number of all items.
        progress: called before the first result, and with each.
    """
    progress(stage, 0, num_total)
    for num_done, result in enumerate(results, start=1):
        progress(stage, num_done, num_total)
        yield result


class WorkRate:
    """How fast the items of a stage are computed. Those that an earlier run had computed do not count.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_s = clock()
        self._num_computed = 0
        self._num_found = 0
        self._recent_items = self._recent_s = 0.0

    def update(self, num_done: int, num_found: int = 0) -> None:
        """Note how far the stage is; the arguments are those of `WorkProgress`."""
        num_new, num_new_found = num_done - num_found - self._num_computed, num_found - self._num_found
        now_s = self._clock()
        if num_new <= 0 and num_new_found > 0:
            self._last_s = now_s  # this time was spent on items that are no work
        elif num_new > 0:
            past_s = now_s - self._last_s
            kept = math.exp(-past_s / _MEMORY_S)
            self._recent_items = kept * self._recent_items + num_new
            self._recent_s = kept * self._recent_s + past_s
            self._last_s = now_s
        self._num_computed, self._num_found = num_done - num_found, num_found

    @property
    def items_per_s(self) -> float | None:
        """Items that are computed in a second, mostly in the last minute; None if none was computed yet."""
        return self._recent_items / self._recent_s if self._recent_items > 0 and self._recent_s > 0 else None


_MEMORY_S = 60.0
"""Work that is older than this time counts less for the rate."""
