"""Size and SHA-256 of files, compared with the published values; without torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sfm_lightglue.errors import WeightsError


def file_sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        return _sha256(Path(path))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error


def fault_of(path: Path, sha256: str | None, size: int | None = None) -> str | None:
    """Compares a file with its published digest and size.

    Args:
        path: of the file.
        sha256: expected hexadecimal digest; None skips the comparison.
        size: expected number of bytes; None skips the comparison.

    Returns:
        The first difference, or that the file cannot be read, as the end of a sentence that begins with the path;
        None if the file is as expected.
    """
    try:
        found_size = path.stat().st_size
        if size is not None and found_size != size:
            return f"has {found_size} bytes, expected {size}"
        if sha256 is not None and (found := _sha256(path)) != sha256.lower():
            return f"has the sha256 {found}, expected {sha256}"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
