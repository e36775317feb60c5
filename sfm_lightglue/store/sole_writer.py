"""One writer of an output file at a time: a second run waits, and then begins as if it had been started later."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import shown_path
from sfm_lightglue.store.atomic_file import lock, store_errors

logger = logging.getLogger(__name__)

_MAX_NAME = 200
"""File systems allow 255 bytes."""


@contextlib.contextmanager
def sole_writer(path: Path, waiting: bool = True) -> Iterator[None]:
    """Hold the lock of an output file during the block.

    The lock is a hidden file beside the output, which is removed after the block; the lock of a killed run ends with
    it. Without advisory locks of the system, runs are not separated.

    Args:
        path: of the output file, which need not exist; its folder is made.
        waiting: wait while another run holds the lock, with a warning.

    Raises:
        ConfigError: if another run holds the lock, and this one does not wait.
        StoreError: if the folder is not writable.
    """
    lock_path = _lock_path(path)
    with store_errors(path):
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(lock_path, path, waiting)
    try:
        yield
    finally:
        # Removed while it is locked: a run that waits for it sees that its file has gone, and makes another.
        with contextlib.suppress(OSError):
            lock_path.unlink()
        os.close(descriptor)


def _lock_path(path: Path) -> Path:
    real = Path(os.path.realpath(path))
    name = real.name
    if len(os.fsencode(name)) > _MAX_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return real.with_name(f".{name}.lock")


def _locked(lock_path: Path, path: Path, waiting: bool) -> int:
    """Descriptor of the lock file, locked if the system has locks."""
    has_warned = False
    while True:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            is_locked = _try_to_lock(descriptor)
            if is_locked is False:
                if not waiting:
                    told = f"another run writes {shown_path(path)}; wait for its end, or choose another folder"
                    raise ConfigError(told)
                if not has_warned:
                    logger.warning("another run writes %s; waiting for its end", shown_path(path))
                    has_warned = True
                lock(descriptor)
            if is_locked is None or _is_same(descriptor, lock_path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _try_to_lock(descriptor: int) -> bool | None:
    """Whether the file is locked now; False if another process holds the lock, None if there are no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # Windows, or a file system without locks
        return None
    return True


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
