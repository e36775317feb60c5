"""The store: an entry is complete or absent, and its key covers everything that it depends on."""

import errno
import logging
import multiprocessing
import os
import threading
import tracemalloc
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.errors import StoreError
from sfm_lightglue.store import atomic_file
from sfm_lightglue.store import store as store_module
from sfm_lightglue.store.store import Store, atomic_write, make_key

ARRAYS = {
    "keypoints": np.arange(2000, dtype=np.float32).reshape(1000, 2),
    "kind": np.array("general"),
    "count": np.array(3),
    "empty": np.zeros((0, 2), np.int32),
}
KEY = make_key("test")


@dataclass(frozen=True)
class Config:
    limit: float = 0.5
    names: tuple[str, ...] = ("a",)


@dataclass(frozen=True)
class OtherConfig:
    limit: float = 0.5
    names: tuple[str, ...] = ("a",)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def assert_equal(found, expected=ARRAYS):
    assert found is not None
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_key_is_stable():
    """Equal in all processes, versions of Python and orders of mappings; another value would invalidate all stores."""
    assert make_key("features", 1, Config(), {"b": 2, "a": [1.5, None, True]}) == (
        "7997bcefb5ce38dca2303bf8b72e0094bc4d7be5593aaf2c11be7910bc565bf9"
    )
    assert make_key({"a": 1, "b": 2}) == make_key({"b": 2, "a": 1})
    assert make_key((1, 2)) == make_key([1, 2])


def test_every_change_gives_another_key():
    parts = [
        (),
        ("a",),
        ("a", "b"),
        ("ab",),
        ("a", ""),
        (["a", "b"],),
        ("1",),
        (1,),
        (1.5,),
        (None,),
        ("None",),
        (True,),
        (Config(),),
        (Config(limit=0.25),),
        (Config(limit=np.nextafter(0.5, 1)),),
        (Config(names=("a", "b")),),
        (OtherConfig(),),
        ({"limit": 0.5},),
        ("naïve/ü.jpg",),
        ("naive/u.jpg",),
        ("\udcff",),
    ]
    assert len({make_key(*part) for part in parts}) == len(parts)


def test_a_key_depends_on_the_format_version(monkeypatch):
    before = make_key("a")
    monkeypatch.setattr(store_module, "FORMAT_VERSION", store_module.FORMAT_VERSION + 1)
    assert make_key("a") != before


@pytest.mark.parametrize("part", [object(), {1, 2}, b"bytes", np.zeros(2), Config])
def test_values_without_canonical_form_are_refused(part):
    with pytest.raises(TypeError, match="cannot be part of a key"):
        make_key(part)


def test_a_saved_entry_is_found(store):
    assert store.load("features", KEY) is None
    store.save("features", KEY, ARRAYS)
    assert_equal(store.load("features", KEY))
    assert_equal(Store(store.root).load("features", KEY))
    assert store.load("matches", KEY) is None
    assert store.load("features", make_key("other")) is None
    assert (store.counts["features"].hits, store.counts["features"].misses) == (1, 2)
    assert (store.counts["matches"].hits, store.counts["matches"].misses) == (0, 1)
    assert_equal(store.read("features", KEY))
    assert store.counts["features"].hits == 1


def test_an_entry_is_replaced_as_a_whole(store):
    store.save("features", KEY, ARRAYS)
    store.save("features", KEY, {"other": np.ones(3)})
    assert_equal(store.load("features", KEY), {"other": np.ones(3)})


def test_equal_content_gives_equal_bytes(tmp_path):
    contents = []
    for name in ("a", "b"):
        store = Store(tmp_path / name)
        store.save("features", KEY, ARRAYS)
        path = store.path("features", KEY)
        os.utime(path, (0, 0))
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_large_arrays_are_stored(store):
    large = {"descriptors": np.random.default_rng(0).normal(size=(3000, 128)).astype(np.float32)}
    store.save("features", KEY, large)
    assert_equal(store.load("features", KEY), large)


def pickled_entry():
    return np.array([{"a": 1}], dtype=object)


