"""Sets of pairs without an object for each pair, and what stages need of any set."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from operator import eq
from typing import overload

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee

from sfm_lightglue.arrays import AnyArray, BoolArray, IndexArray, Int32Array, require_array
from sfm_lightglue.types import ImagePair

_CHUNK = 1 << 16
"""Number of rows that are converted to Python objects at a time."""


class _SequenceOfPairs(Sequence[ImagePair]):
    """What the sets have in common: a subclass defines the number of pairs and `pair_at`."""

    names: tuple[str, ...]

    def pair_at(self, position: int) -> ImagePair:
        """The pair at a position from 0 to the number of pairs - 1."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> ImagePair: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ImagePair, ...]: ...
    def __getitem__(self, index: int | slice) -> ImagePair | tuple[ImagePair, ...]:
        """One pair, or those of a slice."""
        if isinstance(index, slice):
            return tuple(self.pair_at(i) for i in range(*index.indices(len(self))))
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        return self.pair_at(position)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.names)} images, {len(self)} pairs)"


class AllPairs(_SequenceOfPairs):
    """Every image with every other, sorted. Each pair is made when it is asked for: 5,000 images have 12 million.

    Args:
        names: of the images, without repetition.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.names = tuple(sorted(names))
        num = len(self.names)
        self._starts = [i * num - i * (i + 1) // 2 for i in range(num)]  # index of the first pair of each image

    def __len__(self) -> int:
        return len(self.names) * (len(self.names) - 1) // 2

    def __iter__(self) -> Iterator[ImagePair]:
        return (ImagePair(name0, name1) for name0, name1 in combinations(self.names, 2))

    def pair_at(self, position: int) -> ImagePair:
        """The pair at a position from 0 to the number of pairs - 1."""
        # Images without a pair of their own, the last one, start at the end.
        first = bisect_right(self._starts[:-1], position) - 1
        return ImagePair(self.names[first], self.names[first + 1 + position - self._starts[first]])

    def __contains__(self, pair: object) -> bool:
        return isinstance(pair, ImagePair) and {pair.name0, pair.name1} <= set(self.names)

    def union(self, other: Sequence[ImagePair]) -> AllPairs | IndexedPairs:
        """The pairs of either set; this one itself if the other has no other names."""
        if not isinstance(other, AllPairs):
            other = IndexedPairs.from_pairs((), other)
        if set(other.names) <= set(self.names):
            return self
        return IndexedPairs.from_pairs(other.names, self).union(other)

    def without(self, other: Sequence[ImagePair]) -> AllPairs | IndexedPairs:
        """The pairs that are not in another set; this set itself if it has none of them."""
        left_out = IndexedPairs.from_pairs((), other).among_names(self.names)
        return IndexedPairs(self.names, _all_rows(len(self.names), left_out.rows)) if left_out else self

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AllPairs):
            return self.names == other.names or len(self) == len(other) == 0
        return super().__eq__(other)


class IndexedPairs(_SequenceOfPairs):
    """Pairs as rows of names, sorted. Each pair is made when it is asked for: a million pairs take 8 MB.

    Args:
        names: of images, sorted, without repetition; some may be in no pair.
        rows: [P, 2] int32 indices of names, the first of each row smaller than the second, rows sorted, without
            repetition. `from_rows` takes them in any order.

    Raises:
        ValueError: if names or rows are not sorted.
    """

    def __init__(self, names: tuple[str, ...], rows: Int32Array) -> None:
        require_array("rows", rows, np.int32, (len(rows), 2))
        for start in range(0, len(rows), _CHUNK):  # not at once: a temporary array would be larger than the rows
            chunk = rows[start : start + _CHUNK + 1]
            if chunk.min() < 0 or chunk.max() >= len(names) or (chunk[:, 0] >= chunk[:, 1]).any():
                raise ValueError(f"rows: expected indices i < j of {len(names)} names in each row")
            if (np.diff(_codes(chunk, len(names))) <= 0).any():
                raise ValueError("IndexedPairs: rows must be sorted, without repetition")
        if any(a >= b for a, b in pairwise(names)):
            raise ValueError("IndexedPairs: names must be sorted, without repetition")
        self.names = names
        self.rows = rows

    @classmethod
    def from_rows(cls, names: Sequence[str], rows: AnyArray) -> IndexedPairs:
        """From rows in any order, repeated or swapped; a row of twice the same image is left out.

        Args:
            names: of images, in any order, without repetition.
            rows: [P, 2] integer indices of names.
        """
        order = sorted(range(len(names)), key=names.__getitem__)
        rank = np.empty(len(names), np.int64)
        rank[order] = np.arange(len(names))
        first, second = rank[np.asarray(rows, np.int64).reshape(-1, 2)].T
        ranked = np.stack((np.minimum(first, second), np.maximum(first, second)), axis=1)[first != second]
        codes = _without_repetition(_codes(ranked, len(names)))
        return cls(tuple(names[i] for i in order), _rows(codes, len(names)))

    @classmethod
    def from_pairs(cls, names: Iterable[str], pairs: Iterable[ImagePair]) -> IndexedPairs:
        """From pairs in any order.

        Args:
            names: of images, without repetition; those of the pairs are added if they are missing.
            pairs: any set; repeated pairs count once.
        """
        if isinstance(pairs, IndexedPairs):
            return pairs.among_names({*names, *pairs.names})
        if isinstance(pairs, AllPairs):
            all_rows = _all_rows(len(pairs.names), np.zeros((0, 2), np.int32))
            return cls(pairs.names, all_rows).among_names({*names, *pairs.names})
        idx_from_name = {name: i for i, name in enumerate(names)}
        rows = [
            (
                idx_from_name.setdefault(pair.name0, len(idx_from_name)),
                idx_from_name.setdefault(pair.name1, len(idx_from_name)),
            )
            for pair in pairs
        ]
        return cls.from_rows(list(idx_from_name), np.array(rows, np.int64).reshape(-1, 2))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ImagePair]:
        return _pairs_of_rows(self.names, self.rows)

    def pair_at(self, position: int) -> ImagePair:
        """The pair at a position from 0 to the number of pairs - 1."""
        row0, row1 = self.rows[position].tolist()
        return ImagePair(self.names[row0], self.names[row1])

    def __contains__(self, pair: object) -> bool:
        return isinstance(pair, ImagePair) and len(self.common([pair])) == 1

    def __eq__(self, other: object) -> bool:
        if isinstance(other, IndexedPairs) and self.names == other.names:
            return np.array_equal(self.rows, other.rows)
        return super().__eq__(other)

    def among_names(self, names: Collection[str]) -> IndexedPairs:
        """The pairs of which both images have one of the names, as rows of these names."""
        kept = tuple(sorted(set(names)))
        if kept == self.names:
            return self
        idx_from_name = {name: i for i, name in enumerate(kept)}
        new_idx = np.array([idx_from_name.get(name, -1) for name in self.names], np.int32)
        rows = new_idx[self.rows] if len(self.names) > 0 else self.rows
        return IndexedPairs(kept, rows[(rows >= 0).all(axis=1)])  # both are sorted by name: the order stays

    def union(self, other: Sequence[ImagePair]) -> IndexedPairs:
        """The pairs of either set; the names of both."""
        names, codes0, codes1 = self._codes_with(other)
        return IndexedPairs(names, _rows(_without_repetition(np.concatenate((codes0, codes1))), len(names)))

    def without(self, other: Sequence[ImagePair]) -> IndexedPairs:
        """The pairs that are not in another set."""
        _, codes0, codes1 = self._codes_with(other)
        return IndexedPairs(self.names, self.rows[~_is_in(codes0, codes1)])

    def common(self, other: Sequence[ImagePair]) -> IndexedPairs:
        """The pairs that are in another set too."""
        _, codes0, codes1 = self._codes_with(other)
        return IndexedPairs(self.names, self.rows[_is_in(codes0, codes1)])

    def _codes_with(self, other: Sequence[ImagePair]) -> tuple[tuple[str, ...], IndexArray, IndexArray]:
        """The names of both sets, and the codes of the pairs of each by these names."""
        theirs = IndexedPairs.from_pairs(self.names, other)
        ours = self if theirs.names == self.names else self.among_names(theirs.names)
        return theirs.names, _codes(ours.rows, len(theirs.names)), _codes(theirs.rows, len(theirs.names))


def _codes(rows: AnyArray, num_names: int) -> IndexArray:
    """One number for each row, in the order of the rows."""
    wide = rows.astype(np.int64)
    codes: IndexArray = wide[:, 0] * num_names + wide[:, 1]
    return codes


def _without_repetition(codes: IndexArray) -> IndexArray:
    """Sorted codes, each once; a tenth of the time of `np.unique`."""
    ordered = np.sort(codes)
    return ordered[np.diff(ordered, prepend=-1) > 0]


def _is_in(codes: IndexArray, others: IndexArray) -> BoolArray:
    """Whether each code is among sorted others; a tenth of the time of `np.isin`."""
    found = np.searchsorted(others, codes)
    found_codes = np.append(others, -1)[found]  # no code is negative
    is_in: BoolArray = found_codes == codes
    return is_in


def _rows(codes: IndexArray, num_names: int) -> Int32Array:
    return np.stack(np.divmod(codes, max(num_names, 1)), axis=1).astype(np.int32)


def _all_rows(num: int, left_out: Int32Array) -> Int32Array:
    """[P, 2] the rows of all pairs of `num` names, without sorted rows [Q, 2]; no temporary array of their size."""
    rows = np.empty((num * (num - 1) // 2 - len(left_out), 2), np.int32)
    starts = np.searchsorted(left_out[:, 0], np.arange(num + 1)).tolist()
    end = 0
    for first in range(num):
        seconds = np.delete(np.arange(first + 1, num), left_out[starts[first] : starts[first + 1], 1] - (first + 1))
        start, end = end, end + len(seconds)
        rows[start:end, 0], rows[start:end, 1] = first, seconds
    return rows


def _pairs_of_rows(names: Sequence[str], rows: Int32Array) -> Iterator[ImagePair]:
    for start in range(0, len(rows), _CHUNK):
        for row0, row1 in rows[start : start + _CHUNK].tolist():
            yield ImagePair(names[row0], names[row1])


def pairs_among(pairs: Sequence[ImagePair], names: Collection[str]) -> Sequence[ImagePair]:
    """The pairs of which both images have one of the names."""
    wanted = set(names)
    if isinstance(pairs, AllPairs):
        return AllPairs(wanted.intersection(pairs.names))
    if isinstance(pairs, IndexedPairs):
        return pairs.among_names(wanted.intersection(pairs.names))
    return [pair for pair in pairs if pair.name0 in wanted and pair.name1 in wanted]


def in_blocks(pairs: Sequence[ImagePair], block_size: int) -> Iterator[ImagePair]:
    """The pairs in an order in which few images are in use at a time, so that features are seldom read again.

    All pairs come block by block. Of other sets, images that are paired with each other come close together, by the
    order of Cuthill and McKee: two reads an image instead of seven, for 10,000 images with ten neighbours each.

    Args:
        pairs: any set.
        block_size: number of images of a block. The features of two blocks fit into memory.
    """
    if isinstance(pairs, AllPairs):
        yield from _all_in_blocks(pairs.names, block_size)
        return
    indexed = IndexedPairs.from_pairs((), pairs)
    num = len(indexed.names)
    if num > 2 * block_size:
        links = (np.ones(len(indexed), np.int8), (indexed.rows[:, 0], indexed.rows[:, 1]))
        graph = coo_matrix(links, (num, num)).tocsr()
        rank = np.empty(num, np.int64)
        rank[reverse_cuthill_mckee(graph + graph.T, symmetric_mode=True)] = np.arange(num)
        ranked = np.sort(rank[indexed.rows], axis=1)
        order = np.lexsort((ranked[:, 1], ranked[:, 0]))
        yield from _pairs_of_rows(indexed.names, indexed.rows[order])
    else:
        yield from indexed


def _all_in_blocks(names: Sequence[str], block_size: int) -> Iterator[ImagePair]:
    blocks = [names[start : start + block_size] for start in range(0, len(names), block_size)]
    for i, block in enumerate(blocks):
        yield from (ImagePair(name0, name1) for name0, name1 in combinations(block, 2))
        for later in blocks[i + 1 :]:
            yield from (ImagePair(name0, name1) for name0 in block for name1 in later)


def pairs_digest(pairs: Sequence[ImagePair]) -> str:
    """A digest of a set of pairs for keys; that of all pairs is made from the names alone."""
    digest = hashlib.sha256()
    if isinstance(pairs, AllPairs):
        digest.update(b"all pairs")
        for name in pairs.names:
            digest.update(name.encode() + b"\0")
    elif isinstance(pairs, IndexedPairs):
        encoded = [name.encode() + b"\0" for name in pairs.names]
        for start in range(0, len(pairs), _CHUNK):
            chunk = pairs.rows[start : start + _CHUNK].ravel().tolist()
            digest.update(b"".join([encoded[row] for row in chunk]))
    else:
        for pair in pairs:
            digest.update(pair.name0.encode() + b"\0" + pair.name1.encode() + b"\0")
    return digest.hexdigest()
