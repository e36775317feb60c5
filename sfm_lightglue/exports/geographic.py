"""Where the cameras of a model stand on the Earth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.errors import DataError
from sfm_lightglue.exports.base import ExportScene
from sfm_lightglue.scene.local_frame import ecef_from_geographic, enu_from_ecef_rotation, geographic_from_ecef


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """Where an image was taken, and in which direction.

    Args:
        name: of the image.
        latitude_deg: of WGS84.
        longitude_deg: of WGS84.
        altitude_m: above the ellipsoid or the sea, as the GPS positions of the images.
        heading_deg: direction of the viewing axis over the ground, clockwise from north, 0 to 360.
        tilt_deg: angle between the viewing axis and straight down: 0 looks down, 90 to the horizon.
    """

    name: str
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    heading_deg: float
    tilt_deg: float


def placed_images(scene: ExportScene, format_name: str) -> list[PlacedImage]:
    """The images of a model whose frame has the axes east, north and up.

    Args:
        scene: the model.
        format_name: for the message.

    Raises:
        DataError: if the model has no place on the Earth.
    """
    origin = scene.origin
    if origin is None:
        why = (
            "is in a frame of given coordinates, which has no place on the Earth"
            if scene.georegistration is not None
            else "has no georegistration.json: it is not in metres of GPS positions"
        )
        raise DataError(
            f"format {format_name}: the model {why}; reconstruct photos with GPS positions, or give a table of"
            " latitudes and longitudes by `positions`"
        )
    # Directions are those at the origin: over a scene of some kilometres they turn by hundredths of a degree.
    to_ecef = enu_from_ecef_rotation(origin).T
    centers = np.array([image.cam_from_world.center for image in scene.images])
    geographic = geographic_from_ecef(ecef_from_geographic(np.array(origin)) + centers @ to_ecef.T)
    found = []
    for image, (latitude, longitude, altitude) in zip(scene.images, geographic.tolist(), strict=True):
        east, north, up = image.cam_from_world.R[2].tolist()  # the viewing axis in the world
        heading = math.degrees(math.atan2(east, north)) % 360
        tilt = math.degrees(math.acos(max(-1.0, min(1.0, -up))))
        found.append(PlacedImage(image.name, latitude, longitude, altitude, heading, tilt))
    return found
