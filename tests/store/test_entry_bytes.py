"""Entries as bytes: any arrays come back as they were, in few bytes, and damaged bytes are refused."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.store import entry_bytes
from sfm_lightglue.store.encoding import arrays_from_matches, matches_from_arrays
from sfm_lightglue.store.entry_bytes import decode_entry, encode_entry
from sfm_lightglue.types import Matches

ARRAYS = {
    "matches": np.array([[0, 5], [3, 2], [3, 2**31 - 1], [-(2**31), 0]], np.int32),
    "bytes": np.arange(256, dtype=np.uint8),
    "large": np.array([0, 2**64 - 1, 1], np.uint64),
    "cube": np.arange(24, dtype=np.int16).reshape(2, 3, 4) * -1000,
    "half": np.array([1.5, -0.0, np.inf], np.float16),
    "matrix": np.random.default_rng(0).normal(size=(3, 3)),
    "mask": np.random.default_rng(1).random((5, 7)) > 0.5,
    "word": np.array("naïve 猫"),
    "words": np.array([["a", "bcd"]]),
    "no_text": np.array(""),
    "number": np.array(-7),
    "float": np.array(np.nan, np.float32),
    "empty": np.zeros((0, 2), np.int32),
    "empty_rows": np.zeros((3, 0), np.int64),
    "no_mask": np.zeros((0, 4), np.bool_),
}

OLD_ENTRY = "78bb56df416633646060c0629a11d42cec9a1858d8981990002b940600fe760f8b"


def assert_same_arrays(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name
        assert found[name].flags.writeable, name


def test_arrays_come_back_bit_by_bit():
    assert_same_arrays(decode_entry(encode_entry(ARRAYS)), ARRAYS)
    assert decode_entry(encode_entry({})) == {}


@pytest.mark.parametrize("dtype", ["<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f4", "<f8", "?"])
@pytest.mark.parametrize("shape", [(), (1,), (9,), (4, 3), (2, 3, 2)])
def test_all_types_and_shapes_come_back(dtype, shape):
    values = np.random.default_rng(0).integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    array = (values & 1 if dtype == "?" else values).view(dtype).reshape(shape)
    assert_same_arrays(decode_entry(encode_entry({"a": array})), {"a": array})


def test_parts_of_arrays_and_other_byte_orders_come_back_in_the_usual_layout():
    grid = np.arange(60, dtype=np.int32).reshape(6, 10)
    found = decode_entry(encode_entry({"part": grid[::2, ::-3], "turned": grid.T, "big": grid.astype(">i4")}))
    assert_same_arrays(found, {"part": grid[::2, ::-3].copy(), "turned": grid.T.copy(), "big": grid})


def test_equal_arrays_give_equal_bytes():
    assert encode_entry({"a": np.arange(3), "b": np.ones(2)}) == encode_entry({"b": np.ones(2), "a": np.arange(3)})


def test_300_matches_take_two_kilobytes_with_exact_scores():
    rng = np.random.default_rng(0)
    rows = np.stack([np.sort(rng.choice(2048, 300, replace=False)), rng.permutation(2048)[:300]], axis=1)
    matches = Matches(rows.astype(np.int32), rng.random(300).astype(np.float32))
    data = encode_entry(arrays_from_matches(matches))
    assert len(data) < 1950
    assert_same_arrays(decode_entry(data), arrays_from_matches(matches))


def test_matches_tell_which_keypoints_were_asked():
    rng = np.random.default_rng(0)
    asked = np.arange(1536) < 900
    matches = Matches(np.array([[3, 4]], np.int32), np.ones(1, np.float32), 4, "", None, asked)
    data = encode_entry(arrays_from_matches(matches))
    found = matches_from_arrays(decode_entry(data), "key", (rng.random(7), asked))
    assert found.asked0 is None
    assert np.array_equal(found.asked1, asked)
    with pytest.raises(ValueError, match="expected the shape"):
        matches_from_arrays(decode_entry(data), "key", (rng.random(7), rng.random(9)))
    some = replace(matches, asked0=rng.random(1536) < 0.4, asked1=rng.random(1536) < 0.7)
    assert len(encode_entry(arrays_from_matches(some))) < 600


def test_entries_of_earlier_versions_can_be_read():
    """The bytes of the format, which must not change."""
    data = bytes.fromhex(OLD_ENTRY)
    assert_same_arrays(decode_entry(data), {"indices": np.array([[0, 3], [2, 1]], np.int32), "stop_layer": np.array(5)})
    assert decode_entry(zlib.compress(zlib.decompressobj(zdict=entry_bytes.DICTIONARY).decompress(data))).keys()


@pytest.mark.parametrize("array", [np.array([{}], object), np.array([1j]), np.array(["2020-01-01"], "M8[D]")])
def test_other_values_are_refused(array):
    with pytest.raises(ValueError, match="cannot be stored"):
        encode_entry({"a": array})


def test_too_large_arrays_are_refused(monkeypatch):
    monkeypatch.setattr(entry_bytes, "MAX_RAW_BYTES", 1000)
    with pytest.raises(ValueError, match="more than 1000"):
        encode_entry({"a": np.zeros(200)})


def stream(head, body=b"", tail=b""):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return zlib.compress(len(text).to_bytes(4, "little") + text + body) + tail


WRONG = {
    "nothing": b"",
    "no stream": b"no stream",
    "cut": encode_entry(ARRAYS)[:-5],
    "bytes behind": encode_entry({}) + b"x",
    "no head": zlib.compress(b""),
    "no JSON": stream(b"{"),
    "a list": stream([1]),
    "objects": stream({"a": ["|O", [1]]}, bytes(8)),
    "no type": stream({"a": ["nonsense", [1]]}, bytes(8)),
    "too few bytes": stream({"a": ["<f4", [3]]}, bytes(8)),
    "too many bytes": stream({"a": ["<f4", [1]]}, bytes(8)),
    "negative": stream({"a": ["<f4", [-1]]}),
    "two negative": stream({"a": ["<f4", [-1, -2]]}, bytes(8)),
    "a fraction": stream({"a": ["<f4", [0.5]]}, bytes(2)),
    "huge": stream({"a": ["<f4", [2**40, 2**40]]}),
    "a bomb": zlib.compress(bytes(200_000)),
}


@pytest.mark.parametrize("name", WRONG)
def test_damaged_bytes_are_refused(name, monkeypatch):
    monkeypatch.setattr(entry_bytes, "MAX_RAW_BYTES", 100_000)
    with pytest.raises((ValueError, zlib.error, AttributeError, TypeError)):
        decode_entry(WRONG[name])
