"""An output folder that several runs may share: private work folders, and how such a folder is recognised."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sfm_lightglue.errors import SfmError
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.store.atomic_file import ABANDONED_AFTER_S, lock, store_errors

_WORK_PREFIX, _NEW_PREFIX = ".work-", ".new-work-"
_LOCK_NAME = ".lock"
_WORK_NAME = re.compile(r"\.(new-)?work-[a-z0-9_]{8}")


@contextlib.contextmanager
def work_folder(output: Path) -> Iterator[Path]:
    """A private folder below the output folder that is removed at the end of the block.

    The process holds a lock in it. Folders of killed runs have no lock any more: they are removed by the next run.

    Raises:
        StoreError: if the folder cannot be made.
    """
    for folder in output.glob(f"{_WORK_PREFIX}*"):
        _remove_if_abandoned(folder, 0.0)
    for folder in output.glob(f"{_NEW_PREFIX}*"):
        _remove_if_abandoned(folder, ABANDONED_AFTER_S)
    with store_errors(output):
        folder = Path(tempfile.mkdtemp(prefix=_NEW_PREFIX, dir=output))
    descriptor = None
    try:
        with store_errors(output):
            descriptor = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
            lock(descriptor, waiting=False)
            # Under this name other runs may remove it, so it has the name only while it is locked.
            folder = folder.rename(folder.with_name(folder.name.replace(_NEW_PREFIX, _WORK_PREFIX, 1)))
        yield folder
    finally:
        _remove(folder, descriptor)


def _remove_if_abandoned(folder: Path, min_age_s: float) -> None:
    """Remove the work folder of a process that has ended. If the system has no locks, nothing is removed."""
    with contextlib.suppress(OSError):  # removed meanwhile, or owned by another user
        if not _WORK_NAME.fullmatch(folder.name) or time.time() - folder.stat().st_mtime < min_age_s:
            return
        # A process can be killed before it makes the file, but only under the first name.
        flags = os.O_CREAT if folder.name.startswith(_NEW_PREFIX) else 0
        try:
            descriptor = os.open(folder / _LOCK_NAME, os.O_RDWR | flags, 0o666)
        except FileNotFoundError:
            folder.rmdir()  # if it is empty: `_remove` got as far as that
            return
        if lock(descriptor, waiting=False):
            _remove(folder, descriptor)
        else:
            os.close(descriptor)


def _remove(folder: Path, descriptor: int | None) -> None:
    """Remove a work folder as far as possible, and close the file of its lock.

    That file is removed after everything else: by it, the next run recognises a folder that could not be removed.
    """
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _LOCK_NAME:
                with contextlib.suppress(OSError):
                    path.unlink()
    if descriptor is not None:
        os.close(descriptor)
    with contextlib.suppress(OSError):
        if all(path.name == _LOCK_NAME for path in folder.iterdir()):
            (folder / _LOCK_NAME).unlink(missing_ok=True)
            folder.rmdir()


SNAPSHOTS_FOLDER = "snapshots"
"""Folder of a store that has, for each mapping that goes on, a folder of its own; the mapping removes it at its end."""

RESULTS_MARKER = "run.json"
"""Name of the record of a run. A folder that has one of this library is an output folder: it has no input photos."""


def read_record(folder: Path) -> Any:
    """The content of the record in a folder; None if there is none, or if it is no JSON file."""
    path = folder / RESULTS_MARKER
    if not path.exists():  # most folders have none
        return None
    try:
        return json.loads(read_input_file(path, _MAX_RECORD_BYTES))
    except (SfmError, ValueError, RecursionError):
        return None


_MAX_RECORD_BYTES = 10**9


def is_results_folder(folder: Path) -> bool:
    """Whether a folder is the output folder of an earlier run."""
    record = read_record(folder)
    versions = record.get("versions") if isinstance(record, dict) else None
    return isinstance(versions, dict) and "sfm_lightglue" in versions


EXPORT_MARKER = "export.json"
"""Name of the record of an export. A folder that has one of this library is an export: its images are copies."""

EXPORT_KEY = "sfm_lightglue"
"""Key of the version in this record."""


def is_export_folder(folder: Path) -> bool:
    """Whether a folder is an export of a model."""
    path = folder / EXPORT_MARKER
    if not path.exists():
        return False
    try:
        record = json.loads(read_input_file(path, _MAX_EXPORT_BYTES))
    except (SfmError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and EXPORT_KEY in record


_MAX_EXPORT_BYTES = 10**6
