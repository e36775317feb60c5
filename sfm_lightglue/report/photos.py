"""The photos of a report: small JPEG files, upright, and one image with the thumbnails of all cameras."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.orientation import quarter_turned
from sfm_lightglue.messages import shortened

logger = logging.getLogger(__name__)

PHOTO_QUALITY = 62
"""JPEG quality of the photos."""

THUMBNAIL_PX = 64
"""Width and height of a thumbnail; smaller ones are used for very many images."""

MAX_ATLAS_PX = 2048
"""Largest side of the image with the thumbnails: every graphics card has textures of this size."""


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A small photo.

    Args:
        name: of the image.
        size: (width, height) of the stored image in pixels.
        quarter_turns: clockwise turns by 90 degrees that make the stored image upright.
        jpeg: bytes of the upright photo.
        thumbnail: RGB, `THUMBNAIL_PX` wide and high whatever the aspect of the photo is.
    """

    name: str
    size: tuple[int, int]
    quarter_turns: int
    jpeg: bytes
    thumbnail: PilImage.Image


def read_photos(folder: Path, names: Sequence[str], side_px: int, executor: Executor) -> dict[str, Photo]:
    """Small versions of photos, by name. Those that cannot be read are left out, with a warning.

    Args:
        folder: that the names are relative to.
        names: of the images.
        side_px: longest side of a small photo.
        executor: for several photos at a time.
    """
    found: dict[str, Photo] = {}
    missing = []
    for name, photo in zip(names, executor.map(partial(_read_photo, folder, side_px), names), strict=True):
        if photo is None:
            missing.append(name)
        else:
            found[name] = photo
    if missing:
        logger.warning("report: photos that cannot be read are not shown: %s", shortened(missing))
    return found


def _read_photo(folder: Path, side_px: int, name: str) -> Photo | None:
    try:
        image = Image.read(folder / name, name)
        pixels, _ = image.to_fit(side_px, colour=True)
        size, turns = image.size, image.quarter_turns
    except DataError:
        return None
    upright = PilImage.fromarray(quarter_turned(pixels, turns))
    file = io.BytesIO()
    upright.save(file, "JPEG", quality=PHOTO_QUALITY)
    thumbnail = upright.resize((THUMBNAIL_PX, THUMBNAIL_PX), PilImage.Resampling.BOX, reducing_gap=2.0)
    return Photo(name, size, turns, file.getvalue(), thumbnail)


@dataclass(frozen=True, slots=True)
class Atlas:
    """The thumbnails of all images in one.

    Args:
        jpeg: bytes of the image.
        num_columns: number of thumbnails in a row.
        num_rows: number of rows.
    """

    jpeg: bytes
    num_columns: int
    num_rows: int


def thumbnail_atlas(thumbnails: Sequence[PilImage.Image | None]) -> Atlas:
    """Put thumbnails side by side, in rows; None leaves a grey place."""
    num_columns = max(1, int(np.ceil(np.sqrt(len(thumbnails)))))
    num_rows = max(1, -(-len(thumbnails) // num_columns))
    side = min(THUMBNAIL_PX, MAX_ATLAS_PX // num_columns)
    canvas = PilImage.new("RGB", (num_columns * side, num_rows * side), (128, 128, 128))
    for place, thumbnail in enumerate(thumbnails):
        if thumbnail is not None:
            small = thumbnail if side == THUMBNAIL_PX else thumbnail.resize((side, side))
            canvas.paste(small, (place % num_columns * side, place // num_columns * side))
    file = io.BytesIO()
    canvas.save(file, "JPEG", quality=PHOTO_QUALITY)
    return Atlas(file.getvalue(), num_columns, num_rows)
