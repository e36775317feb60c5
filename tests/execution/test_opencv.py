"""OpenCV uses one thread while several threads work on items of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import cv2
import pytest

from sfm_lightglue.execution.opencv import one_opencv_thread
from sfm_lightglue.execution.threads import ordered_map


@pytest.fixture(autouse=True)
def several() -> Iterator[int]:
    """The number of threads before a test: three, or all cores where OpenCV has no other choice."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    number = cv2.getNumThreads()
    if number == 1:
        pytest.skip("this OpenCV has no threads")
    yield number
    cv2.setNumThreads(before)


def test_one_thread_within_the_block_and_those_of_before_after_it(several: int) -> None:
    with one_opencv_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == several


def test_blocks_may_overlap(several: int) -> None:
    first, second = one_opencv_thread(), one_opencv_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cv2.getNumThreads() == 1
    second.__exit__(None, None, None)
    assert cv2.getNumThreads() == several


@pytest.mark.parametrize("num_threads", [1, 2])
def test_items_of_several_threads_have_one_thread_each(num_threads: int, several: int) -> None:
    found = list(ordered_map(lambda _: cv2.getNumThreads(), range(5), num_threads))
    assert found == [several if num_threads == 1 else 1] * 5
    assert cv2.getNumThreads() == several


def test_an_error_of_an_item_ends_the_limit(several: int) -> None:
    def fail(_: int) -> None:
        raise ValueError("an item")

    with pytest.raises(ValueError, match="an item"):
        list(ordered_map(fail, range(3), 2))
    assert cv2.getNumThreads() == several


def test_without_opencv_nothing_is_limited_and_nothing_is_imported(
    several: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "cv2")
    with one_opencv_thread():
        assert "cv2" not in sys.modules
    assert cv2.getNumThreads() == several


def test_while_another_thread_imports_opencv_nothing_is_limited(several: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", ModuleType("cv2"))
    with one_opencv_thread():
        assert cv2.getNumThreads() == several
