"""Training ends with one line as soon as its workers fail, and one run at a time writes a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from pipelines.train import main
from sfm_lightglue.errors import ConfigError, DataError, SfmError, StoreError
from sfm_lightglue.store.sole_writer import sole_writer
from sfm_lightglue.training.checkpoints import LAST, append_line, load_checkpoint, save_checkpoint
from sfm_lightglue.training.data import producer as module
from sfm_lightglue.training.data.pair_pool import wait_for
from sfm_lightglue.training.data.producer import ShardProducer
from sfm_lightglue.training.data.shards import write_shard
from sfm_lightglue.training.trainer import LOG_NAME, remove_run
from tests.helpers.checkout import ROOT
from tests.helpers.full_disk import TOLD, fail_writes
from tests.helpers.processes import children_of, is_running
from tests.helpers.rendered_scenes import CONFIG, SMALL
from tests.helpers.training_scenes import make_scene, prepare_run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A photograph that no worker can read, so that no scene is rendered."""
    folder = tmp_path / "textures"
    folder.mkdir()
    (folder / "any.jpg").write_bytes(b"not decoded")
    return folder


def raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def replace_workers(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
    """Let the process of a producer do something else than making shards."""

    def make_shards(*arguments: Any) -> Iterator[Path]:
        work()
        yield from ()

    monkeypatch.setattr(module, "make_shards", make_shards)
    monkeypatch.setattr(module, "get_context", lambda method: get_context("fork"))


@pytest.mark.parametrize(
    ("work", "error", "told"),
    [
        (raising(StoreError("000000.npz: cannot be written")), StoreError, r"^000000\.npz: cannot be written$"),
        (raising(OSError(28, "No space left on device")), StoreError, r"cannot be written \(No space left on device\)"),
        (raising(DataError("a.jpg: broken")), DataError, r"^a\.jpg: broken$"),
        (raising(RuntimeError("CUDA out of memory")), DataError, r"failed \(RuntimeError: CUDA out of memory\)"),
        (raising(BrokenProcessPool()), DataError, "was killed, perhaps for lack of memory"),
        (killed, DataError, "was killed, perhaps for lack of memory"),
        (lambda: os._exit(1), DataError, "was killed"),
    ],
)
def test_whoever_waits_for_a_shard_learns_of_the_failure(
    tmp_path: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[], None],
    error: type[SfmError],
    told: str,
) -> None:
    replace_workers(monkeypatch, work)
    with ShardProducer(photos, tmp_path, 0, 3, 2) as producer:
        for _ in range(2):
            with pytest.raises(error, match=told):
                wait_for(producer, [0])
        assert not producer.is_working or producer.close() is None


