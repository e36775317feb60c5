"""Read and decode image files: from the bytes of a file to pixels, as they are stored."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PilImage

from sfm_lightglue.arrays import BoolArray, UInt8Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.images.deep_colour import decode_deep_colour, has_deep_colour, to_eight_bits
from sfm_lightglue.images.exif import Exif, read_exif
from sfm_lightglue.images.jpeg2000 import Jpeg2000Header
from sfm_lightglue.images.opening import MAX_FILE_BYTES, open_image
from sfm_lightglue.images.orientation import quarter_turned
from sfm_lightglue.input_file import read_input_file

REDUCED_ABOVE_PIXELS = 10**8
"""Only larger images are decoded at reduced size, so that the results of ordinary ones do not depend on it."""

_large_image = threading.Lock()
"""One image of more than `REDUCED_ABOVE_PIXELS` is decoded at a time: it can take gigabytes."""


def read_encoded(path: Path | str) -> bytes:
    """The bytes of an image file.

    Raises:
        DataError: if the file cannot be read, or is empty.
    """
    data = read_input_file(path, MAX_FILE_BYTES)
    if not data:
        raise DataError(f"{path}: the file is empty")
    return data


def stored_size(data: bytes, name: str) -> tuple[int, int]:
    """(width, height) of the header, without the EXIF orientation.

    Raises:
        DataError: if the header cannot be read.
    """
    with open_image(data, name) as image:
        return image.size


def read_header(data: bytes, name: str) -> tuple[tuple[int, int], Exif | DataError, bool]:
    """(width, height) of the stored image, EXIF data or why there is none, and whether it has deep colour.

    Raises:
        DataError: if the header cannot be read.
    """
    with open_image(data, name) as image:
        size = image.size
        exif: Exif | DataError
        try:
            is_deep = has_deep_colour(image, data) or image.mode == "F"  # grey floats
            exif = read_exif(image, name)
        except DataError as error:
            return size, error, is_deep
        except Exception:  # damaged bytes raise anything, but the pixels can be readable
            return size, Exif(), False
        if _is_turned_by_pillow(image) and exif.quarter_turns % 2 == 1:
            size = size[1], size[0]
        return size, exif, is_deep


def decode(data: bytes, name: str, mode: str, exif: Exif, min_size: int | None = None) -> tuple[UInt8Array, float]:
    """Decode an image as it is stored.

    Args:
        data: the bytes of the file.
        name: name in messages.
        mode: "L" for grey [H, W], "RGB" for colour [H, W, 3].
        exif: its EXIF data.
        min_size: a very large image can be decoded at reduced size, as long as its longer side has at least as many
            pixels; None decodes at full size.

    Returns:
        The pixels, and how many pixels of the full image one of them has in x and y.

    Raises:
        DataError: if the file is damaged.
    """
    with open_image(data, name) as image:
        full_size = image.size
        is_large = full_size[0] * full_size[1] > REDUCED_ABOVE_PIXELS
        with _large_image if is_large else contextlib.nullcontext():
            try:
                scale = _reduce(image, data, mode, min_size) if is_large and min_size is not None else 1
                pixels = _decode_opened(image, data, name, mode)
                if scale > 1:
                    pixels = _aligned(pixels, full_size, scale, image.format == "JPEG2000")
            except DataError:
                raise
            except Exception as error:  # damaged bytes make decoders raise anything
                raise DataError(f"{name}: damaged or cut off ({error or type(error).__name__})") from error
        turned = quarter_turned(pixels, -exif.quarter_turns) if _is_turned_by_pillow(image) else pixels
        return turned, float(scale)


def decode_nonzero(data: bytes, name: str) -> BoolArray:
    """Which pixels of an image are not black [H, W].

    Raises:
        DataError: if the file is damaged.
    """
    with open_image(data, name) as image:
        try:
            if has_deep_colour(image, data):
                return np.asarray(decode_deep_colour(data, name).any(axis=2))
            image.load()
            if _is_deep_grey(image):
                return np.asarray(np.asarray(image) > 0)
            return np.asarray(np.asarray(_without_palette(image).convert("L")) > 0)
        except DataError:
            raise
        except Exception as error:  # as above
            raise DataError(f"{name}: damaged or cut off ({error or type(error).__name__})") from error


def _decode_opened(image: PilImage.Image, data: bytes, name: str, mode: str) -> UInt8Array:
    if has_deep_colour(image, data) or _is_refused_by_pillow(image):
        pixels = decode_deep_colour(data, name)
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False) if mode == "L" else pixels
    if mode == "L" and image.format == "JPEG":
        image.draft("L", image.size)  # decodes only the luma channel; without effect after `_reduce`
    image.load()
    if _is_deep_grey(image):
        image = PilImage.fromarray(to_eight_bits(np.asarray(image), image.format == "JPEG2000"))
    return np.asarray(_without_palette(image).convert(mode), dtype=np.uint8)


def _reduce(image: PilImage.Image, data: bytes, mode: str, min_size: int) -> int:
    """Let the decoder reduce an opened image by a power of two; returns the factor, 1 if its format cannot."""
    width, height = image.size
    scales = [s for s in (8, 4, 2) if max(width, height) // s >= min_size and min(width, height) >= s]
    if image.format in {"JPEG", "MPO"} and scales:
        image.draft(mode, (width // scales[0], height // scales[0]))
        return scales[0] if image.size == (-(-width // scales[0]), -(-height // scales[0])) else 1
    if image.format == "JPEG2000" and not has_deep_colour(image, data):
        header = Jpeg2000Header.find(data)
        for scale in scales:
            # Pillow rounds the size, the decoder rounds it up.
            fits = all((side + scale // 2) // scale == -(-side // scale) for side in (width, height))
            if header.starts_at_origin and scale <= 2**header.num_reductions and fits:
                image.reduce = scale.bit_length() - 1  # type: ignore[assignment]
                return scale
    return 1


def _aligned(pixels: UInt8Array, full_size: tuple[int, int], scale: int, is_wavelet: bool) -> UInt8Array:
    """A reduced image of which each pixel is a block of `scale` x `scale` pixels, without incomplete blocks."""
    if is_wavelet:
        # Pixel i of a reduced wavelet image has its centre at that of pixel `scale * i` of the full one, and not at
        # the centre of a block, which is (scale - 1) / (2 scale) pixels further.
        shift = (scale - 1) / (2 * scale)
        kernel = np.outer([1 - shift, shift], [1 - shift, shift])
        pixels = cv2.filter2D(pixels, -1, kernel, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE).astype(np.uint8)
    return np.ascontiguousarray(pixels[: full_size[1] // scale, : full_size[0] // scale])


def _is_deep_grey(image: PilImage.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _without_palette(image: PilImage.Image) -> PilImage.Image:
    """Palettes are converted to RGBA, so that transparency is dropped and not blended with a background."""
    return image.convert("RGBA") if image.mode in {"P", "PA"} else image


def _is_turned_by_pillow(image: PilImage.Image) -> bool:
    """Pillow and OpenCV turn TIFF files upright when they decode them, and files of no other format."""
    return image.format == "TIFF"


def _is_refused_by_pillow(image: PilImage.Image) -> bool:
    """Pillow applies its limit of pixels to TIFF files once more when it decodes them."""
    limit = PilImage.MAX_IMAGE_PIXELS
    return image.format == "TIFF" and limit is not None and image.width * image.height > 2 * limit
