"""Where the real photographs lie that the repository does not hold."""

from __future__ import annotations

import os
from pathlib import Path

from sfm_lightglue.errors import DataError

ENVIRONMENT_VARIABLE = "SFM_LIGHTGLUE_DATA"

_DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_data_root(path: Path | None = None) -> Path:
    """The folder with `scenes`, `sequences` and so on.

    Args:
        path: taken where it is given; else the environment variable SFM_LIGHTGLUE_DATA, else ../shared/data
            beside the checkout.

    Raises:
        DataError: where there is no such folder.
    """
    root = path or Path(os.environ.get(ENVIRONMENT_VARIABLE) or _DEFAULT)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of shared data; set {ENVIRONMENT_VARIABLE} to where it lies")
    return root


def find_scene_path(scene: str, data: Path | None = None) -> Path:
    """A scene by path, or by its name below `scenes` or `sequences` of the shared data.

    Raises:
        DataError: where there is none.
    """
    path = Path(scene)
    if path.exists():
        return path
    try:
        root = shared_data_root(data)
    except DataError as error:
        raise DataError(f"scene {scene}: no such folder, nor shared data to look for the name ({error})") from error
    places = [root / folder / scene for folder in ("scenes", "sequences")]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise DataError(f"scene {scene}: neither a folder, nor {' nor '.join(map(str, places))}")
    return found
