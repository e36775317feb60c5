"""Write our cameras, keypoints, matches and verified geometries into a COLMAP database."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pycolmap

from sfm_lightglue.arrays import Float32Array, UInt8Array
from sfm_lightglue.errors import StoreError
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.types import Camera, ImagePair, Matches, Rejected, SceneImage, TwoViewGeometry

_CONFIGURATION_FROM_KIND = {
    "general": pycolmap.TwoViewGeometryConfiguration.CALIBRATED,
    "planar": pycolmap.TwoViewGeometryConfiguration.PLANAR,
    "pure_rotation": pycolmap.TwoViewGeometryConfiguration.PANORAMIC,
}

MIN_FREE_BYTES = 64 * 2**20
"""Free disk space below which nothing is written: on a full disk, SQLite in pycolmap's C++ code ends the process."""

SQLITE_SIDE_FILES = ("-wal", "-shm")
"""Suffixes of the files in which SQLite keeps changes of a database. SQLite would apply them to a new database too."""


class DatabaseWriter:
    """Writes a COLMAP database in a `with` block. The database is complete and closed at the end of the block.

    Args:
        path: path of the database, in a folder that no other run writes to. Cameras and images of an existing
            database are kept.
        camera_id_from_idx: the scene's cameras that are in the database already.

    Raises:
        StoreError: if the file cannot be written, or the disk is nearly full.
    """

    def __init__(self, path: Path, camera_id_from_idx: Mapping[int, int] | None = None) -> None:
        self._path = path
        self._camera_id_from_idx: dict[int, int] = dict(camera_id_from_idx or {})
        self._image_id_from_name: dict[str, int] = {}

    def __enter__(self) -> DatabaseWriter:
        require_space(self._path)
        try:
            self._database = pycolmap.Database.open(self._path)
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreError(f"{self._path}: cannot be written ({error})") from error
        images = self._database.read_all_images()
        self._image_id_from_name = {image.name: image.image_id for image in images}
        is_old = self._database.num_rigs() == 0 and self._database.num_frames() == 0
        self._images_without_frame = images if is_old else []
        # One transaction for the whole block is hundreds of times faster than one for each write.
        self._transaction = pycolmap.DatabaseTransaction(self._database)
        self._transaction.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transaction.__exit__(kind, error, trace)
        self._database.close()

    def add_image(self, image: SceneImage, keypoints: Float32Array, root_sift: UInt8Array | None = None) -> None:
        """Add the features of an image, and the image and its camera if the database does not have them yet.

        Args:
            image: the image, in the database or new.
            keypoints: [N, 2] in pixels, or [N, 4] with COLMAP's scale and orientation.
            root_sift: [N, 128] RootSIFT descriptors as COLMAP's bytes, or None.
        """
        require_space(self._path)
        image_id = self._image_id_from_name.get(image.name)
        if image_id is None:
            image_id = self._add_new_image(image)
        self._database.write_keypoints(image_id, keypoints)
        if root_sift is not None:
            kind = pycolmap.FeatureExtractorType.SIFT
            self._database.write_descriptors(image_id, pycolmap.FeatureDescriptors(kind, root_sift))

    def _add_new_image(self, image: SceneImage) -> int:
        """Add an image with a rig, a frame and, if its GPS position is known, a pose prior, like COLMAP."""
        camera_id = self._camera_id_from_idx.get(image.camera_idx)
        if camera_id is None:
            camera_id = self._database.write_camera(as_pycolmap(image.camera))
            self._camera_id_from_idx[image.camera_idx] = camera_id
        native = pycolmap.Image(name=image.name, camera_id=camera_id)
        native.image_id = self._database.write_image(native)
        self._image_id_from_name[image.name] = native.image_id
        # Databases of older versions of COLMAP have no rigs and frames. Mappers need them for all images or for none.
        for one in (*self._images_without_frame, native):
            self._add_frame(one)
        self._images_without_frame = []
        if image.gps_position is not None:
            wgs84 = pycolmap.PosePriorCoordinateSystem.WGS84
            prior = pycolmap.PosePrior(position=np.array(image.gps_position), coordinate_system=wgs84)
            prior.corr_data_id = native.data_id
            self._database.write_pose_prior(prior)
        return int(native.image_id)

    def _add_frame(self, image: pycolmap.Image) -> None:
        sensor = pycolmap.sensor_t(pycolmap.SensorType.CAMERA, image.camera_id)
        rig = self._database.read_rig_with_sensor(sensor)
        if rig is None:
            rig = pycolmap.Rig()
            rig.add_ref_sensor(sensor)
            rig.rig_id = self._database.write_rig(rig)
        frame = pycolmap.Frame(rig_id=rig.rig_id)
        frame.add_data_id(image.data_id)
        self._database.write_frame(frame)

    def add_pair(self, pair: ImagePair, matches: Matches, geometry: TwoViewGeometry | Rejected) -> None:
        """Add the matches of a pair, and its geometry if it was verified."""
        require_space(self._path)
        id0, id1 = self._image_id_from_name[pair.name0], self._image_id_from_name[pair.name1]
        indices = matches.indices.astype(np.uint32)
        self._database.write_matches(id0, id1, indices)
        if isinstance(geometry, TwoViewGeometry):
            self._database.write_two_view_geometry(id0, id1, _as_pycolmap_geometry(geometry, indices))

    def remove_geometry(self, pair: ImagePair) -> None:
        """Remove the geometry of a pair; its matches stay."""
        id0, id1 = self._image_id_from_name[pair.name0], self._image_id_from_name[pair.name1]
        self._database.delete_two_view_geometry(id0, id1)

    def replace_geometry(self, pair: ImagePair, matches: Matches, geometry: TwoViewGeometry | Rejected) -> None:
        """Replace matches and geometry of a pair."""
        id0, id1 = self._image_id_from_name[pair.name0], self._image_id_from_name[pair.name1]
        self._database.delete_two_view_geometry(id0, id1)
        self._database.delete_matches(id0, id1)
        self.add_pair(pair, matches, geometry)

    def camera_id(self, camera_idx: int) -> int:
        """COLMAP's identifier of a camera of the scene."""
        return self._camera_id_from_idx[camera_idx]


