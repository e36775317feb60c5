"""Two writers of one file: the second waits for the end of the first."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from sfm_lightglue.errors import StoreError
from sfm_lightglue.store.sole_writer import sole_writer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs advisory locks")


def test_many_writers_come_one_after_another_and_leave_nothing_behind(tmp_path: Path) -> None:
    """Locks of descriptors of one process exclude each other as those of several processes do."""
    out = tmp_path / "folder" / "out.txt"

    def write() -> None:
        for _ in range(5):
            with sole_writer(out):
                before = out.read_text() if out.exists() else ""
                time.sleep(0.001)
                out.write_text(before + "x")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert out.read_text() == "x" * 40
    assert os.listdir(out.parent) == ["out.txt"]


def test_who_waits_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "out.txt"
    order = []

    def second() -> None:
        with sole_writer(out):
            order.append("second")

    with sole_writer(out):
        thread = threading.Thread(target=second)
        thread.start()
        while not caplog.records:
            time.sleep(0.001)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert [record.getMessage() for record in caplog.records] == [f"another run writes {out}; waiting for its end"]
    assert caplog.records[0].levelno == logging.WARNING


def test_two_spellings_are_one_file_and_very_long_names_have_a_lock(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with sole_writer(tmp_path / "link" / ("x" * 250)):
        (name,) = sorted(set(os.listdir(tmp_path)) - {"link"})
        assert len(name) < 100
    assert os.listdir(tmp_path) == ["link"]


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "out.txt", tmp_path / ("x" * 5000) / "out.txt", Path("/proc/none/out.txt")):
        with pytest.raises(StoreError, match="cannot be written"), sole_writer(path):
            pass


def test_without_locks_nothing_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fcntl

    def fail(descriptor: int, flags: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with sole_writer(tmp_path / "out.txt", waiting=False), sole_writer(tmp_path / "out.txt"):
        pass
    assert caplog.text == ""
