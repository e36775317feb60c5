"""A crash-safe, content-addressed store of `.npz` files.

The key of an entry is the sha256 of everything that the entry depends on: a changed threshold, image or weight file
is a miss, and nothing else is. An entry is written to a temporary file in the same folder, flushed and renamed.
After a crash, an entry is complete or absent. Several runs can share one store.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import os
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.errors import StoreError
from sfm_lightglue.input_file import open_regular_file
from sfm_lightglue.store.atomic_file import PART_PATTERN, atomic_write, remove_abandoned_parts

logger = logging.getLogger(__name__)

ValueT = TypeVar("ValueT")

FORMAT_VERSION = 2
"""Part of every key: entries of another format are not found, so they cannot be misread."""

_HEAD = "__head__"
"""Array of each entry that holds its key and the names of its other arrays."""


def make_key(*parts: object) -> str:
    """The sha256 of values in canonical JSON: strings, numbers, tuples, mappings, and dataclasses of these.

    Raises:
        TypeError: if a value has another type, without a canonical form.
    """
    text = json.dumps([FORMAT_VERSION, *parts], sort_keys=True, default=_plain, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return [type(value).__qualname__, fields]
    raise TypeError(f"{type(value).__name__} cannot be part of a key")


@dataclass(slots=True)
class CacheCounts:
    """Numbers of hits and misses among the loaded entries of one kind."""

    hits: int = 0
    misses: int = 0


class Store:
    """A folder of entries, by kind ("features", "matches", ...) and key.

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

    def path(self, kind: str, key: str) -> Path:
        """Path of an entry, whether it exists or not."""
        return self.root / kind / key[:2] / f"{key}.npz"

    def has(self, kind: str, key: str) -> bool:
        """Whether there is a file for an entry; whether it is damaged shows when it is read. It is not counted."""
        return self.path(kind, key).is_file()

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
        path = self.path(kind, key)
        try:
            arrays = _read_archive(path)
        except FileNotFoundError:
            return None
        except Exception as error:  # damaged bytes raise zlib.error, MemoryError, NotImplementedError, ...
            logger.warning("%s: damaged, will be computed again (%s)", path, error)
            return None
        head, names = arrays.pop(_HEAD, np.zeros(0)), sorted(arrays)
        if head.shape != (1 + len(names),) or head.tolist() != [key, *names]:
            logger.warning("%s: not the expected entry, will be computed again", path)
            return None
        try:
            return decode(arrays)
        except Exception as error:  # arrays that are missing, or have other shapes: KeyError, ValueError, TypeError ...
            problem = f"{type(error).__name__}: {error}"
            logger.warning("%s: not the expected values, will be computed again (%s)", path, problem)
            return None

    def save(self, kind: str, key: str, arrays: Mapping[str, AnyArray]) -> None:
        """Write an entry, replacing an earlier one.

        Raises:
            StoreError: if the folder is not writable, or the disk is full.
        """
        path = self.path(kind, key)
        with atomic_write(path) as file:
            entry: dict[str, Any] = {_HEAD: np.array([key, *sorted(arrays)]), **arrays}
            np.savez(file, **entry)


def _read_archive(path: Path) -> dict[str, AnyArray]:
    """All arrays of a `.npz` file, each read to its end so that its checksum is verified.

    `np.load` reads only the bytes that an array's header announces, so it does not detect a damaged header. Entries
    are written without compression: an archive that could be unpacked to more bytes than it has is none of ours.
    """
    with open_regular_file(path) as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("compressed")
        if sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size:
            raise ValueError("its arrays are larger than the file")
        return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}


def _array(data: bytes) -> AnyArray:
    stream = io.BytesIO(data)
    array: AnyArray = np.lib.format.read_array(stream, allow_pickle=False)
    if stream.read(1):
        raise ValueError("an array is smaller than its bytes")
    return array


__all__ = ["FORMAT_VERSION", "CacheCounts", "Store", "atomic_write", "make_key"]
