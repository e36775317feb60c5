"""EXIF data of an image: camera, focal length, zoom, crop, orientation, gravity, GPS position."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import ExifTags
from PIL import Image as PilImage

from sfm_lightglue.errors import DataError
from sfm_lightglue.images.gravity import find_gravity
from sfm_lightglue.images.panorama import Panorama, find_panorama, xmp_block
from sfm_lightglue.images.view_direction import ViewDirection, find_view_direction

_QUARTER_TURNS_FROM_ORIENTATION = {1: 0, 3: 2, 6: 1, 8: 3}
_MIRRORED_ORIENTATIONS = frozenset({2, 4, 5, 7})
_DIAGONAL_35MM = math.hypot(36.0, 24.0)

_ASPECT_TOLERANCE = 0.01
"""Largest relative difference of the aspects of an image that was only scaled and of its size in the EXIF data."""

_MAX_DIGITAL_ZOOM = 100
"""Larger values of the EXIF data are taken for errors."""

_FISHEYE = re.compile(r"fish[- ]?eye", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Exif:
    """Values from the header of an image file.

    Args:
        camera_id: make, model, lens, serial numbers, focal lengths, digital zoom and crop in one string: all that
            distinguishes two cameras. "" if the header has none of them.
        focal_length_px: focal length in pixels of the stored image, None if the header does not give it.
        quarter_turns: clockwise turns by 90 degrees that turn the stored image upright, 0..3.
        gps_position: latitude and longitude in degrees (north and east are positive) and altitude in metres (WGS84);
            None if one of them is missing, or both angles are 0, which receivers write while they have no position.
        lens_id: the part of `camera_id` that digital zoom and crop do not change.
        focal_35mm: focal length in mm of a 35 mm camera with the same field of view; None if the header has none.
        digital_zoom: factor of the digital zoom, 1 without.
        cropped_from: (longer, shorter) side in pixels of the image before it was cropped; None if it was not.
        crop_factor: longer side of the image before it was cropped, over the longer side of the image.
        has_fisheye_lens: the name of the lens says that it is a fisheye lens.
        panorama: the kind of panorama; None for an image of a camera with an image plane.
        view: where the camera looked.
        gravity: unit vector in which gravity pulls, in the axes of the camera of the stored image (x right, y down, z
            forward); None if the header does not tell.
    """

    camera_id: str = ""
    focal_length_px: float | None = None
    quarter_turns: int = 0
    gps_position: tuple[float, float, float] | None = None
    lens_id: str = ""
    focal_35mm: float | None = None
    digital_zoom: float = 1.0
    cropped_from: tuple[int, int] | None = None
    crop_factor: float = 1.0
    has_fisheye_lens: bool = False
    panorama: Panorama | None = None
    view: ViewDirection = field(default_factory=ViewDirection)
    gravity: tuple[float, float, float] | None = None

    @property
    def magnification(self) -> float:
        """Factor by which digital zoom and crop increase the ratio of the focal length to the longer side."""
        return self.digital_zoom * self.crop_factor


def read_exif(image: PilImage.Image, name: str) -> Exif:
    """Read the EXIF data of an opened image file; a damaged header is read as an empty one.

    Raises:
        DataError: if the image is stored mirrored.
    """
    try:
        exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except Exception:  # damaged bytes raise anything, but the pixels can be readable although the header is damaged
        return Exif(panorama=find_panorama(image))
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    if orientation in _MIRRORED_ORIENTATIONS:
        raise DataError(f"{name}: stored mirrored (EXIF orientation {orientation}), so it is not a camera image")
    focal_mm = _positive(details.get(ExifTags.Base.FocalLength))
    focal_35mm = _positive(details.get(ExifTags.Base.FocalLengthIn35mmFilm))
    zoom = _digital_zoom(details)
    crop = _Crop.find(image.size, details)
    make_and_model = _texts(exif, ExifTags.Base.Make, ExifTags.Base.Model)
    lens = _lens(details)
    ids = [*make_and_model, *lens, *([f"{focal_mm:g} mm"] if focal_mm else [])]
    settings = [f"{focal_35mm:g} mm"] if focal_35mm else []
    settings += [f"digital zoom {zoom:g}"] if zoom > 1 else []
    if crop and (ids or settings):  # a crop alone identifies no camera
        settings += [f"cropped from {crop.sides[0]} x {crop.sides[1]}"]
    full_size = crop.full_size if crop else (float(image.width), float(image.height))
    quarter_turns = _QUARTER_TURNS_FROM_ORIENTATION.get(orientation, 0)
    return Exif(
        camera_id=", ".join(ids + settings),
        focal_length_px=_focal_length_px(full_size, focal_mm, focal_35mm, zoom, details),
        quarter_turns=quarter_turns,
        gps_position=_gps_position(gps),
        lens_id=", ".join(ids),
        focal_35mm=focal_35mm,
        digital_zoom=zoom,
        cropped_from=crop.sides if crop else None,
        crop_factor=max(full_size) / max(image.size),
        has_fisheye_lens=bool(_FISHEYE.search(" ".join(lens))),
        panorama=find_panorama(image, " ".join(make_and_model), details.get(ExifTags.Base.CustomRendered)),
        view=find_view_direction(gps, xmp_block(image)),
        gravity=find_gravity(details.get(ExifTags.Base.MakerNote), " ".join(lens), quarter_turns),
    )


@dataclass(frozen=True, slots=True)
class _Crop:
    """What is known of an image before it was cropped.

    Args:
        sides: (longer, shorter) side in pixels by the EXIF data.
        scale: factor by which the image was enlarged, at least 1.
    """

    sides: tuple[int, int]
    scale: float

    @property
    def full_size(self) -> tuple[float, float]:
        """(longer, shorter) side in pixels of the cropped image's resolution."""
        return self.sides[0] * self.scale, self.sides[1] * self.scale

    @classmethod
    def find(cls, size: tuple[int, int], details: dict[int, Any]) -> _Crop | None:
        """Compare the size of a file with the one in its EXIF data; None if the aspects agree."""
        tags = ExifTags.Base
        stated = [_positive(details.get(tag)) for tag in (tags.ExifImageWidth, tags.ExifImageHeight)]
        if stated[0] is None or stated[1] is None:
            return None
        full_longer, full_shorter = max(stated[0], stated[1]), min(stated[0], stated[1])
        longer, shorter = max(size), min(size)
        # The sides of a scaled image are rounded, so a difference of one pixel is no crop.
        if abs(shorter - longer * full_shorter / full_longer) <= max(1.0, _ASPECT_TOLERANCE * shorter):
            return None
        # A crop is not larger than the whole image, unless it was enlarged. Nothing tells whether it was reduced.
        scale = max(1.0, longer / full_longer, shorter / full_shorter)
        return cls((round(full_longer), round(full_shorter)), scale)


