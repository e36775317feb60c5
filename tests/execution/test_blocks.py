"""Blocks of memory that are used again."""

import threading

import pytest

from sfm_lightglue.execution.blocks import blocks_kept, borrowed_block


def address(array):
    return array.__array_interface__["data"][0]


def borrowed(*sizes):
    """The start of the memory of each of several blocks, one borrowed after the other."""
    found = []  # holds all blocks, so that no two have the same memory by chance
    for size in sizes:
        with borrowed_block(size) as block:
            assert block.shape == (size,)
            block[:] = size
            found.append(block)
    return [address(block) for block in found]


def test_a_kept_block_serves_smaller_requests_and_is_replaced_for_larger_ones():
    with blocks_kept():
        first, again, smaller, larger, last = borrowed(5000, 5000, 1250, 9000, 5000)
    assert first == again == smaller
    assert last == larger != first


def test_a_block_is_replaced_for_a_request_of_less_than_a_fourth(monkeypatch):
    kept = []
    monkeypatch.setattr("sfm_lightglue.execution.blocks._free", kept)
    with blocks_kept():
        large, small, again = borrowed(5000, 1249, 1249)
        assert large != small == again
        assert list(map(len, kept)) == [1249]


def test_large_blocks_are_not_kept(monkeypatch):
    kept = []
    monkeypatch.setattr("sfm_lightglue.execution.blocks._free", kept)
    with blocks_kept():
        with borrowed_block(2**27) as largest, borrowed_block(2**27 + 1) as larger:  # nothing is written to them
            assert (len(largest), len(larger)) == (2**27, 2**27 + 1)
        assert list(map(len, kept)) == [2**27]
        borrowed(2000)
        assert list(map(len, kept)) == [2000]


def test_small_and_large_requests_in_turn_keep_one_block_of_each_thread(monkeypatch):
    kept = []
    monkeypatch.setattr("sfm_lightglue.execution.blocks._free", kept)
    with blocks_kept():
        for large, small in ((9000, 100), (100, 9000), (8000, 3000)):
            with borrowed_block(large), borrowed_block(small):
                pass
            borrowed(40, 7000, 600)
            assert len(kept) == 2


def test_blocks_that_are_used_at_the_same_time_are_apart():
    with blocks_kept():
        with borrowed_block(1000) as one, borrowed_block(1000) as other:
            one[:], other[:] = 1, 2
            assert (one == 1).all() and (other == 2).all()
            both = {address(one), address(other)}
        with borrowed_block(1000) as one, borrowed_block(1000) as other:
            assert {address(one), address(other)} == both


def test_other_threads_use_kept_blocks_and_an_error_gives_them_back():
    with blocks_kept():
        with pytest.raises(KeyError), borrowed_block(3000) as block:
            raise KeyError
        found = []
        thread = threading.Thread(target=lambda: found.extend(borrowed(3000)))
        thread.start()
        thread.join()
        assert found == [address(block)]


def test_blocks_are_freed_at_the_end_of_the_outermost_statement(monkeypatch):
    kept = []
    monkeypatch.setattr("sfm_lightglue.execution.blocks._free", kept)
    borrowed(10)
    assert kept == []
    with blocks_kept():
        with blocks_kept():
            borrowed(10)
        assert len(kept) == 1
    assert kept == []
