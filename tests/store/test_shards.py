"""Small entries: few files, each entry whole or absent, and other processes find them."""

import errno
import gc
import io
import logging
import os
import threading
import time
import zipfile

import numpy as np
import pytest

from sfm_lightglue.errors import StoreError
from sfm_lightglue.store import shards as shards_module
from sfm_lightglue.store.entry_file import write_entry_file
from sfm_lightglue.store.shard_file import ROW, read_shard_index, shard_number, verified
from sfm_lightglue.store.store import Store, make_key

KEYS = [make_key("entry", number) for number in range(40)]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(shards_module, "ENTRIES_PER_SHARD", 8)


@pytest.fixture
def no_delay(monkeypatch):
    monkeypatch.setattr(shards_module, "LOOK_AGAIN_S", 0.0)


def arrays_of(number):
    rng = np.random.default_rng(number)
    return {"indices": rng.integers(0, 99, (number, 2), np.int32), "scores": rng.random(number, np.float32)}


def save(store, numbers, kind="matches"):
    for number in numbers:
        store.save(kind, KEYS[number], arrays_of(number))


def found_numbers(store, kind="matches", keys=KEYS):
    """The numbers of the entries that are found; all of them have the right arrays."""
    found = []
    for number, key in enumerate(keys):
        arrays = store.read(kind, key)
        if arrays is not None:
            assert all(np.array_equal(arrays[name], array) for name, array in arrays_of(number).items())
            found.append(number)
    return found


def shard_paths(store, kind="matches"):
    return sorted((store.root / kind).glob("*.npz"))


def test_an_entry_is_found_before_and_after_it_is_written(store):
    save(store, range(5))
    assert found_numbers(store) == list(range(5))
    assert not shard_paths(store)
    assert [store.has("matches", key) for key in KEYS[:6]] == [True] * 5 + [False]
    store.flush()
    assert [store.has("matches", key) for key in KEYS[:6]] == [True] * 5 + [False]
    assert found_numbers(store) == found_numbers(Store(store.root)) == list(range(5))
    assert len(shard_paths(store)) == 1
    assert found_numbers(store, "two_view") == []


def test_a_full_shard_is_written_at_once(store, small_shards):
    save(store, range(20))
    assert [len(read_shard_index(path).rows) for path in shard_paths(store)] == [8, 8]
    assert found_numbers(store) == list(range(20))
    assert found_numbers(Store(store.root)) == list(range(16))


def test_a_shard_is_written_when_its_first_entry_has_waited(store, monkeypatch):
    """Also if no other entry comes."""
    monkeypatch.setattr(shards_module, "MAX_WAIT_S", 0.01)
    save(store, [3])
    deadline = time.monotonic() + 10
    while not shard_paths(store) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert found_numbers(Store(store.root)) == [3]


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_end_of_a_with_block_writes_what_waits(tmp_path, error):
    try:
        with Store(tmp_path) as store:
            save(store, range(3))
            save(store, range(2), "two_view")
            if error is not None:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert found_numbers(Store(tmp_path)) == [0, 1, 2]
    assert found_numbers(Store(tmp_path), "two_view") == [0, 1]


def test_a_store_that_nobody_has_flushed_writes_what_waits(tmp_path):
    save(Store(tmp_path), range(3))
    gc.collect()
    assert found_numbers(Store(tmp_path)) == [0, 1, 2]


def test_small_shards_are_merged_while_they_are_written(store, small_shards):
    for number in range(24):
        save(store, [number])
        store.flush()
        assert found_numbers(Store(store.root)) == list(range(number + 1))
        assert len(shard_paths(store)) <= number // 8 + 4
    assert len(shard_paths(store)) == 3
    assert found_numbers(store) == list(range(24))


def test_a_later_entry_replaces_an_earlier_one(store):
    for value in range(3):
        store.save("matches", KEYS[0], {"a": np.array(value)})
        store.save("matches", KEYS[value + 1], {"a": np.array(value)})
        for one in (store, *([Store(store.root)] if value else [])):
            assert one.read("matches", KEYS[0]) == {"a": value if one is store else value - 1}
        store.flush()
        assert Store(store.root).read("matches", KEYS[0]) == {"a": value}


def test_another_process_finds_what_was_written_after_it_opened_the_store(store, small_shards, no_delay):
    other = Store(store.root)
    assert found_numbers(other) == []
    for number in range(20):  # the shards that it knows vanish meanwhile
        save(store, [number])
        store.flush()
        assert found_numbers(other, keys=KEYS[:21]) == list(range(number + 1))


def test_misses_do_not_search_the_folder_each_time(store, monkeypatch):
    searches = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: searches.append(folder) or listdir(folder))
    save(store, range(3))
    store.flush()
    for _ in range(5):
        assert found_numbers(store) == [0, 1, 2]
    assert len(searches) == 1


def test_two_stores_that_write_at_once_do_not_disturb_each_other(store, small_shards, no_delay):
    """The same entries, and entries of their own; both merge their small shards."""
    other = Store(store.root)
    for number in range(0, 30, 2):
        save(store, [number, 31])
        save(other, [number + 1, 31])
        store.flush()
        other.flush()
    assert found_numbers(store) == found_numbers(other) == [*range(30), 31]
    assert found_numbers(Store(store.root)) == [*range(30), 31]


def test_threads_save_and_read_at_once(store, small_shards):
    failures = []

    def work(first):
        try:
            for number in range(first, 40, 4):
                save(store, [number, number])
                assert store.read("matches", KEYS[number]) is not None
                if number % 3 == 0:
                    store.flush()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.flush()
    assert failures == []
    assert found_numbers(store) == found_numbers(Store(store.root)) == list(range(40))


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_is_a_store_error_and_the_entries_wait(store, monkeypatch, function):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    save(store, range(3))
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(StoreError, match="No space left on device"):
            store.flush()
        with pytest.raises(StoreError, match="No space left on device"), store:
            save(store, [3])
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
    assert found_numbers(store) == [0, 1, 2, 3]
    store.flush()
    assert found_numbers(Store(store.root)) == [0, 1, 2, 3]


def test_after_an_error_a_full_disk_does_not_hide_the_error(store, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RuntimeError, match="the cause"), store:
        save(store, [3])
        raise RuntimeError("the cause")


def test_a_kind_that_is_no_folder(store):
    (store.root / "matches").write_text("a file where the folder should be")
    save(store, [1])
    with pytest.raises(StoreError, match="cannot be written"):
        store.flush()
    assert Store(store.root).read("matches", KEYS[1]) is None


def test_entries_of_their_own_files_are_read(store):
    """As earlier versions wrote them."""
    for number in range(6):
        write_entry_file(store.path("matches", KEYS[number]), KEYS[number], arrays_of(number))
    assert found_numbers(Store(store.root)) == list(range(6))
    save(store, range(4, 9))
    store.flush()
    assert found_numbers(store) == found_numbers(Store(store.root)) == list(range(9))


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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_folder_in_the_place_of_a_shard(store):
    (store.root / "matches").mkdir()
    os.mkfifo(store.root / "matches" / f"00000001-{'0' * 32}.npz")
    (store.root / "matches" / f"00000002-{'0' * 32}.npz").mkdir()
    save(store, [1])
    store.flush()
    assert found_numbers(Store(store.root)) == [1]


def test_an_entry_of_a_wrong_key_or_a_strange_one(store):
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.save("matches", "ab", arrays_of(1))
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_an_archive_tool_finds_no_fault(store):
    save(store, range(12))
    store.flush()
    with zipfile.ZipFile(shard_paths(store)[0]) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["index.npy", "data.npy"]
