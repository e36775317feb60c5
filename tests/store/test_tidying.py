"""Checking, compacting and pruning: no entry is lost, also if the process is killed, and damage is told."""

import contextlib
import errno
import logging
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.store import inventory as inventory_module
from sfm_lightglue.store import shards as shards_module
from sfm_lightglue.store import tidying
from sfm_lightglue.store.atomic_file import part_beside
from sfm_lightglue.store.entry_file import write_entry_file
from sfm_lightglue.store.inventory import check_store, read_all_entries, take_inventory
from sfm_lightglue.store.output_folder import SNAPSHOTS_FOLDER
from sfm_lightglue.store.shard_file import read_shard_index, verified
from sfm_lightglue.store.sole_writer import sole_writer
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.store.tidying import compact_store, prune_store

KEYS = [make_key("entry", number) for number in range(30)]


def arrays_of(number):
    return {"a": np.arange(number), "b": np.full((2, 3), number, np.float32)}


@pytest.fixture
def root(tmp_path):
    """Small shards with entries 0 to 19, of which 0 to 4 are there twice; files of 20 to 24; features 0 to 2."""
    for first in range(0, 20, 5):
        with Store(tmp_path) as store:
            for number in {*range(first, first + 5), *range(5 if first else 0)}:
                store.save("matches", KEYS[number], arrays_of(number))
    for number in range(18, 25):
        write_entry_file(store.path("matches", KEYS[number]), KEYS[number], arrays_of(number))
    for number in range(3):
        store.save("features", KEYS[number], arrays_of(number))
    return tmp_path


def entries(root):
    return {
        (inventory.kind, KEYS.index(key)): arrays
        for inventory in take_inventory(root)
        for key, arrays in read_all_entries(inventory)
    }


def assert_complete(root, missing=()):
    expected = [("features", number) for number in range(3)] + [("matches", number) for number in range(25)]
    found = entries(root)
    assert sorted(found) == [one for one in expected if one not in missing]
    for (_, number), arrays in found.items():
        assert all(np.array_equal(arrays[name], array) for name, array in arrays_of(number).items())
    store = Store(root)
    for kind, number in expected:
        assert (store.read(kind, KEYS[number]) is None) == ((kind, number) in missing)


