"""Photos for the window: small ones on the frusta, larger ones and parts of them in the panel."""

from __future__ import annotations

import math
import queue
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image as PilImage

from sfm_lightglue.arrays import AnyArray, Float64Array, UInt8Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.orientation import quarter_turned, turn_forward

THUMBNAIL_PX = 128
"""Longer side of a photo on a frustum."""

MAX_THUMBNAILS = 64
"""Frusta that have their photo; the nearest ones of more."""

MAX_KEPT_THUMBNAILS = 2000

PANEL_PX = 640
"""Longer side of a photo in the panel."""

CROP_PX = 64
"""Half the side of the part around a keypoint in pixels of the stored image, if its longer side is `CROP_OF_PX`."""

CROP_OF_PX = 2000

MISSING = (96, 96, 100)


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """An upright photo, which may be smaller than the stored one.

    Args:
        pixels: [H, W, 3] RGB.
        size: (width, height) of the stored image in pixels.
        quarter_turns: clockwise turns that made it upright.
    """

    pixels: UInt8Array
    size: tuple[int, int]
    quarter_turns: int

    def place(self, xy: AnyArray) -> Float64Array:
        """Keypoints [N, 2] of the stored image -> pixels [N, 2] of this photo."""
        upright: Float64Array = turn_forward(np.asarray(xy, np.float64), self.quarter_turns, self.size)
        width, height = self.size if self.quarter_turns % 2 == 0 else self.size[::-1]
        places: Float64Array = upright * (self.pixels.shape[1] / width, self.pixels.shape[0] / height)
        return places


def read_photo(file: str, side_px: int) -> Photo | None:
    """Read a photo, upright; None if there is none, or it cannot be read.

    Args:
        file: its path; "" if it is not known.
        side_px: its longer side at most.
    """
    if not file:
        return None
    try:
        image = Image.read(file)
        pixels, _ = image.to_fit(side_px, colour=True)
        return Photo(quarter_turned(pixels, image.quarter_turns), image.size, image.quarter_turns)
    except DataError:
        return None


def crop_around(photo: Photo, xy: Float64Array, side_px: int) -> PilImage.Image:
    """The part of a photo around a keypoint as a square, grey beyond the edge.

    Args:
        photo: at full size.
        xy: [2] keypoint in pixels of the stored image.
        side_px: of the result.
    """
    x, y = photo.place(np.asarray(xy, np.float64)[None])[0]
    half = CROP_PX * max(max(photo.pixels.shape[:2]) / CROP_OF_PX, 0.5)
    box = tuple(round(value) for value in (x - half, y - half, x + half, y + half))
    canvas = PilImage.new("RGB", (box[2] - box[0], box[3] - box[1]), MISSING)
    left, top = max(box[0], 0), max(box[1], 0)
    part = photo.pixels[top : max(box[3], 0), left : max(box[2], 0)]
    if part.size > 0:
        canvas.paste(PilImage.fromarray(part), (left - box[0], top - box[1]))
    return canvas.resize((side_px, side_px), PilImage.Resampling.BILINEAR)


def read_thumbnail(file: str) -> UInt8Array | None:
    """A small photo as it is stored, not upright: a frustum has the corners of the stored image.

    Returns:
        [`THUMBNAIL_PX`, `THUMBNAIL_PX`, 3] whatever the aspect of the photo is; None if it cannot be read.
    """
    if not file:
        return None
    try:
        pixels, _ = Image.read(file).to_fit(2 * THUMBNAIL_PX, colour=True)
    except DataError:
        return None
    small = PilImage.fromarray(np.ascontiguousarray(pixels)).resize((THUMBNAIL_PX, THUMBNAIL_PX))
    return np.asarray(small)


def read_thumbnails(files: Sequence[str], num_threads: int = 2) -> list[UInt8Array | None]:
    """Small photos as `read_thumbnail` gives them."""
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(read_thumbnail, files))


def atlas(thumbnails: Sequence[UInt8Array]) -> UInt8Array:
    """Thumbnails in one image, row by row.

    Returns:
        [S * side, S * side, 3] with S the smallest number of thumbnails in a row for which all have a place.
    """
    side = atlas_side(len(thumbnails))
    canvas = np.zeros((side * THUMBNAIL_PX, side * THUMBNAIL_PX, 3), np.uint8)
    for place, thumbnail in enumerate(thumbnails):
        row, column = divmod(place, side)
        top, left = row * THUMBNAIL_PX, column * THUMBNAIL_PX
        canvas[top : top + THUMBNAIL_PX, left : left + THUMBNAIL_PX] = thumbnail
    return canvas


def atlas_side(number: int) -> int:
    """Thumbnails in a row of an atlas of a number of them."""
    return max(1, math.isqrt(max(number - 1, 0)) + 1)


class ThumbnailReader:
    """Reads thumbnails in a thread, the newest wishes first, and keeps those that were used last.

    Args:
        files: path of the image of each camera.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self._files = files
        self._found: OrderedDict[int, UInt8Array | None] = OrderedDict()
        self._wishes: queue.Queue[list[int]] = queue.Queue()
        self._lock = threading.Lock()
        self._num_read = 0
        self._thread: threading.Thread | None = None

    @property
    def num_read(self) -> int:
        """Grows whenever a thumbnail was read."""
        return self._num_read

    def wish(self, rows: Sequence[int]) -> None:
        """Read the thumbnails of cameras that are not known yet, and forget earlier wishes."""
        missing = [row for row in rows if row not in self._found]
        if missing:
            self._wishes.put(missing)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="thumbnails")
                self._thread.start()

    def known(self, rows: Sequence[int]) -> dict[int, UInt8Array]:
        """The thumbnails of some cameras, of those whose photos were read."""
        with self._lock:
            for row in rows:
                if row in self._found:
                    self._found.move_to_end(row)
            found = {row: self._found.get(row) for row in rows}
        return {row: thumbnail for row, thumbnail in found.items() if thumbnail is not None}

    def _work(self) -> None:
        while True:
            rows = self._wishes.get()
            for row in rows:
                if not self._wishes.empty():
                    break
                thumbnail = read_thumbnail(self._files[row])
                with self._lock:
                    self._found[row] = thumbnail
                    while len(self._found) > MAX_KEPT_THUMBNAILS:
                        self._found.popitem(last=False)
                self._num_read += 1