def _digital_zoom(details: dict[int, Any]) -> float:
    """The factor of the digital zoom; 0 and 1 in the header mean none."""
    zoom = round(_positive(details.get(ExifTags.Base.DigitalZoomRatio)) or 1.0, 3)
    return zoom if 1 < zoom < _MAX_DIGITAL_ZOOM else 1.0


def _lens(details: dict[int, Any]) -> list[str]:
    """Name of the lens, and serial numbers: two cameras of one model differ in focal length and distortion."""
    tags = ExifTags.Base
    lens = _texts(details, tags.LensMake, tags.LensModel)
    numbers = details.get(tags.LensSpecification)
    if not _texts(details, tags.LensModel) and isinstance(numbers, tuple):
        lens += ["lens " + " ".join(f"{_finite(number) or 0:g}" for number in numbers)]
    bodies = [f"body {text}" for text in _texts(details, tags.BodySerialNumber)]
    return lens + bodies + [f"lens {text}" for text in _texts(details, tags.LensSerialNumber)]


def _texts(exif: Mapping[int, Any], *tags: int) -> list[str]:
    texts = [str(exif.get(tag) or "").strip("\0 ") for tag in tags]
    return [text for text in texts if text]


def _gps_position(gps: dict[int, Any]) -> tuple[float, float, float] | None:
    tags = ExifTags.GPS
    latitude = _angle(gps.get(tags.GPSLatitude), gps.get(tags.GPSLatitudeRef), "NS", 90.0)
    longitude = _angle(gps.get(tags.GPSLongitude), gps.get(tags.GPSLongitudeRef), "EW", 180.0)
    height = _finite(gps.get(tags.GPSAltitude))
    if latitude is None or longitude is None or height is None or latitude == longitude == 0:
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
    full_size: tuple[float, float],
    focal_mm: float | None,
    focal_35mm: float | None,
    digital_zoom: float,
    details: dict[int, Any],
) -> float | None:
    """From the 35 mm equivalent, else from the pixel pitch of the sensor.

    The 35 mm equivalent refers to the diagonal of the image before it was cropped, and includes the digital zoom: it is
    defined by the part of the sensor that the image shows. The pixel pitch is that of the sensor, without the zoom.

    Source: CIPA DC-008, Exchangeable image file format, tag FocalLengthIn35mmFilm.
    """
    if focal_35mm:
        return _plausible(focal_35mm / _DIAGONAL_35MM * math.hypot(*full_size), full_size)
    pitch_resolution = _positive(details.get(ExifTags.Base.FocalPlaneXResolution))
    unit_mm = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}.get(details.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    sensor_pixels = _positive(details.get(ExifTags.Base.ExifImageWidth))
    if not (focal_mm and pitch_resolution and unit_mm and sensor_pixels):
        return None
    focal_px = (
        focal_mm
        * pitch_resolution
        / unit_mm
        * max(full_size)
        / max(sensor_pixels, _positive(details.get(ExifTags.Base.ExifImageHeight)) or 0.0)
    )
    return _plausible(focal_px * digital_zoom, full_size)


def _plausible(focal_px: float, size: tuple[float, float]) -> float | None:
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
