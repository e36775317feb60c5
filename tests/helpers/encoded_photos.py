"""Photographs encoded in every format that the library reads."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from PIL import Image as PilImage

from sfm_lightglue.arrays import AnyArray, UInt8Array
from tests.helpers.photos import textured

_OPTIONS: dict[str, dict[str, Any]] = {
    "AVIF": {"quality": 95},
    "JPEG": {"quality": 95},
    "WEBP": {"quality": 95},
}


def coloured(width: int, height: int) -> UInt8Array:
    """A smooth coloured texture [H, W, 3] whose channels use the whole range of 0 to 255."""
    channels = [textured(width, height, seed=seed) for seed in range(3)]
    stretched = [cv2.normalize(channel, None, 0, 255, cv2.NORM_MINMAX) for channel in channels]  # type: ignore[call-overload]
    smooth = cv2.GaussianBlur(np.dstack(stretched), (0, 0), 2)
    return np.asarray(cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX))  # type: ignore[call-overload]


def encoded(pixels: UInt8Array, kind: str, exif: PilImage.Exif | None = None) -> bytes:
    """Pixels as a file of a format by Pillow's name, or HEIF."""
    image, buffer = PilImage.fromarray(pixels), io.BytesIO()
    options = _OPTIONS.get(kind, {}) | ({"exif": exif.tobytes()} if exif is not None else {})
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.from_pillow(image).save(buffer, quality=95, **options)
    elif kind == "MPO":
        image.save(buffer, "MPO", quality=95, save_all=True, append_images=[image.rotate(180)], **options)
    else:
        image.save(buffer, kind, **options)
    return buffer.getvalue()


def encoded_deep(pixels: UInt8Array, suffix: str, bits: int, alpha: AnyArray | None = None) -> bytes:
    """Pixels [H, W] or [H, W, 3] as a file of 16-bit words of which only some bits are used."""
    deep = _deep(pixels, bits)
    if pixels.ndim == 3:
        deep = deep[..., ::-1]
    elif suffix == ".ppm":
        suffix = ".pgm"
    return cv2.imencode(suffix, deep if alpha is None else np.dstack([deep, alpha]))[1].tobytes()


def png_of_grey_and_alpha(grey: UInt8Array, bits: int) -> bytes:
    """A PNG file of 16-bit grey with transparency, which neither Pillow nor OpenCV writes."""
    deep = _deep(grey, bits)
    words = np.dstack([deep, np.full_like(deep, 65535)]).astype(">u2")
    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 16, 4, 0, 0, 0)
    lines = zlib.compress(b"".join(b"\0" + line.tobytes() for line in words))
    chunks = ((b"IHDR", header), (b"IDAT", lines), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _deep(pixels: UInt8Array, bits: int) -> AnyArray:
    return (pixels.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
