"""Sets of pairs without an object for each pair."""

from __future__ import annotations

import sys
import tracemalloc
from itertools import islice

import numpy as np
import pytest

from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.pairs.pair_sets import AllPairs, IndexedPairs, in_blocks, pairs_among, pairs_digest
from sfm_lightglue.types import ImagePair


def names(count: int) -> list[str]:
    return [f"{i:05d}.jpg" for i in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_all_pairs_are_the_same_sequence_as_their_list(count: int) -> None:
    pairs = AllPairs(names(count))
    listed = tuple(pairs)
    assert len(listed) == len(pairs) == count * (count - 1) // 2
    assert pairs == listed
    assert [pairs[i] for i in range(len(pairs))] == list(listed)
    assert [pairs[-1 - i] for i in range(len(pairs))] == list(reversed(listed))
    assert pairs[1:5] == listed[1:5]
    assert all(pair in pairs for pair in listed)
    assert ImagePair("00000.jpg", "other.jpg") not in pairs
    with pytest.raises(IndexError):
        pairs[len(pairs)]


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 20])
def test_all_pairs_and_their_list_are_worked_through_in_the_same_order(count: int) -> None:
    pairs = AllPairs(names(count))
    assert sorted(in_blocks(tuple(pairs), 3)) == list(pairs)
    assert sorted(in_blocks(pairs, 3)) == list(pairs)


def test_pairs_of_some_images() -> None:
    pairs = AllPairs(names(6))
    kept = [*names(6)[1:4], "not in the set.jpg"]
    assert pairs_among(pairs, kept) == pairs_among(tuple(pairs), kept) == AllPairs(names(6)[1:4])


def test_millions_of_pairs_take_no_memory() -> None:
    pairs = AllPairs(names(5000))
    assert len(pairs) == 12_497_500
    assert pairs[-1] == ImagePair("04998.jpg", "04999.jpg")
    assert len(list(islice(in_blocks(pairs, 48), 100))) == 100
    assert sys.getsizeof(pairs.names) + sys.getsizeof(pairs._starts) < 200_000


def test_other_pairs_have_another_digest() -> None:
    pairs = AllPairs(names(4))
    different = [pairs, AllPairs(names(3)), tuple(pairs)[1:], (ImagePair("a", "bc"),), (ImagePair("ab", "c"),), ()]
    assert len({pairs_digest(one) for one in different}) == len(different)
    assert pairs_digest(pairs) == pairs_digest(AllPairs(names(4)))


def some_pairs(count: int, num_pairs: int) -> tuple[list[ImagePair], IndexedPairs]:
    """Random pairs of images as a sorted list and as rows."""
    rows = np.random.default_rng(count).integers(0, max(count, 1), (num_pairs if count else 0, 2))
    listed = sorted({ImagePair.from_names(names(count)[i], names(count)[j]) for i, j in rows if i != j})
    return listed, IndexedPairs.from_rows(names(count), rows)


@pytest.mark.parametrize(("count", "num_pairs"), [(0, 0), (2, 1), (5, 3), (40, 200), (300, 2000)])
def test_rows_are_the_same_sequence_as_their_list(count: int, num_pairs: int) -> None:
    listed, pairs = some_pairs(count, num_pairs)
    assert len(pairs) == len(listed)
    assert pairs == listed and tuple(listed) == pairs
    assert list(pairs) == [pairs[i] for i in range(len(pairs))] == listed
    assert pairs[-3:] == tuple(listed[-3:])
    assert pairs_digest(pairs) == pairs_digest(listed)
    assert list(in_blocks(pairs, 7)) == list(in_blocks(listed, 7))
    kept = set(names(count)[::2]) | {"not in the set.jpg"}
    assert pairs_among(pairs, kept) == pairs_among(listed, kept)
    assert IndexedPairs.from_pairs((), listed) == IndexedPairs.from_pairs(names(count), pairs) == pairs


def test_images_that_are_paired_come_close_together() -> None:
    num, window = 400, 5
    shuffled = np.random.default_rng(3).permutation(num)  # neighbours on the way have unrelated names
    steps = np.arange(num - window)
    rows = np.concatenate([np.stack([steps, steps + k], axis=1) for k in range(1, window + 1)])
    pairs = IndexedPairs.from_rows(names(num), shuffled[rows])
    ordered = list(in_blocks(pairs, 20))
    assert sorted(ordered) == list(pairs)

    def num_reads(order: list[ImagePair]) -> int:
        cache: LruCache[str, bool] = LruCache(40)
        reads = 0
        for name in (name for pair in order for name in (pair.name0, pair.name1)):
            reads += cache.get(name) is None
            cache.put(name, True)
        return reads

    assert num_reads(ordered) <= 1.1 * num
    assert num_reads(list(pairs)) > 3 * num


def test_rows_may_come_in_any_order_swapped_repeated_and_of_one_image() -> None:
    pairs = IndexedPairs.from_rows(["c", "a", "b"], np.array([[0, 1], [1, 0], [2, 2], [2, 1]]))
    assert pairs.names == ("a", "b", "c")
    assert list(pairs) == [ImagePair("a", "b"), ImagePair("a", "c")]
    assert ImagePair("a", "c") in pairs and ImagePair("b", "c") not in pairs and ImagePair("a", "z") not in pairs


@pytest.mark.parametrize("rows", [[[1, 0]], [[0, 0]], [[0, 2]], [[0, 1], [0, 1]], [[-1, 1]]])
def test_rows_that_are_not_sorted_are_refused(rows: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="rows"):
        IndexedPairs(("a", "b"), np.array(rows, np.int32))


def test_names_that_are_not_sorted_are_refused() -> None:
    with pytest.raises(ValueError, match="sorted"):
        IndexedPairs(("b", "a"), np.zeros((0, 2), np.int32))


def test_union_difference_and_intersection_are_those_of_sets() -> None:
    listed0, pairs0 = some_pairs(30, 80)
    listed1, pairs1 = some_pairs(45, 200)
    for other in (pairs1, listed1, AllPairs(names(10)), ()):
        assert list(pairs0.union(other)) == sorted({*listed0, *other})
        assert list(pairs0.without(other)) == sorted({*listed0} - {*other})
        assert list(pairs0.common(other)) == sorted({*listed0} & {*other})


def test_all_pairs_with_others_and_without_some_are_those_of_sets() -> None:
    everything = AllPairs(names(30))
    listed, indexed = some_pairs(30, 80)
    more = [ImagePair("00003.jpg", "another.jpg")]
    for other in (indexed, listed, AllPairs(names(10)), ()):
        assert everything.union(other) is everything
        assert list(everything.without(other)) == sorted({*everything} - {*other})
    assert list(everything.union(more)) == sorted({*everything, *more})
    assert everything.without(more) is everything and len(everything.without(everything)) == 0


def test_all_pairs_without_some_take_little_more_memory_than_their_rows() -> None:
    everything = AllPairs(names(2000))
    tracemalloc.start()
    left = everything.without([everything[5], everything[-1]])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(left, IndexedPairs) and len(left) == len(everything) - 2
    assert peak < 1.5 * left.rows.nbytes
