"""Files of a pretrained model: in a folder, in the cache of Hugging Face, or on the hub."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.weights.catalog import CATALOG
from sfm_lightglue.weights.download import DownloadConfig, UnreachableError
from sfm_lightglue.weights.hub_options import HubOptions
from sfm_lightglue.weights.hub_versions import can_move, remote_version
from sfm_lightglue.weights.lookup import (
    cache_folder,
    fetch_file,
    find_weights,
    locate_weights,
    offline_by,
    user_folders,
)

_HUB = "https://huggingface.co"
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""Owner and name of a repository."""
_CONFIG_FILE = "config.json"
_MAIN = "main"

_LOGGER = logging.getLogger(__name__)


def find_source(name_or_path: str | Path, hub: HubOptions | None = None) -> Path | str:
    """Locates a pretrained model.

    Args:
        name_or_path: a folder, a file, a name of the catalogue of weights, or a repository on the hub.
        hub: version and access; they do not matter for a path.

    Returns:
        Path of a folder or a file; or the name of a repository whose files are only on the hub.

    Raises:
        ConfigError: options for the hub are given for weights that are a single file.
        WeightsError: there is no such model.
    """
    path, name, hub = Path(name_or_path).expanduser(), str(name_or_path), hub or HubOptions()
    if path.exists():
        return path
    copy = None if hub.force_download else _local_copy(name, hub)
    if copy is not None:
        return name if copy.commit and _is_other_commit(name, copy.commit, hub) else copy.folder
    is_repository = _REPOSITORY.fullmatch(name) is not None
    if name in CATALOG and not (is_repository and (hub.selects_files or hub.force_download)):
        return _catalogue_file(name, hub)
    if is_repository:
        return name
    raise WeightsError(
        f"{name}: no such folder or file, and no weights of that name{nearest_hint(name, CATALOG)};"
        " `sfm-lightglue weights list` lists all names"
    )


def find_file(name_or_path: str | Path, file_name: str, hub: HubOptions | None = None) -> Path:
    """Path of a file of a pretrained model; a file of a repository on the hub is downloaded if necessary.

    A file that was downloaded from a branch is downloaded again if the branch has another version of it now. Where the
    hub cannot be asked, the copy on this machine is used.

    Args:
        name_or_path: a folder, or the name of a repository such as "ETH-CVG/lightglue_superpoint".
        file_name: name within the folder or repository.
        hub: version, access and subfolder; None is the main version without a token.

    Raises:
        WeightsError: there is no such file; the message names the folder to put it in.
    """
    name, path, hub = str(name_or_path), Path(name_or_path).expanduser(), hub or HubOptions()
    is_here = path.exists()
    copy = _Copy(path) if is_here else None if hub.force_download else _local_copy(name, hub)
    here = None if copy is None else copy.folder / hub.subfolder / file_name
    if copy is not None and here is not None and here.is_file():
        is_fixed = copy.commit == ""
        if is_fixed or not _is_outdated(here, name, _inside(file_name, hub), hub):
            return here
    if is_here or not _REPOSITORY.fullmatch(name):
        inside = f"{name}/{hub.subfolder}" if hub.subfolder else name
        raise WeightsError(
            f"{inside}: contains no {file_name}; give a folder that has one, or the name of a repository"
        )
    return _fetched(name, file_name, hub)


def find_file_or_none(name_or_path: str | Path, file_name: str, hub: HubOptions | None = None) -> Path | None:
    """As `find_file`, but None if the folder or the repository has no such file.

    If downloads are forbidden, it is also None for a file of a repository that is not on this machine.

    Raises:
        WeightsError: a repository cannot be reached.
    """
    path, hub = Path(name_or_path).expanduser(), hub or HubOptions()
    if path.exists() or not _REPOSITORY.fullmatch(str(name_or_path)):
        local = path / hub.subfolder / file_name
        return local if local.is_file() else None
    if knows_only_local_files(name_or_path, hub) and not hub.force_download:
        return _file_on_disk(str(name_or_path), file_name, hub)
    try:
        return find_file(name_or_path, file_name, hub)
    except UnreachableError as error:
        if error.status == 404:
            return None
        raise


def knows_only_local_files(name_or_path: str | Path, hub: HubOptions) -> bool:
    """Whether this is a repository that may have further files, because downloads are forbidden."""
    is_repository = _REPOSITORY.fullmatch(str(name_or_path)) is not None
    if not is_repository or Path(name_or_path).expanduser().exists():
        return False
    return hub.local_files_only or bool(offline_by())


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that contains a dictionary.

    Raises:
        ConfigError: the file cannot be read, or contains something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a dictionary")
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a JSON file atomically; its folder is created.

    Raises:
        StoreError: the file cannot be written.
    """
    text = json.dumps(dict(values), indent=2, sort_keys=True) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())


@dataclass(frozen=True, slots=True)
class _Copy:
    """Files of a repository on this machine."""

    folder: Path
    commit: str = ""
    """In the cache of Hugging Face, the commit of the files; "" for a folder of the user."""


def _local_copy(name: str, hub: HubOptions) -> _Copy | None:
    """The files of a repository among the user's folders, or in the cache of Hugging Face."""
    if not _REPOSITORY.fullmatch(name):
        return None
    for folder in user_folders():
        own = folder / _versioned(name, hub)
        if (own / hub.subfolder / _CONFIG_FILE).is_file():
            return _Copy(own)
    home = Path(os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser())
    cache = hub.cache_dir or Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    repository = cache / f"models--{name.replace('/', '--')}"
    reference = repository / "refs" / (hub.revision or _MAIN)
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else hub.revision
    if not commit:
        return None
    snapshot = repository / "snapshots" / commit
    return _Copy(snapshot, commit) if (snapshot / hub.subfolder / _CONFIG_FILE).is_file() else None


