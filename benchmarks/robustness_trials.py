"""Trials of faults: a small reconstruction that is killed or fails, the same command again, and what must hold."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.robustness_outputs import (
    LEFT_OVER,
    NOT_COMPARED,
    STORE_KINDS,
    Reference,
    comparable_record,
    is_store_file,
    kind_of_path,
    read_tree,
    store_entries,
)
from benchmarks.robustness_shim import ERRNO, Call, Fault, Server, read_calls
from sfm_lightglue.store.atomic_file import ABANDONED_AFTER_S
from sfm_lightglue.synthetic import render_scene, write_scene

MAX_KEYPOINTS = {"a": 160, "b": 200}
"""The two configurations: their features, matches and models differ."""

STARTS = ("fresh", "resumed", "switch", "again", "damaged")
"""State of the output folder before the run with the fault, which has configuration b.

fresh: no folder. resumed: features, matches and geometries of b are in the store, no model. switch: a is finished, and
the store has everything of b. again: b is finished, and the store has everything of a. damaged: as again, but three
files of the results are short, changed and missing.
"""

_HASTY_S = 0.01
"""Before a kill at a random moment, shards are written and merged this often."""

_ALLOWED_CODES = {"kill": {-signal.SIGKILL, 0}, "moment": {-signal.SIGKILL, 0}, "fault": {0, 6}}
_FORBIDDEN_ON_STDERR = ("Traceback", "terminate called", "*** Aborted", "Check failed", "what():", "Stack trace")


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault.

    Args:
        kind: "kill", "moment" (a kill at a random time), "fault" (a call fails) or "signal" (SIGTERM, SIGINT).
        start: of `STARTS`.
        follower: configuration of the run after it.
        fault: None for "moment".
        kill_after_s: for "moment".
        what: call and file, for reports.
    """

    kind: str
    start: str
    follower: str = "b"
    fault: Fault | None = None
    kill_after_s: float | None = None
    what: str = ""


