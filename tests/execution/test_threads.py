"""Work on several threads: order of results, errors, and early ends."""

import itertools
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sfm_lightglue.execution import threads
from sfm_lightglue.execution.devices import torch_threads
from sfm_lightglue.execution.threads import num_usable_cores, ordered_map

THREADS = [1, 2, 5]


@pytest.mark.parametrize("num_threads", [0, *THREADS])
def test_order_is_kept_although_later_items_finish_first(num_threads):
    def work(i):
        time.sleep(0.002 * (5 - i % 6))
        return i * i

    assert list(ordered_map(work, range(30), num_threads)) == [i * i for i in range(30)]


@pytest.mark.parametrize("num_threads", THREADS)
def test_no_items_give_no_results(num_threads):
    assert list(ordered_map(str, [], num_threads)) == []


def test_threads_work_at_the_same_time():
    barrier = threading.Barrier(3, timeout=10)
    assert len(list(ordered_map(lambda _: barrier.wait(), range(3), 3))) == 3


@pytest.mark.parametrize("num_threads", THREADS)
def test_an_error_is_raised_at_the_position_of_its_result(num_threads):
    def work(i):
        if i == 4:
            raise KeyError("item 4")
        return i

    results = ordered_map(work, range(100), num_threads)
    assert list(itertools.islice(results, 4)) == [0, 1, 2, 3]
    with pytest.raises(KeyError, match="item 4"):
        next(results)


@pytest.mark.parametrize("num_threads", THREADS)
def test_an_error_of_the_items_is_raised(num_threads):
    def items():
        yield 1
        raise OSError("no more items")

    with pytest.raises(OSError, match="no more items"):
        list(ordered_map(str, items(), num_threads))


@pytest.mark.parametrize("num_threads", THREADS)
def test_an_error_cancels_items_that_have_not_started(num_threads):
    started = []

    def work(i):
        started.append(i)
        if i == 0:
            raise ValueError
        time.sleep(0.005)

    with pytest.raises(ValueError):
        list(ordered_map(work, range(1000), num_threads))
    assert len(started) <= 3 * num_threads + 1
    number = len(started)
    time.sleep(0.03)
    assert len(started) == number


@pytest.mark.parametrize("num_threads", THREADS)
def test_closing_early_cancels_items_that_have_not_started_and_leaves_no_thread(num_threads):
    before = threading.active_count()
    started = []
    go_on = threading.Event()

    def work(i):
        started.append(i)
        if i > 0:
            go_on.wait(10)
        return i

    results = ordered_map(work, range(1000), num_threads)
    assert next(results) == 0
    threading.Timer(0.05, go_on.set).start()
    results.close()  # waits for the items in progress, one per thread
    assert len(started) <= num_threads + 1
    while any(isinstance(thread, threading.Timer) for thread in threading.enumerate()):
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.parametrize("num_threads", THREADS)
def test_items_may_be_endless_and_are_taken_as_needed(num_threads):
    taken = itertools.count()
    results = ordered_map(lambda i: i, taken, num_threads)
    assert list(itertools.islice(results, 10)) == list(range(10))
    assert next(taken) <= 10 + 2 * num_threads + 1
    results.close()


def test_one_thread_is_the_calling_thread():
    assert list(ordered_map(lambda _: threading.current_thread(), range(2), 1)) == [threading.current_thread()] * 2


def test_cores():
    assert num_usable_cores() >= 1


def test_threads_of_a_pool_share_the_cores(monkeypatch):
    monkeypatch.setattr(threads, "num_usable_cores", lambda: 8)
    assert threads.num_cores_of_this_thread() == 8
    for num_threads, share in ((2, 4), (3, 2), (20, 1)):
        assert set(threads.ordered_map(lambda _: threads.num_cores_of_this_thread(), range(9), num_threads)) == {share}
    assert list(threads.ordered_map(lambda _: threads.num_cores_of_this_thread(), range(2), 1)) == [8, 8]


def test_a_thread_can_be_limited_to_one_core(monkeypatch):
    monkeypatch.setattr(threads, "num_usable_cores", lambda: 8)
    with pytest.raises(ValueError, match="inside"), threads.on_one_core():
        assert threads.num_cores_of_this_thread() == 1
        raise ValueError("inside")
    assert threads.num_cores_of_this_thread() == 8


def test_a_measurement_has_the_share_of_a_pool(monkeypatch):
    monkeypatch.setattr(threads, "num_usable_cores", lambda: 8)
    for num_threads, share in ((1, 8), (3, 2), (20, 1)):
        with threads.as_one_of(num_threads):
            assert threads.num_cores_of_this_thread() == share
    assert threads.num_cores_of_this_thread() == 8


def test_torch_is_limited_in_one_thread_alone():
    before = torch.get_num_threads()
    seen = queue.Queue()
    limited, looked = threading.Event(), threading.Event()

    def other():
        limited.wait(10)
        seen.put(torch.get_num_threads())
        looked.set()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(other)
        with torch_threads(1):
            assert torch.get_num_threads() == 1
            limited.set()
            assert looked.wait(10)
        future.result()
    assert seen.get() == before == torch.get_num_threads()
