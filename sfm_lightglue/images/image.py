"""Read images: pixels and size as stored, EXIF orientation and focal length.

An `Image` reads its file once and decodes it only when pixels are needed, so a cache can compute its digest without
decoding it.
"""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PilImage
from PIL import UnidentifiedImageError

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.images.exif import Exif, read_exif
from sfm_lightglue.images.orientation import quarter_turned

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})

MIN_SIDE_PX = 16
"""Minimum width and height in pixels. Smaller images are skipped: no detector finds features in them."""


@dataclass(frozen=True, eq=False)
class Image:
    """An encoded image file, or pixels in memory.

    Args:
        name: name in messages.
        data: the bytes of the file, or pixels [H, W] or [H, W, 3] (RGB) of uint8.
        quarter_turns_override: clockwise turns by 90 degrees that turn the stored image upright; None reads EXIF.

    Example:
        >>> image = sfm_lightglue.Image.read("left.jpg")
        >>> image.size
        (480, 360)
        >>> image.rgb().shape
        (360, 480, 3)
    """

    name: str
    data: bytes | UInt8Array = field(repr=False)
    quarter_turns_override: int | None = None

    @classmethod
    def read(cls, path: Path | str, name: str | None = None) -> Image:
        """Read a file without decoding it.

        Args:
            path: path of the file.
            name: name in messages; None uses the path.

        Raises:
            DataError: if the file cannot be read, or is empty.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        if not data:
            raise DataError(f"{path}: the file is empty")
        return cls(name or str(path), data)

    @classmethod
    def from_array(cls, pixels: UInt8Array, name: str = "array", quarter_turns: int = 0) -> Image:
        """Make an image from pixels in memory, for example of a video.

        Args:
            pixels: [H, W] (grey) or [H, W, 3] (RGB) of uint8.
            name: name in messages.
            quarter_turns: clockwise turns by 90 degrees that turn the pixels upright.

        Raises:
            ValueError: if the pixels have another shape or type.
        """
        if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
            raise ValueError(f"pixels: expected uint8 [H, W] or [H, W, 3], got {pixels.dtype} {pixels.shape}")
        return cls(name, pixels, quarter_turns)

    @cached_property
    def digest(self) -> str:
        """sha256 of the file's bytes, or of the pixels."""
        if isinstance(self.data, bytes):
            return hashlib.sha256(self.data).hexdigest()
        header = repr((self.data.shape, self.quarter_turns)).encode()
        return hashlib.sha256(header + np.ascontiguousarray(self.data).tobytes()).hexdigest()

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) of the stored image in pixels, read from the header."""
        if isinstance(self.data, bytes):
            with self._open(self.data) as image:
                turned = _is_turned_by_pillow(image) and self.exif.quarter_turns % 2 == 1
                return (image.height, image.width) if turned else image.size
        return self.data.shape[1], self.data.shape[0]

    @cached_property
    def exif(self) -> Exif:
        """EXIF data of the header; empty for pixels in memory.

        Raises:
            DataError: if the header cannot be read, or the image is stored mirrored.
        """
        if not isinstance(self.data, bytes):
            return Exif(quarter_turns=self.quarter_turns_override or 0)
        with self._open(self.data) as image:
            return read_exif(image, self.name)

    @property
    def quarter_turns(self) -> int:
        """Clockwise turns by 90 degrees that turn the stored image upright, 0..3."""
        if self.quarter_turns_override is not None:
            return self.quarter_turns_override
        return self.exif.quarter_turns

    def grey(self) -> UInt8Array:
        """Decode to grey [H, W] uint8, as stored (not turned upright).

        Raises:
            DataError: if the file is damaged.
        """
        if isinstance(self.data, bytes):
            return self._decode(self.data, "L")
        return self.data if self.data.ndim == 2 else cv2.cvtColor(self.data, cv2.COLOR_RGB2GRAY).astype(np.uint8)

    def rgb(self) -> UInt8Array:
        """Decode to RGB [H, W, 3] uint8, as stored (not turned upright).

        Raises:
            DataError: if the file is damaged.
        """
        if isinstance(self.data, bytes):
            return self._decode(self.data, "RGB")
        return self.data if self.data.ndim == 3 else np.repeat(self.data[..., None], 3, axis=2)

    def _open(self, data: bytes) -> PilImage.Image:
        try:
            return PilImage.open(io.BytesIO(data))
        except UnidentifiedImageError as error:
            raise DataError(f"{self.name}: not an image that can be read") from error
        except (OSError, ValueError, SyntaxError, PilImage.DecompressionBombError) as error:
            raise DataError(f"{self.name}: not an image that can be read ({error})") from error

    def _decode(self, data: bytes, mode: str) -> UInt8Array:
        with self._open(data) as image:
            try:
                if mode == "L" and image.format == "JPEG":
                    image.draft("L", image.size)  # decodes only the luma channel
                image.load()
                pixels = np.asarray(_to_eight_bits(image).convert(mode), dtype=np.uint8)
            except (OSError, ValueError, SyntaxError, EOFError) as error:
                raise DataError(f"{self.name}: damaged or cut off ({error})") from error
            return quarter_turned(pixels, -self.exif.quarter_turns) if _is_turned_by_pillow(image) else pixels


def _to_eight_bits(image: PilImage.Image) -> PilImage.Image:
    """Scale 16-bit and float grey to 8 bits; Pillow's `convert` would clip values above 255.

    The range is the number of bits that the brightest pixel needs, because 12-bit sensors also write 16-bit words.
    """
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        brightest = values[np.isfinite(values)].max(initial=0)
        if image.mode == "F" and brightest <= 1:
            values = values * 255
        elif brightest > 255:
            values = values * (255 / (2 ** math.ceil(math.log2(brightest + 1)) - 1))
        return PilImage.fromarray(np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8), "L")
    # Palettes are converted to RGBA, so that transparency is dropped and not blended with a background.
    return image.convert("RGBA") if image.mode in {"P", "PA"} else image


def _is_turned_by_pillow(image: PilImage.Image) -> bool:
    """Pillow turns TIFF files upright when it decodes them, and files of no other format."""
    return image.format == "TIFF"
