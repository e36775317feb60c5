"""Reading photographs: pixels, the size they are stored with, EXIF orientation and focal length.

An `Image` reads its file once and decodes it only when pixels are asked for, so that a cache can ask for
its digest alone.
"""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, UnidentifiedImageError
from PIL import Image as PilImage

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import DataError

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})

MIN_SIDE_PX = 16
"""A picture smaller than this on a side holds no feature that any detector here could describe."""

_QUARTER_TURNS_FROM_ORIENTATION = {1: 0, 3: 2, 6: 1, 8: 3}
_MIRRORED_ORIENTATIONS = frozenset({2, 4, 5, 7})

_DIAGONAL_35MM = math.hypot(36.0, 24.0)


@dataclass(frozen=True, slots=True)
class Exif:
    """What the header of a photo tells.

    Args:
        camera_id: make, model, lens and focal length in one string; "" where the header tells none of them.
        focal_length_px: focal length in pixels of the stored image, None where it is not told.
        quarter_turns: clockwise turns by 90 degrees that stand the stored image upright, 0..3.
        place: latitude and longitude in degrees (north and east are positive) and altitude in metres, by GPS (WGS84);
            None where one of them is not told.
    """

    camera_id: str = ""
    focal_length_px: float | None = None
    quarter_turns: int = 0
    place: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Image:
    """An encoded photo, or pixels that are already in memory.

    Args:
        name: for messages.
        data: the bytes of the file, or pixels [H, W] or [H, W, 3] (RGB) of uint8.
        quarter_turns_override: clockwise turns by 90 degrees that stand the stored image upright; None reads EXIF.
    """

    name: str
    data: bytes | UInt8Array = field(repr=False)
    quarter_turns_override: int | None = None

    @classmethod
    def read(cls, path: Path | str, name: str | None = None) -> Image:
        """Read a file without decoding it.

        Raises:
            DataError: where the file cannot be read or is empty.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        if not data:
            raise DataError(f"{path}: the file is empty")
        return cls(name or str(path), data)

    @classmethod
    def from_array(cls, pixels: UInt8Array, name: str = "array", quarter_turns: int = 0) -> Image:
        """From pixels [H, W] (grey) or [H, W, 3] (RGB) of uint8, as a video or a camera delivers them."""
        if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
            raise ValueError(f"pixels: expected uint8 [H, W] or [H, W, 3], got {pixels.dtype} {pixels.shape}")
        return cls(name, pixels, quarter_turns)

    @cached_property
    def digest(self) -> str:
        """sha256 of the file's bytes, or of the pixels."""
        if isinstance(self.data, bytes):
            return hashlib.sha256(self.data).hexdigest()
        header = repr((self.data.shape, self.quarter_turns)).encode()
        return hashlib.sha256(header + np.ascontiguousarray(self.data).tobytes()).hexdigest()

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) of the stored image, from the header alone."""
        if isinstance(self.data, bytes):
            with self._open(self.data) as image:
                turned = _is_turned_by_pillow(image) and self.exif.quarter_turns % 2 == 1
                return (image.height, image.width) if turned else image.size
        return self.data.shape[1], self.data.shape[0]

    @cached_property
    def exif(self) -> Exif:
        """What the header tells; empty for pixels in memory.

        Raises:
            DataError: where the header cannot be read, or says that the image is stored mirrored.
        """
        if not isinstance(self.data, bytes):
            return Exif(quarter_turns=self.quarter_turns_override or 0)
        with self._open(self.data) as image:
            return _read_exif(image, self.name)

    @property
    def quarter_turns(self) -> int:
        """Clockwise turns by 90 degrees that stand the stored image upright, 0..3."""
        if self.quarter_turns_override is not None:
            return self.quarter_turns_override
        return self.exif.quarter_turns

    def grey(self) -> UInt8Array:
        """Decode to grey [H, W] uint8, as stored (not turned).

        Raises:
            DataError: where the file is damaged.
        """
        if isinstance(self.data, bytes):
            return self._decode(self.data, "L")
        return self.data if self.data.ndim == 2 else cv2.cvtColor(self.data, cv2.COLOR_RGB2GRAY).astype(np.uint8)

    def rgb(self) -> UInt8Array:
        """Decode to colours [H, W, 3] uint8, as stored (not turned).

        Raises:
            DataError: where the file is damaged.
        """
        if isinstance(self.data, bytes):
            return self._decode(self.data, "RGB")
        return self.data if self.data.ndim == 3 else np.repeat(self.data[..., None], 3, axis=2)

    def _open(self, data: bytes) -> PilImage.Image:
        try:
            return PilImage.open(io.BytesIO(data))
        except UnidentifiedImageError as error:
            raise DataError(f"{self.name}: not an image that can be read") from error
        except (OSError, ValueError, SyntaxError, PilImage.DecompressionBombError) as error:
            raise DataError(f"{self.name}: not an image that can be read ({error})") from error

    def _decode(self, data: bytes, mode: str) -> UInt8Array:
        with self._open(data) as image:
            try:
                if mode == "L" and image.format == "JPEG":
                    image.draft("L", image.size)  # decodes the luma channel alone
                image.load()
                pixels = np.asarray(_to_eight_bits(image).convert(mode), dtype=np.uint8)
            except (OSError, ValueError, SyntaxError, EOFError) as error:
                raise DataError(f"{self.name}: damaged or cut off ({error})") from error
            return quarter_turned(pixels, -self.exif.quarter_turns) if _is_turned_by_pillow(image) else pixels


def quarter_turned(pixels: UInt8Array, quarter_turns: int) -> UInt8Array:
    """Turn a picture [H, W, ...] clockwise by quarter turns."""
    return np.ascontiguousarray(np.rot90(pixels, -quarter_turns))


def turn_back(points: np.ndarray[Any, Any], quarter_turns: int, upright_size: tuple[float, float]) -> Any:
    """Move points from the upright picture back into the stored one.

    Args:
        points: [N, 2] (x, y), COLMAP convention, in the upright picture.
        quarter_turns: clockwise turns that led from the stored to the upright picture.
        upright_size: (width, height) of the upright picture in pixels.

    Returns:
        [N, 2] in the stored picture.
    """
    x, y = points[:, 0], points[:, 1]
    width, height = upright_size
    turned = {
        0: (x, y),
        1: (y, width - x),
        2: (width - x, height - y),
        3: (height - y, x),
    }[quarter_turns]
    return np.stack(turned, axis=1)


def turn_forward(points: np.ndarray[Any, Any], quarter_turns: int, stored_size: tuple[float, float]) -> Any:
    """Move points from the stored picture into the upright one: the inverse of `turn_back`.

    Args:
        points: [N, 2] (x, y), COLMAP convention, in the stored picture.
        quarter_turns: clockwise turns that lead from the stored to the upright picture.
        stored_size: (width, height) of the stored picture in pixels.

    Returns:
        [N, 2] in the upright picture.
    """
    return turn_back(points, -quarter_turns % 4, stored_size)


def resize_to_fit(pixels: UInt8Array, max_size: int) -> tuple[UInt8Array, tuple[float, float]]:
    """Shrink a picture so that its longer side has at most `max_size` pixels; never enlarge it.

    Returns:
        The picture, and the factors (x, y) that lead from its pixels back to those of the input.
    """
    height, width = pixels.shape[:2]
    factor = max_size / max(width, height)
    if factor >= 1:
        return pixels, (1.0, 1.0)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False), (width / size[0], height / size[1])


def _to_eight_bits(image: PilImage.Image) -> PilImage.Image:
    """Bring 16-bit and float grey to 8 bits (a plain convert would clip them to white).

    The range is the number of bits that the brightest pixel needs: 12-bit sensors write 16-bit words too.
    """
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        brightest = values[np.isfinite(values)].max(initial=0)
        if image.mode == "F" and brightest <= 1:
            values = values * 255
        elif brightest > 255:
            values = values * (255 / (2 ** math.ceil(math.log2(brightest + 1)) - 1))
        return PilImage.fromarray(np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8), "L")
    # A palette becomes colours first; transparency is dropped, not blended: what was photographed counts.
    return image.convert("RGBA") if image.mode in {"P", "PA"} else image


def _is_turned_by_pillow(image: PilImage.Image) -> bool:
    """Pillow stands TIFF files upright by itself, and no others; we want all of them as they are stored."""
    return image.format == "TIFF"


def _read_exif(image: PilImage.Image, name: str) -> Exif:
    try:
        exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError):
        return Exif()  # a damaged header is as good as none: the pixels may be fine
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    if orientation in _MIRRORED_ORIENTATIONS:
        raise DataError(f"{name}: stored mirrored (EXIF orientation {orientation}), no camera sees like that")
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
        place=_place(gps),
    )


def _place(gps: dict[int, Any]) -> tuple[float, float, float] | None:
    tags = ExifTags.GPS
    latitude = _angle(gps.get(tags.GPSLatitude), gps.get(tags.GPSLatitudeRef), "NS", 90.0)
    longitude = _angle(gps.get(tags.GPSLongitude), gps.get(tags.GPSLongitudeRef), "EW", 180.0)
    height = _finite(gps.get(tags.GPSAltitude))
    if latitude is None or longitude is None or height is None:
        return None
    is_below_the_sea = gps.get(tags.GPSAltitudeRef) in (1, b"\x01")
    return latitude, longitude, -height if is_below_the_sea else height


def _angle(parts: Any, side: Any, sides: str, largest: float) -> float | None:
    """Degrees, minutes and seconds as one number, negative on the second of two sides."""
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
    """By the 35 mm equivalent (which refers to the diagonal), else by the pixel pitch of the sensor."""
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
    """None for what no lens has: headers of edited photos may say anything."""
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
