"""Read images: pixels and size as stored, EXIF orientation and focal length.

An `Image` reads its file once and decodes it only when pixels are needed, so a cache can compute its digest without
decoding it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.identity import masked_digest
from sfm_lightglue.images.deep_colour import DEEP_COLOUR_VERSION
from sfm_lightglue.images.encoded import decode, read_encoded, read_header
from sfm_lightglue.images.exif import Exif
from sfm_lightglue.images.mask import Mask
from sfm_lightglue.images.orientation import resize_to_fit

MIN_SIDE_PX = 16
"""Minimum width and height in pixels. Smaller images are skipped: no detector finds features in them."""


@dataclass(frozen=True, eq=False)
class Image:
    """An encoded image file, or pixels in memory.

    Args:
        name: name in messages.
        data: the bytes of the file, or pixels [H, W] or [H, W, 3] (RGB) of uint8.
        quarter_turns_override: clockwise turns by 90 degrees that turn the stored image upright; None reads EXIF.
        mask: pixels that may have keypoints; None if all may.
        mask_digest: sha256 of the bytes of the mask file; "" without.

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
    mask: Mask | None = field(default=None, repr=False)
    mask_digest: str = ""

    @classmethod
    def read(cls, path: Path | str, name: str | None = None) -> Image:
        """Read a file without decoding it.

        Args:
            path: path of the file.
            name: name in messages; None uses the path.

        Raises:
            DataError: if the file cannot be read, or is empty.
        """
        return cls(name or str(path), read_encoded(path))

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
        """sha256 of the file's bytes, or of the pixels; with deep colour also of the version of its conversion."""
        if isinstance(self.data, bytes):
            hasher = hashlib.sha256(self.data)
            if self._has_deep_colour():
                hasher.update(f"deep colour {DEEP_COLOUR_VERSION}".encode())
            return hasher.hexdigest()
        header = repr((self.data.shape, self.quarter_turns)).encode()
        return hashlib.sha256(header + np.ascontiguousarray(self.data).tobytes()).hexdigest()

    @property
    def content_digest(self) -> str:
        """Digest of all that its features depend on: `digest`, together with that of the mask if it has one."""
        return masked_digest(self.digest, self.mask_digest)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) of the stored image in pixels, read from the header.

        Raises:
            DataError: if the header cannot be read.
        """
        return self._header[0] if isinstance(self.data, bytes) else (self.data.shape[1], self.data.shape[0])

    @cached_property
    def exif(self) -> Exif:
        """EXIF data of the header; empty for pixels in memory.

        Raises:
            DataError: if the header cannot be read, or the image is stored mirrored.
        """
        if not isinstance(self.data, bytes):
            return Exif(quarter_turns=self.quarter_turns_override or 0)
        exif = self._header[1]
        if isinstance(exif, DataError):
            raise exif
        return exif

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
        return self.at_least(None, colour=False)[0]

    def rgb(self) -> UInt8Array:
        """Decode to RGB [H, W, 3] uint8, as stored (not turned upright).

        Raises:
            DataError: if the file is damaged.
        """
        return self.at_least(None, colour=True)[0]

    def at_least(self, min_size: int | None, colour: bool) -> tuple[UInt8Array, float]:
        """Decode an image, a very large one at a reduced size if its format allows that.

        Args:
            min_size: the longer side of a reduced image has at least as many pixels; None decodes at full size.
            colour: to RGB [H, W, 3], else to grey [H, W].

        Returns:
            The pixels as stored, and the factor that converts their coordinates to those of the full image.

        Raises:
            DataError: if the file is damaged.
        """
        if isinstance(self.data, bytes):
            pixels, scale = decode(self.data, self.name, "RGB" if colour else "L", self.exif, min_size)
            if (pixels.shape[1], pixels.shape[0]) != (self.size[0] // scale, self.size[1] // scale):
                raise DataError(f"{self.name}: damaged (the size in the header is not that of the pixels)")
            return pixels, scale
        if colour:
            return self.data if self.data.ndim == 3 else np.repeat(self.data[..., None], 3, axis=2), 1.0
        return self.data if self.data.ndim == 2 else cv2.cvtColor(self.data, cv2.COLOR_RGB2GRAY).astype(np.uint8), 1.0

    def to_fit(self, max_size: int, colour: bool) -> tuple[UInt8Array, tuple[float, float]]:
        """Decode an image, shrunk so that its longer side has at most `max_size` pixels.

        Args:
            max_size: maximum length of the longer side in pixels.
            colour: to RGB [H, W, 3], else to grey [H, W].

        Returns:
            The pixels as stored, and the factors (x, y) that convert their coordinates to those of the full image.

        Raises:
            DataError: if the file is damaged.
        """
        pixels, scale = self.at_least(max_size, colour)
        small, (x, y) = resize_to_fit(pixels, max_size)
        return small, (x * scale, y * scale)

    @cached_property
    def _header(self) -> tuple[tuple[int, int], Exif | DataError, bool]:
        return read_header(self.data, self.name) if isinstance(self.data, bytes) else (self.size, self.exif, False)

    def _has_deep_colour(self) -> bool:
        try:
            return self._header[2]
        except DataError:  # whoever needs the pixels is told
            return False
