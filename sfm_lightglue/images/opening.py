"""Open encoded images without decoding them: every fault of a file becomes an error that names it."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from typing import Any

from PIL import Image as PilImage
from PIL import JpegImagePlugin, TiffImagePlugin

from sfm_lightglue.errors import DataError
from sfm_lightglue.images.formats import HEAD_BYTES, FileFormat, find_format
from sfm_lightglue.messages import install_hint

MAX_MEGAPIXELS = 500
"""Larger images are refused."""

MAX_FILE_BYTES = 5 * 10**9
"""Larger files are not read: 16-bit pixels with transparency of the largest image take 4 GB."""

CONVERT_REMEDY = "files cannot be read; convert them to JPEG or PNG"

_PLUGINS: dict[FileFormat, str] = {
    "AVIF": "Avif",
    "BMP": "Bmp",
    "GIF": "Gif",
    "JPEG": "Jpeg",
    "JPEG2000": "Jpeg2K",
    "PNG": "Png",
    "PPM": "Ppm",
    "WEBP": "WebP",
}

_CHECKED_ABOVE_PIXELS = 10**8
_MIN_PIXEL_BYTES = 1 / (8 * 64 * 16)
"""Fewest bytes for each pixel of an image above that size: one bit for each block of 8 x 8 pixels of a JPEG file, with
a margin of 16. Images of other formats with fewer bytes show nothing either."""

_DEFLATE_RATIO = 1032
"""By how much the method of PNG files compresses at most."""

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

_TAG_BITS, _TAG_WIDTH, _TAG_HEIGHT, _TAG_DNG_VERSION = 258, 256, 257, 50706


def open_image(data: bytes, name: str) -> PilImage.Image:
    """Open an encoded image of any format that photographs have.

    Pillow's own limit of the number of pixels does not apply: photographs exceed it.

    Args:
        data: the bytes of the file.
        name: name in messages.

    Raises:
        DataError: if it is no image, is damaged, is too large, or its format cannot be read.
    """
    kind = find_format(data[:HEAD_BYTES])
    if kind is None:
        raise DataError(f"{name}: not an image that can be read")
    if kind == "RAW":
        raise DataError(f"{name}: raw {CONVERT_REMEDY}")
    factory = _factory(kind, name)
    try:
        image = factory(io.BytesIO(data), "")
        width, height = image.size
        is_raw = kind == "TIFF" and _TAG_DNG_VERSION in getattr(image, "tag_v2", {})
    except Exception as error:  # damaged bytes make decoders raise anything
        raise DataError(f"{name}: not an image that can be read ({error or type(error).__name__})") from error
    if is_raw:
        raise DataError(f"{name}: raw {CONVERT_REMEDY}")
    if width * height > MAX_MEGAPIXELS * 10**6:
        raise DataError(
            f"{name}: {width} x {height} pixels; at most {MAX_MEGAPIXELS} megapixels are read, so reduce the image"
        )
    # A header can claim a size that the file does not have; decoding it would take memory for all of it.
    if len(data) < _min_bytes(kind, data, width * height):
        raise DataError(f"{name}: damaged or cut off ({len(data)} bytes cannot hold {width} x {height} pixels)")
    return image


def _min_bytes(kind: FileFormat, data: bytes, num_pixels: int) -> float:
    """A lower limit of the size of a file that holds that many pixels."""
    if kind == "PNG":  # bytes 24 and 25: bits and colour type of the header, which is the first chunk
        return num_pixels * data[24] * _PNG_CHANNELS.get(data[25], 1) / (8 * _DEFLATE_RATIO)
    return num_pixels * _MIN_PIXEL_BYTES if num_pixels > _CHECKED_ABOVE_PIXELS else 0


def _factory(kind: FileFormat, name: str) -> Callable[[Any, str], PilImage.Image]:
    if kind == "TIFF":
        return _AnyTiff
    if kind == "JPEG":
        return _open_jpeg
    if kind == "HEIF":
        try:
            from pillow_heif import HeifImageFile  # its class is used directly: Pillow itself stays as it is
        except ImportError as error:
            raise DataError(
                f"{name}: HEIC files need pillow-heif: {install_hint('heif')}; or convert them to JPEG or PNG"
            ) from error
        factory: Callable[[Any, str], PilImage.Image] = HeifImageFile
        return factory
    try:
        import_module(f"PIL.{_PLUGINS[kind]}ImagePlugin")
        return PilImage.OPEN[kind][0]
    except (ImportError, KeyError) as error:
        raise DataError(
            f"{name}: the installed Pillow cannot read {kind} files; install the newest one, or convert them to JPEG"
        ) from error


def _open_jpeg(file: io.BytesIO, filename: str) -> PilImage.Image:
    try:
        return JpegImagePlugin.jpeg_factory(file, filename)
    except Exception:  # a damaged list of the images of an MPO file; the first image can be readable
        file.seek(0)
        return JpegImagePlugin.JpegImageFile(file, filename)


class _AnyTiff(TiffImagePlugin.TiffImageFile):
    """A TIFF file; also one with deep colour that Pillow has no mode for, whose pixels `deep_colour` decodes."""

    def _setup(self) -> None:
        try:
            super()._setup()
        except SyntaxError:
            bits = self.tag_v2.get(_TAG_BITS, ())
            if len(bits) not in (3, 4) or max(bits) <= 8:
                raise
            self._mode = "RGB"
            self._size = int(self.tag_v2[_TAG_WIDTH]), int(self.tag_v2[_TAG_HEIGHT])
            self.tile = []
