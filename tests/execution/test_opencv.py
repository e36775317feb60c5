"""OpenCV uses one thread while several threads work on items of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import cv2
import pytest

from sfm_lightglue.execution.opencv import one_opencv_thread
from sfm_lightglue.execution.threads import ordered_map


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    if cv2.getNumThreads() != 3:
        pytest.skip("this OpenCV has no threads")
    yield
    cv2.setNumThreads(before)


def test_one_thread_within_the_block_and_those_of_before_after_it() -> None:
    with one_opencv_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == 3


def test_blocks_may_overlap() -> None:
    first, second = one_opencv_thread(), one_opencv_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cv2.getNumThreads() == 1
    second.__exit__(None, None, None)
    assert cv2.getNumThreads() == 3


@pytest.mark.parametrize(("num_threads", "expected"), [(1, 3), (2, 1)])
def test_items_of_several_threads_have_one_thread_each(num_threads: int, expected: int) -> None:
    found = list(ordered_map(lambda _: cv2.getNumThreads(), range(5), num_threads))
    assert found == [expected] * 5
    assert cv2.getNumThreads() == 3


def test_an_error_of_an_item_ends_the_limit() -> None:
    def fail(_: int) -> None:
        raise ValueError("an item")

    with pytest.raises(ValueError, match="an item"):
        list(ordered_map(fail, range(3), 2))
    assert cv2.getNumThreads() == 3


def test_without_opencv_nothing_is_limited_and_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cv2")
    with one_opencv_thread():
        assert "cv2" not in sys.modules
    assert cv2.getNumThreads() == 3
