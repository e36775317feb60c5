"""A crash-safe, content-addressed store of `.npz` files.

An entry's key is the sha256 of everything that it depends on, so a changed threshold, image or weight file
is a miss and nothing else is. An entry is written to a temporary file beside its place, flushed and renamed:
after a crash there is either the whole entry or none, and two runs on one store do not disturb each other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.errors import StoreError
from sfm_lightglue.store.atomic_file import PART_PATTERN, atomic_write, remove_abandoned_parts

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
"""Part of every key: entries of another layout are never found, so never misread."""

_HEAD = "__head__"
"""Of each entry: its key, and the names of its arrays."""


def make_key(*parts: object) -> str:
    """The sha256 of values: strings, numbers, tuples, mappings and dataclasses of such, in canonical JSON."""
    text = json.dumps([FORMAT_VERSION, *parts], sort_keys=True, default=_plain, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return [type(value).__qualname__, fields]
    raise TypeError(f"{type(value).__name__} cannot be part of a key")


@dataclass(slots=True)
class CacheCounts:
    """How often the store was asked for entries of one kind."""

    hits: int = 0
    misses: int = 0


class Store:
    """A folder of entries, by kind ("features", "matches", ...) and key.

    What killed runs left half written is removed after a day.

    Args:
        root: made if it is missing.

    Raises:
        StoreError: where the folder cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counts: dict[str, CacheCounts] = {}
        self._lock = threading.Lock()
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{root}: cannot be made ({error.strerror}); choose another --output") from error
        remove_abandoned_parts(path for depth in ("", "*/", "*/*/") for path in root.glob(depth + PART_PATTERN))

    def path(self, kind: str, key: str) -> Path:
        """Where the entry lies, or would lie."""
        return self.root / kind / key[:2] / f"{key}.npz"

    def load(self, kind: str, key: str) -> dict[str, AnyArray] | None:
        """The arrays of an entry; None, a miss, where there is none or where it is damaged."""
        arrays = self.read(kind, key)
        with self._lock:
            counts = self.counts.setdefault(kind, CacheCounts())
            if arrays is None:
                counts.misses += 1
            else:
                counts.hits += 1
        return arrays

    def read(self, kind: str, key: str) -> dict[str, AnyArray] | None:
        """As `load`, without being counted: for entries that this run has met already."""
        path = self.path(kind, key)
        try:
            arrays = _read_archive(path)
        except FileNotFoundError:
            return None
        except Exception as error:  # zlib.error, MemoryError, NotImplementedError ...: damaged bytes may say anything
            logger.warning("%s: damaged, will be computed again (%s)", path, error)
            return None
        if arrays.pop(_HEAD, np.zeros(0)).tolist() != [key, *sorted(arrays)]:
            logger.warning("%s: holds something else, will be computed again", path)
            return None
        return arrays

    def save(self, kind: str, key: str, arrays: Mapping[str, AnyArray]) -> None:
        """Write an entry, replacing what is there.

        Raises:
            StoreError: where the folder is not writable or the disk is full.
        """
        path = self.path(kind, key)
        with atomic_write(path) as file:
            entry: dict[str, Any] = {_HEAD: np.array([key, *sorted(arrays)]), **arrays}
            np.savez(file, **entry)


def _read_archive(path: Path) -> dict[str, AnyArray]:
    """All arrays of a `.npz` file. Each is read to its end, where its checksum is compared.

    `np.load` reads as far as the array's own header says, and so overlooks that the header is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        return {
            name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
            for name in archive.namelist()
        }


__all__ = ["FORMAT_VERSION", "CacheCounts", "Store", "atomic_write", "make_key"]
