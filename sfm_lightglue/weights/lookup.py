"""Files of weights without torch: found by path or name, and told apart by their digest."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.weights.catalog import CATALOG, WeightsEntry
from sfm_lightglue.weights.download import DownloadConfig, UnreachableError, download, fault_of

logger = logging.getLogger(__name__)

FOLDERS_VARIABLE = "SFM_LIGHTGLUE_WEIGHTS"
"""Environment variable: folders of weights, separated as in PATH."""

OFFLINE_VARIABLES = ("SFM_LIGHTGLUE_OFFLINE", "HF_HUB_OFFLINE")
"""Environment variables that forbid downloads, when set to anything but 0, no, off or false."""

EMBEDDED_FOLDER = Path(__file__).parents[1] / "weights"
"""The weights that come with the package."""

_progress: ContextVar[Progress] = ContextVar("progress_of_downloads", default=silent)


def file_sha256(path: str | Path) -> str:
    """Hexadecimal sha256 of a file's bytes.

    Raises:
        WeightsError: where the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error


def require_weights(weights: str, component: str, flag: str, default: str) -> Path:
    """The file of weights of a component; it is downloaded where it must be.

    Args:
        weights: as configured: a path, a name of the table, or "" where nothing was.
        component: for messages, such as "matcher lightglue".
        flag: the option of the commands that takes the path or name.
        default: the name that is taken where nothing was configured. Components whose weights are in no table
            say here what their users should give.

    Raises:
        WeightsError: where there is none; the message says which file to put where.
    """
    if not weights and default not in CATALOG:
        raise WeightsError(f"{component} needs a file of weights: give {flag} FILE, such as {default}")
    try:
        return find_weights(weights or default)
    except WeightsError as error:
        way_out = "" if weights else f", or give {flag} FILE"
        raise WeightsError(f"{component}: {error}{way_out}") from None


def find_weights(weights: str) -> Path:
    """The file of some weights: the path itself, else the file of that name.

    Names are looked up in `$SFM_LIGHTGLUE_WEIGHTS`, the cache and the package, and are downloaded otherwise. The
    licence of a download is logged, as a warning where it forbids commercial use.

    Args:
        weights: a path, or a name of the table.

    Raises:
        WeightsError: where there is none; the message says which file to put where.
    """
    path = os.path.expanduser(weights)
    if os.path.isfile(path):
        return Path(path)
    entry = entry_of(weights)
    found = locate_weights(entry)
    if found is not None:
        return found
    if entry.url is not None and not offline_by():
        level = logging.INFO if entry.commercial else logging.WARNING
        logger.log(level, "%s", licence_note(entry))
    return fetch_weights(entry, _progress.get())


def entry_of(name: str) -> WeightsEntry:
    """An entry of the table.

    Raises:
        WeightsError: for an unknown name; the nearest one is named.
    """
    if name not in CATALOG:
        hint = nearest_hint(name, CATALOG)
        raise WeightsError(
            f"{name}: no such file, and no weights of that name{hint}; `sfm-lightglue weights list` names all"
        )
    return CATALOG[name]


def locate_weights(entry: WeightsEntry) -> Path | None:
    """Where weights of the table are on this machine, None where they are not.

    A file in the cache that is not the stated one is reported and passed over; it will be replaced.

    Raises:
        WeightsError: where a file in the user's folders or in the package is not the stated one.
    """
    for path in places_of(entry):
        fault = fault_in(path, entry)
        if fault is None:
            return path
        if path.parent != cache_folder():
            raise WeightsError(f"{path} {fault}: replace it, or give another file by its path")
        logger.warning("%s %s: not used", path, fault)
    return None


def fault_in(path: Path, entry: WeightsEntry) -> str | None:
    """What is wrong with a file that has the name of the weights, None where it is as the table states."""
    try:
        return fault_of(path, entry.sha256, entry.size)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def places_of(entry: WeightsEntry) -> Iterator[Path]:
    """Files of the name of the weights, in the order in which they count."""
    for folder in (*user_folders(), cache_folder(), EMBEDDED_FOLDER):
        path = folder / entry.file
        if path.is_file():
            yield path


def fetch_weights(entry: WeightsEntry, progress: Progress = silent, config: DownloadConfig | None = None) -> Path:
    """Download weights into the cache, unless they are there; says nothing of their licence.

    Args:
        entry: of the table.
        progress: told of bytes, the stage is the name of the weights.
        config: patience.

    Raises:
        WeightsError: where that cannot be; the message says which file to put where.
    """
    where = (*user_folders(), cache_folder())[0] / entry.file
    if entry.url is None:
        raise WeightsError(f"{entry.name} comes with the package, and this installation lacks it: put it at {where}")
    advice = f"get {entry.url} elsewhere and put it at {where}"
    forbidden_by = offline_by()
    if forbidden_by:
        raise WeightsError(f"{entry.name} is not here, and {forbidden_by} forbids to download it: {advice}")
    target = cache_folder() / entry.file
    try:
        download(
            entry.url,
            target,
            entry.sha256,
            entry.size,
            lambda num_done, num_total: progress(entry.name, num_done, num_total),
            config,
        )
    except UnreachableError as error:
        raise WeightsError(f"{entry.name} cannot be downloaded ({error}): {advice}") from None
    except OSError as error:
        raise WeightsError(
            f"{target}: cannot be written ({error.strerror or error}); set XDG_CACHE_HOME to a folder that can"
        ) from error
    return target


def licence_note(entry: WeightsEntry) -> str:
    """What to tell a user who is about to download weights."""
    note = f"{entry.name}: downloading {entry.url}; licence: {entry.licence}"
    return note if entry.commercial else f"{note}; NON-COMMERCIAL use only"


@contextlib.contextmanager
def reporting_downloads(progress: Progress) -> Iterator[None]:
    """Tell `progress` of the downloads that `find_weights` starts within the block.

    Components are made from their configuration alone, so their weights learn of it this way.
    """
    token = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(token)


def user_folders() -> tuple[Path, ...]:
    """The folders of `$SFM_LIGHTGLUE_WEIGHTS`."""
    given = os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)
    return tuple(Path(os.path.expanduser(folder)) for folder in given if folder)


def cache_folder() -> Path:
    """Where downloads are kept: `$XDG_CACHE_HOME/sfm_lightglue`, else in the cache folder of the system.

    Raises:
        WeightsError: where the user has no home.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "sfm_lightglue"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise WeightsError("this user has no home folder: set XDG_CACHE_HOME to a folder for downloads") from error
    local = os.environ.get("LOCALAPPDATA", "")
    if sys.platform.startswith("win"):
        base = Path(local) if local else home / "AppData" / "Local"
    else:
        base = home / ("Library/Caches" if sys.platform.startswith("darwin") else ".cache")
    return base / "sfm_lightglue"


def offline_by() -> str:
    """The environment variable that forbids downloads, "" where none does."""
    for name in OFFLINE_VARIABLES:
        if os.environ.get(name, "").strip().lower() not in {"", "0", "no", "off", "false"}:
            return name
    return ""
