"""The rate of work, by a clock that the test moves."""

from __future__ import annotations

import pytest

from sfm_lightglue.execution.progress import WorkRate, reporting


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def rate_after(*steps: tuple[float, int, int]) -> float | None:
    """The rate after updates, each of (seconds since the one before, finished items, found items)."""
    clock = FakeClock()
    rate = WorkRate(clock)
    for seconds, num_done, num_found in steps:
        clock.now_s += seconds
        rate.update(num_done, num_found)
    return rate.items_per_s


def test_the_rate_is_that_of_the_items() -> None:
    assert rate_after(*((0.5, i, 0) for i in range(1, 20))) == pytest.approx(2)
    assert rate_after((0, 0, 0), (2.0, 1, 0), (0, 2, 0), (0, 3, 0), (0, 4, 0)) == pytest.approx(2), "results of threads"


def test_there_is_no_rate_before_the_first_item_and_of_found_ones() -> None:
    assert rate_after() is None
    assert rate_after((3, 0, 0)) is None
    assert rate_after(*((0.001, i, i) for i in range(500))) is None


@pytest.mark.parametrize("found_s", [0.0, 0.001, 1.0])
def test_items_that_were_found_change_nothing(found_s: float) -> None:
    """Before the work, or between it, however long it takes to find them."""
    before = [(found_s, i, i) for i in range(1, 901)]
    work = [(0.5, 900 + i, 900) for i in range(1, 11)]
    between = [(found_s, 910 + i, 900 + i) for i in range(1, 101)]
    more = [(0.5, 1010 + i, 1000) for i in range(1, 11)]
    assert rate_after(*before, *work) == pytest.approx(2)
    assert rate_after(*before, *work, *between, *more) == pytest.approx(2)


def test_old_work_counts_less() -> None:
    fast = [(0.1, i, 0) for i in range(1, 101)]
    slow = [(10.0, 100 + i, 0) for i in range(1, 61)]
    assert rate_after(*fast, *slow) == pytest.approx(0.1, rel=0.01)


def test_results_are_reported_as_they_come() -> None:
    calls: list[tuple[str, int, int]] = []
    results = reporting("ab", "search", 2, lambda *call: calls.append(call))
    assert next(results) == "a"
    assert calls == [("search", 0, 2), ("search", 1, 2)]
    assert [*results] == ["b"]
    assert calls[-1] == ("search", 2, 2)
