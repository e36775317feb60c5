"""Shards: `.npz` files with many small entries, which are read one by one.

A shard has two arrays. `index` has one row for each entry, with its key, its place in `data` and its checksum; `data`
has the bytes of the entries (see `entry_bytes`), one after the other. The name of the file is a number, by which a
later shard replaces entries of an earlier one, and the digest of the index.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from sfm_lightglue.input_file import open_regular_file
from sfm_lightglue.store.atomic_file import atomic_write

ROW = np.dtype([("key", "u1", 32), ("offset", "<u4"), ("length", "<u4"), ("checksum", "<u8")])
"""A row of the index: sha256 of the entry's key, first byte and number of bytes in `data`, and `checksum_of`."""

IndexRows = npt.NDArray[np.void]
"""[N] rows of type `ROW`."""

SHARD_NAME = re.compile(r"(\d{8})-[0-9a-f]{32}\.npz")

_ZIP_HEADER_BYTES = 30
_NPY_PREFIX_BYTES = 10
_MEMBERS = ("index.npy", "data.npy")


class DamagedShardError(ValueError):
    """A shard whose index cannot be read."""


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The index of a shard.

    Args:
        path: of the file.
        number: of its name.
        rows: of the entries.
        data_start: position of `data` in the file, in bytes.
        is_whole: whether the checksum of the index is right. If not, rows that are not `verified` may be wrong.
    """

    path: Path
    number: int
    rows: IndexRows
    data_start: int
    is_whole: bool


def checksum_of(key: bytes, data: bytes) -> int:
    """The checksum of an entry: 8 bytes of a BLAKE2b digest of its key and its bytes, little-endian."""
    return int.from_bytes(hashlib.blake2b(key + data, digest_size=8).digest(), "little")


def shard_number(name: str) -> int | None:
    """The number in the name of a shard; None for other files."""
    match = SHARD_NAME.fullmatch(name)
    return None if match is None else int(match[1])


def write_shard(folder: Path, number: int, data_from_key: Mapping[bytes, bytes]) -> ShardIndex:
    """Write a shard atomically, in one file that is flushed once.

    Args:
        folder: of the kind.
        number: larger than that of all shards whose entries it may replace.
        data_from_key: bytes of `encode_entry` by digest of the key.

    Raises:
        StoreError: if the folder is not writable, or the disk is full.
    """
    rows = np.zeros(len(data_from_key), ROW)
    rows["key"] = np.frombuffer(b"".join(data_from_key), np.uint8).reshape(-1, 32)
    rows["length"] = [len(data) for data in data_from_key.values()]
    rows["offset"] = np.cumsum(rows["length"], dtype=np.uint32) - rows["length"]
    rows["checksum"] = [checksum_of(key, data) for key, data in data_from_key.items()]
    data = np.frombuffer(b"".join(data_from_key.values()), np.uint8)
    contents = _as_npy(rows), _as_npy(data)
    path = folder / f"{number:08d}-{_digest_of(rows)}.npz"
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in zip(_MEMBERS, contents, strict=True):
            archive.writestr(zipfile.ZipInfo(name), content)
    before_data = sum(_ZIP_HEADER_BYTES + len(name) for name in _MEMBERS) + sum(map(len, contents))
    return ShardIndex(path, number, rows, before_data - data.nbytes, True)


def read_shard_index(path: Path) -> ShardIndex:
    """Read the index of a shard, and nothing else. The table at the end of the archive is not needed.

    Raises:
        OSError: if the file is not there, or cannot be read.
        MemoryError: if there is no memory for the index.
        DamagedShardError: if it is no shard, or if it is too damaged to find the index.
    """
    number = shard_number(path.name)
    try:
        with open_regular_file(path) as file:
            num_bytes = os.fstat(file.fileno()).st_size
            content = file.read(_find_member(file, _MEMBERS[0], num_bytes))
            rows = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
            _find_member(file, _MEMBERS[1], num_bytes)
            data_start = file.tell() + _npy_header_bytes(file.read(_NPY_PREFIX_BYTES))
        if number is None or rows.dtype != ROW or rows.ndim != 1:
            raise ValueError("not the expected name or index")
    except (OSError, MemoryError):  # the file may be undamaged
        raise
    except Exception as error:  # damaged bytes raise many kinds of exceptions
        raise DamagedShardError(str(error) or type(error).__name__) from error
    return ShardIndex(path, number, rows, data_start, path.name[9:41] == _digest_of(rows))


class OpenShard:
    """A shard that is open for reading by several threads; it is closed when nobody has it any more.

    Args:
        path: of the file.

    Raises:
        OSError: if it cannot be opened.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, path: Path) -> None:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        self._descriptor = os.open(path, flags)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):  # it was not opened
            os.close(self._descriptor)

    def read(self, start: int, length: int) -> bytes:
        """Some bytes; fewer, if the file ends before.

        Raises:
            OSError: if the file cannot be read.
        """
        if CAN_STAY_OPEN:
            return os.pread(self._descriptor, length, start)  # fails for pipes
        os.lseek(self._descriptor, start, os.SEEK_SET)
        return os.read(self._descriptor, length)


CAN_STAY_OPEN = hasattr(os, "pread")
"""Whether a shard may stay open. On Windows, an open file cannot be removed, and threads share its position."""


def verified(index: ShardIndex) -> dict[int, bytes]:
    """The bytes of the undamaged entries of a shard, by row.

    Raises:
        OSError: if the file cannot be read.
    """
    with open_regular_file(index.path) as file:
        file.seek(index.data_start)
        data = file.read()
    found = {}
    rows = index.rows
    for row in range(len(rows)):
        offset, length, checksum = (int(rows[name][row]) for name in ("offset", "length", "checksum"))
        entry = data[offset : offset + length]
        if len(entry) == length and checksum_of(rows["key"][row].tobytes(), entry) == checksum:
            found[row] = entry
    return found


def _as_npy(array: npt.NDArray[np.generic]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _digest_of(rows: IndexRows) -> str:
    return hashlib.sha256(rows.tobytes()).hexdigest()[:32]


def _find_member(file: BinaryIO, name: str, num_bytes: int) -> int:
    """Go to the content of the member of an archive whose header comes next; returns its size."""
    header = file.read(_ZIP_HEADER_BYTES)
    size = int.from_bytes(header[22:26], "little")
    len_name, len_extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    if header[:4] != b"PK\x03\x04" or file.read(len_name) != name.encode() or size > num_bytes:
        raise ValueError(f"the header of {name} is damaged")
    file.seek(len_extra, os.SEEK_CUR)
    return size


def _npy_header_bytes(start: bytes) -> int:
    if start[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError("the header of the data is damaged")
    return _NPY_PREFIX_BYTES + int.from_bytes(start[8:], "little")
