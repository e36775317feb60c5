"""Positions of images in metres: latitude and longitude -> a local frame with the axes east, north and up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.types import SceneImage

_SEMI_MAJOR_M = 6378137.0
_FLATTENING = 1 / 298.257223563
_ECCENTRICITY2 = _FLATTENING * (2 - _FLATTENING)
"""The ellipsoid of WGS84. Source: NIMA TR8350.2, World Geodetic System 1984, table 3.1."""

_NUM_STEPS = 5
"""Steps of the iteration for the latitude; each divides the error by more than 100."""


@dataclass(frozen=True, eq=False, slots=True)
class LocalPositions:
    """Where images were taken.

    Args:
        names: of the images that have a position, in the order of the scene.
        xyz_m: [N, 3] float64 in metres: east, north and up of the origin; as they were given if there is no origin.
        origin: latitude, longitude (degrees) and altitude (metres) of the point (0, 0, 0); None if the positions were
            given in another frame.
    """

    names: tuple[str, ...]
    xyz_m: Float64Array
    origin: tuple[float, float, float] | None


def local_positions(
    images: Sequence[SceneImage], origin: tuple[float, float, float] | None = None
) -> LocalPositions | None:
    """The positions of all images that have one, in one frame; None if no image has one.

    Args:
        images: with positions of EXIF data or given ones. Geographic positions are not used if there are others.
        origin: of the frame of geographic positions; None takes the median position.
    """
    if any(image.xyz_m is not None for image in images):
        placed = {image.name: image.xyz_m for image in images if image.xyz_m is not None}
        return LocalPositions(tuple(placed), np.array(list(placed.values()), np.float64), None)
    measured = {image.name: image.gps_position for image in images if image.gps_position is not None}
    if not measured:
        return None
    geographic = np.array(list(measured.values()), np.float64)
    ecef_m = ecef_from_geographic(geographic)
    if origin is None:
        latitude_deg, longitude_deg, _ = geographic_from_ecef(np.median(ecef_m, axis=0)).tolist()
        origin = (latitude_deg, longitude_deg, float(np.median(geographic[:, 2])))
    enu_m = (ecef_m - ecef_from_geographic(np.array(origin))) @ enu_from_ecef_rotation(origin).T
    return LocalPositions(tuple(measured), enu_m, origin)


def positions_m_from_name(images: Sequence[SceneImage]) -> dict[str, Float64Array]:
    """The positions [3] of `local_positions` by name of image; empty if no image has one."""
    found = local_positions(images)
    return {} if found is None else dict(zip(found.names, found.xyz_m, strict=True))


def ecef_from_geographic(positions: AnyArray) -> Float64Array:
    """Positions in the frame that turns with the Earth, with its centre as the origin.

    Args:
        positions: [..., 3] latitude, longitude (degrees) and altitude (metres) of WGS84.

    Returns:
        [..., 3] metres.

    Source: Hofmann-Wellenhof et al., GNSS, 2008, equation (8.1).
    """
    latitude, longitude = np.radians(positions[..., 0]), np.radians(positions[..., 1])
    altitude_m = positions[..., 2]
    normal_m = _SEMI_MAJOR_M / np.sqrt(1 - _ECCENTRICITY2 * np.sin(latitude) ** 2)
    ecef_m: Float64Array = np.stack(
        (
            (normal_m + altitude_m) * np.cos(latitude) * np.cos(longitude),
            (normal_m + altitude_m) * np.cos(latitude) * np.sin(longitude),
            (normal_m * (1 - _ECCENTRICITY2) + altitude_m) * np.sin(latitude),
        ),
        axis=-1,
    )
    return ecef_m


def geographic_from_ecef(ecef_m: AnyArray) -> Float64Array:
    """The inverse of `ecef_from_geographic`, for positions that are not near the centre of the Earth.

    Source: Hofmann-Wellenhof et al., GNSS, 2008, section 8.2.1: the iteration for the latitude.
    """
    x, y, z = np.moveaxis(np.asarray(ecef_m, np.float64), -1, 0)
    distance_m = np.hypot(x, y)  # from the axis of the Earth
    latitude = np.arctan2(z, distance_m * (1 - _ECCENTRICITY2))
    for _ in range(_NUM_STEPS):
        normal_m = _SEMI_MAJOR_M / np.sqrt(1 - _ECCENTRICITY2 * np.sin(latitude) ** 2)
        latitude = np.arctan2(z + _ECCENTRICITY2 * normal_m * np.sin(latitude), distance_m)
    normal_m = _SEMI_MAJOR_M / np.sqrt(1 - _ECCENTRICITY2 * np.sin(latitude) ** 2)
    # Along the normal: exact at the poles too, where the distance from the axis is 0.
    altitude_m = distance_m * np.cos(latitude) + z * np.sin(latitude) - _SEMI_MAJOR_M**2 / normal_m
    return np.stack((np.degrees(latitude), np.degrees(np.arctan2(y, x)), altitude_m), axis=-1)


def enu_from_ecef_rotation(origin: tuple[float, float, float]) -> Float64Array:
    """Rotation [3, 3] from the frame of the Earth to the axes east, north and up at a place.

    Args:
        origin: latitude, longitude (degrees) and altitude of the place.
    """
    latitude, longitude = np.radians(origin[:2])
    east = (-np.sin(longitude), np.cos(longitude), 0.0)
    north = (-np.sin(latitude) * np.cos(longitude), -np.sin(latitude) * np.sin(longitude), np.cos(latitude))
    up = (np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude))
    return np.array((east, north, up))
