"""Atomic files: others see them complete or not at all, and abandoned parts are removed."""

import contextlib
import json
import os
import subprocess
import sys
import time

import pytest

from sfm_lightglue.store import atomic_file
from sfm_lightglue.store.atomic_file import ABANDONED_AFTER_S, atomic_write, lock, part_beside, remove_abandoned_parts
from sfm_lightglue.store.store import Store, make_key
from tests.helpers.checkout import ROOT

KEY = make_key("test")


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def make_old(path, age_s=ABANDONED_AFTER_S + 60):
    then = time.time() - age_s
    os.utime(path, (then, then))


def write_part(target, age_s):
    """Write a part file like that of a killed process."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_beside(target)
    part.write_bytes(b"half of it")
    make_old(part, age_s)
    return part


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "file.bin"
    with atomic_write(path) as file:
        file.write(b"whole")
        assert not path.exists()
        (temporary,) = path.parent.iterdir()
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".part"
    assert path.read_bytes() == b"whole"
    assert files_below(tmp_path) == ["new/file.bin"]


@pytest.mark.parametrize("name", ["x" * 250, "猫" * 80, "a b", "-rf", "ü"])
def test_files_of_any_name_can_be_written_atomically(tmp_path, name):
    with atomic_write(tmp_path / name) as file:
        file.write(json.dumps(name).encode())
    assert files_below(tmp_path) == [name]


needs_locks = pytest.mark.skipif(sys.platform.startswith("win"), reason="needs advisory locks")


@needs_locks
@pytest.mark.parametrize("name", ["points.ply", "sparse/0/cameras.bin", "entry"])
def test_a_store_removes_parts_of_killed_runs_after_a_day(tmp_path, name):
    store = Store(tmp_path)
    target = store.path("features", KEY) if name == "entry" else tmp_path / name
    write_part(target, ABANDONED_AFTER_S + 60)
    young = write_part(target, ABANDONED_AFTER_S - 60)
    Store(tmp_path)
    assert files_below(tmp_path) == [young.relative_to(tmp_path).as_posix()]


WRITER = """
import sys
from pathlib import Path
from sfm_lightglue.store.atomic_file import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    file.write(b"one half ")
    file.flush()
    print("begun", flush=True)
    sys.stdin.readline()
    file.write(b"and the other")
"""


@contextlib.contextmanager
def other_writer(target):
    """Another process that has written half of a file and waits for a line of input to write the rest."""
    command = [sys.executable, "-c", WRITER, str(target)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


@needs_locks
def test_a_file_that_another_run_is_writing_is_never_removed_however_old(tmp_path):
    target = Store(tmp_path).path("features", KEY)
    with other_writer(target) as writer:
        (part,) = target.parent.iterdir()
        make_old(part, 1000 * ABANDONED_AFTER_S)
        Store(tmp_path)
        assert part.exists()
        writer.communicate("go on\n", timeout=60)
        assert writer.returncode == 0
    assert target.read_bytes() == b"one half and the other"
    assert files_below(tmp_path) == [target.relative_to(tmp_path).as_posix()]


@needs_locks
def test_a_file_whose_writer_was_killed_is_removed(tmp_path):
    target = Store(tmp_path).path("features", KEY)
    with other_writer(target) as writer:
        writer.kill()
    (part,) = target.parent.iterdir()
    Store(tmp_path)
    assert part.exists()  # a young part may belong to a process that is about to lock it
    make_old(part)
    Store(tmp_path)
    assert files_below(tmp_path) == []


@needs_locks
def test_a_file_that_this_process_is_writing_is_never_removed(tmp_path):
    target = tmp_path / "model.bin"
    with atomic_write(target) as file:
        file.write(b"whole")
        (part,) = tmp_path.iterdir()
        make_old(part)
        Store(tmp_path)
    assert target.read_bytes() == b"whole"


def test_a_finished_part_is_young_until_it_is_renamed(tmp_path, monkeypatch):
    """It is no longer locked then, so its age must not depend on the time that writing took."""
    ages_s = []

    def publish(part, target):
        ages_s.append(time.time() - part.stat().st_mtime)
        os.replace(part, target)

    monkeypatch.setattr(atomic_file, "publish_file", publish)
    with atomic_write(tmp_path / "model.bin") as file:
        (part,) = tmp_path.iterdir()
        make_old(part)
        file.write(b"")
    assert len(ages_s) == 1
    assert abs(ages_s[0]) < 60


def test_other_files_are_left_alone_however_old(tmp_path):
    """Partial downloads, files of other programs, folders, links."""
    (tmp_path / "elsewhere").write_bytes(b"precious")
    for name in (".weights.pth.part", "notes.part", "a.12-0123abcd.part", ".a.x-0123abcd.part", ".a.12-0123ABCD.part"):
        (tmp_path / name).write_bytes(b"some of it")
        make_old(tmp_path / name)
    (tmp_path / ".folder.12-0123abcd.part").mkdir()
    make_old(tmp_path / ".folder.12-0123abcd.part")
    link = tmp_path / ".link.12-0123abcd.part"
    link.symlink_to(tmp_path / "elsewhere")
    os.utime(link, (0, 0), follow_symlinks=False)
    before = sorted(tmp_path.iterdir())
    remove_abandoned_parts(before)
    Store(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    """Without locks, an old part may still be written."""
    part = write_part(tmp_path / "model.bin", 1000 * ABANDONED_AFTER_S)
    monkeypatch.setattr(atomic_file, "lock", lambda descriptor, waiting=True: False)
    Store(tmp_path)
    assert part.exists()


@needs_locks
def test_a_lock_is_held_until_the_file_is_closed(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as one, path.open("rb") as other:
        assert lock(one.fileno())
        assert lock(one.fileno(), waiting=False)
        assert not lock(other.fileno(), waiting=False)
        one.close()
        assert lock(other.fileno(), waiting=False)
