"""Where gravity pulls in an image, by the acceleration that iPhones write into the maker note of their photos."""

from __future__ import annotations

import math
import struct
from typing import Any

_HEADER = b"Apple iOS\0"

_DIRECTORY_AT = 14
"""Where the directory of the note begins: after the header, a version and the byte order."""

_ACCELERATION, _SIGNED_RATIONAL = 0x0008, 10

_AT_REST_G = (0.9, 1.1)
"""Lengths of an acceleration that is nearly only gravity: the phone was not moved quickly."""

_MIN_IN_IMAGE, _MAX_FROM_DOWN_DEG = 0.5, 70.0
"""If so much of gravity lies in the plane of the image, it must point to the lower side that the orientation names, up
to this angle. Programs that turn the pixels of a photo change its orientation, but leave the note as it was."""


def find_gravity(note: Any, lens: str, quarter_turns: int) -> tuple[float, float, float] | None:
    """The direction in which gravity pulls, in the axes of the camera of the stored image.

    The note has the acceleration in the axes of the phone, as Apple's Core Motion gives it: x to the right, y to the
    upper side and z out of the screen, so that a phone that stands upright has (0, -1, 0). The camera on its back
    stores images whose right side is the lower side of the phone.

    Args:
        note: the maker note of the EXIF data; anything else has none.
        lens: name of the lens; a front camera stores its images in other ways, and is not read.
        quarter_turns: clockwise turns by 90 degrees that turn the stored image upright, 0..3.

    Returns:
        A unit vector (x right, y down, z forward); None if the note has no acceleration of a phone at rest, or it
        contradicts the orientation.

    Source: ExifTool, Apple tags, AccelerationVector; Apple, Core Motion, "Getting raw accelerometer events".
    """
    if not isinstance(note, bytes) or not note.startswith(_HEADER) or "front" in lens.lower():
        return None
    try:
        acceleration = _acceleration(note)
    except struct.error:  # the note is cut off
        return None
    if acceleration is None:
        return None
    length = math.hypot(*acceleration)
    if not _AT_REST_G[0] <= length <= _AT_REST_G[1]:
        return None
    x, y, z = (value / length for value in acceleration)
    gravity = (-y, -x, -z)
    down_x, down_y = ((0, 1), (1, 0), (0, -1), (-1, 0))[quarter_turns % 4]
    in_image = math.hypot(*gravity[:2])
    along = gravity[0] * down_x + gravity[1] * down_y
    if in_image >= _MIN_IN_IMAGE and along < in_image * math.cos(math.radians(_MAX_FROM_DOWN_DEG)):
        return None
    return gravity


def _acceleration(note: bytes) -> tuple[float, float, float] | None:
    """The acceleration of a note in units of g.

    Raises:
        struct.error: if the note is shorter than it says.
    """
    order = "<" if note[_DIRECTORY_AT - 2 : _DIRECTORY_AT] == b"II" else ">"
    (count,) = struct.unpack_from(f"{order}H", note, _DIRECTORY_AT)
    for entry in range(count):
        tag, kind, size, offset = struct.unpack_from(f"{order}HHII", note, _DIRECTORY_AT + 2 + 12 * entry)
        if (tag, kind, size) == (_ACCELERATION, _SIGNED_RATIONAL, 3):
            parts = struct.unpack_from(f"{order}6i", note, offset)
            if 0 in parts[1::2]:
                return None
            return (parts[0] / parts[1], parts[2] / parts[3], parts[4] / parts[5])
    return None
