"""Folders that are written: whether they can be, their space, and what the store needs of the file system."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from sfm_lightglue.diagnosis.finding import Finding
from sfm_lightglue.errors import SfmError, StoreError
from sfm_lightglue.messages import shown_path
from sfm_lightglue.store.atomic_file import lock, store_errors

MIN_FREE_MB = 1000
"""Space below which the results of a usual scene may not fit."""

_CODE = StoreError.exit_code


def folder_findings(folder: Path, what: str, exit_code: int = _CODE) -> list[Finding]:
    """Whether a folder can be written, how much space it has, and how its file system behaves.

    A file is written, renamed, locked and removed. A folder that does not exist is not made: it is asked whether it
    could be.

    Args:
        folder: that is written.
        what: it is for.
        exit_code: of commands that cannot write it; 0 if they can do without.
    """
    shown = shown_path(folder)
    existing = folder
    # Below a folder that cannot be searched, `Path.exists` raises an error.
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not os.path.isdir(existing) or not os.access(existing, os.W_OK | os.X_OK):
        mend = "choose another folder, or change its permissions"
        return [Finding("storage", what, "broken", f"{shown}: is not writable", mend, exit_code)]
    found = [_space_finding(existing, what, exit_code)]
    if existing != folder:
        return [Finding("storage", what, "ok", f"{shown}: can be made"), *found]
    return [*_tried(folder, what, exit_code), *found]


def _space_finding(folder: Path, what: str, exit_code: int) -> Finding:
    name = f"space of the {what}"
    try:
        free_mb = shutil.disk_usage(folder).free / 1e6
    except OSError as error:
        return Finding("storage", name, "broken", f"cannot be asked ({error.strerror or error})")
    text = f"{free_mb / 1000:.1f} GB free"
    if free_mb < MIN_FREE_MB:
        return Finding(
            "storage", name, "missing", text, "remove files, or choose another disk", exit_code * (free_mb < 1)
        )
    return Finding("storage", name, "ok", text)


def _tried(folder: Path, what: str, exit_code: int) -> list[Finding]:
    """What happened to a file that was written, renamed over another one, flushed, locked and leased."""
    probe = folder / f".sfm_lightglue_probe_{secrets.token_hex(4)}"
    part = probe.with_suffix(".part")
    try:
        with store_errors(folder):
            for path, content in ((probe, b"old"), (part, bytes(1 << 16))):
                with open(path, "xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(part, probe)
            is_replaced = not part.exists() and probe.stat().st_size == 1 << 16
            _flush(folder)
        found = [Finding("storage", what, "ok", f"{shown_path(folder)}: can be written and flushed")]
        if not is_replaced:
            text = "a renamed file does not replace another one at once"
            found.append(
                Finding("storage", f"atomic rename in the {what}", "broken", text, "use a local disk", exit_code)
            )
        return [*found, *_lock_findings(probe, what)]
    except (SfmError, OSError) as error:
        mend = "remove files, or choose another folder"
        return [Finding("storage", what, "broken", str(error), mend, exit_code)]
    finally:
        for path in (probe, part):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _flush(folder: Path) -> None:
    """Flush the names of a folder; Windows has no such thing."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock_findings(probe: Path, what: str) -> list[Finding]:
    """Locks separate runs on one machine, leases divide work between machines."""
    found = []
    with open(probe, "rb+") as first, open(probe, "rb+") as second:
        is_held = lock(first.fileno(), waiting=False) and not lock(second.fileno(), waiting=False)
    if is_held:
        found.append(Finding("storage", f"locks in the {what}", "ok", "a second run is told apart"))
    else:
        text = "the file system has none, so two runs in one folder are not kept apart"
        found.append(Finding("storage", f"locks in the {what}", "missing", text, "do not start two runs in one folder"))
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        is_exclusive = False
    except FileExistsError:
        is_exclusive = True
    os.utime(probe, (1000.0, 1000.0))
    is_touched = abs(probe.stat().st_mtime - 1000.0) < 3
    if is_exclusive and is_touched:
        found.append(
            Finding("storage", f"leases in the {what}", "ok", "several machines can divide the work in this folder")
        )
    else:
        text = "files cannot be created exclusively, or their times cannot be set"
        found.append(
            Finding("storage", f"leases in the {what}", "broken", text, "do not use `executor.name` folder here")
        )
    return found