def require_space(path: Path, num_bytes: int = 0) -> None:
    """Check that the disk has space to write a database.

    Args:
        path: path of the database.
        num_bytes: number of bytes that are about to be written.

    Raises:
        StoreError: if the disk is nearly full.
    """
    with store_errors(path):
        free = shutil.disk_usage(path.parent).free
    if free < MIN_FREE_BYTES + num_bytes:
        raise StoreError(f"{path}: cannot be written, only {free // 2**20} MiB are left on the disk")


def _as_pycolmap_geometry(geometry: TwoViewGeometry, indices: npt.NDArray[np.uint32]) -> pycolmap.TwoViewGeometry:
    native = pycolmap.TwoViewGeometry()
    calibrated = geometry.E is not None or geometry.kind != "general"
    native.config = (
        _CONFIGURATION_FROM_KIND[geometry.kind] if calibrated else pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED
    )
    native.inlier_matches = indices[geometry.inlier_mask]
    native.F = geometry.F
    if geometry.E is not None:
        native.E = geometry.E
        pose = geometry.cam1_from_cam0
        native.cam2_from_cam1 = pycolmap.Rigid3d(pycolmap.Rotation3d(pose.R), pose.t)
    if geometry.H is not None:
        native.H = geometry.H
    return native


def given_camera_idxs(images: tuple[SceneImage, ...]) -> frozenset[int]:
    """Indices of the cameras whose intrinsics the user gave."""
    cameras: dict[int, Camera] = {image.camera_idx: image.camera for image in images}
    return frozenset(idx for idx, camera in cameras.items() if camera.source == "given")
