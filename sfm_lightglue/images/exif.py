"""EXIF data of an image: camera, focal length, orientation, GPS position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags
from PIL import Image as PilImage

from sfm_lightglue.errors import DataError

_QUARTER_TURNS_FROM_ORIENTATION = {1: 0, 3: 2, 6: 1, 8: 3}
_MIRRORED_ORIENTATIONS = frozenset({2, 4, 5, 7})
_DIAGONAL_35MM = math.hypot(36.0, 24.0)


@dataclass(frozen=True, slots=True)
class Exif:
    """Values from the header of an image file.

    Args:
        camera_id: make, model, lens and focal length in one string; "" if the header has none of them.
        focal_length_px: focal length in pixels of the stored image, None if the header does not give it.
        quarter_turns: clockwise turns by 90 degrees that turn the stored image upright, 0..3.
        gps_position: latitude and longitude in degrees (north and east are positive) and altitude in metres (WGS84);
            None if one of them is missing.
    """

    camera_id: str = ""
    focal_length_px: float | None = None
    quarter_turns: int = 0
    gps_position: tuple[float, float, float] | None = None


def read_exif(image: PilImage.Image, name: str) -> Exif:
    """Read the EXIF data of an opened image file; a damaged header is read as an empty one.

    Raises:
        DataError: if the image is stored mirrored.
    """
    try:
        exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError):
        return Exif()  # the pixels can be readable although the header is damaged
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    if orientation in _MIRRORED_ORIENTATIONS:
        raise DataError(f"{name}: stored mirrored (EXIF orientation {orientation}), so it is not a camera image")
    focal_mm = _positive(details.get(ExifTags.Base.FocalLength))
    focal_35mm = _positive(details.get(ExifTags.Base.FocalLengthIn35mmFilm))
    texts = [
        exif.get(ExifTags.Base.Make),
        exif.get(ExifTags.Base.Model),
        details.get(ExifTags.Base.LensModel),
    ]
    parts = [str(text).strip("\0 ") for text in texts if text] + [
        f"{focal:g} mm" for focal in (focal_mm, focal_35mm) if focal
    ]
    return Exif(
        camera_id=", ".join(parts),
        focal_length_px=_focal_length_px(image.size, focal_mm, focal_35mm, details),
        quarter_turns=_QUARTER_TURNS_FROM_ORIENTATION.get(orientation, 0),
        gps_position=_gps_position(gps),
    )


def _gps_position(gps: dict[int, Any]) -> tuple[float, float, float] | None:
    tags = ExifTags.GPS
    latitude = _angle(gps.get(tags.GPSLatitude), gps.get(tags.GPSLatitudeRef), "NS", 90.0)
    longitude = _angle(gps.get(tags.GPSLongitude), gps.get(tags.GPSLongitudeRef), "EW", 180.0)
    height = _finite(gps.get(tags.GPSAltitude))
    if latitude is None or longitude is None or height is None:
        return None
    is_below_the_sea = gps.get(tags.GPSAltitudeRef) in (1, b"\x01")
    return latitude, longitude, -height if is_below_the_sea else height


def _angle(parts: Any, side: Any, sides: str, largest: float) -> float | None:
    """Degrees, minutes and seconds as one number, negative on the second of the two sides (S or W)."""
    if not isinstance(parts, tuple) or len(parts) != 3 or not isinstance(side, str):
        return None
    numbers = [_finite(part) for part in parts]
    side_idx = sides.find(side.strip("\0 ").upper() or "?")
    if side_idx < 0 or any(number is None for number in numbers):
        return None
    degrees, minutes, seconds = (number or 0.0 for number in numbers)
    angle = degrees + minutes / 60 + seconds / 3600
    if not 0 <= angle <= largest:
        return None
    return -angle if side_idx else angle


def _focal_length_px(
    size: tuple[int, int], focal_mm: float | None, focal_35mm: float | None, details: dict[int, Any]
) -> float | None:
    """From the 35 mm equivalent (which refers to the diagonal), else from the pixel pitch of the sensor."""
    if focal_35mm:
        return _plausible(focal_35mm / _DIAGONAL_35MM * math.hypot(*size), size)
    pitch_resolution = _positive(details.get(ExifTags.Base.FocalPlaneXResolution))
    unit_mm = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}.get(details.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    sensor_pixels = _positive(details.get(ExifTags.Base.ExifImageWidth))
    if not (focal_mm and pitch_resolution and unit_mm and sensor_pixels):
        return None
    focal_px = (
        focal_mm
        * pitch_resolution
        / unit_mm
        * max(size)
        / max(sensor_pixels, _positive(details.get(ExifTags.Base.ExifImageHeight)) or 0.0)
    )
    return _plausible(focal_px, size)


def _plausible(focal_px: float, size: tuple[int, int]) -> float | None:
    """The focal length, None if no lens has it: headers of edited images can hold any value."""
    return focal_px if 0.2 < focal_px / max(size) < 20 else None


def _positive(value: Any) -> float | None:
    number = _finite(value)
    return number if number is not None and number > 0 else None


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None