def damaged_entries(path, whole):
    """Descriptions and bytes of files that may be found in the place of an entry."""
    for share in (0.0, 0.01, 0.3, 0.7, 0.99):
        yield f"cut at {share}", whole[: int(len(whole) * share)]
    yield "last byte lost", whole[:-1]
    yield "zeros", bytes(len(whole))
    yield "zeros behind", whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)
    yield "zeros in front", bytes(len(whole) // 2) + whole[len(whole) // 2 :]
    yield "text", b"no archive"
    yield "something pickled", b"\x80\x04K\x01."
    other = np.array([make_key("other"), *sorted(ARRAYS)])
    for name, save in {
        "an array": lambda file: np.save(file, np.arange(5)),
        "of another key": lambda file: np.savez(file, __head__=other, **ARRAYS),
        "lacking an array": lambda file: np.savez(file, __head__=np.array([KEY, "a", "b"]), a=np.zeros(3)),
        "of no key": lambda file: np.savez(file, **ARRAYS),
        "a pickled array": lambda file: np.savez(file, __head__=np.array([KEY, "objects"]), objects=pickled_entry()),
        "a compressed one": lambda file: np.savez_compressed(file, __head__=np.array(["x", *sorted(ARRAYS)]), **ARRAYS),
    }.items():
        with open(path, "wb") as file:
            save(file)
        yield name, path.read_bytes()


def test_a_damaged_entry_is_a_logged_miss_and_is_computed_again(store, caplog):
    store.save("features", KEY, ARRAYS)
    path = store.path("features", KEY)
    whole = path.read_bytes()
    for name, content in damaged_entries(path, whole):
        path.write_bytes(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "sfm_lightglue"):
            assert store.load("features", KEY) is None, name
        assert "computed again" in caplog.text, name
        assert str(path) in caplog.text, name
        store.save("features", KEY, ARRAYS)
        assert_equal(store.load("features", KEY))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_never_gives_wrong_arrays(store, save):
    path = store.path("features", KEY)
    path.parent.mkdir(parents=True)
    arrays = {"a": np.arange(24, dtype=np.float32).reshape(12, 2), "name": np.array("abc")}
    with open(path, "wb") as file:
        save(file, __head__=np.array([KEY, *sorted(arrays)]), **arrays)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    generator = np.random.default_rng(0)
    num_misses = 0
    for position in generator.permutation(len(whole))[:400]:
        damaged = whole.copy()
        damaged[position] ^= 1 << generator.integers(8)
        path.write_bytes(damaged.tobytes())
        found = store.read("features", KEY)
        if found is None:
            num_misses += 1
        else:  # the bit is in a field that is not used, such as a date
            assert_equal(found, arrays)
    assert num_misses > 150


def test_a_folder_in_the_place_of_an_entry(store, caplog):
    path = store.path("features", KEY)
    path.mkdir(parents=True)
    assert store.load("features", KEY) is None
    with pytest.raises(StoreError, match=f"{KEY}.npz: cannot be written"):
        store.save("features", KEY, ARRAYS)
    assert files_below(store.root) == []


def test_a_crash_while_writing_leaves_the_old_entry_and_nothing_else(store):
    store.save("features", KEY, ARRAYS)
    path = store.path("features", KEY)
    for crash in (RuntimeError, KeyboardInterrupt, MemoryError):
        with pytest.raises(crash), atomic_write(path) as file:
            file.write(b"half of it")
            file.flush()
            assert len(files_below(store.root)) == 2
            raise crash
    assert files_below(store.root) == [path.relative_to(store.root).as_posix()]
    assert_equal(store.load("features", KEY))


def _fail_at(calls, number):
    """A function that fails at its n-th call like on a full disk."""

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return None

    return fail


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_is_a_store_error_and_leaves_nothing(store, monkeypatch, function):
    monkeypatch.setattr(os, function, _fail_at([], 1))
    with pytest.raises(StoreError, match="No space left on device"):
        store.save("features", KEY, ARRAYS)
    monkeypatch.undo()
    assert files_below(store.root) == []
    store.save("features", KEY, ARRAYS)
    assert_equal(store.load("features", KEY))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk that is always full")
def test_a_disk_that_fills_up_while_writing(store, monkeypatch):
    def open_full(path, mode):
        return Path("/dev/full").open("wb")

    monkeypatch.setattr(atomic_file, "open", open_full, raising=False)
    with pytest.raises(StoreError, match="No space left on device"):
        store.save("features", KEY, ARRAYS)
    monkeypatch.undo()
    assert store.load("features", KEY) is None


def test_a_folder_that_cannot_be_made_or_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="cannot be made"):
            Store(path)
    store = Store(tmp_path / "store")
    (store.root / "features").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        store.save("features", KEY, ARRAYS)
    assert store.load("features", KEY) is None
    store.save("matches", KEY, ARRAYS)
    assert_equal(store.load("matches", KEY))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path):
    store = Store(tmp_path / "store")
    store.root.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="Permission denied"):
            store.save("features", KEY, ARRAYS)
    finally:
        store.root.chmod(0o700)


