"""GeoJSON: a point for each camera of a model with GPS positions.

A position is longitude, latitude and altitude. `heading_deg` is clockwise from north; `tilt_deg` is 0 for a camera that
looks straight down and 90 for one that looks to the horizon.

Source: RFC 7946, The GeoJSON Format.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfm_lightglue.exports.base import ExportScene, Pictures
from sfm_lightglue.exports.geographic import place_of, placed_images
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.types import Camera


@dataclass(frozen=True, slots=True)
class GeoJsonConfig:
    """Options of the export to GeoJSON."""


class GeoJsonExporter:
    """An `Exporter` of the cameras as GeoJSON."""

    file_name = "cameras.geojson"
    pictures: Pictures = "none"

    def __init__(self, config: GeoJsonConfig | None = None) -> None:
        self.config = config or GeoJsonConfig()

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """None: the file has no intrinsics."""
        return None

    def check(self, scene: ExportScene) -> None:
        """Find out that the model has no place on the Earth.

        Raises:
            DataError: if it has none.
        """
        place_of(scene, "geojson")

    def is_own(self, head: bytes) -> bool:
        """Whether a file begins as one of this format."""
        return re.match(rb'\{\s*"type":\s*"FeatureCollection"', head) is not None and b'"heading_deg"' in head

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write the file.

        Raises:
            DataError: if the model has no place on the Earth.
        """
        features = [
            {
                "type": "Feature",
                "geometry": {
                    "type": "Point",
                    "coordinates": [image.longitude_deg, image.latitude_deg, image.altitude_m],
                },
                "properties": {
                    "name": image.name,
                    "heading_deg": round(image.heading_deg, 6),
                    "tilt_deg": round(image.tilt_deg, 6),
                },
            }
            for image in placed_images(scene, "geojson")
        ]
        target.write_bytes(json_bytes({"type": "FeatureCollection", "features": features}, indent=1) + b"\n")
