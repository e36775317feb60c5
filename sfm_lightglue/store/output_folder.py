"""An output folder that several runs may share: private work folders, and one publishing run at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sfm_lightglue.store.atomic_file import ABANDONED_AFTER_S, lock, store_errors

_WORK_PREFIX = ".work-"
_LOCK_NAME = ".lock"


@contextlib.contextmanager
def work_folder(output: Path) -> Iterator[Path]:
    """A private folder below the output folder that is removed at the end of the block.

    Work folders of killed runs are removed after a day.

    Raises:
        StoreError: if the folder cannot be made.
    """
    for abandoned in output.glob(f"{_WORK_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - abandoned.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(abandoned, ignore_errors=True)
    with store_errors(output):
        folder = Path(tempfile.mkdtemp(prefix=_WORK_PREFIX, dir=output))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def sole_publisher(output: Path) -> Iterator[None]:
    """Hold the lock of the output folder during the block; wait while another run holds it.

    So models, cloud, database and record in the folder are always those of one run. Without advisory locks of the
    system, runs that end at the same moment are not separated.

    Raises:
        StoreError: if the folder is not writable.
    """
    with store_errors(output):
        descriptor = os.open(output / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


RESULTS_MARKER = "run.json"
"""Name of the record of a run. A folder that has one of this library is an output folder: it has no input photos."""


def is_results_folder(folder: Path) -> bool:
    """Whether a folder is the output folder of an earlier run."""
    try:
        record = json.loads((folder / RESULTS_MARKER).read_text(encoding="utf-8"))
        return "sfm_lightglue" in record["versions"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
