"""What a long run tells while it runs: `log.txt` with its warnings and stages, and `state.json` with how far it is."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sfm_lightglue.errors import SfmError
from sfm_lightglue.execution.progress import Progress, WorkProgress, silent
from sfm_lightglue.store.atomic_file import part_beside
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.store.store import Store
from sfm_lightglue.version import __version__

LOG_NAME, STATE_NAME = "log.txt", "state.json"

_STATE_INTERVAL_S = 1.0
"""Shortest time between two states of one stage."""


_KINDS_OF_STAGE = {
    "extract": ("features", "dense_features"),
    "describe": ("global_descriptors",),
    "match": ("matches", "two_view"),
}
"""Kinds of the entries that an item of a stage makes, of stages that look them up in the store."""


class RunLog:
    """The log and the state of one run. Neither ends the run if it cannot be written: the results matter more.

    Args:
        job: name of the job in the log.
        progress: of the caller; it is called too.
    """

    def __init__(self, job: str, progress: Progress = silent) -> None:
        self._job, self._progress = job, progress
        self._work_progress = progress if isinstance(progress, WorkProgress) else None
        self._folder: Path | None = None
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self._started = _now()
        self._stage, self._done, self._total = "start", 0, 0
        self._last_state_s = 0.0
        self._store: Store | None = None
        self._misses_before: dict[str, int] = {}

    def watch(self, store: Store) -> None:
        """Tell the caller's progress, if it is a `WorkProgress`, how many items of a stage are found in a store.

        Args:
            store: of a run that computes all that its store lacks by itself.
        """
        self._store = store

    def open(self, folder: Path) -> None:
        """Write into a folder from now on, also what was logged before.

        Args:
            folder: an existing folder.
        """
        with self._lock:
            self._folder = folder
            self._flush()
        self._write_state("running")

    def progress(self, stage: str, num_done: int, num_total: int) -> None:
        """Note how far a stage is, and call the caller's progress."""
        before = (self._stage, self._done, self._total)
        is_new = stage != self._stage
        self._stage, self._done, self._total = stage, num_done, num_total
        if is_new or (num_done == 0 and before != (stage, 0, num_total)):  # a process that waits reports 0 repeatedly
            self._misses_before = {kind: self._misses(kind) for kind in _KINDS_OF_STAGE.get(stage, ())}
            self.write(f"{stage}: begins{f', {num_total} to do' if num_total else ''}")
        if is_new or time.monotonic() - self._last_state_s >= _STATE_INTERVAL_S:
            self._write_state("running")
        if self._work_progress is not None:
            self._work_progress.advance(stage, num_done, num_total, self._num_found(num_done))
        else:
            self._progress(stage, num_done, num_total)

    def _num_found(self, num_done: int) -> int:
        """Finished items of this stage that are no work, by the entries that the store lacked."""
        if self._store is None or not self._misses_before:
            return 0
        num_missed = max(self._misses(kind) - before for kind, before in self._misses_before.items())
        return num_done - min(num_missed, num_done)

    def _misses(self, kind: str) -> int:
        counts = None if self._store is None else self._store.counts.get(kind)
        return 0 if counts is None else counts.misses

    def write(self, text: str) -> None:
        """Add a line to the log, with the time and the process."""
        line = f"{_now()} {os.getpid()} {text}"
        with self._lock:
            self._lines.append(line.encode(errors="backslashreplace").decode().replace("\n", "\n    ") + "\n")
            self._flush()

    def end(self, status: str, text: str) -> None:
        """Write the last line and the last state.

        Args:
            status: "done", "failed" or "interrupted".
            text: summary, or what went wrong.
        """
        self.write(text)
        self._write_state(status, text)

    def _flush(self) -> None:
        if self._folder is None:
            return
        with contextlib.suppress(OSError):  # a full disk ends the run where a result is lost, and not here
            with open(self._folder / LOG_NAME, "a", encoding="utf-8") as file:
                file.writelines(self._lines)
            self._lines.clear()

    def _write_state(self, status: str, message: str = "") -> None:
        if self._folder is None:
            return
        self._last_state_s = time.monotonic()
        state = {
            "job": self._job,
            "status": status,
            "stage": self._stage,
            "done": self._done,
            "total": self._total,
            "started": self._started,
            "updated": _now(),
            "process": os.getpid(),
            "host": platform.node(),
            "message": message,
        }
        part = part_beside(self._folder / STATE_NAME)  # of a killed run, it is removed like all part files
        try:
            part.write_bytes(json_bytes(state, indent=1) + b"\n")
            os.replace(part, self._folder / STATE_NAME)
        except OSError:  # as of the log
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


@contextlib.contextmanager
def run_log(job: str, progress: Progress = silent) -> Iterator[RunLog]:
    """A log that receives the library's warnings during the block, and states how the block ended.

    Args:
        job: name of the job in the log.
        progress: of the caller.
    """
    log = RunLog(job, progress)
    log.write(f"{job} begins: sfm_lightglue {__version__}, Python {platform.python_version()}")
    handler = _WarningHandler(log)
    logger = logging.getLogger("sfm_lightglue")
    logger.addHandler(handler)
    try:
        yield log
    except SfmError as error:
        log.end("failed", f"error: {error}")
        raise
    except KeyboardInterrupt:
        log.end("interrupted", "interrupted; what was finished is kept, the same command continues")
        raise
    except BaseException as error:
        log.end("failed", f"unexpected error: {type(error).__name__}: {error}")
        raise
    finally:
        logger.removeHandler(handler)


class _WarningHandler(logging.Handler):
    """Passes the warnings of this process to the log."""

    def __init__(self, log: RunLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.write(f"{record.levelname.lower()}: {record.getMessage()}")


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
