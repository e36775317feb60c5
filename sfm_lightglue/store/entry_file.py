"""Large entries: one `.npz` file each, without compression."""

from __future__ import annotations

import functools
import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.input_file import open_regular_file
from sfm_lightglue.store.atomic_file import atomic_write

_HEAD = "__head__"
"""Array of each entry that holds its key and the names of its other arrays."""


class ForeignEntryError(ValueError):
    """A file that is whole, but is not the expected entry."""


def write_entry_file(path: Path, key: str, arrays: Mapping[str, AnyArray]) -> None:
    """Write an entry atomically, replacing an earlier one.

    Raises:
        StoreError: if the folder is not writable, or the disk is full.
    """
    with atomic_write(path) as file:
        entry: dict[str, Any] = {_HEAD: np.array([key, *sorted(arrays)]), **arrays}
        np.savez(file, **entry)


def read_entry_file(path: Path, key: str) -> dict[str, AnyArray]:
    """The arrays of an entry.

    Raises:
        FileNotFoundError: if there is no such file.
        ForeignEntryError: if it has another key or other arrays than it says.
        Exception: if it is damaged: zlib.error, MemoryError, NotImplementedError, ...
    """
    arrays = _read_archive(path)
    head, names = arrays.pop(_HEAD, np.zeros(0)), sorted(arrays)
    if head.shape != (1 + len(names),) or head.tolist() != [key, *names]:
        raise ForeignEntryError("not the expected entry")
    return arrays


def _read_archive(path: Path) -> dict[str, AnyArray]:
    """All arrays of a `.npz` file, each read to its end so that its checksum is verified.

    `np.load` reads only the bytes that an array's header announces, so it does not detect a damaged header. Entries
    are written without compression: an archive that could be unpacked to more bytes than it has is none of ours.
    """
    with open_regular_file(path) as file:
        content = file.read()  # at once: a read for each part of it takes longer
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("compressed")
        if sum(member.file_size for member in members) > len(content):
            raise ValueError("its arrays are larger than the file")
        return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}


def _array(data: bytes) -> AnyArray:
    start = _NPY_PREFIX_BYTES + int.from_bytes(data[8:_NPY_PREFIX_BYTES], "little")
    dtype, shape, is_fortran = _layout(data[:start])
    if start + math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError("an array has not as many bytes as it says")
    values: AnyArray = np.frombuffer(data, dtype, offset=start).copy()
    return values.reshape(shape[::-1]).T if is_fortran else values.reshape(shape)


@functools.lru_cache(maxsize=4096)
def _layout(head: bytes) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """Type, shape, and whether columns come first, by the head of a `.npy` file.

    NumPy needs a third of a millisecond for it, and most heads are alike.
    """
    stream = io.BytesIO(head)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("another version of the format")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or stream.read(1):
        raise ValueError("not the array of an entry")
    return dtype, shape, is_fortran


_NPY_PREFIX_BYTES = 10
