"""A crash-safe, content-addressed store of results.

The key of an entry is the sha256 of everything that the entry depends on: a changed threshold, image or weight file
is a miss, and nothing else is. Large entries are files of their own. Small entries are written together, as shards: see
`shard_file`. Every file is written to a temporary file in the same folder, flushed and renamed. After a crash, a file
is complete or absent. Several runs can share one store.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.errors import StoreError
from sfm_lightglue.store.atomic_file import PART_PATTERN, atomic_write, remove_abandoned_parts
from sfm_lightglue.store.entry_bytes import decode_entry, encode_entry
from sfm_lightglue.store.entry_file import ForeignEntryError, read_entry_file, write_entry_file
from sfm_lightglue.store.shards import Shards

logger = logging.getLogger(__name__)

ValueT = TypeVar("ValueT")

FORMAT_VERSION = 2
"""Part of every key: entries of another format are not found, so they cannot be misread."""

SHARDED_KINDS = frozenset({"global_descriptors", "matches", "two_view"})
"""Kinds of small entries, of which a store has many. Stores of earlier versions have a file for each of them."""


def make_key(*parts: object) -> str:
    """The sha256 of values in canonical JSON: strings, numbers, tuples, mappings, and dataclasses of these.

    Raises:
        TypeError: if a value has another type, without a canonical form.
    """
    return hashlib.sha256(canonical_json([FORMAT_VERSION, *parts]).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """A value as it is part of the text of a key.

    Raises:
        TypeError: if a value has another type, without a canonical form.
    """
    return _ENCODER.encode(value)


class KeyPrefix:
    """The first parts of many keys: `KeyPrefix(a, b).key(canonical_json(c))` is `make_key(a, b, c)`, but quick.

    Args:
        parts: at least one, as in `make_key`.
    """

    def __init__(self, *parts: object) -> None:
        text = canonical_json([FORMAT_VERSION, *parts])
        self._hasher = hashlib.sha256(text.removesuffix("]").encode())

    def key(self, *texts: str) -> str:
        """The key of further parts.

        Args:
            texts: at least one, each the `canonical_json` of a part.
        """
        hasher = self._hasher.copy()
        hasher.update(f",{','.join(texts)}]".encode())
        return hasher.hexdigest()


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return [type(value).__qualname__, fields]
    raise TypeError(f"{type(value).__name__} cannot be part of a key")


_ENCODER = json.JSONEncoder(sort_keys=True, default=_plain, separators=(",", ":"))


@dataclass(slots=True)
class CacheCounts:
    """Numbers of hits and misses among the loaded entries of one kind."""

    hits: int = 0
    misses: int = 0


class Store:
    """A folder of entries, by kind ("features", "matches", ...) and key.

    Small entries wait in memory for at most five seconds until they are written. Use the store in a `with` statement,
    which writes the last of them at the end of the block, also after an error.

    Part files of killed runs are removed after a day.

    Args:
        root: folder of the store; made if it is missing.

    Raises:
        StoreError: if the folder cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counts: dict[str, CacheCounts] = {}
        self._lock = threading.Lock()
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{root}: cannot be made ({error.strerror}); choose another folder") from error
        remove_abandoned_parts(path for depth in ("", "*/", "*/*/") for path in root.glob(depth + PART_PATTERN))
        self._shards = {kind: Shards(root / kind) for kind in sorted(SHARDED_KINDS)}
        weakref.finalize(self, _flush_quietly, tuple(self._shards.values()))  # of a store that nobody has flushed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for shards in self._shards.values():
            shards.close()
        if error is None:
            self.flush()
        else:
            _flush_quietly(self._shards.values())

    def flush(self) -> None:
        """Write the small entries that wait in memory.

        Raises:
            StoreError: if the folder is not writable, or the disk is full.
        """
        with contextlib.ExitStack() as stack:  # all of them, also if one fails
            for shards in self._shards.values():
                stack.callback(shards.flush)

    def look_again(self) -> None:
        """Find small entries that other processes wrote up to now; else it may take two seconds until they are."""
        for shards in self._shards.values():
            shards.look_again()

    def path(self, kind: str, key: str) -> Path:
        """Path of an entry that is a file of its own, whether it exists or not."""
        return self.root / kind / key[:2] / f"{key}.npz"

    def has(self, kind: str, key: str) -> bool:
        """Whether there is an entry; whether it is damaged shows when it is read. It is not counted."""
        if kind not in self._shards:
            return self.path(kind, key).is_file()
        shards, digest = self._shards[kind], _digest(key)
        return shards.has(digest) or (shards.may_have_file(digest) and self.path(kind, key).is_file())

    def count(self, kind: str, hit: bool) -> None:
        """Count a hit or a miss of an entry that was looked up by `read`."""
        with self._lock:
            counts = self.counts.setdefault(kind, CacheCounts())
            if hit:
                counts.hits += 1
            else:
                counts.misses += 1

    def load(self, kind: str, key: str) -> dict[str, AnyArray] | None:
        """The arrays of an entry. None, a miss, if it is absent or damaged."""
        arrays = self.read(kind, key)
        self.count(kind, hit=arrays is not None)
        return arrays

    def read(self, kind: str, key: str) -> dict[str, AnyArray] | None:
        """Like `load`, but not counted: for entries that this run has loaded or saved before."""
        return self.read_as(kind, key, dict)

    def load_as(self, kind: str, key: str, decode: Callable[[dict[str, AnyArray]], ValueT]) -> ValueT | None:
        """What `decode` makes of the arrays of an entry; None, a miss, if it is absent, or damaged, or raises."""
        value = self.read_as(kind, key, decode)
        self.count(kind, hit=value is not None)
        return value

    def read_as(self, kind: str, key: str, decode: Callable[[dict[str, AnyArray]], ValueT]) -> ValueT | None:
        """Like `load_as`, but not counted."""
        found = next(filter(None, self._read_all(kind, key)), None)
        if found is None:
            return None
        where, arrays = found
        try:
            return decode(arrays)
        except Exception as error:  # arrays that are missing, or have other shapes: KeyError, ValueError, TypeError ...
            problem = f"{type(error).__name__}: {error}"
            logger.warning("%s: not the expected values, will be computed again (%s)", where, problem)
            return None

    def save(self, kind: str, key: str, arrays: Mapping[str, AnyArray]) -> None:
        """Write an entry, replacing an earlier one. Small entries are written later, at the latest by `flush`.

        Raises:
            StoreError: if the folder is not writable, or the disk is full.
        """
        if kind in self._shards:
            self._shards[kind].save(_digest(key), encode_entry(arrays))
        else:
            write_entry_file(self.path(kind, key), key, arrays)

    def _read_all(self, kind: str, key: str) -> Iterator[_Found | None]:
        """An entry from each place where it may be."""
        if kind in self._shards:
            shards, digest = self._shards[kind], _digest(key)
            data = shards.read(digest)
            if data is not None:
                yield _checked(f"{self.root}: the entry {key} of {kind}", lambda: decode_entry(data))
            if not shards.may_have_file(digest):
                return
        path = self.path(kind, key)
        yield _checked(path, lambda: read_entry_file(path, key))


_Found = tuple[str | Path, dict[str, AnyArray]]
"""Where an entry is, for messages, and its arrays."""


def _checked(where: str | Path, read: Callable[[], dict[str, AnyArray]]) -> _Found | None:
    """An entry; None if it is absent, or damaged, which is logged."""
    try:
        return where, read()
    except FileNotFoundError:
        return None
    except ForeignEntryError as error:
        logger.warning("%s: %s, will be computed again", where, error)
    except Exception as error:  # damaged bytes raise zlib.error, MemoryError, NotImplementedError, ...
        logger.warning("%s: damaged, will be computed again (%s)", where, error)
    return None


def _digest(key: str) -> bytes:
    digest = bytes.fromhex(key)
    if len(digest) != 32:
        raise ValueError(f"key: expected 64 hexadecimal digits, got {key!r}")
    return digest


def _flush_quietly(all_shards: Iterable[Shards]) -> None:
    for shards in all_shards:
        shards.flush_quietly()


__all__ = ["FORMAT_VERSION", "CacheCounts", "KeyPrefix", "Store", "atomic_write", "canonical_json", "make_key"]