def files_of(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def damage_entry(path, number):
    index, content = read_shard_index(path), bytearray(path.read_bytes())
    (row,) = [row for row, key in enumerate(index.rows["key"]) if key.tobytes().hex() == KEYS[number]]
    content[index.data_start + int(index.rows["offset"][row])] ^= 1
    path.write_bytes(content)


def fail_to_open(monkeypatch, paths, error):
    """Let files fail as on a network file system or without file descriptors."""
    opened = os.open

    def failing(path, *arguments, **options):
        if path in paths:
            raise error
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", failing)


def shards_of(root):
    return sorted((root / "matches").glob("*.npz"))


def test_stats_count_every_entry_once(root):
    stats = {inventory.kind: inventory.stats() for inventory in take_inventory(root)}
    size = sum(path.stat().st_size for path in (root / "matches").rglob("*.npz"))
    assert stats["matches"] == {
        "num_entries": 25,
        "num_files": 4 + 7,
        "num_shards": 4,
        "num_replaced": 15 + 2,
        "num_bytes": size,
    }
    assert stats["features"]["num_entries"] == stats["features"]["num_files"] == 3


def test_a_folder_without_a_store(root, tmp_path_factory):
    for folder in (root / "absent", tmp_path_factory.mktemp("empty")):
        with pytest.raises(DataError, match=r"no such folder|no store"):
            take_inventory(folder)
    with pytest.raises(DataError, match="no entries of two_view; it has features, matches"):
        take_inventory(root, ["two_view", "matches"])


def test_an_undamaged_store_passes_the_check(root):
    calls = []
    assert check_store(root, progress=lambda *call: calls.append(call)) == (20 + 15 + 7 + 3, [])
    assert calls[-1] == ("check", 14, 14)


def test_the_check_lists_every_damage(root):
    damage_entry(shards_of(root)[0], 2)
    shards_of(root)[1].write_bytes(b"no archive")
    index, content = read_shard_index(shards_of(root)[2]), bytearray(shards_of(root)[2].read_bytes())
    content[content.index(index.rows["key"][1].tobytes())] ^= 1
    shards_of(root)[2].write_bytes(content)
    shards_of(root)[3].write_bytes(shards_of(root)[3].read_bytes()[:-30])
    store = Store(root)
    for kind, number in (("features", 1), ("matches", 24)):
        store.path(kind, KEYS[number]).write_bytes(b"no archive")
    _, damages = check_store(root)
    found = {(damage.path.relative_to(root).as_posix(), damage.key) for damage in damages}
    names = [f"matches/{path.name}" for path in shards_of(root)]
    wrong_key = bytes([index.rows["key"][1][0] ^ 1, *index.rows["key"][1][1:]]).hex()
    files = {(store.path(kind, KEYS[n]), KEYS[n]) for kind, n in (("features", 1), ("matches", 24))}
    assert found == {
        (names[0], KEYS[2]),
        (names[1], ""),
        (names[2], wrong_key),
        (names[2], ""),
        (names[3], ""),
        *((path.relative_to(root).as_posix(), key) for path, key in files),
    }


def test_compacting_leaves_one_shard_with_every_entry_once(root):
    before = {path: path.stat().st_size for path in (root / "matches").rglob("*.npz")}
    tidied = compact_store(root)
    assert tidied.removed.keys() == before.keys()
    assert tidied.num_bytes_removed == sum(before.values())
    (path,) = shards_of(root)
    assert tidied.num_bytes_written == path.stat().st_size
    assert [path.name for path in (root / "matches").iterdir()] == [path.name]
    assert_complete(root)
    assert take_inventory(root, ["matches"])[0].stats()["num_replaced"] == 0
    assert compact_store(root).removed == {}


def test_compacting_fills_shards_and_leaves_full_ones_alone(root, monkeypatch):
    monkeypatch.setattr(tidying, "FULL_SHARD_ENTRIES", 12)
    compact_store(root)
    assert max(len(read_shard_index(path).rows) for path in shards_of(root)) <= 12
    assert len(shards_of(root)) <= 4
    assert_complete(root)
    full = [path for path in shards_of(root) if len(read_shard_index(path).rows) >= 6]
    compact_store(root)
    assert set(full) <= set(shards_of(root))
    assert_complete(root)


@pytest.mark.parametrize("tidy", [compact_store, prune_store])
def test_a_dry_run_changes_nothing_and_tells_what_would_be_done(root, tidy):
    damage_entry(shards_of(root)[0], 2)
    Store(root).path("features", KEYS[1]).write_bytes(b"no archive")
    before = files_of(root)
    planned = tidy(root, dry_run=True)
    assert files_of(root) == before
    done = tidy(root)
    assert planned.removed == done.removed and planned.removed
    assert planned.num_written == done.num_written


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6, 9, 12])
@pytest.mark.parametrize("tidy", [compact_store, prune_store])
def test_a_process_that_is_killed_while_it_tidies_loses_no_entry(root, monkeypatch, tidy, number):
    """Whatever was the last file that was renamed or removed; also if another run follows."""
    monkeypatch.setattr(tidying, "FULL_SHARD_ENTRIES", 12)
    calls = []

    def counted(function):
        def call(path, *arguments, **options):
            calls.append(path)
            if len(calls) == number and not str(path).endswith(".lock"):  # a lock ends with its process
                raise KeyboardInterrupt
            return function(path, *arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("unlink", "rmdir"):
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(os, "replace", counted(os.replace))
        with contextlib.suppress(KeyboardInterrupt):
            tidy(root)
    assert_complete(root)
    tidy(root)
    assert_complete(root)
    assert check_store(root)[1] == []


def test_pruning_removes_what_is_damaged_or_replaced(root):
    damage_entry(shards_of(root)[2], 11)
    store = Store(root)
    for kind, number in (("features", 1), ("matches", 24)):
        store.path(kind, KEYS[number]).write_bytes(b"no archive")
    part = part_beside(root / "features" / "x.npz")
    part.write_bytes(b"half")
    os.utime(part, (0, 0))
    prune_store(root)
    assert check_store(root)[1] == []
    assert not part.exists()
    assert_complete(root, missing=[("features", 1), ("matches", 11), ("matches", 24)])
    assert take_inventory(root, ["matches"])[0].stats()["num_replaced"] == 0
    assert store.path("matches", KEYS[22]).is_file()
    assert prune_store(root).removed == {}


def test_pruning_removes_snapshots_that_have_not_changed_for_a_day(root):
    now = time.time()
    ages_s = {"old": (90_000, 90_000), "goes-on": (90_000, 3600), "begun": (80_000, 80_000)}
    for name, (age_s, newest_age_s) in ages_s.items():
        newest = root / SNAPSHOTS_FOLDER / name / "0" / "mapping-0" / "current" / "1"
        newest.mkdir(parents=True)
        (newest / "images.bin").write_bytes(b"123")
        for path in (newest / "images.bin", *newest.parents[:4]):
            os.utime(path, (now, now - age_s))
        os.utime(newest, (now, now - newest_age_s))
    old = root / SNAPSHOTS_FOLDER / "old"
    assert old in prune_store(root, dry_run=True).removed
    assert old.exists()
    prune_store(root, ["matches"])
    compact_store(root)
    assert old.exists()
    tidied = prune_store(root)
    assert (list(tidied.removed), tidied.num_bytes_removed) == ([old], 3)
    assert sorted(path.name for path in (root / SNAPSHOTS_FOLDER).iterdir()) == ["begun", "goes-on"]
    assert_complete(root)


def test_pruning_removes_unreadable_shards(root):
    compact_store(root)
    (path,) = shards_of(root)
    path.write_bytes(b"no archive")
    assert list(prune_store(root).removed) == [path]
    assert [inventory.kind for inventory in take_inventory(root)] == ["features"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no answer"), MemoryError()])
@pytest.mark.parametrize("tidy", [compact_store, prune_store])
def test_files_that_cannot_be_read_are_told_and_stay(root, monkeypatch, caplog, tidy, error):
    store = Store(root)
    unread = [shards_of(root)[1], store.path("features", KEYS[1]), store.path("matches", KEYS[24])]
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        fail_to_open(patch, unread, error)
        num_good, damages = check_store(root)
        assert sorted((damage.path, "cannot be read" in damage.reason) for damage in damages) == [
            (path, True) for path in sorted(unread)
        ]
        assert num_good == 20 + 15 + 7 + 3 - 10 - 2
        done = tidy(root)
    assert not set(unread) & set(done.removed)
    if tidy is prune_store:
        assert all(f"{path}: cannot be read" in caplog.text for path in unread)
    assert_complete(root)


def test_a_shard_that_cannot_be_read_after_its_index_stays(root, monkeypatch):
    (unread, *_) = shards_of(root)
    with monkeypatch.context() as patch:

        def fail(index):
            if index.path == unread:
                raise OSError(errno.EIO, "no answer")
            return verified(index)

        for module in (inventory_module, tidying):
            patch.setattr(module, "verified", fail)
        assert [damage.path for damage in check_store(root)[1]] == [unread]
        assert unread not in prune_store(root).removed
        assert unread not in compact_store(root).removed
    assert_complete(root)


@pytest.mark.parametrize("action", [check_store, compact_store, prune_store])
def test_files_may_go_after_the_inventory(root, monkeypatch, action):
    """As if the run that wrote them had merged them meanwhile."""

    def take(*arguments):
        inventories = take_inventory(*arguments)
        for path in (shards_of(root)[1], Store(root).path("features", KEYS[1])):
            path.unlink()
        return inventories

    with monkeypatch.context() as patch:
        for module in (inventory_module, tidying):
            patch.setattr(module, "take_inventory", take)
        done = action(root)
    if action is check_store:
        assert done == (20 + 15 + 7 + 3 - 10 - 1, [])
    assert check_store(root)[1] == []


def test_folders_may_go_during_the_inventory(root, monkeypatch):
    is_dir = Path.is_dir

    def remove(path):
        was_folder = is_dir(path)
        if path.name in ("features", KEYS[24][:2]):
            shutil.rmtree(path, ignore_errors=True)
        return was_folder

    monkeypatch.setattr(Path, "is_dir", remove)
    assert [inventory.kind for inventory in take_inventory(root)] == ["matches"]


def test_only_the_kinds_that_are_named(root):
    store = Store(root)
    store.path("features", KEYS[1]).write_bytes(b"no archive")
    prune_store(root, ["matches"])
    assert store.path("features", KEYS[1]).is_file()
    assert compact_store(root, ["features"]).removed == {}
    prune_store(root, ["features"], all_entries=True)
    assert [inventory.kind for inventory in take_inventory(root)] == ["matches"]


def test_two_processes_do_not_tidy_at_once(root):
    with sole_writer(root / "store"), pytest.raises(ConfigError, match="another run"):
        compact_store(root)
    assert_complete(root)


def test_a_run_that_uses_the_store_meanwhile_finds_all_entries(root, monkeypatch):
    """It knows the old shards; it merges its own small shard, which has gone."""
    monkeypatch.setattr(shards_module, "LOOK_AGAIN_S", 0.0)
    store = Store(root)
    assert store.read("matches", KEYS[0]) is not None
    store.save("matches", KEYS[25], arrays_of(25))
    store.flush()
    compact_store(root)
    for number in range(26):
        assert store.read("matches", KEYS[number]) is not None
    store.save("matches", KEYS[26], arrays_of(26))
    store.flush()
    compact_store(root)
    assert len(shards_of(root)) == 1
    assert len(entries(root)) == 3 + 27
    assert check_store(root)[1] == []
