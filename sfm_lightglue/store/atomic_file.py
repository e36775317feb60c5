"""Files that other processes see complete or not at all: written to a hidden part file, locked, then renamed.

A process that is killed while it writes leaves a part file behind. Its lock ends with the process, so an unlocked
part file is abandoned and a locked one is still being written.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from sfm_lightglue.errors import StoreError

ABANDONED_AFTER_S = 24 * 3600
"""Age after which the remains of killed processes are removed."""

PART_PATTERN = ".*-*.part"
"""Pattern for `glob` that finds all part files; `remove_abandoned_parts` sorts out other files that fit it."""

_PART_NAME = re.compile(r"\..*\.\d+-[0-9a-f]{8}\.part", re.DOTALL)


def part_beside(path: Path) -> Path:
    """Path of a new part file in the folder of `path`: hidden and unique."""
    return path.with_name(f".{path.name[:64]}.{os.getpid()}-{secrets.token_hex(4)}.part")


@contextlib.contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Report an `OSError` of the block as a `StoreError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears at `path` only when it is complete and flushed to the disk.

    Raises:
        StoreError: if the folder is not writable, or the disk is full.
    """
    part = part_beside(path)
    try:
        with store_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "xb") as file:
                lock(file.fileno(), waiting=False)
                yield file
                file.flush()
                os.utime(part)  # between unlocking and renaming, the age alone protects it from removal
            publish_file(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def publish_file(source: Path, target: Path, stale_suffixes: Iterable[str] = ()) -> None:
    """Flush a finished file to the disk and rename it, replacing any file of that name.

    Args:
        source: the finished file, on the same file system as `target`.
        target: its final path.
        stale_suffixes: files named `target` plus one of these suffixes belong to the old target and are removed.

    Raises:
        OSError: if the file cannot be moved.
    """
    with open(source, "rb") as file:
        os.fsync(file.fileno())
    for suffix in stale_suffixes:
        with contextlib.suppress(OSError):
            target.with_name(target.name + suffix).unlink()
    os.replace(source, target)


def flush_folder(folder: Path) -> None:
    """Flush the names of the files of a folder to the disk, where the system can, before other files are removed."""
    with contextlib.suppress(OSError):  # Windows, and some network file systems
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_abandoned_parts(paths: Iterable[Path]) -> None:
    """Remove part files of killed processes: those older than a day that no process has locked.

    If the system has no locks, nothing is removed.

    Args:
        paths: any files; files that are not named like part files are left alone.
    """
    for path in paths:
        if not _PART_NAME.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):  # removed meanwhile, or owned by another user
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or time.time() - status.st_mtime < ABANDONED_AFTER_S:
                continue
            with open(path, "r+b") as file:
                if lock(file.fileno(), waiting=False):
                    path.unlink()


@contextlib.contextmanager
def sole_access(path: Path) -> Iterator[None]:
    """Hold a lock during the block; wait while another process holds it.

    Args:
        path: a file that is used for nothing else; it is made if it is missing, and stays.

    Raises:
        StoreError: if the file cannot be made.
    """
    with store_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def lock(descriptor: int, waiting: bool = True, shared: bool = False) -> bool:
    """Lock an open file, until it is closed or the process ends.

    Args:
        descriptor: file descriptor of the open file.
        waiting: wait until no other process has the file locked.
        shared: other processes may have shared locks of the file too, but no exclusive one.

    Returns:
        Whether the file is locked now. False if another process has locked it, or the system has no advisory locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind if waiting else kind | fcntl.LOCK_NB)
    except OSError:  # locked by another process, or a network file system without locks
        return False
    return True
