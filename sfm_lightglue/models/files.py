"""Files of weights without torch: found, and told apart by their digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sfm_lightglue.errors import WeightsError


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


def require_weights(path: str, component: str, flag: str, example: str) -> Path:
    """The file of weights of a component.

    Args:
        path: as configured, "" where nothing was.
        component: for the message, such as "matcher lightglue".
        flag: the option of the commands that names the file.
        example: where such files come from.

    Raises:
        WeightsError: where none is configured, or there is no such file.
    """
    if not path:
        raise WeightsError(f"{component} needs a file of weights: give {flag} FILE, such as {example}")
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such file of weights; check the path, or download it again")
    return Path(path)
