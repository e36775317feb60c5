"""Images with more than 8 bits for each channel: which files are, and their conversion to 8 bits.

Pillow reads 16-bit grey as it is, but takes the high byte of 16-bit colours; OpenCV reads those.
"""

from __future__ import annotations

import math
import re

import cv2
import numpy as np
from PIL import Image as PilImage

from sfm_lightglue.arrays import AnyArray, UInt8Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.images.formats import HEAD_BYTES, find_format
from sfm_lightglue.images.jpeg2000 import Jpeg2000Header

DEEP_COLOUR_VERSION = 2
"""Of the conversion of deep colours to 8 bits: part of the digest of such images."""

_PPM_HEADER = re.compile(rb"P6\s+(?:#[^\n]*\n\s*)*\d+\s+(?:#[^\n]*\n\s*)*\d+\s+(?:#[^\n]*\n\s*)*(\d+)")
_TAG_BITS = 258
_WAVELET_OVERSHOOT = 1.08
"""Lossy JPEG 2000 makes values beside edges brighter, so that 10 bits would seem to be 11."""

_HIGHLIGHTS = 1e-3
"""Share of the pixels of an image with the range 0 to 1 that may be brighter."""

_COLOUR_MODES = frozenset({"RGB", "RGBA", "RGBX", "RGBa", "LA"})


def has_deep_colour(image: PilImage.Image, data: bytes) -> bool:
    """Whether a file has more than 8 bits for each of several channels.

    Args:
        image: the opened file.
        data: its bytes.
    """
    if image.mode not in _COLOUR_MODES:
        return False
    if image.format == "PNG":  # bytes 24 and 25: bits and colour type of the header, which is the first chunk
        return data[24] == 16
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(_TAG_BITS, ())
        return isinstance(bits, tuple) and max(bits, default=0) > 8
    if image.format == "PPM":
        header = _PPM_HEADER.match(data[:4096])
        return header is not None and int(header[1]) > 255
    return image.format == "JPEG2000" and Jpeg2000Header.find(data).bits > 8


def decode_deep_colour(data: bytes, name: str) -> UInt8Array:
    """Decode a file for which `has_deep_colour` is true to RGB [H, W, 3] uint8, as OpenCV orients it.

    Raises:
        DataError: if the file is damaged.
    """
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise DataError(f"{name}: damaged or cut off")
    if values.ndim == 2:
        values = values[..., None]
    channels = {1: [0, 0, 0], 2: [0, 0, 0], 3: [2, 1, 0], 4: [2, 1, 0]}[values.shape[2]]  # BGR -> RGB, without alpha
    return to_eight_bits(values[..., channels], find_format(data[:HEAD_BYTES]) == "JPEG2000")


def to_eight_bits(values: AnyArray, is_wavelet: bool = False) -> UInt8Array:
    """Scale values of any type to 8 bits.

    The range is the number of bits that the brightest value needs, because 12-bit sensors also write 16-bit words.
    Floats have the range 0 to 1 if nearly all of them are at most 1: highlights can exceed it.

    Args:
        values: [H, W] or [H, W, 3].
        is_wavelet: they were decoded from JPEG 2000.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype == np.uint16:
        brightest = float(values.max(initial=0)) / (_WAVELET_OVERSHOOT if is_wavelet else 1.0)
        levels = np.arange(2**16, dtype=np.float64) * _factor(brightest)
        return np.clip(levels, 0, 255).astype(np.uint8)[values]
    wide = values.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    is_share = np.issubdtype(values.dtype, np.floating) and float((finite > 1).sum()) <= _HIGHLIGHTS * finite.size
    scaled = wide * (255.0 if is_share else _factor(float(finite.max(initial=0))))
    return np.clip(np.nan_to_num(scaled), 0, 255).astype(np.uint8)


def _factor(brightest: float) -> float:
    return 255 / (2 ** math.ceil(math.log2(brightest + 1)) - 1) if brightest > 255 else 1.0
