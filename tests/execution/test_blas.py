"""Matrix products use one thread while threads work on items of their own."""

import numpy as np
import pytest

from sfm_lightglue.execution.blas import one_blas_thread
from sfm_lightglue.execution.threads import ordered_map

threadpoolctl = pytest.importorskip("threadpoolctl")


def numbers_of_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


@pytest.fixture
def two_threads():
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        if set(numbers_of_threads()) != {2}:
            pytest.skip("the BLAS of NumPy cannot use two threads here")
        yield


def test_one_thread_within_the_block_and_those_of_before_after_it(two_threads):
    with one_blas_thread():
        assert set(numbers_of_threads()) == {1}
    assert set(numbers_of_threads()) == {2}


def test_blocks_may_overlap(two_threads):
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(numbers_of_threads()) == {1}
    second.__exit__(None, None, None)
    assert set(numbers_of_threads()) == {2}


@pytest.mark.parametrize("num_threads", [1, 3])
def test_items_of_several_threads_have_one_thread_each(num_threads, two_threads):
    found = list(ordered_map(lambda _: numbers_of_threads(), range(5), num_threads))
    assert all(set(each) == {1} for each in found)
    assert set(numbers_of_threads()) == {2}


def test_an_error_of_an_item_ends_the_limit(two_threads):
    def fail(_):
        raise ValueError("an item")

    with pytest.raises(ValueError, match="an item"):
        list(ordered_map(fail, range(3), 2))
    assert set(numbers_of_threads()) == {2}