@dataclass(slots=True)
class TrialResult:
    """What came of a trial: the exit codes, the violations of the laws, and the time of the slower run."""

    trial: Trial
    outcome: str
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Bench:
    """The scene, the undisturbed runs and the folders that trials start from.

    Args:
        folder: of all files; created.
        server: runs the commands.

    Raises:
        RuntimeError: if an undisturbed run fails, or two of them differ.
    """

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.scene = folder / "scene"
        if not (self.scene / "truth.json").is_file():
            write_scene(render_scene(num_images=5, size=(320, 240)), self.scene)
        self.references = {name: self._reference(name, server) for name in MAX_KEYPOINTS}
        self.calls = {start: self._record(start, server) for start in STARTS}
        self._scene_files = read_tree(self.scene)

    def argv(self, name: str, output: Path) -> list[str]:
        """The command of a configuration."""
        options = ["--threads", "1", "--matcher", "nearest", "--max-keypoints", str(MAX_KEYPOINTS[name]), "--json"]
        return ["reconstruct", str(self.scene), "--output", str(output), *options]

    def _reference(self, name: str, server: Server) -> Reference:
        root = self.folder / f"reference-{name}"
        shutil.rmtree(root, ignore_errors=True)
        outcome = server.run(self.argv(name, root / "out"), root / "logs")
        if outcome.code != 0:
            raise RuntimeError(f"an undisturbed run failed: {outcome.stderr}")
        return Reference.of(root / "out")

    def finished(self, name: str) -> Path:
        """The output folder of the undisturbed run of a configuration."""
        return self.folder / f"reference-{name}" / "out"

    def prepare(self, start: str, output: Path) -> None:
        """Make an output folder as it is before the fault."""
        output.parent.mkdir(parents=True)
        (output.parent / "neighbour.txt").write_text("not of the run")
        if start in {"again", "damaged", "switch"}:
            shutil.copytree(self.finished("a" if start == "switch" else "b"), output)
        if start == "damaged":
            _damage(output)
        kinds = {"fresh": (), "resumed": STORE_KINDS[:-1]}.get(start, STORE_KINDS)
        for name in "b" if start == "resumed" else "ab":
            for kind in kinds:
                if (self.finished(name) / kind).is_dir():
                    shutil.copytree(self.finished(name) / kind, output / kind, dirs_exist_ok=True)

    def _record(self, start: str, server: Server) -> list[Call]:
        root = self.folder / f"record-{start}"
        shutil.rmtree(root, ignore_errors=True)
        self.prepare(start, root / "out")
        outcome = server.run(self.argv("b", root / "out"), root / "logs", root / "out", Fault("record"))
        if outcome.code != 0:
            raise RuntimeError(f"an undisturbed run failed: {outcome.stderr}")
        different = self.wrong_results(root / "out", "b")
        if different:
            raise RuntimeError(f"two undisturbed runs differ: {different}")
        return read_calls(root / "logs")

    def run(self, trial: Trial, root: Path, server: Server) -> TrialResult:
        """Carry out a trial in a new folder, which is removed if no law is violated."""
        shutil.rmtree(root, ignore_errors=True)
        output = root / "out"
        self.prepare(trial.start, output)
        first = server.run(
            self.argv("b", output),
            root / "logs0",
            output,
            trial.fault,
            kill_after_s=trial.kill_after_s,
            max_wait_s=_HASTY_S if trial.kind == "moment" else None,
        )
        result = TrialResult(trial, str(first.code), seconds=first.seconds)
        wrong = result.violations
        wrong += _fit_exit(trial, first.code, first.timed_out, first.stderr)
        entries = store_entries(output)
        wrong += self._wrong_entries(entries)
        if first.code == 0:
            wrong += [f"exit 0, but {text}" for text in self.wrong_results(output, "b") if LEFT_OVER not in text]
        missing = self._num_missing(entries, trial.follower)
        _age_remains(output)
        second = server.run(self.argv(trial.follower, output), root / "logs1")
        result.seconds = max(result.seconds, second.seconds)
        result.outcome += f" {second.code}"
        if second.code != 0 or second.timed_out:
            wrong.append(f"the next run ended with {second.code}: {second.stderr[-300:]}")
        else:
            wrong += [f"after the next run, {text}" for text in self.wrong_results(output, trial.follower)]
            wrong += _computed_twice(json.loads(second.stdout)["cache"]["by_kind"], missing)
        wrong += self._wrong_surroundings(root)
        if not wrong:
            shutil.rmtree(root)
        return result

    def _known_entries(self) -> dict[str, bytes]:
        return self.references["a"].entries | self.references["b"].entries

    def _wrong_entries(self, entries: Mapping[str, bytes]) -> list[str]:
        known = self._known_entries()
        return [f"store entry {name} is damaged" for name, content in entries.items() if content != known.get(name)]

    def _num_missing(self, entries: Mapping[str, bytes], follower: str) -> dict[str, int]:
        missing = [name for name in self.references[follower].entries if name not in entries]
        return {kind: sum(name.startswith(f"{kind}/") for name in missing) for kind in STORE_KINDS}

    def wrong_results(self, output: Path, name: str) -> list[str]:
        """How the results in a folder differ from those of an undisturbed run of a configuration."""
        reference = self.references[name]
        files, entries = read_tree(output), store_entries(output)
        wrong = [f"{file} is missing" for file in reference.results if file not in files]
        wrong += [f"store entry {entry} is missing" for entry in reference.entries if entry not in entries]
        wrong += self._wrong_entries(entries)
        for file, content in files.items():
            if file in NOT_COMPARED or is_store_file(file):
                continue
            if file not in reference.results:
                wrong.append(f"{kind_of_path(file)} {LEFT_OVER}")
            elif content != reference.results[file]:
                wrong.append(f"{file} differs")
        folders = [path.relative_to(output) for path in output.iterdir() if path.is_dir()]
        wrong += [f"{kind_of_path('/' + str(one))} {LEFT_OVER}" for one in folders if str(one).startswith(".")]
        try:
            if comparable_record(output) != reference.record:
                wrong.append("run.json differs")
        except (OSError, ValueError) as error:
            wrong.append(f"run.json cannot be read: {error}")
        return wrong

    def _wrong_surroundings(self, root: Path) -> list[str]:
        names = {path.name for path in root.iterdir()} - {"logs0", "logs1", "out"}
        wrong = [] if names == {"neighbour.txt"} else [f"files beside the output folder: {sorted(names)}"]
        logs = {path.name for number in (0, 1) for path in (root / f"logs{number}").iterdir()}
        if logs - {"stdout", "stderr", "calls"}:
            wrong.append(f"files in the working folder: {sorted(logs)}")
        if read_tree(self.scene) != self._scene_files:
            wrong.append("the images have changed")
        return wrong


