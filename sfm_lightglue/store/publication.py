"""Several files and folders of an output folder that are replaced together, also if the process is killed meanwhile.

The new content is written and flushed to a hidden folder first. One rename makes this folder the pending publication:
from then on the new content counts. Its parts are moved to their places, each by one rename, and the hidden folder is
removed. A publication that was interrupted is completed by whoever opens the output folder next.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import logging
import os
import secrets
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sfm_lightglue.errors import DataError, StoreError
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.store.atomic_file import lock, sole_access, store_errors

logger = logging.getLogger(__name__)

PENDING_NAME = ".publish"
"""Name of the folder of a pending publication in an output folder."""

_LOCK_NAME = ".lock"
_MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 10**8
_NEW, _OLD = "new", "old"


@dataclass(slots=True)
class Publication:
    """New content of an output folder, written to a work folder.

    Args:
        work: an empty folder on the same file system as the output folder; it is moved.
        digests: sha256 of each file by its path in the output folder, of every part that is written.
        removed: paths of parts that disappear.
    """

    work: Path
    digests: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)

    def write(self, name: str, content: bytes) -> None:
        """Add a file.

        Args:
            name: its path in the output folder, with forward slashes.
            content: its bytes.

        Raises:
            StoreError: if it cannot be written.
        """
        path = self._path(name)
        with store_errors(path), open(path, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.digests[name] = hashlib.sha256(content).hexdigest()

    def take(self, name: str, source: Path) -> None:
        """Add a finished file, which is moved.

        Args:
            name: its path in the output folder, with forward slashes.
            source: the file, on the same file system.

        Raises:
            StoreError: if it cannot be moved.
        """
        path = self._path(name)
        with store_errors(path):
            with open(source, "rb") as file:
                os.fsync(file.fileno())
            os.replace(source, path)
        digest = file_digest(path)
        if digest is None:
            raise StoreError(f"{path}: cannot be read again after it was written")
        self.digests[name] = digest

    def _path(self, name: str) -> Path:
        path = self.work / _NEW / name
        with store_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path


@contextlib.contextmanager
def sole_publisher(output: Path) -> Iterator[None]:
    """Hold the lock of the output folder during the block, after a pending publication was completed.

    Without advisory locks of the system, runs that end at the same moment are not separated.

    Raises:
        StoreError: if the folder is not writable.
    """
    with sole_access(output / _LOCK_NAME):
        _complete(output)
        yield


def is_publication_pending(output: Path) -> bool:
    """Whether the publication of a run that was killed is to be completed in an output folder."""
    return (output / PENDING_NAME / _MANIFEST).exists()


def complete_publication(output: Path) -> None:
    """Complete the publication of a run that was killed; waits while another run publishes.

    Raises:
        StoreError: if there is one, and the folder is not writable.
    """
    if (output / PENDING_NAME).exists():
        with sole_publisher(output):
            pass


@contextlib.contextmanager
def reading_results(output: Path | None) -> Iterator[None]:
    """Keep runs from publishing in an output folder during the block, so that all files that are read belong together.

    Args:
        output: the folder; None if the files do not belong to one.
    """
    with contextlib.ExitStack() as stack:
        if output is not None:
            with contextlib.suppress(OSError):  # not there, or not readable: nobody publishes
                descriptor = os.open(output / _LOCK_NAME, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                lock(descriptor, shared=True)
        yield


def publish_together(publication: Publication, output: Path, parts: Sequence[str]) -> None:
    """Replace parts of an output folder; call it in a block of `sole_publisher`.

    Args:
        publication: the new content.
        output: the folder.
        parts: paths of the files and folders that are moved as one, in this order.

    Raises:
        StoreError: if the folder cannot be written. If the publication counts already, the next run completes it.
    """
    manifest = {"parts": list(parts), "removed": publication.removed, "digests": publication.digests}
    text = json.dumps(manifest, indent=1, sort_keys=True)
    path = publication.work / _MANIFEST
    with store_errors(path):
        with open(path, "xb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        for folder in (publication.work, *publication.work.rglob("*")):
            if folder.is_dir():
                _flush_folder(folder)
        os.rename(publication.work, output / PENDING_NAME)
        _flush_folder(output)
    _complete(output)


def _complete(output: Path) -> None:
    """Move the parts of a pending publication to their places. Each step may have been done before."""
    pending = output / PENDING_NAME
    if not pending.is_dir():
        return
    manifest = _read_manifest(pending / _MANIFEST)
    if manifest is None:
        return
    with store_errors(output):
        for name in manifest.removed:
            _remove_part(output, pending, name)
        for name in manifest.parts:
            _move_part(output, pending, name, manifest.files_of(name))
        for folder in {(output / name).parent for name in (*manifest.parts, *manifest.removed)} - {output}:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
            if folder.is_dir():
                _flush_folder(folder)
        _flush_folder(output)
        # A folder of that name without a manifest is never ours, so it gets another name before it is removed.
        done = pending.with_name(f".new-work-{secrets.token_hex(4)}")
        os.rename(pending, done)
        shutil.rmtree(done)


@dataclass(frozen=True, slots=True)
class _Manifest:
    parts: tuple[str, ...]
    removed: tuple[str, ...]
    digests: Mapping[str, str]

    def files_of(self, part: str) -> dict[str, str]:
        """Digests of the files of a part, by path in the output folder."""
        return {name: one for name, one in self.digests.items() if name == part or name.startswith(f"{part}/")}


def _read_manifest(path: Path) -> _Manifest | None:
    if not path.exists():  # a folder of another program
        return None
    try:
        values = json.loads(read_input_file(path, _MAX_MANIFEST_BYTES))
        manifest = _Manifest(tuple(values["parts"]), tuple(values["removed"]), dict(values["digests"]))
    except (DataError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{path}: the results of an interrupted run cannot be completed ({error}); remove the folder"
            f" {path.parent} and run the same command again"
        ) from error
    for name in (*manifest.parts, *manifest.removed, *manifest.digests):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise StoreError(
                f"{path}: names {name}, which is outside the output folder; remove the folder {path.parent}"
            )
    return manifest


def _move_part(output: Path, pending: Path, name: str, digests: Mapping[str, str]) -> None:
    source, target, old = pending / _NEW / name, output / name, pending / _OLD / name
    is_to_move = changed_files(output, digests) or has_other_model_files(target, digests)
    # Else it was moved before the process was killed; after an exchange, `source` has the old content.
    if source.exists() and is_to_move and not changed_files(pending / _NEW, digests):
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_file():
            for suffix in SQLITE_SIDE_FILES:  # of the old database: SQLite would apply them to the new one
                target.with_name(target.name + suffix).unlink(missing_ok=True)
            if target.is_dir():
                _set_aside(target, old)
            os.replace(source, target)
        elif not (target.is_dir() and _exchange(source, target)):
            _set_aside(target, old)
            os.rename(source, target)
    for folder in (source, old):  # the old content is in `source` after an exchange
        _keep_foreign_files(folder, target)


def _remove_part(output: Path, pending: Path, name: str) -> None:
    target, old = output / name, pending / _OLD / name
    _set_aside(target, old)
    _keep_foreign_files(old, target)


def _set_aside(target: Path, old: Path) -> None:
    """Move an old part out of the way, if it is there."""
    if not os.path.lexists(target):
        return
    if old.is_dir():  # this step was done before, and another program has made the target again
        _keep_foreign_files(old, target)
        shutil.rmtree(old)
    old.parent.mkdir(parents=True, exist_ok=True)
    os.rename(target, old)


def _keep_foreign_files(old: Path, target: Path) -> None:
    """Move files that the user or another program put beside a model from the old folder to the new one."""
    if not old.is_dir() or old.is_symlink():  # the content of a link is not in the output folder
        return
    for path in sorted(old.iterdir()):
        if not _is_model_file(path) and not (target / path.name).exists():
            target.mkdir(parents=True, exist_ok=True)
            os.rename(path, target / path.name)


def has_other_model_files(folder: Path, names: Collection[str]) -> bool:
    """Whether a folder has model files beside the right ones, such as text files: they would be another model.

    Args:
        folder: of a model; False if it is no folder.
        names: paths of the right files.
    """
    if not folder.is_dir():
        return False
    right = {name.rpartition("/")[2] for name in names}
    return any(_is_model_file(path) and path.name not in right for path in folder.iterdir())


GEOREGISTRATION_NAME = "georegistration.json"
"""File in the folder of a model that is in metres: its transform, and how well the positions fit."""


def _is_model_file(path: Path) -> bool:
    if path.name == GEOREGISTRATION_NAME:
        return True
    return path.stem in {"cameras", "images", "points3D", "rigs", "frames"} and path.suffix in {".bin", ".txt"}


SQLITE_SIDE_FILES = ("-wal", "-shm", "-journal")
"""Suffixes of the files in which SQLite keeps changes of a database."""


def changed_files(output: Path, digests: Mapping[str, str]) -> list[str]:
    """Names of the files below a folder that are missing, unreadable, or have another digest."""
    return [name for name, digest in sorted(digests.items()) if file_digest(output / name) != digest]


def file_digest(path: Path) -> str | None:
    """The sha256 of a regular file; None if it is missing or cannot be read."""
    try:
        if not path.is_file():
            return None
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def numbered_folders(folders: Iterable[Path]) -> list[Path]:
    """Of the entries of some folders, the folders whose names are numbers, sorted."""
    found = []
    for folder in folders:
        with contextlib.suppress(OSError):  # not there
            found += [path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()]
    return sorted(found)


def _exchange(path0: Path, path1: Path) -> bool:
    """Exchange two folders in one step; False if the system or the file system cannot do it."""
    if os.name != "posix":
        return False
    library = ctypes.CDLL(None)
    first, second = os.fsencode(path0), os.fsencode(path1)
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        return int(library.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE)) == 0
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return int(library.renamex_np(first, second, _RENAME_EXCHANGE)) == 0
    return False


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def _flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can do it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot flush folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
