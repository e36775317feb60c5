"""Where the cameras of a model stand on the Earth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.exports.base import ExportScene
from sfm_lightglue.scene.local_frame import ecef_from_geographic, enu_from_ecef_rotation, geographic_from_ecef

_MIN_TILT_DEG = 1.0
"""With less tilt, the direction of the viewing axis over the ground is noise."""


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """Where an image was taken, and in which direction.

    Args:
        name: of the image.
        latitude_deg: of WGS84.
        longitude_deg: of WGS84.
        altitude_m: above the ellipsoid or the sea, as the GPS positions of the images.
        heading_deg: direction of the viewing axis over the ground, clockwise from north, 0 to 360; that of the upper
            side of the image if the camera looks straight down.
        tilt_deg: angle between the viewing axis and straight down: 0 looks down, 90 to the horizon.
        roll_deg: turn of the camera about its viewing axis, clockwise as seen from behind it, -180 to 180.
    """

    name: str
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    heading_deg: float
    tilt_deg: float
    roll_deg: float


def place_of(scene: ExportScene, format_name: str) -> tuple[float, float, float]:
    """Latitude, longitude (degrees) and altitude (metres) of the origin of a model.

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
            f"format {format_name}: the model {why}; reconstruct photos with GPS positions, or with a table"
            " of latitudes and longitudes (`positions`)"
        )
    return origin


def placed_images(scene: ExportScene, format_name: str) -> list[PlacedImage]:
    """The images of a model whose frame has the axes east, north and up.

    Args:
        scene: the model.
        format_name: for the message.

    Raises:
        DataError: if the model has no place on the Earth.
    """
    origin = place_of(scene, format_name)
    # Directions are those at the origin: over a scene of some kilometres they turn by hundredths of a degree.
    to_ecef = enu_from_ecef_rotation(origin).T
    centers = np.array([image.cam_from_world.center for image in scene.images])
    geographic = geographic_from_ecef(ecef_from_geographic(np.array(origin)) + centers @ to_ecef.T)
    found = []
    for image, (latitude, longitude, altitude) in zip(scene.images, geographic.tolist(), strict=True):
        found.append(PlacedImage(image.name, latitude, longitude, altitude, *view_angles(image.cam_from_world.R)))
    return found


def view_angles(R: Float64Array) -> tuple[float, float, float]:
    """Heading, tilt and roll in degrees of a rotation [3, 3] from the axes east, north and up to those of a camera.

    The turns of a camera that looks down with north on the upper side of its image are: heading about the vertical,
    tilt about the x axis of the camera, roll about its viewing axis. Near 0 and 180 degrees of tilt, heading and roll
    turn about the same axis, and the viewing axis has no direction over the ground: there the upper side of the image
    gives the heading, and the roll is 0.
    """
    right, upper, (east, north, up) = R[0], -R[1], R[2].tolist()
    tilt = math.degrees(math.atan2(math.hypot(east, north), -up))
    if not _MIN_TILT_DEG <= tilt <= 180 - _MIN_TILT_DEG:
        east, north = (upper if up < 0 else -upper)[:2].tolist()
        return math.degrees(math.atan2(east, north)) % 360, tilt, 0.0
    heading = math.atan2(east, north)
    level = np.array([math.cos(heading), -math.sin(heading), 0.0])  # the x axis of the camera without a roll
    roll = math.atan2(-(right @ np.cross(level, R[2])), right @ level)
    return math.degrees(heading) % 360, tilt, math.degrees(roll)
