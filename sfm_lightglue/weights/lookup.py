"""Files of weights, located by path or name, downloaded if necessary; without torch."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from sfm_lightglue.errors import StoreError, WeightsError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.weights.catalog import CATALOG, WeightsEntry
from sfm_lightglue.weights.digest import fault_of
from sfm_lightglue.weights.download import ByteProgress, DownloadConfig, UnreachableError, download

logger = logging.getLogger(__name__)

FOLDERS_VARIABLE = "SFM_LIGHTGLUE_WEIGHTS"
"""Environment variable: folders of weights, separated as in PATH."""

OFFLINE_VARIABLES = ("SFM_LIGHTGLUE_OFFLINE", "HF_HUB_OFFLINE")
"""Environment variables that forbid downloads if set to anything but 0, no, off or false."""

EMBEDDED_FOLDER = Path(__file__).parent
"""Folder of the weights that come with the package."""


class WeightsCacheError(StoreError):
    """Missing weights cannot be downloaded, because the cache cannot be written."""


_progress: ContextVar[Progress] = ContextVar("progress_of_downloads", default=silent)


def require_weights(weights: str, component: str, option: str, default: str) -> Path:
    """Locates the file of weights of a component; downloads it if necessary.

    Args:
        weights: the configured value: a path, a name of the catalogue, or "" for the default.
        component: for messages, such as "matcher lightglue".
        option: name of the configured value, such as "matcher.weights".
        default: name used if nothing is configured; for a component without weights in the catalogue, a
            description of a suitable file, for the message.

    Raises:
        WeightsError: there is no file; the message names it, and the folder to put it in.
    """
    if not weights and default not in CATALOG:
        raise WeightsError(f"{component} needs a file of weights: give `{option}`, such as {default}")
    try:
        return find_weights(weights or default)
    except WeightsError as error:
        alternative = "" if weights else f", or give `{option}`"
        raise WeightsError(f"{component}: {error}{alternative}") from None


def find_weights(weights: str) -> Path:
    """Locates a file of weights by path or name.

    The file of a name is searched in `$SFM_LIGHTGLUE_WEIGHTS`, the cache and the package, and downloaded if it is
    in none of them. The licence of a download is logged, as a warning if it forbids commercial use.

    Args:
        weights: a path, or a name of the catalogue.

    Raises:
        WeightsError: there is no file; the message names it, and the folder to put it in.
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
    """An entry of the catalogue.

    Raises:
        WeightsError: the name is unknown; the message suggests the nearest name.
    """
    if name not in CATALOG:
        hint = nearest_hint(name, CATALOG)
        raise WeightsError(
            f"{name}: no such file, and no weights of that name{hint}; `sfm-lightglue weights list` lists all names"
        )
    return CATALOG[name]


def locate_weights(entry: WeightsEntry) -> Path | None:
    """Path of weights of the catalogue on this machine; None if they are missing.

    A wrong file in the cache is logged and skipped; a download replaces it.

    Raises:
        WeightsError: a file in the user's folders or in the package has another size or digest.
    """
    for path in candidate_paths(entry):
        fault = fault_of(path, entry.sha256, entry.size)
        if fault is None:
            return path
        if path.parent != cache_folder():
            raise WeightsError(f"{path} {fault}: replace it, or give another file by its path")
        logger.warning("%s %s: not used", path, fault)
    return None


def candidate_paths(entry: WeightsEntry) -> Iterator[Path]:
    """Existing files with the file name of an entry, in order of precedence."""
    for folder in (*user_folders(), cache_folder(), EMBEDDED_FOLDER):
        path = folder / entry.file
        if _is_readable_file(path):
            yield path


def _is_readable_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:  # a folder of another user has no weights for this one
        return False


def fetch_weights(entry: WeightsEntry, progress: Progress = silent, config: DownloadConfig | None = None) -> Path:
    """Downloads weights of the catalogue into the cache, unless they are there; does not log the licence.

    Args:
        entry: of the catalogue.
        progress: called with the name of the weights as the stage, and numbers of bytes.
        config: timeouts and attempts.

    Raises:
        WeightsError: the download failed or is not possible; the message names the file, and the folder to put it in.
        WeightsCacheError: the cache cannot be written.
    """
    own_path = (*user_folders(), cache_folder())[0] / entry.file
    if entry.url is None:
        raise WeightsError(
            f"{entry.name} comes with the package, but is missing in this installation: put it at {own_path}"
        )
    return fetch_file(
        entry.name,
        entry.url,
        cache_folder() / entry.file,
        own_path,
        sha256=entry.sha256,
        size=entry.size,
        progress=lambda num_done, num_total: progress(entry.name, num_done, num_total),
        config=config,
    )


def fetch_file(
    name: str,
    url: str,
    target: Path,
    own_path: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    progress: ByteProgress | None = None,
    config: DownloadConfig | None = None,
    forbidden_by: str = "",
) -> Path:
    """Downloads a file into the cache, unless it is there.

    Args:
        name: of the file, for messages.
        url: its address.
        target: its path in the cache.
        own_path: for messages, the path at which the user can put a copy of the file.
        sha256: expected hexadecimal digest; None if unknown.
        size: expected number of bytes; None if unknown.
        progress: called after every piece.
        config: timeouts, attempts and token.
        forbidden_by: what forbids the download, for the message; "" asks the environment.

    Returns:
        `target`.

    Raises:
        UnreachableError: the address gives no file.
        WeightsError: downloads are forbidden, or the file is not the expected one.
        WeightsCacheError: the cache cannot be written.
    """
    advice = f"get {url} elsewhere and put it at {own_path}"
    forbidden_by = forbidden_by or offline_by()
    if forbidden_by:
        raise WeightsError(f"{name} is missing, and {forbidden_by} forbids downloads: {advice}")
    try:
        download(url, target, sha256, size, progress, config)
    except UnreachableError as error:
        raise UnreachableError(f"{name} cannot be downloaded ({error}): {advice}", error.status) from None
    except OSError as error:
        raise WeightsCacheError(
            f"{target}: cannot be written ({error.strerror or error}); set XDG_CACHE_HOME to a folder that can"
        ) from error
    return target


def licence_note(entry: WeightsEntry) -> str:
    """Message to show before weights are downloaded: address and licence."""
    note = f"{entry.name}: downloading {entry.url}; licence: {entry.licence}"
    return note if entry.commercial else f"{note}; NON-COMMERCIAL use only"


@contextlib.contextmanager
def reporting_downloads(progress: Progress) -> Iterator[None]:
    """Within the block, `find_weights` reports its downloads to `progress`.

    Components are made from their configuration alone, so they cannot take `progress` as an argument.
    """
    token = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(token)


def user_folders() -> tuple[Path, ...]:
    """Folders of `$SFM_LIGHTGLUE_WEIGHTS`."""
    given = os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)
    return tuple(Path(os.path.expanduser(folder)) for folder in given if folder)


def cache_folder() -> Path:
    """Folder of downloads: `$XDG_CACHE_HOME/sfm_lightglue`, else one in the cache folder of the system.

    Raises:
        WeightsError: the user has no home folder.
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
    """Name of the environment variable that forbids downloads; "" if none does."""
    for name in OFFLINE_VARIABLES:
        if os.environ.get(name, "").strip().lower() not in {"", "0", "no", "off", "false"}:
            return name
    return ""
