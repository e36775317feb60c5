"""The queue of keyframes: order, both ways to work, and errors."""

import threading
import time

import numpy as np
import pytest

from sfm_lightglue.tracking.mapping_thread import MAX_WAITING, MappingThread
from sfm_lightglue.tracking.reference import Reference


def reference(idx):
    none = np.zeros(0, np.int64)
    return Reference(idx, None, np.zeros((0, 2)), none, none, np.zeros((0, 3)), none)


@pytest.mark.parametrize("threads", [1, 2])
def test_keyframes_are_mapped_in_order(threads):
    mapped = []
    thread = MappingThread(lambda one: mapped.append(one.idx), threads)
    for idx in range(5):
        thread.submit(reference(idx))
    thread.wait()
    assert mapped == list(range(5))
    thread.close()


def abandon(thread: MappingThread, may_go_on: threading.Event) -> None:
    """Abandon a thread that is within a step, which may go on as soon as the thread knows."""
    ending = threading.Thread(target=thread.abandon)
    ending.start()
    while not thread._is_abandoned:
        time.sleep(0.001)
    may_go_on.set()
    ending.join(60)
    assert not ending.is_alive()


def test_a_single_thread_maps_at_once():
    mapped = []
    thread = MappingThread(lambda one: mapped.append(threading.get_ident()), 1)
    thread.submit(reference(0))
    assert mapped == [threading.get_ident()]
    assert not thread.is_full


def test_what_waits_is_mapped_at_the_end():
    may_go_on, mapped = threading.Event(), []
    thread = MappingThread(lambda one: (may_go_on.wait(60), mapped.append(one.idx)), 2)
    for idx in range(3):
        thread.submit(reference(idx))
    may_go_on.set()
    thread.close()
    assert mapped == [0, 1, 2]


def test_what_waits_is_not_mapped_if_the_thread_is_abandoned():
    is_begun, may_go_on, mapped = threading.Event(), threading.Event(), []

    def work(one):
        is_begun.set()
        may_go_on.wait(60)
        mapped.append(one.idx)

    thread = MappingThread(work, 2)
    for idx in range(3):
        thread.submit(reference(idx))
    assert is_begun.wait(60)
    abandon(thread, may_go_on)
    assert mapped == [0]
    thread.close()


def test_a_keyframe_more_waits_for_room():
    may_go_on = threading.Semaphore(0)
    thread = MappingThread(lambda one: may_go_on.acquire(timeout=60), 2)
    for idx in range(MAX_WAITING + 1):
        thread.submit(reference(idx))
    submitting = threading.Thread(target=thread.submit, args=(reference(MAX_WAITING + 1),))
    submitting.start()
    submitting.join(0.05)
    assert submitting.is_alive() and thread.is_full
    may_go_on.release(1)
    submitting.join(60)
    assert not submitting.is_alive()
    may_go_on.release(MAX_WAITING + 1)
    thread.close()


def test_a_wait_ends_with_the_last_keyframe_or_after_its_time():
    may_go_on = threading.Event()
    thread = MappingThread(lambda one: may_go_on.wait(60), 2)
    thread.submit(reference(0))
    assert not thread.wait_until(time.monotonic() + 0.02)
    assert thread.num_unfinished == 1
    assert thread.wait_until(time.monotonic(), 1), "one may be left"
    threading.Timer(0.05, may_go_on.set).start()
    assert thread.wait_until(time.monotonic() + 60)
    assert thread.num_unfinished == 0
    thread.close()


def test_a_full_queue_says_so():
    go_on = threading.Event()
    thread = MappingThread(lambda one: go_on.wait(60), 2)
    for idx in range(MAX_WAITING + 1):
        assert not thread.is_full
        thread.submit(reference(idx))
    assert thread.is_full
    go_on.set()
    thread.close()
    assert not thread.is_full


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_reaches_the_caller(threads):
    def fail(one):
        raise ValueError("bad keyframe")

    thread = MappingThread(fail, threads)
    with pytest.raises(ValueError, match="bad keyframe"):
        thread.submit(reference(0))
        thread.wait()
    thread.abandon()


def test_an_error_is_raised_again_at_the_next_call():
    def fail(one):
        raise ValueError("bad keyframe")

    thread = MappingThread(fail, 2)
    thread.submit(reference(0))
    for call in (thread.wait, lambda: thread.submit(reference(1)), thread.wait, thread.close):
        with pytest.raises(ValueError, match="bad keyframe"):
            call()


def test_the_time_of_waits_is_told():
    may_go_on = threading.Event()
    thread = MappingThread(lambda one: may_go_on.wait(60), 2)
    thread.submit(reference(0))
    assert thread.waited_s < 0.05
    start = time.monotonic()
    assert not thread.wait_until(start + 0.1)
    assert 0.1 <= thread.waited_s <= time.monotonic() - start
    may_go_on.set()
    thread.close()


def test_mapping_at_once_is_no_wait():
    thread = MappingThread(lambda one: time.sleep(0.1), 1)
    thread.submit(reference(0))
    assert thread.waited_s < 0.05
