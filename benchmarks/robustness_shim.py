"""Commands under faults: the compiled shim, the faults that it makes, and the client of the forking server."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.robustness_server import SHIM_VARIABLE, RunOutcome

ROOT = Path(__file__).resolve().parents[1]

SHIM_SOURCE = ROOT / "tests" / "faults" / "shim.c"

ACTIONS = (
    "record",
    "kill before",
    "kill after",
    "kill half-way",
    "fail once",
    "fail lasting",
    "short once",
    "short lasting",
    "signal",
)
"""What happens at the chosen call, in the order of the enumeration in the shim.

"half-way": after half of the bytes of a write. "short": a write returns after half of its bytes, then calls fail.
"""

ERRNO = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EDQUOT", "EROFS")}

STATE_FILE = "state.json"
"""Written at moments that depend on the time, so its calls are counted apart."""


def why_unavailable() -> str | None:
    """Why the shim cannot be used here; None if it can."""
    if not sys.platform.startswith("linux"):
        return "the shim needs Linux"
    if not hasattr(os, "pidfd_open"):
        return "the server needs os.pidfd_open"
    if not any(map(shutil.which, ("cc", "gcc"))):
        return "no C compiler (cc)"
    return None if SHIM_SOURCE.is_file() else "tests/faults/shim.c is not part of this installation"


def compile_shim(folder: Path) -> Path:
    """Compile the shim into a folder; returns the path of the library."""
    library = folder / "shim.so"
    compiler = shutil.which("cc") or "gcc"
    options = ["-std=gnu11", "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM_SOURCE), "-ldl"]
    subprocess.run([compiler, *options], check=True, capture_output=True)
    return library


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault at one call among those that change files below a folder.

    Args:
        action: of `ACTIONS`.
        number: of the call, from 1.
        value: errno or signal.
        only_in: only calls on paths that contain this text are counted; "" for all.
        not_in: calls on paths that contain this text are not counted; "" for none.
    """

    action: str
    number: int = 0
    value: int = 0
    only_in: str = ""
    not_in: str = STATE_FILE


@dataclass(frozen=True, slots=True)
class Call:
    """A recorded call: its number, the function, and the path below the folder."""

    number: int
    name: str
    path: str


class Server:
    """The client of one forking server process.

    Args:
        shim: the compiled library of faults; None runs without faults.
        weights: folder of weights; None for none.
    """

    def __init__(self, shim: Path | None) -> None:
        env = dict(os.environ)
        env |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        env |= {"SFM_LIGHTGLUE_OFFLINE": "1", "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
        if shim is not None:
            env |= {"LD_PRELOAD": str(shim), SHIM_VARIABLE: str(shim)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.robustness_server"],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.num_threads: int = json.loads(self._read_line())["num_threads"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server."""
        if self._process.stdin is not None and self._process.stdout is not None:
            self._process.stdin.close()
            self._process.wait(60)
            self._process.stdout.close()

    def run(
        self,
        argv: Sequence[str],
        logs: Path,
        output: Path | None = None,
        fault: Fault | None = None,
        limit_s: float = 60.0,
        kill_after_s: float | None = None,
        kill_signal: int = signal.SIGKILL,
        max_wait_s: float | None = None,
    ) -> RunOutcome:
        """Run one command.

        Args:
            argv: name of the command and its arguments.
            logs: folder of its standard output and error, and of the list of calls; also its working folder.
            output: folder of the faults.
            fault: None for none.
            limit_s: a command that takes longer is killed.
            kill_after_s: kill it at this time.
            kill_signal: by this signal.
            max_wait_s: entries of the store wait so long until they are written; None for the usual time.
        """
        run = command(argv, logs, output, fault)
        more = {"kill_after_s": kill_after_s, "kill_signal": int(kill_signal), "max_wait_s": max_wait_s}
        return self.run_all([run | more], limit_s)[0]

    def run_all(self, runs: Sequence[Mapping[str, Any]], limit_s: float = 60.0) -> list[RunOutcome]:
        """Run several commands at the same time."""
        answer = self._ask({"runs": [dict(run) for run in runs], "limit_s": limit_s})
        return [RunOutcome(**values) for values in answer]

    def fuzz(self, target: str, first: int, num: int, seed: int, corpus: Path, folder: Path) -> dict[str, Any]:
        """Run a batch of random inputs; arguments and result as of `run_batch`, the result as plain values."""
        request = {"target": target, "first": first, "num": num, "seed": seed}
        answer: dict[str, Any] = self._ask({"fuzz": request | {"corpus": str(corpus), "folder": str(folder)}})
        return answer

    def _ask(self, request: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._read_line())

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server of commands ended")
        return line


def command(
    argv: Sequence[str], logs: Path, output: Path | None = None, fault: Fault | None = None, uid: int = 0
) -> dict[str, Any]:
    """A command for `Server.run_all`; with a `uid`, it runs as that user."""
    run: dict[str, Any] = {"argv": list(argv), "logs": str(logs), "uid": uid, "fault": None}
    if fault is not None:
        run["fault"] = asdict(fault) | {"action": ACTIONS.index(fault.action), "folder": str(output)}
    return run


def read_calls(logs: Path) -> list[Call]:
    """The calls that a run with a fault made, in their order."""
    calls = []
    for line in (logs / "calls").read_text(errors="replace").splitlines():
        number, name, path = line.split(" ", 2)
        calls.append(Call(int(number), name, path))
    return calls
