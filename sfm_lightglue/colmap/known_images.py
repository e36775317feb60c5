"""The images in a COLMAP database, with their cameras."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pycolmap

from sfm_lightglue.colmap.database_reader import camera_from_pycolmap, open_copy
from sfm_lightglue.errors import DataError
from sfm_lightglue.types import Camera


@dataclass(frozen=True, slots=True)
class KnownImage:
    """An image of a database.

    Args:
        name: path relative to the image folder.
        image_id: COLMAP's identifier of the image.
        camera_id: COLMAP's identifier of the camera.
        camera: intrinsics of the camera.
        is_alone_in_rig: whether the camera's rig has no other camera.
        has_features: whether the database has keypoints or descriptors of it, or matches or geometries of its pairs.
    """

    name: str
    image_id: int
    camera_id: int
    camera: Camera
    is_alone_in_rig: bool
    has_features: bool


def read_known_images(copy: Path, original: Path) -> tuple[KnownImage, ...]:
    """Read the images of a database, sorted by name.

    Args:
        copy: path of a private copy of the database; pycolmap upgrades it to its own version.
        original: path of the original for messages.

    Raises:
        DataError: if the database is damaged, or has a camera without an image plane.
    """
    with open_copy(copy, original) as database:
        native_from_id = {camera.camera_id: camera for camera in database.read_all_cameras()}
        shared = {
            sensor.id
            for rig in database.read_all_rigs()
            if rig.num_sensors() > 1
            for sensor in rig.sensor_ids()
            if sensor.type == pycolmap.SensorType.CAMERA
        }
        busy = _image_ids_with_pairs(database)
        return tuple(
            KnownImage(
                image.name,
                image.image_id,
                image.camera_id,
                _camera(native_from_id[image.camera_id], image.name, original),
                image.camera_id not in shared,
                image.image_id in busy
                or database.exists_keypoints(image.image_id)
                or database.exists_descriptors(image.image_id),
            )
            for image in sorted(database.read_all_images(), key=lambda image: image.name)
        )


def _image_ids_with_pairs(database: pycolmap.Database) -> set[int]:
    pair_ids = {*database.read_num_matches()[0], *database.read_two_view_geometry_num_inliers()[0]}
    return {image_id for pair_id in pair_ids for image_id in pycolmap.pair_id_to_image_pair(pair_id)}


def _camera(native: pycolmap.Camera, name: str, original: Path) -> Camera:
    if not native.verify_params() or native.width == 0 or native.height == 0:
        raise DataError(f"{original}: the camera of {name} is damaged (invalid parameters or size)")
    if native.is_spherical():
        raise DataError(
            f"{original}: the camera of {name} is {native.model_name}, which has no image plane and is not supported"
        )
    return camera_from_pycolmap(native)
