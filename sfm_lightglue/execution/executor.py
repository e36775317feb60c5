"""Where the items of a stage are computed: every stage that extracts or matches runs through an `Executor`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from sfm_lightglue.execution.threads import num_usable_cores, ordered_map

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class Executor(Protocol):
    """Applies a function to many items."""

    @property
    def num_workers(self) -> int:
        """Items that are computed at the same time."""

    def map(self, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
        """Results of a function, in the order of the items.

        Args:
            function: safe to call from several workers at the same time.
            items: may be endless; only a few more than the number of workers are taken ahead of the results.

        Returns:
            The results. An exception of the function is raised where its result would be; the items after it that
            have not begun are then not computed.
        """


class ThreadExecutor:
    """An `Executor` that uses threads of this process.

    Args:
        num_workers: number of threads; 0 for one per usable core. With 1, everything is computed in the caller's
            thread, one item after the other.

    Raises:
        ValueError: if the number is negative.
    """

    def __init__(self, num_workers: int = 0) -> None:
        if num_workers < 0:
            raise ValueError(f"ThreadExecutor: num_workers must not be negative, got {num_workers}")
        self._num_workers = num_workers or num_usable_cores()

    @property
    def num_workers(self) -> int:
        """Number of threads."""
        return self._num_workers

    def map(self, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
        """Results in the order of the items."""
        return ordered_map(function, items, self._num_workers)


SERIAL = ThreadExecutor(1)
"""Computes everything in the caller's thread."""