def _damage(output: Path) -> None:
    (output / "points.ply").unlink()
    points, database = output / "sparse" / "0" / "points3D.bin", output / "database.db"
    points.write_bytes(points.read_bytes()[:-100])
    content = bytearray(database.read_bytes())
    content[len(content) // 2] ^= 1
    database.write_bytes(content)


def _fit_exit(trial: Trial, code: int, timed_out: bool, stderr: str) -> list[str]:
    wrong = []
    if timed_out:
        wrong.append("did not end")
    if trial.kind == "signal" and trial.fault is not None:
        allowed = {0, 128 + trial.fault.value}
    else:
        allowed = _ALLOWED_CODES[trial.kind]
    if code not in allowed and not timed_out:
        wrong.append(f"exit {code}: {stderr.strip()[-300:]}")
    lines = "\n".join(line for line in stderr.splitlines() if not line.startswith("error: "))
    wrong += [f"{text!r} on standard error" for text in _FORBIDDEN_ON_STDERR if text in lines]
    if code == 6 and "error: " not in stderr:
        wrong.append("exit 6 without a message")
    return wrong


def _computed_twice(counts: Mapping[str, Mapping[str, int]], missing: Mapping[str, int]) -> list[str]:
    return [
        f"{kind}: {count['misses']} computed, {missing.get(kind, 0)} were missing"
        for kind, count in counts.items()
        if count["misses"] > missing.get(kind, 0)
    ]


def _age_remains(output: Path) -> None:
    """Make what a killed run left behind older than the age at which it is removed."""
    old = time.time() - ABANDONED_AFTER_S - 3600
    if not output.is_dir():
        return
    for path in output.rglob(".*"):
        if path.name.endswith(".part") or path.name.startswith((".work-", ".new-work-")):
            os.utime(path, (old, old))


def plan_trials(
    calls: Mapping[str, Sequence[Call]], num_kills: int, num_faults: int, num_signals: int, seed: int = 0
) -> list[Trial]:
    """Trials that hit each kind of call on each kind of file, as far as their number allows.

    A fifth of the kills is at random moments.

    Args:
        calls: recorded, by start.
        num_kills: number of kills.
        num_faults: number of calls that fail.
        num_signals: number of interruptions.
        seed: of the choice of calls and faults.
    """
    rng = random.Random(seed)
    groups = _groups(calls)
    rng.shuffle(groups)
    num_moments = num_kills // 5
    trials = [_kill(groups[i % len(groups)], rng) for i in range(num_kills - num_moments)]
    for i in range(num_moments):
        start = STARTS[i % len(STARTS)]
        longest_s = 1.0 if start == "fresh" else 0.5 if start == "resumed" else 0.1
        trials.append(
            Trial("moment", start, _follower(start, rng), kill_after_s=rng.uniform(0, longest_s), what="moment")
        )
    rng.shuffle(groups)
    trials += [_failure(groups[i % len(groups)], rng) for i in range(num_faults)]
    for i in range(num_signals):
        start, call = _choose(groups[i % len(groups)], rng)
        fault = Fault("signal", call.number, rng.choice([signal.SIGTERM, signal.SIGINT]))
        trials.append(Trial("signal", start, _follower(start, rng), fault, what=_text(call)))
    return trials


_Group = list[tuple[str, Call]]


def _groups(calls: Mapping[str, Sequence[Call]]) -> list[_Group]:
    """Calls of one function on one kind of file, of all starts."""
    groups: dict[str, _Group] = {}
    for start, recorded in calls.items():
        for call in recorded:
            groups.setdefault(_text(call), []).append((start, call))
    return [groups[key] for key in sorted(groups)]


def _choose(group: _Group, rng: random.Random) -> tuple[str, Call]:
    """A call of a group: each start is as likely as the others, although it has fewer calls."""
    start = rng.choice(sorted({start for start, _ in group}))
    return start, rng.choice([call for other, call in group if other == start])


def _follower(start: str, rng: random.Random) -> str:
    return rng.choice("ab") if start in {"switch", "again", "damaged"} else "b"


def _text(call: Call) -> str:
    return f"{call.name} {kind_of_path(call.path)}"


def _kill(group: _Group, rng: random.Random) -> Trial:
    start, call = _choose(group, rng)
    action = rng.choice(["kill before", "kill after"] + ["kill half-way"] * ("write" in call.name))
    return Trial("kill", start, _follower(start, rng), Fault(action, call.number), what=f"{action} {_text(call)}")


def _failure(group: _Group, rng: random.Random) -> Trial:
    start, call = _choose(group, rng)
    frees_space = call.name in {"unlink", "unlinkat", "rmdir", "remove", "ftruncate", "ftruncate64", "utimensat"}
    names = ["EIO", "EROFS"] if frees_space else list(ERRNO)
    name = rng.choice(names)
    actions = ["fail once", "fail lasting"] + ["short once", "short lasting"] * ("write" in call.name)
    action = rng.choice(actions)
    fault = Fault(action, call.number, ERRNO[name])
    return Trial("fault", start, _follower(start, rng), fault, what=f"{action} {name} {_text(call)}")
