"""Tests that every executor must pass."""

from __future__ import annotations

import itertools
import threading

import pytest

from sfm_lightglue.execution.executor import Executor


def _square(number: int) -> int:
    return number * number


def _fails_at_seven(number: int) -> int:
    if number == 7:
        raise ValueError("seven")
    return number


class ExecutorContract:
    """Tests of an `Executor`. A subclass defines how it is built."""

    @classmethod
    def build(cls) -> Executor:
        """Build the executor."""
        raise NotImplementedError(f"{cls.__name__} must define `build`")

    def test_it_has_workers(self) -> None:
        """The number of workers is at least one."""
        assert self.build().num_workers >= 1

    def test_results_are_in_the_order_of_the_items(self) -> None:
        """Each item is computed once."""
        assert list(self.build().map(_square, range(100))) == [number * number for number in range(100)]

    def test_no_items_give_no_results(self) -> None:
        """The result is empty, and not an error."""
        assert list(self.build().map(_square, [])) == []

    def test_endless_items_are_taken_as_results_are_taken(self) -> None:
        """Only a few items more than the number of workers are taken ahead."""
        taken: list[int] = []

        def numbers() -> itertools.chain[int]:
            return itertools.chain.from_iterable([note(number)] for number in itertools.count())

        def note(number: int) -> int:
            taken.append(number)
            return number

        executor = self.build()
        results = executor.map(_square, numbers())
        assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
        assert len(taken) <= 5 + 4 * executor.num_workers

    def test_an_exception_is_raised_in_place_of_its_result(self) -> None:
        """Earlier results are returned first."""
        results = self.build().map(_fails_at_seven, range(20))
        assert [next(results) for _ in range(7)] == list(range(7))
        with pytest.raises(ValueError, match="seven"):
            next(results)

    def test_several_callers_can_use_it_at_the_same_time(self) -> None:
        """Each caller gets the results of its own items."""
        executor = self.build()
        found: dict[int, list[int]] = {}

        def call(start: int) -> None:
            found[start] = list(executor.map(_square, range(start, start + 30)))

        threads = [threading.Thread(target=call, args=(100 * i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {start: [n * n for n in range(start, start + 30)] for start in (0, 100, 200)}