def _is_other_commit(name: str, commit: str, hub: HubOptions) -> bool:
    """Whether a branch is now at another commit than that in the cache of Hugging Face."""
    if not _can_ask(hub):
        return False
    try:
        now = remote_version(_url(name, _inside(_CONFIG_FILE, hub), hub), hub.bearer())
    except UnreachableError:
        return False
    return now is not None and now.commit not in ("", commit)


def _file_on_disk(name: str, file_name: str, hub: HubOptions) -> Path | None:
    """A file of a repository in a local copy, or among the downloads."""
    copy = _local_copy(name, hub)
    places = [_download_target(name, file_name, hub)]
    if copy is not None:
        places.insert(0, copy.folder / hub.subfolder / file_name)
    return next((path for path in places if path.is_file()), None)


def _catalogue_file(name: str, hub: HubOptions) -> Path:
    """The file of weights of the catalogue, whose digest fixes its version."""
    entry = CATALOG[name]
    if hub.revision or hub.subfolder or (hub.cache_dir is not None and entry.url is not None):
        raise ConfigError(
            f"{name}: is a single file of the catalogue of weights: revision, subfolder and cache_dir do not apply;"
            " remove them, or name a repository"
        )
    if hub.local_files_only and locate_weights(entry) is None:
        folder = (*user_folders(), cache_folder())[0]
        raise WeightsError(
            f"{name} is missing, and local_files_only=True forbids downloads: get {entry.url} elsewhere and put it at"
            f" {folder / entry.file}"
        )
    return find_weights(name)


def _versioned(name: str, hub: HubOptions) -> str:
    """Name of the folder of a repository: that of the main version has no suffix."""
    return name if hub.revision is None else f"{name}@{quote(hub.revision, safe='')}"


def _download_target(name: str, file_name: str, hub: HubOptions) -> Path:
    cache = cache_folder() / "hub" if hub.cache_dir is None else hub.cache_dir
    return cache / _versioned(name, hub).replace("/", "--") / hub.subfolder / file_name


def _inside(file_name: str, hub: HubOptions) -> str:
    """Path of a file within its repository."""
    return f"{hub.subfolder}/{file_name}" if hub.subfolder else file_name


def _url(name: str, inside: str, hub: HubOptions) -> str:
    return f"{_HUB}/{name}/resolve/{quote(hub.revision or _MAIN, safe='')}/{quote(inside)}"


def _can_ask(hub: HubOptions) -> bool:
    """Whether the revision can move, and the network may be used to see that."""
    return can_move(hub.revision) and not hub.local_files_only and not offline_by()


def _is_outdated(target: Path, name: str, inside: str, hub: HubOptions) -> bool:
    """Whether the branch has another version of a downloaded file now.

    Raises:
        UnreachableError: the branch does not have the file any more.
    """
    if not _can_ask(hub):
        return False
    try:
        now = remote_version(_url(name, inside, hub), hub.bearer())
    except UnreachableError as error:
        raise UnreachableError(f"{name}: {inside} is not in this version any more ({error})", error.status) from None
    if now is None or now.is_that_of(target):
        return False
    _LOGGER.info("%s: %s has changed on the hub and is downloaded again", name, inside)
    return True


def _fetched(name: str, file_name: str, hub: HubOptions) -> Path:
    target, inside = _download_target(name, file_name, hub), _inside(file_name, hub)
    is_here = target.is_file()
    if is_here and not hub.force_download and not _is_outdated(target, name, inside, hub):
        return target
    folders = user_folders()
    own_path = folders[0] / _versioned(name, hub) / hub.subfolder / file_name if folders else target
    # A new version must not remove the old file before it is complete.
    received = target.with_name(f".{target.name}.new") if is_here else target
    try:
        fetch_file(
            f"{name}: {inside}",
            _url(name, inside, hub),
            received,
            own_path,
            config=DownloadConfig(token=hub.bearer()),
            forbidden_by="local_files_only=True" if hub.local_files_only else "",
        )
    except UnreachableError as error:
        if error.status not in (401, 403):
            raise
        raise UnreachableError(f"{error}; or give a `token` that may read {name}", error.status) from None
    return received if received == target else received.replace(target)
