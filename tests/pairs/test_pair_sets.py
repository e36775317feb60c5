"""All pairs of many images without a list of them."""

from __future__ import annotations

import sys
from itertools import islice

import pytest

from sfm_lightglue.pairs.pair_sets import AllPairs, in_blocks, pairs_among, pairs_digest
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
    assert list(in_blocks(pairs, 3)) == list(in_blocks(tuple(pairs), 3))
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
