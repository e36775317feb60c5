"""Files of a pretrained model: in a folder, where Hugging Face keeps its downloads, or on the hub."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.store.store import atomic_write
from sfm_lightglue.weights.catalog import CATALOG
from sfm_lightglue.weights.download import UnreachableError, download
from sfm_lightglue.weights.lookup import cache_folder, find_weights, offline_by, user_folders

_HUB = "https://huggingface.co"
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""Owner and name."""
_CONFIG_FILE = "config.json"


def find_source(name_or_path: str | Path) -> Path | str:
    """Where a pretrained model is.

    Args:
        name_or_path: a folder, a file, a name of the table of weights, or a repository on the hub.

    Returns:
        A folder or a file; the name itself, where it is that of a repository which must be asked for each file.

    Raises:
        WeightsError: where there is none, saying what to put where.
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
        " `sfm-lightglue weights list` names all"
    )


def find_file(name_or_path: str | Path, file_name: str) -> Path:
    """A file of a pretrained model; of a repository on the hub it is downloaded where it must be.

    Args:
        name_or_path: a folder, or the name of a repository such as "ETH-CVG/lightglue_superpoint".
        file_name: within it.

    Raises:
        WeightsError: where it is nowhere, saying where to put it.
    """
    name, path = str(name_or_path), Path(name_or_path).expanduser()
    folder = path if path.is_dir() else _local_copy(name)
    if folder is not None and (folder / file_name).is_file():
        return folder / file_name
    if path.exists() or not _REPOSITORY.fullmatch(name):
        raise WeightsError(f"{name}: there is no {file_name}; give a folder that holds one, or a repository's name")
    return _fetched(name, file_name)


def find_file_or_none(name_or_path: str | Path, file_name: str) -> Path | None:
    """As `find_file`, None where the folder or the repository has none.

    Raises:
        WeightsError: where a repository cannot be asked.
    """
    path = Path(name_or_path).expanduser()
    if path.exists() or not _REPOSITORY.fullmatch(str(name_or_path)):
        return path / file_name if (path / file_name).is_file() else None
    try:
        return find_file(name_or_path, file_name)
    except WeightsError as error:
        if "HTTP 404" in str(error):
            return None
        raise


def read_json(path: Path) -> dict[str, Any]:
    """The dictionary in a file.

    Raises:
        ConfigError: where it cannot be read, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a dictionary")
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a file, and its folder where there is none: all of it or nothing.

    Raises:
        StoreError: where it cannot be written.
    """
    text = json.dumps(dict(values), indent=2, sort_keys=True) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())


def _local_copy(name: str) -> Path | None:
    """A folder with the files of a repository: the user's, or the one that Hugging Face's tools downloaded."""
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
    url = f"{_HUB}/{name}/resolve/main/{file_name}"
    folders = user_folders()
    where = folders[0] / name if folders else target.parent
    advice = f"get {url} elsewhere and put it at {where / file_name}"
    forbidden_by = offline_by()
    if forbidden_by:
        raise WeightsError(f"{name}: {file_name} is not here, and {forbidden_by} forbids to download it: {advice}")
    try:
        download(url, target)
    except UnreachableError as error:
        raise WeightsError(f"{name}: {file_name} cannot be downloaded ({error}): {advice}") from None
    except OSError as error:
        raise WeightsError(
            f"{target}: cannot be written ({error.strerror or error}); set XDG_CACHE_HOME to a folder that can"
        ) from None
    return target
