"""The index of entries: the last place of every key, in little memory."""

import tracemalloc

import numpy as np

from sfm_lightglue.store.entry_index import EntryIndex
from sfm_lightglue.store.shard_file import ROW


def rows_of(numbers):
    rows = np.zeros(len(numbers), ROW)
    rows["key"][:, :8] = np.asarray(numbers, "<u8")[:, None].view(np.uint8)
    rows["offset"] = numbers
    return rows


def key_of(number):
    return int(number).to_bytes(8, "little") + bytes(24)


def test_the_index_finds_the_last_place_of_every_key():
    rng, index, expected = np.random.default_rng(0), EntryIndex(), {}
    for shard in range(60):
        numbers = rng.choice(300, rng.integers(0, 20), replace=False)
        index.add([(shard, rows_of(numbers))])
        expected |= {int(number): shard for number in numbers}
    for number in range(300):
        place = index.find(key_of(number))
        assert (None if place is None else place.shard) == expected.get(number)
        assert place is None or place.offset == number


def test_the_index_forgets_shards_that_have_gone():
    index = EntryIndex()
    index.add([(0, rows_of(range(10))), (1, rows_of(range(5, 15)))])
    index.add([(2, rows_of([3]))])
    index.discard(2)
    index.discard(0)
    assert index.find(key_of(3)) is None
    assert index.find(key_of(12)).shard == 1
    index.add([(3, rows_of(range(20, 60)))])
    assert index.find(key_of(2)) is None
    assert index.find(key_of(7)).shard == 1


def test_the_index_of_many_entries_is_small():
    rng, index = np.random.default_rng(0), EntryIndex()
    tracemalloc.start()
    for shard in range(100):
        index.add([(shard, rows_of(rng.integers(0, 2**60, 1000)))])
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert memory < 100_000 * 32
