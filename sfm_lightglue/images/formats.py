"""File formats of images, recognised by the first bytes of a file and not by its name."""

from __future__ import annotations

import re
from typing import Literal

FileFormat = Literal["AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "RAW", "TIFF", "WEBP"]
"""Names as in Pillow; RAW stands for the raw files of cameras."""

# fmt: off
PHOTO_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".webp", ".bmp", ".dib", ".jp2", ".j2k",
        ".jpx", ".jpf", ".j2c", ".jpc", ".avif", ".heic", ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm",
    }
)
"""Usual suffixes of photographs, in lower case. A file with another suffix, or none, is recognised by its content."""

RAW_SUFFIXES = frozenset(
    {
        ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef",
        ".srw", ".x3f", ".3fr", ".iiq", ".rwl", ".mrw", ".kdc", ".dcr",
    }
)
"""Suffixes of the raw files of cameras. Many are TIFF files with a small preview, so the content does not tell."""
# fmt: on

HEAD_BYTES = 64
"""Number of bytes at the begin of a file that `find_format` looks at."""

_MAGIC: tuple[tuple[FileFormat, bytes], ...] = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("RAW", rb"II\*\0.{4}CR|IIRO|IIRS|MMOR|IIU\0|FUJIFILMCCD-RAW|FOVb|\0MRM"),
    ("TIFF", rb"II\*\0|MM\0\*|II\+\0|MM\0\+"),
    ("WEBP", rb"RIFF.{4}WEBPVP8"),
    ("JPEG2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    ("BMP", rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
    ("GIF", rb"GIF8[79]a"),
    ("PPM", rb"P[1-6][\s#]"),
)
_PATTERNS = tuple((name, re.compile(pattern, re.DOTALL)) for name, pattern in _MAGIC)

_FORMAT_FROM_BRAND: dict[bytes, FileFormat] = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"), "HEIF"),
    b"crx ": "RAW",
}


def find_format(head: bytes) -> FileFormat | None:
    """The format of an image file by its first bytes (`HEAD_BYTES` are enough); None if it is no known image."""
    if head[4:8] == b"ftyp":
        return _format_of_container(head)
    return next((name for name, pattern in _PATTERNS if pattern.match(head)), None)


def _format_of_container(head: bytes) -> FileFormat | None:
    """By the brands of a file of the ISO base media format, which videos use too.

    Source: ISO/IEC 14496-12, box `ftyp`: size, type, major brand, version, compatible brands.
    """
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[start : start + 4] for start in range(16, size, 4))]
    known = (_FORMAT_FROM_BRAND.get(brand) for brand in brands)
    found = next((name for name in known if name is not None), None)
    # Still images of any codec.
    return found or ("HEIF" if brands[0] in {b"mif1", b"msf1"} else None)
