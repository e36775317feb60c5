"""Where a camera looked, by the header of its image: the compass of phones, and the gimbal of drones."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags

_DRONE = re.compile(rb"""\w+:(GimbalPitchDegree|RelativeAltitude)(?:\s*=\s*["']|>)\s*([-+]?[\d.]+)""")
"""Properties of the XMP block of DJI's and Autel's drones, as attributes or as elements."""

_LOOKS_DOWN_DEG = 20.0
"""Largest angle between the viewing axis and the vertical of a camera that looks down."""


@dataclass(frozen=True, slots=True)
class ViewDirection:
    """What a header says of the direction of view.

    Args:
        heading_deg: of the viewing axis over the ground, clockwise from north, in [0, 360); None if it is not known
            or the camera looks down.
        height_above_ground_m: of a camera that looks down, above the place where the drone took off; None for others.
    """

    heading_deg: float | None = None
    height_above_ground_m: float | None = None


def find_view_direction(gps: Mapping[int, Any], xmp: bytes) -> ViewDirection:
    """The direction of view.

    Args:
        gps: the GPS tags of the EXIF data.
        xmp: the XMP block, b"" without.

    Source: CIPA DC-008, tag GPSImgDirection; DJI, Image Metadata (namespace drone-dji).
    """
    drone = {match[1]: _number(match[2].decode()) for match in _DRONE.finditer(xmp)}
    pitch_deg = drone.get(b"GimbalPitchDegree")
    if pitch_deg is not None and abs(pitch_deg + 90) <= _LOOKS_DOWN_DEG:
        height_m = drone.get(b"RelativeAltitude")
        return ViewDirection(None, height_m if height_m is not None and height_m > 0 else None)
    heading_deg = _number(gps.get(ExifTags.GPS.GPSImgDirection))
    return ViewDirection(heading_deg % 360 if heading_deg is not None and 0 <= heading_deg <= 360 else None)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None
