"""Random changes of files: bytes, lines of text, SQLite databases, arrays of store entries, headers of safetensors."""

from __future__ import annotations

import io
import json
import random
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.store.entry_bytes import DICTIONARY, decode_entry, encode_entry
from sfm_lightglue.store.shard_file import write_shard

_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF, 0x20, 0x0A)
_INTEGERS = (0, 1, 2, 3, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1)
_WORDS = (
    *("nan", "inf", "-inf", "-1", "0", "1e400", "1e-400", "9" * 400, "2147483648", "18446744073709551616", "0x10"),
    *("true", "null", "[]", "{}", '""', '"', "'", "#", "=", ",", ".", "..", "/", "/dev/null", "//", "~", "*"),
    *("\0", "\ufeff", "\u202e", "é", "e\u0301", "\U0001f600", "\r", "\t", " ", "a" * 5000, "../" * 40, "-", "--help"),
)


def mutate_bytes(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """One to four random changes: bits, bytes, integers, cuts, repetitions, and parts of other files."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not changed:
            break
        rng.choice(_BYTE_CHANGES)(changed, rng, others)
    return bytes(changed)


def _position(data: bytearray, rng: random.Random) -> int:
    """Often near the begin, where headers are."""
    return min(rng.randrange(len(data)), rng.choice((len(data), len(data), 16, 64, 512)) - 1, len(data) - 1)


def _flip_bits(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 3, 20))):
        data[_position(data, rng)] ^= 1 << rng.randrange(8)


def _set_bytes(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    start = _position(data, rng)
    length = min(rng.choice((1, 1, 2, 8, 64)), len(data) - start)
    data[start : start + length] = bytes([rng.choice(_BYTES)]) * length


def _set_integer(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice(_INTEGERS) & (256**size - 1)
    start = _position(data, rng)
    order = rng.choice("<>")
    data[start : start + size] = struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], value)


def _cut_end(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    del data[rng.choice((rng.randrange(len(data)), len(data) - 1, _position(data, rng))) :]


def _cut_part(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    start = _position(data, rng)
    del data[start : start + rng.choice((1, 2, 8, 100))]


def _repeat_part(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    start = _position(data, rng)
    part = data[start : start + rng.choice((1, 8, 64, 1000))]
    data[start:start] = part * rng.choice((1, 1, 3))


def _insert_random(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    start = _position(data, rng)
    data[start:start] = rng.randbytes(rng.choice((1, 4, 32)))


def _splice(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    other = rng.choice(others) if others else bytes(data)
    start, begin = _position(data, rng), rng.randrange(max(1, len(other)))
    part = other[begin : begin + rng.choice((4, 64, 1000, len(other)))]
    if rng.random() < 0.5:
        data[start:] = part
    else:
        data[start : start + len(part)] = part


_ByteChange = Callable[[bytearray, random.Random, Sequence[bytes]], None]
_BYTE_CHANGES: tuple[_ByteChange, ...] = (
    *(_flip_bits, _flip_bits, _set_bytes, _set_integer, _set_integer),
    *(_cut_end, _cut_part, _repeat_part, _insert_random, _splice),
)


def mutate_text(text: str, rng: random.Random) -> bytes:
    """Random changes of words and lines; one in four gets changes of bytes too."""
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 2, 5))):
        index = rng.randrange(len(lines))
        change = rng.randrange(6)
        if change == 0:
            del lines[index]
        elif change == 1:
            lines.insert(rng.randrange(len(lines) + 1), lines[index])
        elif change == 2:
            lines[index] = rng.choice(_WORDS)
        elif change == 3:
            lines[index] += " " + rng.choice(_WORDS)
        else:
            words = lines[index].split(" ")
            words[rng.randrange(len(words))] = rng.choice(_WORDS)
            lines[index] = " ".join(words)
        lines = lines or [""]
    data = rng.choice(("\n", "\n", "\r\n", "\r")).join(lines).encode("utf-8", "surrogatepass")
    return mutate_bytes(data, rng) if rng.random() < 0.25 else data


def random_value(rng: random.Random, depth: int = 0) -> Any:
    """A value as JSON and TOML have them, often an unsuitable one."""
    simple = [
        *(0, 1, -1, 2, 10**9, 2**63 - 1, 2**64, -(2**70), 0.0, 0.5, -1.5, 1e-300, 1e308, float("inf"), float("nan")),
        *(True, False, None, "", "sift", "auto", "cpu", "cuda:99", "\0", "x" * 5000, "../../etc", "é\u0301", "1e5"),
    ]
    kind = rng.random()
    if depth < 2 and kind < 0.15:
        return [random_value(rng, depth + 1) for _ in range(rng.choice((0, 1, 3, 50)))]
    if depth < 2 and kind < 0.25:
        return {rng.choice(("name", "x", "", "weights")): random_value(rng, depth + 1) for _ in range(rng.randrange(3))}
    return rng.choice(simple)


def mutate_tables(tables: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Replace, add or remove values of nested mappings."""
    changed: dict[str, Any] = json.loads(json.dumps(tables))
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = changed
        while True:
            names = list(place)
            name = rng.choice(names) if names and rng.random() < 0.9 else rng.choice(("extra", "", "naem"))
            inner = place.get(name)
            if isinstance(inner, dict) and inner and rng.random() < 0.85:
                place = inner
                continue
            break
        if rng.random() < 0.15:
            place.pop(name, None)
        else:
            place[name] = random_value(rng)
    return changed


def mutate_database(path: Path, rng: random.Random) -> None:
    """Change rows of an SQLite database by SQL: values of wrong types and sizes, rows that are missing or repeated."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        for _ in range(rng.choice((1, 1, 2, 3))):
            table = rng.choice(sorted(names))
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
            rows = [row[0] for row in connection.execute(f'SELECT rowid FROM "{table}"')] if columns else []
            try:
                _change_table(connection, table, columns, rows, rng)
            except (sqlite3.Error, OverflowError):  # constraints of the schema
                continue


_CELLS = (None, 0, 1, -1, 2**31, 2**62, 1.5, float("inf"), "", "a/../b", "\0x", b"", b"\0" * 7)


def _change_table(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], rows: Sequence[int], rng: random.Random
) -> None:
    kind = rng.random()
    if kind < 0.05:
        connection.execute(f'DROP TABLE "{table}"')
    elif not columns:
        return
    elif kind < 0.1:
        connection.execute(f'ALTER TABLE "{table}" RENAME COLUMN "{rng.choice(columns)}" TO other')
    elif not rows:
        return
    elif kind < 0.2:
        connection.execute(f'DELETE FROM "{table}" WHERE rowid=?', (rng.choice(rows),))
    else:
        row, column = rng.choice(rows), rng.choice(columns)
        (old,) = connection.execute(f'SELECT "{column}" FROM "{table}" WHERE rowid=?', (row,)).fetchone()
        if isinstance(old, bytes) and rng.random() < 0.8:
            new: Any = mutate_bytes(old, rng)
        else:
            new = rng.choice((*_CELLS, rng.choice(rows)))
        connection.execute(f'UPDATE "{table}" SET "{column}"=? WHERE rowid=?', (new, row))


def mutate_entry(data: bytes, rng: random.Random) -> bytes:
    """Change arrays of an `.npz` file, with right checksums: other values, shapes and types, missing and new arrays."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(sorted(members))
        kind = rng.random()
        if kind < 0.1:
            del members[name]
        elif kind < 0.2:
            members[rng.choice(("x.npy", "../x.npy", "/x.npy", "keypoints", "sparse/0/x.bin.npy"))] = members[name]
        elif kind < 0.4:
            members[name] = mutate_bytes(members[name], rng, list(members.values()))
        else:
            try:
                array = np.load(io.BytesIO(members[name]))
            except Exception:  # it was changed before
                continue
            members[name] = _npy(_changed_array(array, rng))
        if not members:
            break
    buffer = io.BytesIO()
    compression = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if rng.random() < 0.02:  # a bomb
            archive.writestr("x.npy", bytes(50_000_000), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def mutate_shard(data: bytes, folder: Path, rng: random.Random) -> None:
    """Write a shard with a changed entry, with right checksums: other bytes, or other values, shapes and types."""
    with np.load(io.BytesIO(data)) as arrays:
        index, content = arrays["index"], arrays["data"].tobytes()
    entries = {
        row["key"].tobytes(): content[int(row["offset"]) : int(row["offset"]) + int(row["length"])] for row in index
    }
    key = rng.choice(sorted(entries))
    changed = decode_entry(entries[key])
    name = rng.choice(sorted(changed))
    try:
        entries[key] = encode_entry(changed | {name: _changed_array(changed[name], rng)})
    except ValueError:  # a type that no entry can have
        raw = mutate_bytes(zlib.decompressobj(zdict=DICTIONARY).decompress(entries[key]), rng)
        entries[key] = zlib.compress(raw) if rng.random() < 0.7 else mutate_bytes(entries[key], rng)
    write_shard(folder, 1, entries)


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=True)
    return buffer.getvalue()


_TYPES = (np.float64, np.float32, np.int64, np.uint8, np.complex64, np.bool_)
_VALUES = {"f": (np.nan, np.inf, -np.inf, 1e30), "i": (-1, 0, 2**31 - 1), "u": (0, 1, 200)}


def _changed_array(array: Any, rng: random.Random) -> Any:
    kind = rng.randrange(6)
    if kind == 0:
        return array.astype(rng.choice(_TYPES)) if array.dtype.kind in "fiub" else np.zeros(3)
    if kind == 1:
        return array[: len(array) // 2] if array.ndim else np.array([array, array])
    if kind == 2:
        return array.reshape(-1)[:0]
    if kind == 3 and array.dtype.kind in _VALUES and array.size:
        changed = array.copy()
        value = rng.choice(_VALUES[array.dtype.kind])
        changed.reshape(-1)[rng.randrange(array.size)] = min(value, 127) if array.dtype.itemsize == 1 else value
        return changed
    if kind == 4:
        return np.array({"a": 1}, dtype=object)
    return np.repeat(array[None], 2, axis=0)


def mutate_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Change the JSON header of a safetensors file, with a right length."""
    (length,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    for _ in range(rng.choice((1, 1, 3))):
        name = rng.choice(sorted(header))
        entry = header[name]
        kind = rng.randrange(5)
        if kind == 0:
            del header[name]
        elif kind == 1:
            header[rng.choice(("x", "", "__metadata__", "model." + name))] = entry
        elif isinstance(entry, dict) and entry:
            entry[rng.choice(sorted(entry))] = random_value(rng) if kind < 4 else "F16"
        if not header:
            break
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]
