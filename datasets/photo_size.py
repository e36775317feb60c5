"""Sizes of image files, read from the header once per file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from sfm_lightglue.images.image import Image


@lru_cache(maxsize=65536)
def photo_size(path: Path) -> tuple[int, int]:
    """(width, height) of a stored image in pixels.

    Raises:
        DataError: if the file cannot be read.
    """
    return Image.read(path).size