def _save_often(root, seed):
    store = Store(root)
    for _ in range(10):
        store.save("features", KEY, {"a": np.full(5000, seed)})
        found = store.load("features", KEY)
        assert found is not None
        assert len(np.unique(found["a"])) == 1


def test_threads_can_write_the_same_entry_at_once(store, caplog):
    failures = []

    def work(seed):
        try:
            _save_often(store.root, seed)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert caplog.records == []
    assert files_below(store.root) == [store.path("features", KEY).relative_to(store.root).as_posix()]


def test_processes_can_write_the_same_entry_at_once(store):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_save_often, args=(store.root, seed)) for seed in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(files_below(store.root)) == 1
    assert store.load("features", KEY) is not None


NAMES = ["a b.jpg", "a/b.jpg", "a_b.jpg", "a\\b.jpg", "ü/ö 猫.jpg", "u/o.jpg", "x" * 200, "x" * 199 + "y", "..", "."]


def test_names_neither_collide_nor_break_anything(store):
    for i, name in enumerate(NAMES):
        store.save("features", make_key("features", name), {"i": np.array(i)})
    for i, name in enumerate(NAMES):
        found = store.load("features", make_key("features", name))
        assert found is not None
        assert found["i"] == i
    assert len(files_below(store.root)) == len(NAMES)
    assert all(path.endswith(".npz") and len(path) < 100 for path in files_below(store.root))


def as_npy(shape, dtype="<f4", data=b""):
    """An array file whose header states any shape."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


def test_arrays_of_any_header_and_compressed_archives_are_misses_without_memory(store, caplog):
    """64 MB of zeros are 64 kB when they are compressed."""
    path = store.path("features", KEY)
    path.parent.mkdir(parents=True)
    contents = [
        {"__head__.npy": as_npy((2**60,), "<U0")},
        {"a.npy": as_npy((2**62, 2**62))},
        {"a.npy": as_npy((2**40,))},
        {"a.npy": as_npy((1,), data=bytes(40))},
        {"a.npy": as_npy((-1,))},
    ]
    for members in contents:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        assert store.load("features", KEY) is None
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(64_000_000))
    tracemalloc.start()
    assert store.load("features", KEY) is None
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert len(caplog.records) == len(contents) + 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_folder_in_the_place_of_an_entry_is_a_miss(store):
    path = store.path("features", KEY)
    path.mkdir(parents=True)
    assert store.load("features", KEY) is None
    path.rmdir()
    os.mkfifo(path)
    assert store.load("features", KEY) is None


def test_an_entry_that_cannot_be_decoded_is_a_miss(store, caplog):
    store.save("features", KEY, ARRAYS)
    assert store.load_as("features", KEY, lambda arrays: arrays["count"].item()) == 3
    assert store.load_as("features", KEY, lambda arrays: arrays["absent"]) is None
    assert (store.counts["features"].hits, store.counts["features"].misses) == (1, 1)
    assert "not the expected values, will be computed again (KeyError: 'absent')" in caplog.text
