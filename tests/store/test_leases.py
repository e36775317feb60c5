"""Leases of several processes on one folder: one holder at a time, and what a dead holder leaves is taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sfm_lightglue.errors import StoreError
from sfm_lightglue.store.leases import Leases
from tests.helpers.checkout import ROOT

HOLD = """
import sys, time
from pathlib import Path
from sfm_lightglue.store.leases import Leases
leases = Leases(Path(sys.argv[1]), float(sys.argv[2]))
print(leases.claim("work"), flush=True)
time.sleep(60)
"""


def start_holder(folder: Path, lease_s: float) -> subprocess.Popen[str]:
    """Another process that holds the lease "work"."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLD, str(folder), str(lease_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    return process


def of_another_machine(path: Path) -> None:
    """Rewrite a lease as if a process of another machine held it."""
    path.write_text(json.dumps(json.loads(path.read_text()) | {"machine": "elsewhere", "host": "elsewhere"}))


def age(path: Path, seconds: float) -> None:
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    with Leases(tmp_path / "leases", 60) as first, Leases(tmp_path / "leases", 60) as second:
        assert first.claim("a") and not second.claim("a") and not first.claim("a")
        assert second.claim("b")
        first.release("a")
        with second.held("a") as is_held:
            assert is_held
            with first.held("a") as is_held_too:
                assert not is_held_too
            assert second.holder("a") is not None, "who does not hold a lease does not end it"
        assert first.claim("a")
    assert not (tmp_path / "leases").exists()


def test_the_lease_of_a_live_process_is_respected_and_that_of_a_killed_one_is_not(tmp_path: Path) -> None:
    with start_holder(tmp_path, 600) as holder, Leases(tmp_path, 600) as leases:
        is_refused, found = not leases.claim("work"), leases.holder("work")
        holder.kill()
        holder.wait()
        assert is_refused and found is not None and found.process == holder.pid
        assert leases.claim("work")
        found = leases.holder("work")
        assert found is not None and found.process == os.getpid()


def test_the_lease_of_another_machine_lasts_until_it_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "work.lease"
    holder, leases = Leases(tmp_path, 30), Leases(tmp_path, 30)
    assert holder.claim("work")
    of_another_machine(path)
    age(path, 20)
    assert not leases.claim("work")
    age(path, 20)
    assert leases.claim("work")
    holder.release("work")
    found = leases.holder("work")
    assert found is not None and found.process == os.getpid(), "the former holder does not end the lease of the next"
    assert not holder.claim("work")


def test_a_holder_touches_its_leases(tmp_path: Path) -> None:
    with Leases(tmp_path, 1) as leases:
        assert leases.claim("work")
        path = tmp_path / "work.lease"
        age(path, 1000)
        before = path.stat().st_mtime
        deadline = time.monotonic() + 20
        while path.stat().st_mtime == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert path.stat().st_mtime > before + 900


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"token": 3}', b"\xff\xfe"])
def test_a_lease_that_cannot_be_read_lasts_as_long_as_any(tmp_path: Path, content: bytes) -> None:
    """Its process was killed while it wrote, or writes now."""
    path = tmp_path / "work.lease"
    path.write_bytes(content)
    leases = Leases(tmp_path, 30)
    assert not leases.claim("work")
    age(path, 40)
    assert leases.claim("work")


def test_of_many_processes_one_takes_over(tmp_path: Path) -> None:
    first = Leases(tmp_path, 30)
    assert first.claim("work")
    of_another_machine(tmp_path / "work.lease")
    age(tmp_path / "work.lease", 100)
    others = [Leases(tmp_path, 30) for _ in range(5)]
    assert [leases.claim("work") for leases in others] == [True, False, False, False, False]


def test_what_killed_processes_left_is_removed_at_the_end_of_another(tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir()
    for name in ("old.lease", ".host-1-00000000.clock", ".old.lease.0123abcd"):
        (tmp_path / "leases" / name).write_bytes(b"")
        age(tmp_path / "leases" / name, 100)
    with Leases(tmp_path / "leases", 30):
        pass
    assert not (tmp_path / "leases").exists()


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written"):
        Leases(tmp_path / "file" / "leases", 30)
