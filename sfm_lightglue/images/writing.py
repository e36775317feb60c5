"""Encode pixels, and take the EXIF orientation out of a JPEG file without touching its pixels."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from sfm_lightglue.arrays import Float32Array, UInt8Array

JPEG_QUALITY = 95

_JPEG_OPTIONS = [
    cv2.IMWRITE_JPEG_QUALITY,
    JPEG_QUALITY,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]

_ORIENTATION_TAG = 0x0112
_EXIF_HEAD = b"Exif\0\0"
_APP1, _START_OF_SCAN = 0xE1, 0xDA


def encode_image(rgb: UInt8Array, suffix: str) -> bytes:
    """The bytes of an image file without metadata.

    Args:
        rgb: [H, W, 3] uint8.
        suffix: ".png", ".jpg" or ".jpeg".
    """
    is_jpeg = suffix.lower() in {".jpg", ".jpeg"}
    done, data = cv2.imencode(
        ".jpg" if is_jpeg else ".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _JPEG_OPTIONS if is_jpeg else []
    )
    if not done:
        raise ValueError(f"encode_image: cannot encode {rgb.shape[1]} x {rgb.shape[0]} pixels as {suffix}")
    return data.tobytes()


def warp(rgb: UInt8Array, source_px: Float32Array) -> UInt8Array:
    """Sample an image at given pixels, bilinearly; black outside of it.

    Args:
        rgb: [H, W, 3] uint8.
        source_px: [H2, W2, 2] pixels (x, y) of `rgb` in COLMAP's convention.

    Returns:
        [H2, W2, 3] uint8.
    """
    # OpenCV has the centre of the first pixel at (0, 0).
    x, y = source_px[..., 0] - np.float32(0.5), source_px[..., 1] - np.float32(0.5)
    sampled = cv2.remap(rgb, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(sampled, np.uint8)


def without_orientation(jpeg: bytes) -> bytes:
    """A JPEG file whose EXIF data say that the stored pixels are upright. Everything else stays.

    Source: JEITA CP-3451, Exif 2.3, sections 4.5 and 4.6.
    """
    data = bytearray(jpeg)
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != _START_OF_SCAN:
        (length,) = struct.unpack_from(">H", data, position + 2)
        begin, end = position + 4, position + 2 + length
        if data[position + 1] == _APP1 and data[begin : begin + len(_EXIF_HEAD)] == _EXIF_HEAD:
            _set_upright(data, begin + len(_EXIF_HEAD), end)
        position = end
    return bytes(data)


def _set_upright(data: bytearray, tiff: int, end: int) -> None:
    """Set the orientation of the first directory of TIFF data [tiff, end) to 1."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[tiff : tiff + 2]))
    if order is None or tiff + 8 > end:
        return
    directory = tiff + struct.unpack_from(f"{order}I", data, tiff + 4)[0]
    if directory + 2 > end:
        return
    (count,) = struct.unpack_from(f"{order}H", data, directory)
    for entry in range(directory + 2, min(directory + 2 + 12 * count, end - 11), 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        if tag == _ORIENTATION_TAG and kind == 3:  # an unsigned short
            struct.pack_into(f"{order}H", data, entry + 8, 1)
