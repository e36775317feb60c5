"""Leases: processes on several machines that share a folder divide work, without anything but files.

A lease is a file that its holder has created and touches while it works. Leases only save time: two processes that do
the same work write the same entries. So a lease may be lost, or taken over too early, without harm to results.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sfm_lightglue.store.atomic_file import store_errors

FOLDER_NAME = "leases"
"""Name of the folder of leases in a store."""

_SUFFIX = ".lease"
_MAX_BYTES = 4096
_TOUCHES_PER_LEASE = 5


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lease.

    Args:
        token: drawn anew for each lease.
        machine: one start of a machine, or of a container on it.
        host: name of the machine.
        process: its number there.
    """

    token: str
    machine: str
    host: str
    process: int

    @property
    def is_dead(self) -> bool:
        """Whether it is known to have ended; False for processes of other machines."""
        if self.machine != _this_machine() or os.name != "posix":
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except OSError:  # of another user
            return False
        return False


class Leases:
    """The leases of this process in a folder. Use it in a `with` statement, which ends all of them.

    Args:
        folder: on a file system that all processes share; made if it is missing.
        lease_s: a lease that its holder has not touched for this time, in seconds, is taken over. Times are those of
            the file system, so the clocks of the machines need not agree.

    Raises:
        StoreError: if the folder cannot be made.
    """

    def __init__(self, folder: Path, lease_s: float) -> None:
        self.folder = folder
        self.lease_s = lease_s
        self._held: dict[str, str] = {}
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._toucher: threading.Thread | None = None
        with store_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        if self._toucher is not None:
            self._toucher.join()
        for name in tuple(self._held):
            self.release(name)
        self._remove_abandoned()
        with contextlib.suppress(OSError):  # others hold leases
            self.folder.rmdir()

    def claim(self, name: str) -> bool:
        """Take a lease, if nobody holds it, or if its holder has ended.

        Args:
            name: of the work: letters and digits.

        Returns:
            Whether this process holds it now.

        Raises:
            StoreError: if the folder is not writable.
        """
        path = self._path(name)
        with store_errors(path):
            taken = self._create(path)
            if taken is None and self._remove_if_abandoned(path):
                taken = self._create(path)
        if taken is None:
            return False
        with self._lock:
            self._held[name] = taken
            if self._toucher is None:
                self._toucher = threading.Thread(target=self._touch, name="leases", daemon=True)
                self._toucher.start()
        return True

    def release(self, name: str) -> None:
        """End a lease of this process."""
        with self._lock:
            token = self._held.pop(name, None)
        with contextlib.suppress(OSError):
            holder = _read(self._path(name))
            if holder is not None and holder[0].token == token:
                self._path(name).unlink()

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """`claim`, and `release` at the end of the block. Gives whether this process holds the lease."""
        is_held = self.claim(name)
        try:
            yield is_held
        finally:
            if is_held:
                self.release(name)

    def holder(self, name: str) -> Holder | None:
        """The process that holds a lease; None if there is none."""
        with contextlib.suppress(OSError):
            found = _read(self._path(name))
            return None if found is None else found[0]
        return None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"

    def _create(self, path: Path) -> str | None:
        """The token of a lease that was created; None if there is one already."""
        token = secrets.token_hex(8)
        values = {"token": token, "machine": _this_machine(), "host": platform.node(), "process": os.getpid()}
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return None
        except FileNotFoundError:  # another process has removed the empty folder
            path.parent.mkdir(parents=True, exist_ok=True)
            return self._create(path)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(values, file)
        return token

    def _remove_if_abandoned(self, path: Path) -> bool:
        """Remove a lease that nobody works for; whether there is none now."""
        try:
            found = _read(path)
            if found is None:
                return True
            holder, touched_s = found
            if not holder.is_dead and self._now_s() - touched_s < self.lease_s:
                return False
            # Of several processes, one renames it. If that took a lease made meanwhile, it is put back.
            aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            os.rename(path, aside)
            taken = _read(aside)
            if taken is not None and taken[0].token != holder.token:
                with contextlib.suppress(OSError):
                    os.link(aside, path)
            aside.unlink()
        except FileNotFoundError:
            return True
        return True

    def _remove_abandoned(self) -> None:
        """Remove leases that nobody works for, and what killed processes left beside them."""
        with contextlib.suppress(OSError):
            now_s = self._now_s()
            for path in self.folder.iterdir():
                if path.suffix == _SUFFIX:
                    self._remove_if_abandoned(path)
                elif now_s - path.stat().st_mtime > self.lease_s:
                    path.unlink()

    def _now_s(self) -> float:
        """The time of the file system, by a file that is written now."""
        path = self.folder / f".{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}.clock"
        try:
            with open(path, "xb") as file:
                file.write(b"0")
                file.flush()
                return os.fstat(file.fileno()).st_mtime
        finally:
            with contextlib.suppress(OSError):
                path.unlink()

    def _touch(self) -> None:
        """Touch all held leases until the end."""
        while not self._is_over.wait(self.lease_s / _TOUCHES_PER_LEASE):
            with self._lock:
                names = tuple(self._held)
            for name in names:
                with contextlib.suppress(OSError):  # taken over, or the file system is away for a moment
                    os.utime(self._path(name))


def _read(path: Path) -> tuple[Holder, float] | None:
    """Holder of a lease, and the time of its last touch; None if there is no such file.

    The file is opened, because file systems of networks show the present attributes of opened files only.
    """
    try:
        with open(path, "rb") as file:
            text, touched_s = file.read(_MAX_BYTES), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    try:
        values: dict[str, Any] = json.loads(text)
        holder = Holder(str(values["token"]), str(values["machine"]), str(values["host"]), int(values["process"]))
    except (ValueError, KeyError, TypeError):  # being written, or its process was killed before it was
        holder = Holder("", "", "", 0)
    return holder, touched_s


@lru_cache(maxsize=1)
def _this_machine() -> str:
    """A name of this machine since its start, and of the container: process numbers are comparable within it."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):  # Linux only
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


__all__ = ["FOLDER_NAME", "Holder", "Leases"]
