"""Files that others see whole or not at all: written beside their place, locked meanwhile, then renamed.

A process that is killed while it writes leaves a part behind. Its lock went with it, and that tells the part from one
that is still being written.
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
"""What killed runs left behind is removed when it is older."""

PART_PATTERN = ".*-*.part"
"""Of file names, for `glob`: all parts, and perhaps others, which `remove_abandoned_parts` tells apart."""

_PART_NAME = re.compile(r"\..*\.\d+-[0-9a-f]{8}\.part", re.DOTALL)


def part_beside(path: Path) -> Path:
    """Where to collect what is to become a file: a hidden name that nobody else has."""
    return path.with_name(f".{path.name[:64]}.{os.getpid()}-{secrets.token_hex(4)}.part")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears at `path` only once it is complete, and on the disk.

    Raises:
        StoreError: where the folder is not writable or the disk is full.
    """
    part = part_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as file:
            lock(file.fileno(), waiting=False)
            yield file
            file.flush()
            os.utime(part)  # as good as new, for the moment between its lock and its name
        move_into_place(part, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def move_into_place(source: Path, target: Path) -> None:
    """Give a finished file its name, safe on the disk; what has the name is replaced.

    Raises:
        OSError: where it cannot be moved.
    """
    with open(source, "rb") as file:
        os.fsync(file.fileno())
    os.replace(source, target)


def remove_abandoned_parts(paths: Iterable[Path]) -> None:
    """Remove what killed processes left of files: parts that are older than a day, and that nobody holds locked.

    Where the system has no locks, nothing is removed.

    Args:
        paths: of any files; those with other names than parts have are left alone.
    """
    for path in paths:
        if not _PART_NAME.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):  # gone meanwhile, or of another user
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or time.time() - status.st_mtime < ABANDONED_AFTER_S:
                continue
            with open(path, "r+b") as file:
                if lock(file.fileno(), waiting=False):
                    path.unlink()


def lock(descriptor: int, waiting: bool = True) -> bool:
    """Lock an open file against all who lock it too, until it is closed or the process ends.

    Args:
        descriptor: of the file.
        waiting: until nobody else has it locked.

    Returns:
        Whether it is locked now: not where someone else has it, or the system has no advisory locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if waiting else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # someone else's; some network file systems have no locks
        return False
    return True
