"""Recognise panoramas by their header: images that no camera with an image plane can have taken.

The header states a panorama in three ways: an XMP block of Google's schema GPano, an aspect of 2:1 from a camera that
takes panoramas of 360 degrees, or the mark that Apple's phones write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from PIL import Image as PilImage

Panorama = Literal["spherical", "partial", "sweep"]
"""spherical: 360 degrees around. partial: a part of a spherical panorama. sweep: the camera turned while it recorded,
so that the image lies on a cylinder."""

_REMEDY = (
    "; cut it into perspective views that overlap (six or more of 90 degrees) and use those, or use software for"
    " spherical images"
)

PANORAMA_REASONS: Mapping[Panorama, str] = {
    "spherical": f"a panorama of 360 degrees, which no camera model with an image plane describes{_REMEDY}",
    "partial": f"a part of a spherical panorama, which no camera model with an image plane describes{_REMEDY}",
    "sweep": (
        "a panorama that a turning camera recorded in strips, which no camera model describes;"
        " take single photos, and move the camera sideways between them"
    ),
}
"""Why a panorama is left out, and what to do, as text for the user."""

_XMP_HEAD, _XMP_TAG = b"http://ns.adobe.com/xap/1.0/", 700
"""Begin of the XMP segment of a JPEG file, and number of the XMP tag of a TIFF file."""

_GPANO = re.compile(rb"""GPano:(\w+)\s*=\s*["']([^"']*)["']|<GPano:(\w+)[^>]*>([^<]*)""")
"""A property of the schema, as an attribute or as an element."""

_PANORAMA_CAMERAS = re.compile(
    r"\btheta\b"  # Ricoh
    r"|(insta360|arashi)(?!.*\b(go|ace|link)\b)"  # these three take flat photos only
    r"|gopro.*\b(max ?2?|fusion)\b"
    r"|gear ?360|sm-c200|sm-r210"  # Samsung
    r"|kandao|qoocam"
    r"|keymission ?360"  # Nikon
    r"|360 ?cam\b|lg-?r105"  # LG, Giroptic
    r"|virb ?360"  # Garmin
    r"|\bmi ?sphere|\bmadv|\bmjxj|qjtp01fj"  # Xiaomi
    r"|\byi\b.*\b360"
    r"|vuze|humaneyes"
    r"|\bz ?cam\b.*\b[svk]1\b"
    r"|labpano|pisofttech|\bpilot (era|one|lock|insight)\b"
    r"|osmo ?360"  # DJI
    r"|orbit ?360|4kvr360"  # Kodak
    r"|panono|trisio|holo ?360|iris ?360|\brylo\b|ladybug"
)
"""Make and model, in lower case, of cameras that take panoramas of 360 degrees."""

_APPLE_PANORAMA = 6
"""Value of the EXIF tag CustomRendered that Apple's phones write into panoramas. The standard reserves it."""

_SWEEP_ASPECT = 2.5
"""Smallest aspect of a sweep panorama from a camera that is not Apple's."""


def find_panorama(image: PilImage.Image, camera: str = "", custom_rendered: Any = None) -> Panorama | None:
    """Tell by the header whether an image is a panorama.

    Args:
        image: an opened file.
        camera: make and model of the EXIF data.
        custom_rendered: the EXIF tag CustomRendered.

    Returns:
        The kind of panorama; None if the header does not state one.
    """
    found = _from_xmp(image)
    if found is not None:
        return found
    camera = camera.lower()
    width, height = image.size
    # A side of an odd length was rounded when the panorama was scaled.
    if abs(width - 2 * height) <= 1 and _PANORAMA_CAMERAS.search(camera):
        return "spherical"
    aspect = max(image.size) / max(1, min(image.size))
    if custom_rendered == _APPLE_PANORAMA and ("apple" in camera or aspect > _SWEEP_ASPECT):
        return "sweep"
    return None


def _from_xmp(image: PilImage.Image) -> Panorama | None:
    """Source: Google, Photo Sphere XMP metadata (namespace http://ns.google.com/photos/1.0/panorama/)."""
    values = {
        (match[1] or match[3]).decode(): (match[2] or match[4] or b"").decode(errors="replace").strip().lower()
        for match in _GPANO.finditer(xmp_block(image))
    }
    projection = values.get("ProjectionType", "")
    if projection == "cylindrical":
        return "sweep"
    # The projection is a required property; files without it have one of the other properties of a panorama.
    is_panorama = values.get("UsePanoramaViewer") == "true" or "FullPanoWidthPixels" in values
    if projection != "equirectangular" and (projection or not is_panorama):
        return None
    width, full_width = _pixels(values, "CroppedAreaImageWidthPixels"), _pixels(values, "FullPanoWidthPixels")
    return "partial" if width and full_width and width < full_width else "spherical"


def xmp_block(image: PilImage.Image) -> bytes:
    """The XMP metadata of an opened image file, b"" without."""
    for block in (image.info.get("xmp"), image.info.get("XML:com.adobe.xmp")):
        if block:
            return block.encode(errors="replace") if isinstance(block, str) else bytes(block)
    # Pillow before version 11 does not name the XMP of JPEG and TIFF files.
    segments = [data for name, data in getattr(image, "applist", ()) if name == "APP1" and data.startswith(_XMP_HEAD)]
    tagged = getattr(image, "tag_v2", {}).get(_XMP_TAG, b"")
    return b"".join([*segments, tagged if isinstance(tagged, bytes) else b""])


def _pixels(values: Mapping[str, str], name: str) -> float | None:
    try:
        return float(values[name])
    except (KeyError, ValueError):
        return None
