"""Sets of pairs: all pairs of some images without a list of them, and what stages need of any set."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from operator import eq
from typing import overload

from sfm_lightglue.types import ImagePair


class AllPairs(Sequence[ImagePair]):
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

    @overload
    def __getitem__(self, index: int) -> ImagePair: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ImagePair, ...]: ...
    def __getitem__(self, index: int | slice) -> ImagePair | tuple[ImagePair, ...]:
        """One pair, or those of a slice."""
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        # Images without a pair of their own, the last one, start at the end.
        first = bisect_right(self._starts[:-1], position) - 1
        return ImagePair(self.names[first], self.names[first + 1 + position - self._starts[first]])

    def __contains__(self, pair: object) -> bool:
        return isinstance(pair, ImagePair) and {pair.name0, pair.name1} <= set(self.names)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AllPairs):
            return self.names == other.names or len(self) == len(other) == 0
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    def __repr__(self) -> str:
        return f"AllPairs({len(self.names)} images, {len(self)} pairs)"


def pairs_among(pairs: Sequence[ImagePair], names: Collection[str]) -> Sequence[ImagePair]:
    """The pairs of which both images have one of the names."""
    wanted = set(names)
    if isinstance(pairs, AllPairs):
        return AllPairs(wanted.intersection(pairs.names))
    return [pair for pair in pairs if pair.name0 in wanted and pair.name1 in wanted]


def in_blocks(pairs: Sequence[ImagePair], block_size: int) -> Iterator[ImagePair]:
    """The pairs in the order of blocks of images, so that the features of two blocks are read once for all their pairs.

    Args:
        pairs: any set.
        block_size: number of images of a block.
    """
    if isinstance(pairs, AllPairs):
        yield from _all_in_blocks(pairs.names, block_size)
        return
    names = sorted({name for pair in pairs for name in (pair.name0, pair.name1)})
    block_from_name = {name: i // block_size for i, name in enumerate(names)}
    yield from sorted(pairs, key=lambda pair: (block_from_name[pair.name0], block_from_name[pair.name1], pair))


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
    else:
        for pair in pairs:
            digest.update(pair.name0.encode() + b"\0" + pair.name1.encode() + b"\0")
    return digest.hexdigest()
