"""Where the entries of many shards are: sorted arrays of 28 bytes an entry, without an object for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sfm_lightglue.store.shard_file import ROW, IndexRows

_PLACE = np.dtype([("shard", "<i4"), ("offset", "<u4"), ("length", "<u4"), ("checksum", "<u8")])

_Block = tuple[npt.NDArray[np.uint64], npt.NDArray[np.void]]
"""First 8 bytes of the keys, sorted, each once; and the places."""


class EntryPlace(NamedTuple):
    """Where an entry is.

    Args:
        shard: number that the index was given for the shard.
        offset: of the first byte within the data of the shard.
        length: number of bytes.
        checksum: of key and bytes.
    """

    shard: int
    offset: int
    length: int
    checksum: int


class EntryIndex:
    """Places of entries by key. Of several entries of one key, the last that was added counts.

    An entry is found by the first 8 bytes of its key. Its checksum, which covers the whole key, tells whether it is
    the right one. New entries go into blocks of their own; blocks of similar size are merged, so that there are few.
    """

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._gone: set[int] = set()

    def add(self, shards: Sequence[tuple[int, IndexRows]]) -> None:
        """Add the entries of shards, each with a number that the index has not had before, in their order."""
        rows = [row for _, row in shards]
        prefixes = np.concatenate([np.zeros((0, 8), np.uint8), *(row["key"][:, :8] for row in rows)])
        places = np.zeros(len(prefixes), _PLACE)
        places["shard"] = np.repeat([shard for shard, _ in shards], [len(row) for row in rows])
        for name in ("offset", "length", "checksum"):
            places[name] = np.concatenate([np.zeros(0, ROW[name]), *(row[name] for row in rows)])
        if len(places) == 0:
            return
        blocks = [*self._blocks, self._merged(np.ascontiguousarray(prefixes).view("<u8")[:, 0], places)]
        while len(blocks) > 1 and 2 * len(blocks[-1][0]) > len(blocks[-2][0]):
            both = [np.concatenate(pair) for pair in zip(*blocks[-2:], strict=True)]
            blocks[-2:] = [self._merged(both[0], both[1])]
        self._blocks = blocks

    def discard(self, shard: int) -> None:
        """Forget the entries of a shard whose file has gone."""
        self._gone.add(shard)

    def find(self, key: bytes) -> EntryPlace | None:
        """The place of the entry of a key; None if there is none."""
        prefix = np.uint64(int.from_bytes(key[:8], "little"))
        for prefixes, places in reversed(self._blocks):
            row = int(prefixes.searchsorted(prefix))
            if row < len(prefixes) and prefixes[row] == prefix:
                place = EntryPlace(*places[row].item())
                if place.shard not in self._gone:
                    return place
        return None

    def _merged(self, prefixes: npt.NDArray[np.uint64], places: npt.NDArray[np.void]) -> _Block:
        if self._gone:
            is_left = ~np.isin(places["shard"], list(self._gone))
            prefixes, places = prefixes[is_left], places[is_left]
        order = np.argsort(prefixes, kind="stable")
        prefixes, places = prefixes[order], places[order]
        is_last = np.ones(len(prefixes), np.bool_)
        is_last[:-1] = prefixes[1:] != prefixes[:-1]
        return prefixes[is_last], places[is_last]
