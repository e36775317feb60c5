"""The folder of results as several runs may share it: private work folders, and one publisher at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sfm_lightglue.errors import StoreError
from sfm_lightglue.store.atomic_file import ABANDONED_AFTER_S, lock, move_into_place

_WORK_PREFIX = ".work-"
_LOCK_NAME = ".lock"


@contextlib.contextmanager
def work_folder(output: Path) -> Iterator[Path]:
    """A folder below the results that no other run sees, and that vanishes with the block.

    What killed runs left behind is removed after a day.

    Raises:
        StoreError: where it cannot be made.
    """
    for abandoned in output.glob(f"{_WORK_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - abandoned.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(abandoned, ignore_errors=True)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_WORK_PREFIX, dir=output))
    except OSError as error:
        raise StoreError(f"{output}: cannot be written ({error.strerror})") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def sole_publisher(output: Path) -> Iterator[None]:
    """Wait until no other run replaces results here, and keep others waiting during the block.

    So models, cloud, database and record in the folder are always those of one run. Where the system has no
    advisory locks, runs that end at the same moment are not kept apart.

    Raises:
        StoreError: where the folder is not writable.
    """
    try:
        descriptor = os.open(output / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StoreError(f"{output}: cannot be written ({error.strerror})") from error
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def publish_file(source: Path, target: Path) -> None:
    """Move a finished file to its place, safe on the disk.

    Raises:
        StoreError: where it cannot be moved.
    """
    try:
        move_into_place(source, target)
    except OSError as error:
        raise StoreError(f"{target}: cannot be written ({error.strerror})") from error


RESULTS_MARKER = "run.json"
"""A folder that holds this file, written by us, is an output of ours: no photos are looked for below it."""


def is_results_folder(folder: Path) -> bool:
    """Whether a folder holds the results of an earlier run of ours."""
    try:
        record = json.loads((folder / RESULTS_MARKER).read_text(encoding="utf-8"))
        return "sfm_lightglue" in record["versions"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
