"""Shards as files: archives of two arrays, of which damage costs no more than the damaged entries."""

import errno
import io
import logging
import os
import zipfile

import numpy as np
import pytest

from sfm_lightglue.store import shard_file
from sfm_lightglue.store.shard_file import ROW, read_shard_index, shard_number, verified
from sfm_lightglue.store.store import Store
from tests.helpers.small_entries import KEYS, found_numbers, save, shard_paths


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_a_shard_is_an_archive_of_two_arrays(store):
    save(store, range(12))
    store.flush()
    (path,) = shard_paths(store)
    with np.load(path, allow_pickle=False) as arrays:
        index, data = arrays["index"], arrays["data"]
    assert index.dtype == ROW
    assert [bytes(key).hex() for key in index["key"]] == KEYS[:12]
    assert int(index["length"].sum()) == len(data)
    assert shard_number(path.name) == 1


def test_equal_entries_give_equal_files(tmp_path):
    contents = []
    for name in ("a", "b"):
        with Store(tmp_path / name) as store:
            save(store, range(9))
        contents.append({path.name: path.read_bytes() for path in shard_paths(store)})
    assert contents[0] == contents[1]


def test_a_damaged_entry_is_a_logged_miss_and_the_others_stay(store, caplog):
    save(store, range(12))
    store.flush()
    (path,) = shard_paths(store)
    index, content = read_shard_index(path), bytearray(path.read_bytes())
    content[index.data_start + int(index.rows["offset"][7]) + 5] ^= 4
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING, "sfm_lightglue"):
        damaged = Store(store.root)
        assert found_without(damaged, 7) == [number for number in range(12) if number != 7]
    assert f"{path}: the entry {KEYS[7]} is damaged, will be computed again" in caplog.text
    save(damaged, [7])
    damaged.flush()
    assert found_numbers(Store(store.root)) == list(range(12))


def found_without(store, absent):
    assert store.read("matches", KEYS[absent]) is None
    return [number for number in range(len(KEYS)) if number != absent and store.read("matches", KEYS[number])]


def test_a_flipped_bit_costs_one_entry_outside_of_the_headers(store, caplog):
    """It never gives wrong arrays."""
    caplog.set_level(logging.ERROR)
    save(store, range(10))
    store.flush()
    (path,) = shard_paths(store)
    index, whole = read_shard_index(path), np.frombuffer(path.read_bytes(), np.uint8)
    end = index.data_start + int(index.rows["length"].sum())
    end_of_rows = whole.tobytes().index(b"PK\x03\x04", 10)
    generator = np.random.default_rng(0)
    for position in generator.permutation(len(whole))[:80]:
        damaged = whole.copy()
        damaged[position] ^= 1 << generator.integers(8)
        path.write_bytes(damaged.tobytes())
        num_found = len(found_numbers(Store(store.root), keys=KEYS[:10]))
        is_in_rows = end_of_rows - index.rows.nbytes <= position < end_of_rows
        if position >= end:
            assert num_found == 10
        elif is_in_rows or position >= index.data_start:
            assert num_found == 9
        else:
            assert num_found in (0, 10)


def torn_shards(whole):
    for size in (0, 20, 100, 500):
        yield f"cut at {size}", whole[:size]
    yield "zeros", bytes(len(whole))
    yield "text", b"no archive"
    yield "an archive of something else", empty_archive()


def empty_archive():
    stream = io.BytesIO()
    np.savez(stream, index=np.arange(5))
    return stream.getvalue()


def test_a_torn_shard_is_logged_and_its_entries_are_computed_again(store, caplog):
    save(store, range(12))
    store.flush()
    (path,) = shard_paths(store)
    whole = path.read_bytes()
    for name, content in torn_shards(whole):
        path.write_bytes(content)
        caplog.clear()
        assert found_numbers(Store(store.root)) == [], name
        assert [record.getMessage().count("computed again") for record in caplog.records] == [1], name
        assert str(path) in caplog.text


def test_of_a_cut_shard_the_entries_before_the_cut_stay(store):
    save(store, range(12))
    store.flush()
    (path,) = shard_paths(store)
    index = read_shard_index(path)
    path.write_bytes(path.read_bytes()[: index.data_start + int(index.rows["offset"][8])])
    found = Store(store.root)
    assert [number for number in range(12) if found.read("matches", KEYS[number])] == list(range(8))
    assert sorted(verified(index)) == list(range(8))


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "too many open files"), MemoryError()])
def test_a_shard_that_cannot_be_read_is_a_logged_miss_and_not_damaged(store, caplog, monkeypatch, error):
    save(store, range(12))
    store.flush()
    (path,) = shard_paths(store)

    def fail(path):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(shard_file, "open_regular_file", fail)
        with pytest.raises(type(error)):
            read_shard_index(path)
        assert found_numbers(Store(store.root)) == []
    assert f"{path}: cannot be read, its entries will be computed again" in caplog.text
    assert found_numbers(Store(store.root)) == list(range(12))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_folder_in_the_place_of_a_shard(store):
    (store.root / "matches").mkdir()
    os.mkfifo(store.root / "matches" / f"00000001-{'0' * 32}.npz")
    (store.root / "matches" / f"00000002-{'0' * 32}.npz").mkdir()
    save(store, [1])
    store.flush()
    assert found_numbers(Store(store.root)) == [1]


def test_an_archive_tool_finds_no_fault(store):
    save(store, range(12))
    store.flush()
    with zipfile.ZipFile(shard_paths(store)[0]) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["index.npy", "data.npy"]
