"""The small entries of one kind: collected in memory, written together as shards, and read one by one."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sfm_lightglue.errors import StoreError
from sfm_lightglue.store.atomic_file import flush_folder
from sfm_lightglue.store.entry_index import EntryIndex, EntryPlace
from sfm_lightglue.store.shard_file import (
    CAN_STAY_OPEN,
    DamagedShardError,
    IndexRows,
    OpenShard,
    ShardIndex,
    checksum_of,
    read_shard_index,
    shard_number,
    verified,
    write_shard,
)

logger = logging.getLogger(__name__)

ENTRIES_PER_SHARD = 256
"""A shard is written when this many entries wait ..."""

BYTES_PER_SHARD = 1 << 24
"""... or their bytes are this many ..."""

MAX_WAIT_S = 5.0
"""... or the first of them has waited this long."""

LOOK_AGAIN_S = 2.0
"""After an entry was not found, the folder is searched for shards of other processes, at most once in this time."""

_SHARDS_AT_ONCE = 64
"""Shards whose full indices are in memory together."""

_MAX_OPEN = 16
"""Shards of a kind that are kept open."""

_OLD_FOLDER = re.compile(r"[0-9a-f]{2}")


@dataclass(frozen=True, eq=False, slots=True)
class _OwnShard:
    """A small shard that this process has written: its number in the index, and the bytes of its entries by key."""

    idx: int
    entries: Mapping[bytes, bytes]


class Shards:
    """The shards of one kind of a store, and the entries that wait for being written.

    A shard that holds few entries, because they came slowly, is later merged with the following ones of this process:
    n entries need about n / 256 files, and each is written at most log2(256) times.

    Args:
        folder: of the kind; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()  # a finalizer may run in a thread that has it
        self._index = EntryIndex()
        self._paths: dict[int, Path] = {}
        self._starts: dict[int, int] = {}
        self._known: set[str] = set()
        self._old_folders: frozenset[str] = frozenset()
        self._next_number = 1
        self._looked_s: float | None = None
        self._waiting: dict[bytes, bytes] = {}
        self._num_waiting_bytes = 0
        self._writing = threading.RLock()
        self._being_written: dict[bytes, bytes] = {}
        self._small: list[_OwnShard] = []
        self._timer: threading.Timer | None = None
        self._open: dict[int, OpenShard] = {}

    def may_have_file(self, key: bytes) -> bool:
        """Whether the folder of an entry that is a file of its own existed when the folder was searched."""
        with self._lock:
            self._look()
            return key[:1].hex() in self._old_folders

    def look_again(self) -> None:
        """Search the folder for shards of other processes at the next look-up, however short ago it was searched."""
        with self._lock:
            self._looked_s = None

    def has(self, key: bytes) -> bool:
        """Whether there is an entry; whether it is damaged shows when it is read."""
        with self._lock:
            return self._unwritten(key) is not None or self._find(key) is not None

    def read(self, key: bytes) -> bytes | None:
        """The bytes of an entry; None if it is absent, or damaged, which is logged."""
        for _ in range(3):  # another process may replace the shard meanwhile
            with self._lock:
                unwritten = self._unwritten(key)
                place = None if unwritten is not None else self._find(key)
                if place is None:
                    return unwritten
                path, start = self._paths[place.shard], self._starts[place.shard]
            try:
                data = self._opened(place.shard, path).read(start + place.offset, place.length)
            except OSError as error:
                with self._lock:
                    was_open = self._open.pop(place.shard, None) is not None
                    if error.errno in {errno.ENOENT, errno.ESTALE} and not was_open:  # it has gone
                        self._index.discard(place.shard)
                        self._looked_s = None
                if was_open or error.errno in {errno.ENOENT, errno.ESTALE}:
                    continue
                logger.warning("%s: cannot be read, an entry will be computed again (%s)", path, error)
                return None
            if len(data) == place.length and checksum_of(key, data) == place.checksum:
                return data
            logger.warning("%s: the entry %s is damaged, will be computed again", path, key.hex())
            return None
        return None

    def _opened(self, shard: int, path: Path) -> OpenShard:
        """A shard that is open: neighbours in the order of the pairs are in the same few shards."""
        if not CAN_STAY_OPEN:
            return OpenShard(path)
        with self._lock:
            found = self._open.pop(shard, None)
            if found is not None:
                self._open[shard] = found  # at the end: the first one was used the longest time ago
                return found
        found = OpenShard(path)
        with self._lock:
            self._open[shard] = found
            if len(self._open) > _MAX_OPEN:
                del self._open[next(iter(self._open))]
        return found

    def close(self) -> None:
        """Close the shards that are open for reading; the next read opens them again."""
        with self._lock:
            self._open.clear()

    def save(self, key: bytes, data: bytes) -> None:
        """Add an entry, or replace it. It is written at the latest after `MAX_WAIT_S`, and by `flush`.

        Raises:
            StoreError: if a shard is due, and the folder is not writable, or the disk is full.
        """
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(MAX_WAIT_S, self.flush_quietly)
                self._timer.daemon = True
                self._timer.start()
            self._waiting[key] = data
            self._num_waiting_bytes += len(data)
            is_due = self._is_due()
        if is_due:
            self._write(only_if_due=True)

    def flush(self) -> None:
        """Write the entries that wait; wait for the end if another thread writes them.

        Raises:
            StoreError: if the folder is not writable, or the disk is full. The entries are kept for the next attempt.
        """
        self._write()

    def flush_quietly(self) -> None:
        """`flush`; a failure is left to the next `save` or `flush`. A store that was removed stays removed."""
        if self.folder.parent.is_dir():
            with contextlib.suppress(StoreError):
                self.flush()

    def _is_due(self) -> bool:
        return len(self._waiting) >= ENTRIES_PER_SHARD or self._num_waiting_bytes >= BYTES_PER_SHARD

    def _write(self, only_if_due: bool = False) -> None:
        """Write one shard. What an earlier attempt could not write, or an interrupted one, is in it too."""
        with self._writing:
            with self._lock:
                if only_if_due and not self._is_due():  # another thread was faster
                    return
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
                self._being_written.update(self._waiting)
                self._waiting, self._num_waiting_bytes = {}, 0
                if not self._being_written:
                    return
                self._look()
                number, self._next_number = self._next_number, self._next_number + 1
                merged = self._small_to_merge(len(self._being_written))
                entries = {key: data for shard in merged for key, data in shard.entries.items()} | self._being_written
            written = write_shard(self.folder, number, entries)
            with self._lock:
                (idx,) = self._add([written])
                self._being_written = {}
                del self._small[len(self._small) - len(merged) :]
                if len(entries) < ENTRIES_PER_SHARD:
                    self._small.append(_OwnShard(idx, entries))
            if merged:
                self._remove(merged)

    def _unwritten(self, key: bytes) -> bytes | None:
        return self._waiting.get(key) or self._being_written.get(key)

    def _find(self, key: bytes) -> EntryPlace | None:
        self._look()
        place = self._index.find(key)
        if place is None and self._look(again=True):
            place = self._index.find(key)
        return place

    def _look(self, again: bool = False) -> bool:
        """Add the shards of the folder that are not known yet; returns whether the folder was searched."""
        now = time.monotonic()
        if self._looked_s is not None and not (again and now - self._looked_s >= LOOK_AGAIN_S):
            return False
        self._looked_s = now
        try:
            names = sorted(os.listdir(self.folder))
        except (FileNotFoundError, NotADirectoryError):
            names = []
        except OSError as error:
            logger.warning("%s: cannot be searched, entries will be computed again (%s)", self.folder, error)
            names = []
        self._old_folders = frozenset(name for name in names if _OLD_FOLDER.fullmatch(name))
        unknown = [name for name in names if shard_number(name) is not None and name not in self._known]
        self._known.update(unknown)
        for first in range(0, len(unknown), _SHARDS_AT_ONCE):
            names = unknown[first : first + _SHARDS_AT_ONCE]
            self._add(filter(None, (_readable_index(self.folder / name) for name in names)))
        return True

    def _add(self, shards: Iterable[ShardIndex]) -> list[int]:
        """Add shards to the index; returns their numbers in it."""
        added: list[tuple[int, IndexRows]] = []
        for shard in shards:
            idx = len(self._paths)
            self._paths[idx], self._starts[idx] = shard.path, shard.data_start
            self._known.add(shard.path.name)
            self._next_number = max(self._next_number, shard.number + 1)
            added.append((idx, shard.rows))
        self._index.add(added)
        return [idx for idx, _ in added]

    def _small_to_merge(self, num_entries: int) -> list[_OwnShard]:
        """The last small shards of this process that are merged with a number of entries."""
        merged: list[_OwnShard] = []
        for shard in reversed(self._small):
            if len(shard.entries) > num_entries:
                break
            merged.insert(0, shard)
            num_entries += len(shard.entries)
        return merged

    def _remove(self, shards: Iterable[_OwnShard]) -> None:
        """Remove shards whose entries are in a later one."""
        flush_folder(self.folder)
        for shard in shards:
            with self._lock:
                self._index.discard(shard.idx)
                self._open.pop(shard.idx, None)
            with contextlib.suppress(OSError):  # another process has removed it, or reads it on Windows
                self._paths[shard.idx].unlink()


def _readable_index(path: Path) -> ShardIndex | None:
    """The index of a shard, without damaged rows; None if it has gone, or if it is too damaged."""
    try:
        index = read_shard_index(path)
        if index.is_whole:
            return index
        logger.warning("%s: damaged, some of its entries will be computed again", path)
        return dataclasses.replace(index, rows=index.rows[sorted(verified(index))])
    except FileNotFoundError:
        return None
    except (DamagedShardError, OSError, MemoryError) as error:
        what = "damaged" if isinstance(error, DamagedShardError) else "cannot be read"
        logger.warning("%s: %s, its entries will be computed again (%s)", path, what, error)
        return None
