"""Files of a pretrained model: in a folder, in the cache of Hugging Face, or on the hub."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.weights.catalog import CATALOG
from sfm_lightglue.weights.download import UnreachableError
from sfm_lightglue.weights.lookup import cache_folder, fetch_file, find_weights, user_folders

_HUB = "https://huggingface.co"
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""Owner and name of a repository."""
_CONFIG_FILE = "config.json"


def find_source(name_or_path: str | Path) -> Path | str:
    """Locates a pretrained model.

    Args:
        name_or_path: a folder, a file, a name of the catalogue of weights, or a repository on the hub.

    Returns:
        Path of a folder or a file; or the name of a repository whose files are only on the hub.

    Raises:
        WeightsError: there is no such model.
    """
    path, name = Path(name_or_path).expanduser(), str(name_or_path)
    if path.exists():
        return path
    folder = _local_copy(name)
    if folder is not None:
        return folder
    if name in CATALOG:
        return find_weights(name)
    if _REPOSITORY.fullmatch(name):
        return name
    raise WeightsError(
        f"{name}: no such folder or file, and no weights of that name{nearest_hint(name, CATALOG)};"
        " `sfm-lightglue weights list` lists all names"
    )


def find_file(name_or_path: str | Path, file_name: str) -> Path:
    """Path of a file of a pretrained model; a file of a repository on the hub is downloaded if necessary.

    Args:
        name_or_path: a folder, or the name of a repository such as "ETH-CVG/lightglue_superpoint".
        file_name: name within the folder or repository.

    Raises:
        WeightsError: there is no such file; the message names the folder to put it in.
    """
    name, path = str(name_or_path), Path(name_or_path).expanduser()
    folder = path if path.is_dir() else _local_copy(name)
    if folder is not None and (folder / file_name).is_file():
        return folder / file_name
    if path.exists() or not _REPOSITORY.fullmatch(name):
        raise WeightsError(f"{name}: contains no {file_name}; give a folder that has one, or the name of a repository")
    return _fetched(name, file_name)


def find_file_or_none(name_or_path: str | Path, file_name: str) -> Path | None:
    """As `find_file`, but None if the folder or the repository has no such file.

    Raises:
        WeightsError: a repository cannot be reached.
    """
    path = Path(name_or_path).expanduser()
    if path.exists() or not _REPOSITORY.fullmatch(str(name_or_path)):
        return path / file_name if (path / file_name).is_file() else None
    try:
        return find_file(name_or_path, file_name)
    except UnreachableError as error:
        if error.status == 404:
            return None
        raise


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


def _local_copy(name: str) -> Path | None:
    """Folder with the files of a repository: among the user's folders, or in the cache of Hugging Face."""
    if not _REPOSITORY.fullmatch(name):
        return None
    for folder in user_folders():
        if (folder / name / _CONFIG_FILE).is_file():
            return folder / name
    home = Path(os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser())
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    repository = cache / f"models--{name.replace('/', '--')}"
    reference = repository / "refs" / "main"
    if not reference.is_file():
        return None
    snapshot = repository / "snapshots" / reference.read_text(encoding="utf-8").strip()
    return snapshot if (snapshot / _CONFIG_FILE).is_file() else None


def _fetched(name: str, file_name: str) -> Path:
    target = cache_folder() / "hub" / name.replace("/", "--") / file_name
    if target.is_file():
        return target
    folders = user_folders()
    own_path = folders[0] / name / file_name if folders else target
    return fetch_file(f"{name}: {file_name}", f"{_HUB}/{name}/resolve/main/{file_name}", target, own_path)
