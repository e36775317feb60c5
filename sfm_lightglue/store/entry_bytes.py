"""The arrays of a small entry as compressed bytes, without loss, and back.

The bytes are one zlib stream with the preset dictionary `DICTIONARY`. It holds the length of a JSON text (4 bytes,
little-endian), the text, and the arrays in its order. The text maps the name of each array to its type and shape:
`{"scores": ["<f4", [300]]}`. The values of an array are rearranged so that they compress well: booleans are packed to
bits; integers are replaced by the zigzag codes of the differences to the row above, column by column; then byte 0 of
all values comes first, then byte 1 of all, and so on.
"""

from __future__ import annotations

import functools
import json
import math
import zlib
from collections.abc import Mapping

import numpy as np

from sfm_lightglue.arrays import AnyArray, UInt8Array

MAX_RAW_BYTES = 1 << 28
"""Larger entries are refused, and damaged bytes are not unpacked beyond this size."""

DICTIONARY = (
    b'{"E":["<f8",[3,3]],"F":["<f8",[3,3]],"H":["<f8",[3,3]],"cam1_from_cam0":["<f8",[4,4]],"evidence":["<f8",[4]],'
    b'"inlier_mask":["|b1",[300]],"kind":["<U7",[]]}{"indices":["<i4",[300,2]],"scores":["<f4",[300]],"stop_layer":'
    b'["<i8",[]]}'
)
"""Texts that most entries have. It is a part of the format: other bytes would make all shards unreadable."""

_LEVEL = 6
_NUM_LENGTH_BYTES = 4


def encode_entry(arrays: Mapping[str, AnyArray]) -> bytes:
    """Arrays of numbers, booleans and texts as compressed bytes. Equal arrays give equal bytes.

    Raises:
        ValueError: if an array holds something else, or if they have more than `MAX_RAW_BYTES`.
    """
    arrays = {name: _little_endian(name, arrays[name]) for name in sorted(arrays)}
    text = json.dumps({name: [array.dtype.str, array.shape] for name, array in arrays.items()}, separators=(",", ":"))
    head = text.encode()
    parts = [len(head).to_bytes(_NUM_LENGTH_BYTES, "little"), head, *map(_packed, arrays.values())]
    raw = b"".join(parts)
    if len(raw) > MAX_RAW_BYTES:
        raise ValueError(f"the arrays have {len(raw)} bytes, more than {MAX_RAW_BYTES}")
    stream = zlib.compressobj(_LEVEL, zdict=DICTIONARY)
    return stream.compress(raw) + stream.flush()


def decode_entry(data: bytes) -> dict[str, AnyArray]:
    """The arrays that `encode_entry` was given.

    Raises:
        Exception: if the bytes are damaged, whatever zlib, JSON or NumPy raise.
    """
    stream = zlib.decompressobj(zdict=DICTIONARY)
    raw = stream.decompress(data, MAX_RAW_BYTES)
    if not stream.eof or stream.unused_data:
        raise ValueError("the compressed bytes are incomplete or too many")
    start = _NUM_LENGTH_BYTES + int.from_bytes(raw[:_NUM_LENGTH_BYTES], "little")
    octets, arrays = np.frombuffer(raw, np.uint8), {}
    for name, dtype, shape, num_bytes in _layout(raw[_NUM_LENGTH_BYTES:start]):
        end = start + num_bytes
        if end > len(raw):
            raise ValueError(f"{name}: its bytes are missing")
        arrays[name] = _unpacked(octets[start:end], dtype, shape)
        start = end
    if start != len(raw):
        raise ValueError("an array is smaller than its bytes")
    return arrays


_Layout = tuple[tuple[str, np.dtype[np.generic], tuple[int, ...], int], ...]


@functools.lru_cache(maxsize=4096)
def _layout(head: bytes) -> _Layout:
    """Name, type, shape and number of bytes of each array."""
    layout = []
    for name, (code, shape) in json.loads(head).items():
        dtype = _checked(name, np.dtype(code))
        if any(not isinstance(size, int) or size < 0 for size in shape):
            raise ValueError(f"{name}: the shape is {shape}")
        size = math.prod(shape)
        num_bytes = (size + 7) // 8 if dtype.kind == "b" else size * dtype.itemsize
        layout.append((name, dtype, tuple(shape), num_bytes))
    return tuple(layout)


def _checked(name: str, dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    if dtype.kind not in "biufU":
        raise ValueError(f"{name}: arrays of {dtype} cannot be stored")
    return dtype


def _little_endian(name: str, array: AnyArray) -> AnyArray:
    dtype = _checked(name, np.asarray(array).dtype)
    return np.asarray(array, dtype.newbyteorder("<"))


def _packed(array: AnyArray) -> bytes:
    if array.dtype.kind == "b":
        return np.packbits(array).tobytes()
    if array.dtype.kind in "iu" and array.ndim > 0:
        array = _zigzag(array)
    width = _width(array.dtype)
    values = np.ascontiguousarray(array).reshape(-1)
    if width == 1 or values.nbytes == 0:
        return values.tobytes()
    return values.view(np.uint8).reshape(-1, width).T.tobytes()


def _unpacked(octets: UInt8Array, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> AnyArray:
    kind = dtype.kind
    if kind == "b":
        return np.unpackbits(octets, count=math.prod(shape)).view(np.bool_).reshape(shape)
    if len(octets) == 0:
        return np.zeros(shape, dtype)
    width = 4 if kind == "U" else dtype.itemsize
    values: AnyArray = octets.reshape(width, -1).T.copy().reshape(-1)  # few steps: small arrays are many
    if kind in "iu" and len(shape) > 0:
        return _from_zigzag(values, dtype, shape)
    return values.view(dtype).reshape(shape)


def _width(dtype: np.dtype[np.generic]) -> int:
    """Bytes of a number, or of a letter of a text."""
    return 4 if dtype.kind == "U" else dtype.itemsize


def _zigzag(array: AnyArray) -> AnyArray:
    """Differences along the first axis as 0, -1, 1, -2, ... -> 0, 1, 2, 3, ..., one column after the other.

    All sums wrap around, so each value of the type has a code.
    """
    columns = array.reshape(len(array), math.prod(array.shape[1:])).T
    unsigned = np.ascontiguousarray(columns).view(f"<u{array.dtype.itemsize}")
    steps = unsigned.copy()
    steps[:, 1:] -= unsigned[:, :-1]
    one = steps.dtype.type(1)
    codes: AnyArray = (steps << one) ^ (steps.dtype.type(0) - (steps >> steps.dtype.type(8 * steps.itemsize - 1)))
    return codes


def _from_zigzag(octets: UInt8Array, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> AnyArray:
    steps = octets.view(_UNSIGNED[dtype.itemsize]).reshape(-1, shape[0])
    signs = np.negative(steps & 1)
    steps >>= 1
    steps ^= signs
    np.add.accumulate(steps, axis=1, out=steps)
    return steps.T.copy().view(dtype).reshape(shape)


_UNSIGNED = {num_bytes: np.dtype(f"<u{num_bytes}") for num_bytes in (1, 2, 4, 8)}
