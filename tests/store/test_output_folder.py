"""Work folders: private, removed at the end, and removed by the next run if their process was killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sfm_lightglue.errors import StoreError
from sfm_lightglue.store.output_folder import is_results_folder, work_folder
from tests.helpers.checkout import ROOT

WORKER = """
import sys
from pathlib import Path
from sfm_lightglue.store.output_folder import work_folder
with work_folder(Path(sys.argv[1])) as work:
    (work / "result").write_text("half of it")
    print(work.name, flush=True)
    sys.stdin.readline()
"""


def start_worker(output: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(output)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    return process, output / process.stdout.readline().strip()


def test_a_work_folder_is_removed_at_the_end_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), work_folder(tmp_path) as work:
        assert work.parent == tmp_path
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="needs advisory locks")
def test_the_folder_of_a_run_of_many_days_stays_and_that_of_a_killed_run_goes(tmp_path: Path) -> None:
    process, folder = start_worker(tmp_path)
    days_ago = time.time() - 9 * 24 * 3600
    os.utime(folder, (days_ago, days_ago))
    with work_folder(tmp_path):
        assert (folder / "result").read_text() == "half of it"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert folder.exists()
    with work_folder(tmp_path):
        assert not folder.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs advisory locks")
@pytest.mark.parametrize("failing", ["result", "b", ".lock", "folder"])
def test_what_could_not_be_removed_is_removed_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """In whatever order the files are listed: a disk may fail at each of them."""
    unlink, rmdir = os.unlink, os.rmdir

    def fail_to_remove(path: str | Path, *args: object, **options: object) -> None:
        if Path(path).name == failing:
            raise OSError(errno.EIO, "Input/output error", str(path))
        unlink(path, *args, **options)  # type: ignore[arg-type]

    def fail_to_remove_folder(path: str | Path, *args: object, **options: object) -> None:
        if failing == "folder" and Path(path).parent == tmp_path:
            raise OSError(errno.EIO, "Input/output error", str(path))
        rmdir(path, *args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", fail_to_remove)
        patched.setattr(os, "rmdir", fail_to_remove_folder)
        with work_folder(tmp_path) as work:
            (work / "mapping").mkdir()
            for name in ("result", "mapping/a", "mapping/b"):
                (work / name).write_text("")
    assert work.exists()
    with work_folder(tmp_path):
        assert not work.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_folder_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file: cannot be written"), work_folder(tmp_path / "file"):
        pass


def test_folders_of_others_with_a_similar_name_stay(tmp_path: Path) -> None:
    for name in (".work-notes", ".work-abcdefgh"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("of the user")
    with work_folder(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".work-abcdefgh", ".work-notes"]
    assert (tmp_path / ".work-abcdefgh" / "notes.txt").exists()


@pytest.mark.skipif(os.name != "posix", reason="makes special files of POSIX")
def test_a_record_of_any_kind_is_none_of_ours(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")
    assert not is_results_folder(tmp_path)
    (tmp_path / "run.json").unlink()
    for content in ("[" * 100_000, "[]", "{}", '{"versions": ["sfm_lightglue"]}', "\udcff"):
        (tmp_path / "run.json").write_text(content, errors="surrogateescape")
        assert not is_results_folder(tmp_path)