def test_a_failure_is_told_although_shards_exist(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_workers(monkeypatch, raising(StoreError("full")))
    with ShardProducer(photos, tmp_path, 0, 3, 1) as producer:
        (producer.folder / "000001.npz").touch()
        with pytest.raises(StoreError, match="full"):
            wait_for(producer, [0])


def test_workers_that_succeed_or_are_not_wanted_are_no_failure(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_workers(monkeypatch, lambda: None)
    for num_processes in (0, 1):
        with ShardProducer(photos, tmp_path, 0, 3, num_processes) as producer:
            with pytest.raises(DataError, match="no worker is making it"):
                wait_for(producer, [0])
            assert producer.available() == []


def test_shards_of_another_size_have_another_folder_and_are_read_as_arrays(tmp_path: Path, photos: Path) -> None:
    with (
        ShardProducer(photos, tmp_path, 0, 3, 0) as usual,
        ShardProducer(photos, tmp_path, 0, 3, 0, None, "cpu", 2) as few,
    ):
        assert usual.folder != few.folder
        write_shard(few.folder / "000002.npz", [make_scene(0), make_scene(1)])
        assert few.available() == [2] and usual.available() == []
        assert few.read_arrays(2).num_views.tolist() == [2, 2] and len(few.read(2)) == 2
        with pytest.raises(DataError, match="000001"):
            few.read_arrays(1)


def test_a_closed_producer_leaves_nothing_behind(tmp_path: Path, photo_folder: Path) -> None:
    """No process, no semaphore: Python would print a warning about it at the end."""
    code = (
        "import os, sys; from pathlib import Path; from multiprocessing import active_children\n"
        "from sfm_lightglue.training.data.pair_pool import wait_for\n"
        "from sfm_lightglue.training.data.producer import ShardProducer\n"
        "if __name__ == '__main__':\n"
        "    producer = ShardProducer(Path(sys.argv[1]), Path(sys.argv[2]), 0, 100, 1, scenes_per_shard=1)\n"
        "    wait_for(producer, [0]); producer.close(); assert active_children() == []\n"
    )
    (tmp_path / "run.py").write_text(code)
    command = [sys.executable, str(tmp_path / "run.py"), str(photo_folder), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize("how", ["closed", "SIFT killed"])
def test_one_renderer_and_its_pool_end_together(tmp_path: Path, photo_folder: Path, how: str) -> None:
    """The way of a GPU, on the CPU: any device whose name is not "cpu" has one renderer and a pool for SIFT."""
    config = replace(CONFIG, views=replace(SMALL, num_views=2, image_size=(160, 120)))
    with ShardProducer(photo_folder, tmp_path, 0, 1000, 1, config, "cpu:0", scenes_per_shard=1) as producer:
        wait_for(producer, [0])
        assert producer.read_arrays(0).num_views.tolist() == [2]
        (renderer,) = children_of(os.getpid(), "spawn_main")
        (sift,) = children_of(renderer, "spawn_main")
        if how == "SIFT killed":
            os.kill(sift, signal.SIGKILL)
            with pytest.raises(DataError, match=r"a process for SIFT has ended \(exit code -9\)"):
                wait_for(producer, [999])
    deadline = time.monotonic() + 60
    while is_running(sift) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(renderer) and not is_running(sift)


def test_the_other_workers_end_with_the_first_failure(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are within a shard, which takes minutes."""
    reading, writing = os.pipe()

    def work() -> None:
        subprocess.Popen(["sleep", "60"], pass_fds=(writing,))
        raise StoreError("full")

    replace_workers(monkeypatch, work)
    with ShardProducer(photos, tmp_path, 0, 3, 1) as producer, pytest.raises(StoreError, match="full"):
        wait_for(producer, [0])
    os.close(writing)
    assert os.read(reading, 1) == b""  # nobody has the other end any more
    os.close(reading)


def arguments_of_run(tmp_path: Path, photos: Path, *others: object) -> list[str]:
    known = ("--photos", photos, "--output", tmp_path / "run", "--workers", 1, "--device", "cpu", "--layers", 1)
    return [str(word) for word in (*known, *others)]


def test_an_error_of_a_real_worker_ends_the_command(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments_of_run(tmp_path, photos)) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {photos / 'any.jpg'}")


@pytest.mark.parametrize(("place", "name"), [("run", "EROFS"), *(("cache", name) for name in TOLD)])
def test_a_full_disk_ends_the_command_at_once(
    tmp_path: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    name: str,
) -> None:
    fail_writes(monkeypatch, tmp_path / place, name)
    code = main(arguments_of_run(tmp_path, photos, "--cache", tmp_path / "cache"))
    monkeypatch.undo()
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 6
    assert line.startswith(f"error: {tmp_path / place}")
    assert line.endswith(f"cannot be written ({TOLD[name]})")


@pytest.mark.parametrize("name", TOLD)
def test_a_disk_that_fills_up_during_the_training_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    save_checkpoint(tmp_path / "run" / LAST, {"step": 1})
    fail_writes(monkeypatch, tmp_path, name)
    for write in (
        lambda: save_checkpoint(tmp_path / "run" / LAST, {"step": 2}),
        lambda: append_line(tmp_path / "run" / LOG_NAME, {"step": 2}),
    ):
        with pytest.raises(StoreError, match="cannot be written"):
            write()
    monkeypatch.undo()
    checkpoint = load_checkpoint(tmp_path / "run" / LAST)
    assert checkpoint is not None and checkpoint["step"] == 1
    assert not list((tmp_path / "run").glob(".*"))


def test_a_log_that_cannot_be_removed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / LOG_NAME).mkdir()
    with pytest.raises(StoreError, match=LOG_NAME):
        remove_run(tmp_path)


def test_the_second_run_in_a_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Locks of two descriptors exclude each other within one process too."""
    run = [*prepare_run(tmp_path), "--output", str(tmp_path / "run"), "--steps", "4", "--decay-steps", "1"]
    with sole_writer(tmp_path / "run" / LOG_NAME):
        assert main([*run, "--restart"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == (
            f"error: another run writes {tmp_path / 'run' / LOG_NAME}; wait for its end, or choose another folder"
        )
        with pytest.raises(ConfigError), sole_writer(tmp_path / "run" / LOG_NAME, waiting=False):
            pass
    assert main(run) == 0
    assert not list((tmp_path / "run").glob(".*"))
