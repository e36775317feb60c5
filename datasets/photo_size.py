"""How large photographs are, read once each and from the header alone."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from sfm_lightglue.images.image import Image


@lru_cache(maxsize=65536)
def photo_size(path: Path) -> tuple[int, int]:
    """(width, height) of a photo in pixels, as stored.

    Raises:
        DataError: where it cannot be read.
    """
    return Image.read(path).size
