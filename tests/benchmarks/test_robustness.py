"""The benchmark of faults and damaged inputs: its plans, its log that continues, and its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.robustness import SHARES, build_parser, plan_batches, run_jobs
from benchmarks.robustness_log import Finished, TrialLog, format_table
from benchmarks.robustness_outputs import is_store_file, kind_of_path, store_entries
from benchmarks.robustness_shim import ERRNO, Call
from benchmarks.robustness_trials import STARTS, plan_trials
from sfm_lightglue.store.store import Store, make_key

CALLS = {
    start: [Call(i + 1, name, f"/{kind}/{'ab' * 32}.npz") for i, (name, kind) in enumerate(kinds)]
    for start, kinds in {
        "fresh": [("write", "features"), ("write", "features"), ("rename", "models"), ("mkdir", "sparse/0")],
        "again": [("unlink", "sparse/0"), ("write", "models")],
    }.items()
}


def test_every_kind_of_call_and_file_has_its_turn() -> None:
    trials = plan_trials(CALLS, 25, 15, 5)
    assert [sum(trial.kind == kind for trial in trials) for kind in ("kill", "moment", "fault", "signal")] == [
        20,
        5,
        15,
        5,
    ]
    kinds = {(call.name, kind_of_path(call.path)) for calls in CALLS.values() for call in calls}
    for trial_kind in ("kill", "fault"):
        whats = [trial.what for trial in trials if trial.kind == trial_kind]
        assert all(any(what.endswith(f"{name} {path}") for what in whats) for name, path in kinds)
    assert {trial.start for trial in trials} <= set(STARTS)
    assert trials == plan_trials(CALLS, 25, 15, 5)
    assert trials != plan_trials(CALLS, 25, 15, 5, seed=1)


def test_faults_are_those_that_a_file_system_can_have() -> None:
    """Removing a file needs no room."""
    trials = [trial for trial in plan_trials(CALLS, 0, 200, 0) if "unlink" in trial.what]
    assert trials
    errors = {trial.fault.value for trial in trials if trial.fault is not None}
    assert errors == {ERRNO["EIO"], ERRNO["EROFS"]}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/features/0a/" + "0a" * 32 + ".npz", "/features/*/*.npz"),
        ("/.run.json.123-0123abcd.part", "/.run.json.*.part"),
        ("/.work-ab_12/mapping-0/0/images.bin", "/.work*/mapping-0/0/images.bin"),
    ],
)
def test_kinds_of_paths_have_no_random_parts(path: str, kind: str) -> None:
    assert kind_of_path(path) == kind


def test_batches_have_all_inputs_once() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    batches = plan_batches(1000)
    assert sum(batch.num for batch in batches) == 1000
    starts = [(batch.target, batch.first) for batch in batches]
    assert len(set(starts)) == len(starts)
    assert all(batch.num <= 100 for batch in batches)


def test_a_second_start_continues_and_a_torn_line_is_no_trial(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    log = TrialLog(path)
    log.add(Finished("kill-0-0", "kill", 1, 0, 1.5))
    log.add(Finished("kill-0-1", "kill", 1, 1, 0.5, ("exit 1",)))
    with open(path, "a") as file:
        file.write('{"id": "kill-0-2", "ki')
    assert TrialLog(path).finished == log.finished
    assert set(TrialLog(path, again=True).finished) == {"kill-0-0"}
    assert TrialLog(path).violations == ["kill-0-1: exit 1"]
    assert "| kill |      2 |                   1 |        1.5 |          1 |" in format_table([*log.finished.values()])


def test_only_new_jobs_run(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trials.jsonl")
    log.add(Finished("a", "kill", 1, 0, 0.0))
    ran: list[str] = []

    def job(name: str) -> Finished:
        ran.append(name)
        return Finished(name, "kill", 1, 0, 0.0)

    class NoServer:
        """Stands for a server that no job uses."""

    jobs = [(name, lambda server, name=name: job(name)) for name in ("a", "b", "c")]
    run_jobs(jobs, [NoServer()], log, lambda finished: None)  # type: ignore[list-item]
    assert ran == ["b", "c"]
    assert set(log.finished) == {"a", "b", "c"}


def test_the_defaults_are_the_numbers_of_the_documentation() -> None:
    arguments = build_parser().parse_args([])
    assert (arguments.kills, arguments.faults, arguments.fuzz) == (1000, 500, 100_000)


def test_entries_are_compared_whatever_shards_they_are_in(tmp_path: Path) -> None:
    keys = [make_key(number) for number in range(4)]
    for folder, sizes in (("a", (4,)), ("b", (1, 3))):
        first = 0
        for size in sizes:
            with Store(tmp_path / folder) as store:
                for key in keys[first : first + size]:
                    store.save("matches", key, {"a": np.arange(5)})
            first += size
        store.save("features", keys[0], {"a": np.arange(5)})
    entries = store_entries(tmp_path / "a")
    assert entries == store_entries(tmp_path / "b")
    assert sorted(entries) == sorted(["features/" + keys[0], *(f"matches/{key}" for key in keys)])
    shard = next((tmp_path / "a" / "matches").glob("*.npz"))
    assert kind_of_path(f"/matches/{shard.name}") == "/matches/*.npz"
    assert is_store_file(f"matches/{shard.name}") and not is_store_file(f"matches/.{shard.name}.1-00000000.part")
    shard.write_bytes(shard.read_bytes()[:-200])
    assert {b""} < set(store_entries(tmp_path / "a").values())
    assert store_entries(tmp_path / "absent") == {}
