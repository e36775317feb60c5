"""Kills and failing writes: nothing is lost, nothing wrong is a success, and the next run gives the same bytes.

The trials are planned from the recorded calls of a run, so that every function and every kind of file has its turn.
`benchmarks/robustness.py` makes hundreds of them.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.robustness_outputs import kind_of_path
from benchmarks.robustness_shim import Fault, Server, command, read_calls
from benchmarks.robustness_trials import Bench, Trial, plan_trials
from sfm_lightglue.store.inventory import check_store, take_inventory

NUM_KILLS, NUM_FAULTS, NUM_SIGNALS = 40, 40, 10
NUM_PARTS = 2
"""The trials are two tests each, so that two processes of pytest share them."""


def test_the_server_has_one_thread(server: Server) -> None:
    """A fork copies one thread only."""
    assert server.num_threads == 1


def test_every_kind_of_result_is_written_below_the_shim(bench: Bench) -> None:
    """A call that the shim does not see is never tried; models are written by C++, the database by SQLite."""
    calls = {(call.name, kind_of_path(call.path).rpartition("/")[2]) for call in bench.calls["fresh"]}
    names = {name for name, _ in calls}
    assert {"open", "write", "fsync", "mkdir", "unlink"} <= names
    assert names & {"rename", "renameat2"}
    files = {file for _, file in calls}
    assert {"database.db", "points3D.bin", "points.ply", "run.json"} <= files
    assert bench.references["a"].results["database.db"] != bench.references["b"].results["database.db"]
    assert bench.references["b"].record["summary"]["num_registered"] == 5


def test_the_small_reconstruction_has_several_shards(bench: Bench) -> None:
    """Else no kill could lose one of two."""
    for inventory in take_inventory(bench.finished("b"), ["matches", "two_view"]):
        assert len(inventory.shards) == 3
        assert inventory.stats()["num_entries"] == 10


def run_trials(bench: Bench, trials: list[Trial], servers: list[Server], folder: Path) -> list[str]:
    """The violations of trials, which are shared out to the servers."""

    def run(number: int) -> list[str]:
        wrong = []
        for i in range(number, len(trials), len(servers)):
            trial = trials[i]
            result = bench.run(trial, folder / f"trial-{i}", servers[number])
            wrong += [f"{trial.start}, {trial.what}: {text}" for text in result.violations]
        return wrong

    with ThreadPoolExecutor(len(servers)) as pool:
        return [text for texts in pool.map(run, range(len(servers))) for text in texts]


@pytest.mark.parametrize("part", range(NUM_PARTS))
@pytest.mark.parametrize(
    ("num_kills", "num_faults", "num_signals"),
    [(NUM_KILLS, 0, 0), (0, NUM_FAULTS, 0), (0, 0, NUM_SIGNALS)],
    ids=["kills", "faults", "signals"],
)
def test_nothing_is_lost_and_the_next_run_gives_the_same_bytes(
    bench: Bench, servers: list[Server], scratch: Path, num_kills: int, num_faults: int, num_signals: int, part: int
) -> None:
    trials = plan_trials(bench.calls, num_kills, num_faults, num_signals, seed=1)
    assert len(trials) == num_kills + num_faults + num_signals
    wrong = run_trials(bench, trials[part::NUM_PARTS], servers, scratch / f"trials-{num_kills}-{num_faults}-{part}")
    assert not wrong, "\n".join(wrong)


def test_a_kill_at_a_random_moment_loses_no_finished_shard(bench: Bench, servers: list[Server], scratch: Path) -> None:
    """While shards are written and merged all the time."""
    rng = random.Random(2)
    trials = [Trial("moment", "fresh", kill_after_s=rng.uniform(0.1, 0.8), what="moment") for _ in range(8)]
    wrong = run_trials(bench, trials, servers, scratch / "moments")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EROFS"])
@pytest.mark.parametrize("start", ["fresh", "again"])
def test_a_full_or_protected_disk_is_told_and_later_runs_are_right(
    bench: Bench, server: Server, scratch: Path, name: str, start: str
) -> None:
    """From the first call on: a disk without room, a quota that is used up, a file system that is read-only."""
    trial = Trial("fault", start, fault=Fault("fail lasting", 1, getattr(errno, name), not_in=""), what=name)
    result = bench.run(trial, scratch / f"{name}-{start}", server)
    assert not result.violations
    if start == "fresh":
        assert result.outcome == "6 0"


def test_a_run_on_a_small_file_system_that_fills_up(bench: Bench, server: Server, scratch: Path) -> None:
    """The same on a real file system, which fails at the calls that the shim does not know, too."""
    mount = scratch / "small"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("a small tmpfs cannot be mounted here; ENOSPC of the shim is tested above")
    try:
        output = mount / "out"
        outcome = server.run(bench.argv("b", output), scratch / "small-logs")
        assert outcome.code == 6, outcome.stderr
        assert "Traceback" not in outcome.stderr and "Aborted" not in outcome.stderr
        subprocess.run(["mount", "-o", "remount,size=16m", str(mount)], check=True)
        outcome = server.run(bench.argv("b", output), scratch / "small-logs")
        assert outcome.code == 0, outcome.stderr
        assert not bench.wrong_results(output, "b")
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become another user")
def test_a_folder_of_another_user_is_refused(bench: Bench, server: Server, scratch: Path) -> None:
    output = scratch / "others" / "out"
    bench.prepare("again", output)
    logs = scratch / "others-logs"
    logs.mkdir()
    logs.chmod(0o777)
    for folder in (scratch, scratch / "bench", bench.scene, output.parent):
        folder.chmod(0o755)
    (run,) = server.run_all([command(bench.argv("a", output), logs, uid=65534)])
    assert run.code == 6, run.stderr
    assert "cannot be written" in run.stderr and "Traceback" not in run.stderr
    assert not bench.wrong_results(output, "b")


@pytest.mark.parametrize("names", [("b", "b"), ("a", "b")], ids=["same options", "different options"])
def test_two_runs_at_once_end_with_the_results_of_one(
    bench: Bench, server: Server, scratch: Path, names: tuple[str, str]
) -> None:
    output = scratch / f"both-{'-'.join(names)}" / "out"
    output.parent.mkdir()
    for _ in range(2):
        shutil.rmtree(output, ignore_errors=True)
        runs = [command(bench.argv(name, output), output.parent / f"logs{number}") for number, name in enumerate(names)]
        runs = [run | {"max_wait_s": 0.01} for run in runs]
        outcomes = server.run_all(runs)
        assert [outcome.code for outcome in outcomes] == [0, 0], [outcome.stderr for outcome in outcomes]
        of_each = [bench.wrong_results(output, name) for name in dict.fromkeys(names)]
        assert [] in of_each, of_each
        assert check_store(output)[1] == []


def test_calls_are_counted_and_one_of_them_fails(bench: Bench, server: Server, scratch: Path) -> None:
    """The shim itself: the call after the chosen one is not reached where a lasting fault ends the run."""
    output = scratch / "shim" / "out"
    bench.prepare("again", output)
    before = {path.name: path.read_bytes() for path in output.glob("*.*") if path.is_file()}
    logs = scratch / "shim" / "logs"
    outcome = server.run(bench.argv("a", output), logs, output, Fault("kill before", 3))
    assert outcome.code == -9
    assert [call.number for call in read_calls(logs)] == [1, 2, 3]
    assert all((output / name).read_bytes() == before[name] for name in ("database.db", "points.ply", "run.json"))
