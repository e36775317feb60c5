"""Maker notes as iPhones write them, with the acceleration of the phone."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from PIL import ExifTags
from PIL import Image as PilImage


def apple_note(acceleration: Sequence[float], order: str = ">", denominator: int = 10_000) -> bytes:
    """A note with two tags: a version, and the acceleration in units of g in the axes of the phone."""
    header = b"Apple iOS\0\0\1" + (b"MM" if order == ">" else b"II")
    data_at = len(header) + 2 + 2 * 12 + 4
    entries = struct.pack(f"{order}HHIi", 0x0001, 9, 1, 14) + struct.pack(f"{order}HHII", 0x0008, 10, 3, data_at)
    values = [part for value in acceleration for part in (round(value * denominator), denominator)]
    return header + struct.pack(f"{order}H", 2) + entries + bytes(4) + struct.pack(f"{order}6i", *values)


def phone_exif(note: bytes, orientation: int, lens: str = "iPhone 12 back camera 4.2mm f/1.6") -> PilImage.Exif:
    """The EXIF data of a photo of a phone."""
    exif = PilImage.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.LensModel] = lens
    details[ExifTags.Base.MakerNote] = note
    return exif
