"""A process that imports all libraries once, and forks one child for each command that it is told to run.

It reads requests from standard input, one JSON object a line, and answers each with one line. A child inherits the
loaded libraries, so a small reconstruction takes less than a second. The process must have one thread: a fork copies
only the thread that calls it.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SHIM_VARIABLE = "SFM_LIGHTGLUE_SHIM"
"""Environment variable with the path of the library of faults; empty for none."""

MODULES = (
    "pipelines.reconstruct",
    "pipelines.colmap",
    "pipelines.match",
    "sfm_lightglue.reconstruction.run",
    "sfm_lightglue.extractors.sift",
    "sfm_lightglue.matchers.nearest",
    "sfm_lightglue.weights.state_dict",
    "cv2",
    "pycolmap",
    "scipy.optimize",
    "torch",
    "tqdm",
)
"""Imported before the first fork."""

ENTRIES_PER_SHARD = 4
"""The small reconstruction has ten pairs, in three shards."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a command ended.

    Args:
        code: exit code; negative: the number of the signal that ended it.
        timed_out: the command was killed because it ran too long.
        seconds: wall time.
        stdout: standard output.
        stderr: standard error.
    """

    code: int
    timed_out: bool
    seconds: float
    stdout: str
    stderr: str


def main() -> int:
    """Answer requests until standard input ends."""
    for name in MODULES:
        importlib.import_module(name)
    shim = os.environ.get(SHIM_VARIABLE)
    library = ctypes.CDLL(shim) if shim else None
    os.environ.pop("LD_PRELOAD", None)
    print(json.dumps({"num_threads": len(os.listdir("/proc/self/task"))}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "fuzz" in request:
            answer: Any = asdict(_fuzz(**request["fuzz"]))
        else:
            answer = [asdict(outcome) for outcome in _run_all(request["runs"], request["limit_s"], library)]
        print(json.dumps(answer), flush=True)
    return 0


def _fuzz(target: str, first: int, num: int, seed: int, corpus: str, folder: str) -> Any:
    from benchmarks.robustness_fuzz import run_batch  # after the libraries above

    return run_batch(target, first, num, seed, Path(corpus), Path(folder))


def _run_all(runs: list[dict[str, Any]], limit_s: float, library: ctypes.CDLL | None) -> list[RunOutcome]:
    """Run commands at the same time, and wait until all have ended."""
    started = []
    for run in runs:
        folder = Path(run["logs"])
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("stdout", "stderr"):  # now, because the child may be killed before it makes them
            (folder / name).write_text("")
        pid = os.fork()
        if pid == 0:
            _child(run, library)
        started.append((pid, os.pidfd_open(pid), time.monotonic(), run))
    return [_wait(pid, descriptor, start, run, limit_s) for pid, descriptor, start, run in started]


def _wait(pid: int, descriptor: int, start: float, run: dict[str, Any], limit_s: float) -> RunOutcome:
    ended, timed_out = [], False
    if run.get("kill_after_s") is not None:
        ended, _, _ = select.select([descriptor], [], [], run["kill_after_s"])
        if not ended:
            signal.pidfd_send_signal(descriptor, signal.Signals(run.get("kill_signal", signal.SIGKILL)))
    if not ended:
        ended, _, _ = select.select([descriptor], [], [], limit_s)
    if not ended:
        timed_out = True
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(descriptor)
    seconds = time.monotonic() - start
    folder = Path(run["logs"])
    stdout, stderr = ((folder / name).read_text(errors="replace") for name in ("stdout", "stderr"))
    return RunOutcome(os.waitstatus_to_exitcode(status), timed_out, seconds, stdout, stderr)


def _child(run: dict[str, Any], library: ctypes.CDLL | None) -> None:
    """Run one command, and end this process with its exit code."""
    code = 1
    try:
        folder = Path(run["logs"])
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(folder / name, flags, 0o644), descriptor)
        _act_as_program(run["argv"])
        _write_small_shards(run.get("max_wait_s"))
        if run.get("uid"):
            os.setgroups([])
            os.setgid(run["uid"])
            os.setuid(run["uid"])
        log = os.open(folder / "calls", flags, 0o644) if run.get("fault") else -1
        if library is not None and run.get("fault"):
            fault = run["fault"]
            texts = [str(fault[name]).encode() for name in ("folder", "only_in", "not_in")]
            library.shim_arm(
                texts[0], fault["action"], ctypes.c_long(fault["number"]), fault["value"], texts[1], texts[2], log
            )
        command, *arguments = run["argv"]
        code = sys.modules[f"pipelines.{command}"].main(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _write_small_shards(max_wait_s: float | None) -> None:
    from sfm_lightglue.store import shards

    shards.ENTRIES_PER_SHARD = ENTRIES_PER_SHARD
    if max_wait_s is not None:
        shards.MAX_WAIT_S = max_wait_s


def _act_as_program(argv: list[str]) -> None:
    """Handle signals as in a process that was started for this command."""
    from pipelines.interrupt import SCRIPT, leave_quietly_while_importing

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # pycolmap has replaced it
    sys.argv = [SCRIPT, *argv]
    leave_quietly_while_importing()


if __name__ == "__main__":
    sys.exit(main())
