"""Batches of random inputs, each batch in a forked child with limits of time and memory."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.robustness_targets import TARGETS, Corpus, Target, load_corpus
from sfm_lightglue.errors import SfmError

_POLL_S = 0.01
_ADDRESS_SPACE_BYTES = 16 * 2**30
_CONTENT_LIMIT_BYTES = 2**24


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What came of the inputs of a batch.

    Args:
        num_inputs: number of inputs.
        num_refused: inputs that ended with an `SfmError`.
        slowest_s: time of the slowest input.
        violations: (number of the input, what was wrong), one for each kind.
    """

    num_inputs: int
    num_refused: int
    slowest_s: float
    violations: list[tuple[int, str]]


def run_batch(target_name: str, first: int, num: int, seed: int, corpus_folder: Path, folder: Path) -> BatchOutcome:
    """Run inputs `first` to `first + num - 1` of a target.

    Args:
        target_name: of `TARGETS`.
        first: number of the first input.
        num: number of inputs.
        seed: together with the number it determines an input.
        corpus_folder: of `make_corpus`.
        folder: for files; emptied.
    """
    target, corpus = TARGETS[target_name], load_corpus(corpus_folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "neighbour.txt").write_text("not of the input")
    num_refused, slowest_s = 0, 0.0
    violations: dict[str, int] = {}
    next_input, end = first, first + num
    shared = mmap.mmap(-1, 16)
    while next_input < end:
        shared[:16] = struct.pack("<qd", next_input, time.monotonic())
        reports = folder / f"reports-{next_input}"
        pid = os.fork()
        if pid == 0:
            _child(target, corpus, range(next_input, end), seed, folder, reports, shared)
        fault = _watch(pid, target, shared)
        at, _ = struct.unpack("<qd", shared[:16])
        for report in _read_reports(reports):
            num_refused += report["refused"]
            slowest_s = max(slowest_s, report["seconds"])
            for text in report["violations"]:
                violations.setdefault(text, report["number"])
        if fault is not None:
            violations.setdefault(fault, at)
            slowest_s = max(slowest_s, target.limit_s if fault.startswith("hang") else 0.0)
        next_input = at + 1
    shared.close()
    if (folder / "neighbour.txt").read_text() != "not of the input":
        violations.setdefault("a file outside its folder has changed", first)
    names = {path.name for path in folder.iterdir() if not path.name.startswith("reports-")}
    if names - {"neighbour.txt", "input", "cwd", "stderr"}:
        violations.setdefault(f"files outside its folder: {sorted(names)}", first)
    if any((folder / "cwd").iterdir()):
        violations.setdefault("files in the working folder", first)
    return BatchOutcome(num, num_refused, slowest_s, [(number, text) for text, number in violations.items()])


def _read_reports(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def _watch(pid: int, target: Target, shared: mmap.mmap) -> str | None:
    """Wait for a child; what was wrong with it, None if it went through all inputs."""
    limit_bytes, page = target.memory_mb * 2**20, os.sysconf("SC_PAGE_SIZE")
    killed = None
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        _, started = struct.unpack("<qd", shared[:16])
        with contextlib.suppress(OSError, IndexError, ValueError):
            words = Path(f"/proc/{pid}/statm").read_text().split()
            if killed is None and (int(words[1]) - int(words[2])) * page > limit_bytes:
                killed = f"memory: more than {target.memory_mb} MiB"
        if killed is None and time.monotonic() - started > target.limit_s:
            killed = f"hang: more than {target.limit_s:.0f} s"
        if killed is not None:
            os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_S)
    code = os.waitstatus_to_exitcode(status)
    return killed or (None if code == 0 else f"crash: the process ended with {code}")


def _child(
    target: Target, corpus: Corpus, numbers: range, seed: int, folder: Path, reports: Path, shared: mmap.mmap
) -> None:
    code = 1
    try:
        (folder / "cwd").mkdir(exist_ok=True)
        os.chdir(folder / "cwd")
        os.dup2(os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
        os.dup2(2, 1)
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open(reports, "w", encoding="utf-8") as file:
            for number in numbers:
                shared[:16] = struct.pack("<qd", number, time.monotonic())
                report = run_input(target, corpus, number, seed, folder / "input")
                if report["refused"] or report["violations"] or report["seconds"] > 0.1 or number == numbers[-1]:
                    file.write(json.dumps(report) + "\n")
                    file.flush()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def run_input(target: Target, corpus: Corpus, number: int, seed: int, folder: Path) -> dict[str, Any]:
    """Make one input in a folder, read it with the library, and report what was wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    target.make(random.Random(f"{seed}/{target.name}/{number}"), corpus, folder)
    before = _contents(folder) if not target.writes else {}
    violations, refused = [], 0
    start = time.monotonic()
    try:
        target.read(corpus, folder)
    except SfmError as error:
        refused = 1
        if not str(error).strip():
            violations.append(f"{type(error).__name__} without a message")
    except BaseException as error:
        violations.append(_signature(error))
    seconds = time.monotonic() - start
    if not target.writes and _contents(folder) != before:
        violations.append("reading changed or made files")
    return {"number": number, "refused": refused, "seconds": seconds, "violations": violations}


def _contents(folder: Path) -> dict[str, bytes]:
    """All files but those that SQLite makes beside a database while it is read."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size < _CONTENT_LIMIT_BYTES and not path.name.endswith(("-wal", "-shm"))
    }


def _signature(error: BaseException) -> str:
    """Type of an exception and the last two lines of the library that it passed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/robustness_" not in frame.filename]
    ours = [frame for frame in frames if f"{os.sep}sfm_lightglue{os.sep}" in frame.filename]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in (ours or frames)[-2:]]
    text = str(error).splitlines()[0][:80] if str(error) else ""
    print(_traceback_text(error), file=sys.stderr)
    return f"{type(error).__name__} at {' < '.join(reversed(places))}: {_without_numbers(text)}"


def _traceback_text(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _without_numbers(text: str) -> str:
    """Messages that differ in numbers only are one kind."""
    return "".join("N" if character.isdigit() else character for character in text)
