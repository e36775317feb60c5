"""Geographic positions in metres: known points, inverses, the date line and the poles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.scene.local_frame import (
    ecef_from_geographic,
    enu_from_ecef_rotation,
    geographic_from_ecef,
    local_positions,
)
from sfm_lightglue.types import Camera, SceneImage

CAMERA = Camera("SIMPLE_PINHOLE", 64, 48, (70, 32, 24))
PLACES = [
    (0.0, 0.0, 0.0),
    (55.7, 13.2, 37.0),
    (-33.9, 151.2, 5.0),
    (27.98, 86.92, 8848.0),
    (71.0, -179.999, -30.0),
    (90.0, 0.0, 2000.0),
    (-90.0, 0.0, 0.0),
]


def image(
    name: str, gps: tuple[float, float, float] | None, xyz: tuple[float, float, float] | None = None
) -> SceneImage:
    return SceneImage(name, Path(name), CAMERA, 0, "", gps_position=gps, xyz_m=xyz)


@pytest.mark.parametrize("place", PLACES)
def test_the_frame_of_the_earth_is_that_of_colmap_and_has_an_inverse(place: tuple[float, float, float]) -> None:
    found = ecef_from_geographic(np.array(place))
    transform = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84)
    np.testing.assert_allclose(found, transform.ellipsoid_to_ecef(np.array([place]))[0], atol=1e-6)
    np.testing.assert_allclose(geographic_from_ecef(found), place, atol=1e-8)


@pytest.mark.parametrize("place", PLACES)
def test_east_north_and_up_are_a_rotation(place: tuple[float, float, float]) -> None:
    rotation = enu_from_ecef_rotation(place)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-15)
    assert np.linalg.det(rotation) == pytest.approx(1)


@pytest.mark.parametrize("place", [(55.7, 13.2, 37.0), (-10.0, 180.0, 5.0), (64.0, -179.9999, 0.0)])
def test_a_second_of_arc_has_its_length_in_the_direction_of_its_axis(place: tuple[float, float, float]) -> None:
    """Also where the longitude jumps from 180 to -180 degrees."""
    latitude, longitude, altitude = place
    second = 1 / 3600

    def wrapped(degrees: float) -> float:
        return (degrees + 180) % 360 - 180

    images = [
        image("0", (latitude, wrapped(longitude - second), altitude)),
        image("1", (latitude, wrapped(longitude + second), altitude)),
        image("2", (latitude - second, longitude, altitude)),
        image("3", (latitude + second, longitude, altitude)),
        image("4", (latitude, longitude, altitude + 12.0)),
        image("5", None),
    ]
    found = local_positions(images)
    assert found is not None and found.names == ("0", "1", "2", "3", "4")
    meridian_m = np.radians(second) * 6_367_449  # mean radius of the meridian
    np.testing.assert_allclose(
        found.xyz_m[1] - found.xyz_m[0], [2 * meridian_m * np.cos(np.radians(latitude)), 0, 0], rtol=0.01, atol=0.01
    )
    np.testing.assert_allclose(found.xyz_m[3] - found.xyz_m[2], [0, 2 * meridian_m, 0], rtol=0.01, atol=0.01)
    np.testing.assert_allclose(found.xyz_m[4] - found.xyz_m[:4].mean(axis=0), [0, 0, 12], atol=0.01)
    assert np.abs(found.xyz_m).max() < 100


def test_one_wrong_position_does_not_move_the_origin() -> None:
    images = [image(str(i), (47.0, 8.0 + i * 1e-5, 500.0)) for i in range(9)]
    found = local_positions([*images, image("far", (-10.0, -120.0, 0.0))])
    assert found is not None and found.origin is not None
    assert found.origin == pytest.approx((47.0, 8.00004, 500.0), abs=1e-4)


def test_a_given_origin_keeps_the_frame() -> None:
    images = [image(str(i), (47.0 + i * 1e-4, 8.0, 500.0)) for i in range(5)]
    first = local_positions(images[:3])
    assert first is not None
    again = local_positions(images, first.origin)
    assert again is not None
    np.testing.assert_allclose(again.xyz_m[:3], first.xyz_m, atol=1e-9)


def test_given_positions_are_used_as_they_are() -> None:
    found = local_positions([image("a", None, (1.0, 2.0, 3.0)), image("b", (47.0, 8.0, 0.0))])
    assert found is not None
    assert (found.names, found.xyz_m.tolist(), found.origin) == (("a",), [[1.0, 2.0, 3.0]], None)
    assert local_positions([image("a", None)]) is None
    assert local_positions([]) is None
