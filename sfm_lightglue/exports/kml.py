"""KML for Google Earth: a placemark for each camera of a model with GPS positions.

Coordinates are longitude, latitude and altitude above the sea. The view of a placemark is that of its camera: heading
clockwise from north, tilt 0 for straight down and 90 for the horizon, and roll about the z axis of the camera. A
positive roll turns the camera counterclockwise as seen from behind it.

No document was found that states the sense of roll. For this one speak: the standard names the axes (x right, y up, z
from the scene to the eye), and a right-handed turn about z is counterclockwise for the eye, as tilt is a right-handed
turn about x; the library VXL, which reads the cameras of photos that were fitted in Google Earth, turns in this sense;
recorders of flight simulators, whose bank is positive to the left, write the bank as the roll. Against it speak:
heading, a turn about the same axis if the camera looks straight down, is left-handed; CesiumJS turns the other way. It
was not compared with a picture of Google Earth.

Source: OGC 12-007r2, KML 2.3; KML reference of Google, element Camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from sfm_lightglue.exports.base import ExportScene, Pictures
from sfm_lightglue.exports.geographic import PlacedImage, place_of, placed_images
from sfm_lightglue.types import Camera

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<kml xmlns="http://www.opengis.net/kml/2.2">
<Document>
"""


@dataclass(frozen=True, slots=True)
class KmlConfig:
    """Options of the export to KML."""


class KmlExporter:
    """An `Exporter` of the cameras as KML."""

    file_name = "cameras.kml"
    pictures: Pictures = "none"

    def __init__(self, config: KmlConfig | None = None) -> None:
        self.config = config or KmlConfig()

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """None: the file has no intrinsics."""
        return None

    def check(self, scene: ExportScene) -> None:
        """Find out that the model has no place on the Earth.

        Raises:
            DataError: if it has none.
        """
        place_of(scene, "kml")

    def is_own(self, head: bytes) -> bool:
        """Whether a file begins as one of this format."""
        return head.startswith(_HEAD.encode() + b"<Placemark>") and b"<Camera>" in head

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write the file.

        Raises:
            DataError: if the model has no place on the Earth.
        """
        marks = "".join(placemark(image) for image in placed_images(scene, "kml"))
        target.write_bytes(f"{_HEAD}{marks}</Document>\n</kml>\n".encode("utf-8", "replace"))


def placemark(image: PlacedImage) -> str:
    """The placemark of an image, one line."""
    longitude, latitude, altitude = image.longitude_deg, image.latitude_deg, image.altitude_m
    roll = round(-image.roll_deg, 6) + 0.0  # the sum has no -0
    name = "".join(character if character.isprintable() else "?" for character in image.name)
    return (
        f"<Placemark><name>{escape(name)}</name>"
        f"<Camera><longitude>{longitude!r}</longitude><latitude>{latitude!r}</latitude>"
        f"<altitude>{altitude!r}</altitude><heading>{image.heading_deg:.6f}</heading>"
        f"<tilt>{image.tilt_deg:.6f}</tilt><roll>{roll:.6f}</roll><altitudeMode>absolute</altitudeMode></Camera>"
        f"<Point><altitudeMode>absolute</altitudeMode>"
        f"<coordinates>{longitude!r},{latitude!r},{altitude!r}</coordinates></Point></Placemark>\n"
    )
