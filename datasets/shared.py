"""Locate the shared data: photographs that are not part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

from sfm_lightglue.errors import DataError
from sfm_lightglue.messages import nearest_hint

ENVIRONMENT_VARIABLE = "SFM_LIGHTGLUE_DATA"

_SCENE_FOLDERS = ("scenes", "sequences")

_DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_data_root(path: Path | None = None) -> Path:
    """The folder with `scenes`, `sequences` and others.

    Args:
        path: None for the environment variable SFM_LIGHTGLUE_DATA, or, if it is not set, for ../shared/data relative
            to the checkout.

    Raises:
        DataError: if there is no such folder.
    """
    root = path or Path(os.environ.get(ENVIRONMENT_VARIABLE) or _DEFAULT)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of shared data; set {ENVIRONMENT_VARIABLE} or give --data")
    return root


def find_scene_path(scene: str, data: Path | None = None) -> Path:
    """Locate a scene by its path, or by its name in `scenes` or `sequences` of the shared data.

    Raises:
        DataError: if there is none.
    """
    path = Path(scene)
    if path.exists():
        return path
    beside = _folder_names(path.parent)
    try:
        root = shared_data_root(data)
    except DataError as error:
        hint = nearest_hint(path.name, beside)
        raise DataError(
            f"scene {scene}: no such folder{hint}; it cannot be a name of the shared data either: {error}"
        ) from error
    located = next((path for folder in _SCENE_FOLDERS if (path := root / folder / scene).exists()), None)
    if located is None:
        names = [name for folder in _SCENE_FOLDERS for name in _folder_names(root / folder)]
        hint = nearest_hint(path.name, [*names, *beside])
        raise DataError(
            f"scene {scene}: neither a folder, nor a scene of the shared data{hint}; {root} has"
            f" {', '.join(names) or 'none'}"
        )
    return located


def _folder_names(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    except OSError:
        return []
