"""Blocks of memory that are used again."""

import threading

import pytest

from sfm_lightglue.execution.blocks import blocks_kept, borrowed_block


def address(array):
    return array.__array_interface__["data"][0]


def borrowed(*sizes):
    """The start of the memory of each of several blocks, one borrowed after the other."""
    found = []
    for size in sizes:
        with borrowed_block(size) as block:
            assert block.shape == (size,)
            block[:] = size
            found.append(address(block))
    return found


def test_a_kept_block_serves_smaller_requests_and_is_replaced_for_larger_ones():
    with blocks_kept():
        first, again, smaller, larger, last = borrowed(5000, 5000, 100, 9000, 5000)
    assert first == again == smaller
    assert last == larger


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
