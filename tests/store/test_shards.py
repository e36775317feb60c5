"""Small entries: few files, each entry whole or absent, and other processes find them."""

import errno
import gc
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sfm_lightglue.errors import StoreError
from sfm_lightglue.store import shards as shards_module
from sfm_lightglue.store.entry_file import write_entry_file
from sfm_lightglue.store.shard_file import CAN_STAY_OPEN, OpenShard, read_shard_index
from sfm_lightglue.store.store import Store
from tests.helpers.small_entries import KEYS, arrays_of, found_numbers, save, shard_paths


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(shards_module, "ENTRIES_PER_SHARD", 8)


@pytest.fixture
def no_delay(monkeypatch):
    monkeypatch.setattr(shards_module, "LOOK_AGAIN_S", 0.0)


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


def test_a_store_that_was_removed_stays_removed(tmp_path):
    """As in a temporary folder."""
    store = Store(tmp_path / "store")
    save(store, [1])
    shutil.rmtree(store.root)
    del store
    gc.collect()
    assert not list(tmp_path.iterdir())


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


def test_flush_waits_for_a_shard_that_another_thread_writes(store, monkeypatch):
    """What this thread has saved is on the disk afterwards."""
    is_writing, may_go_on = threading.Event(), threading.Event()
    write_shard = shards_module.write_shard

    def slowly(*arguments):
        is_writing.set()
        assert may_go_on.wait(10)
        return write_shard(*arguments)

    save(store, [1])
    monkeypatch.setattr(shards_module, "write_shard", slowly)
    writer, waiter = threading.Thread(target=store.flush), threading.Thread(target=store.flush)
    writer.start()
    assert is_writing.wait(10)
    waiter.start()
    save(store, [2])  # goes on meanwhile
    assert found_numbers(store) == [1, 2]
    assert waiter.is_alive() and not shard_paths(store)
    may_go_on.set()
    for thread in (writer, waiter):
        thread.join(10)
    assert found_numbers(Store(store.root)) == [1, 2]


@pytest.mark.parametrize("moment", ["write_shard", "_remove"])
def test_an_interrupted_write_loses_nothing(store, monkeypatch, moment):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    save(store, [1])
    store.flush()
    save(store, [2])
    with monkeypatch.context() as patch:
        owner = shards_module if moment == "write_shard" else shards_module.Shards
        patch.setattr(owner, moment, interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.flush()
    save(store, [3])
    assert found_numbers(store) == [1, 2, 3]
    store.flush()
    assert found_numbers(store) == found_numbers(Store(store.root)) == [1, 2, 3]


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


def test_an_entry_of_a_wrong_key_or_a_strange_one(store):
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.save("matches", "ab", arrays_of(1))
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


@pytest.mark.skipif(not CAN_STAY_OPEN, reason="this system cannot remove files that are open")
def test_few_shards_stay_open_and_one_that_was_removed_is_still_read(store, small_shards, monkeypatch):
    monkeypatch.setattr(shards_module, "_MAX_OPEN", 2)
    save(store, range(40))
    store.flush()
    reader = Store(store.root)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    assert found_numbers(reader) == list(range(40))
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) <= before + 2
    last = next(path for path in shard_paths(store) if _has_key(path, KEYS[39]))
    last.unlink()  # as another process does that merges shards
    assert reader.load("matches", KEYS[39]) is not None


def test_a_shard_is_closed_with_its_last_reader(tmp_path):
    path = tmp_path / "shard"
    path.write_bytes(b"0123456789")
    shard = OpenShard(path)
    assert (shard.read(2, 3), shard.read(8, 5)) == (b"234", b"89")
    descriptor = shard._descriptor
    del shard
    with pytest.raises(OSError):
        os.fstat(descriptor)
    with pytest.raises(FileNotFoundError):
        OpenShard(tmp_path / "none")


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO])
def test_an_open_shard_that_cannot_be_read_is_opened_again(store, monkeypatch, code):
    """A file of a network folder goes stale when another machine merges shards."""
    save(store, range(4))
    store.flush()
    assert found_numbers(store) == list(range(4))  # it is open now
    read, failures = OpenShard.read, [OSError(code, "stale")]

    def fails_once(self, start, length):
        if failures:
            raise failures.pop()
        return read(self, start, length)

    monkeypatch.setattr(OpenShard, "read", fails_once)
    assert found_numbers(store) == list(range(4))
    assert not failures


def test_a_shard_that_was_merged_by_another_machine_is_found_again(store, no_delay):
    save(store, range(4))
    store.flush()
    assert found_numbers(store) == list(range(4))
    (old,) = shard_paths(store)
    other = Store(store.root)
    save(other, range(4))
    other.flush()
    old.unlink()
    for shards in store._shards.values():
        shards.close()
    assert found_numbers(store) == list(range(4))


def test_threads_read_more_shards_than_stay_open(store, small_shards, monkeypatch):
    monkeypatch.setattr(shards_module, "_MAX_OPEN", 1)
    save(store, range(40))
    store.flush()
    reader = Store(store.root)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: found_numbers(reader), range(8)))
    assert found == [list(range(40))] * 8


def test_the_end_of_a_with_block_closes_the_shards(tmp_path):
    with Store(tmp_path / "store") as store:
        save(store, range(4))
        store.flush()
        assert found_numbers(store) == list(range(4))
        (shard,) = store._shards["matches"]._open.values()
        descriptor = shard._descriptor
        del shard
    with pytest.raises(OSError):
        os.fstat(descriptor)


def _has_key(path, key):
    return bytes.fromhex(key) in {row.tobytes() for row in read_shard_index(path).rows["key"]}
