"""Write our cameras, keypoints, matches and verified geometries into a COLMAP database.

pycolmap makes the tables, and Python's SQLite writes the rows: where a row cannot be written, for example on a full
disk, pycolmap's destructors end the whole process.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray, Float32Array, UInt8Array
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.colmap.shared_database import pair_id_of
from sfm_lightglue.errors import StoreError
from sfm_lightglue.messages import shown_path
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.types import Camera, ImagePair, Matches, Rejected, SceneImage, TwoViewGeometry

_CONFIGURATION_FROM_KIND = {
    "general": int(pycolmap.TwoViewGeometryConfiguration.CALIBRATED),
    "planar": int(pycolmap.TwoViewGeometryConfiguration.PLANAR),
    "pure_rotation": int(pycolmap.TwoViewGeometryConfiguration.PANORAMIC),
}
_UNCALIBRATED = int(pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED)

_W_FIRST = np.array([3, 0, 1, 2])
"""COLMAP's order of a quaternion in a database, from that of Eigen."""

MIN_FREE_BYTES = 4 * 2**20
"""Free disk space below which no database is begun; a disk that fills up later is told by SQLite."""

_CAMERA_SENSOR = int(pycolmap.SensorType.CAMERA)
_SIFT = int(pycolmap.FeatureExtractorType.SIFT)
_WGS84 = int(pycolmap.PosePriorCoordinateSystem.WGS84)
_CARTESIAN = int(pycolmap.PosePriorCoordinateSystem.CARTESIAN)


class DatabaseWriter:
    """Writes a COLMAP database in a `with` block. The database is complete and closed at the end of the block.

    The block is one transaction: an error in it leaves the database as it was.

    Args:
        path: path of the database, in a folder that no other run writes to. Cameras and images of an existing
            database are kept.
        camera_id_from_idx: the scene's cameras that are in the database already.

    Raises:
        StoreError: if the file cannot be written, or the disk is full.
    """

    def __init__(self, path: Path, camera_id_from_idx: Mapping[int, int] | None = None) -> None:
        self._path = path
        self._camera_id_from_idx: dict[int, int] = dict(camera_id_from_idx or {})
        self._image_id_from_name: dict[str, int] = {}

    def __enter__(self) -> DatabaseWriter:
        require_space(self._path)
        try:
            with quiet_log():
                pycolmap.Database.open(self._path).close()  # makes the tables, or those that an old version lacks
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreError(f"{shown_path(self._path)}: cannot be written ({error})") from error
        with _writing(self._path):
            # pycolmap, which is another SQLite, opens the file before and after, but never during the block.
            self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            with _writing(self._path):
                self._begin()
        except BaseException:
            self._connection.close()
            raise
        return self

    def _begin(self) -> None:
        # No file beside the database, and no waiting for the disk: a run that is killed throws the database away.
        (mode,) = self._connection.execute("PRAGMA journal_mode=MEMORY").fetchone()
        if mode != "memory":  # the mode of pycolmap stays where its journal cannot be flushed; SQLite raises no error
            raise StoreError(f"{shown_path(self._path)}: cannot be written (its journal cannot be flushed)")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute("PRAGMA cache_size=-65536")  # KiB
        self._connection.execute("BEGIN IMMEDIATE")
        images = self._connection.execute("SELECT image_id, name, camera_id FROM images ORDER BY image_id").fetchall()
        self._image_id_from_name = {name: image_id for image_id, name, _ in images}
        (num_rigs,), (num_frames,) = (
            self._connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone() for table in ("rigs", "frames")
        )
        is_old = num_rigs == 0 and num_frames == 0
        self._images_without_frame = [(image_id, camera_id) for image_id, _, camera_id in images] if is_old else []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                with _writing(self._path):
                    self._connection.execute("COMMIT")
        finally:
            with contextlib.suppress(sqlite3.Error):  # the error of the block is the one to tell
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            with _writing(self._path):
                self._connection.close()

    def add_image(self, image: SceneImage, keypoints: Float32Array, root_sift: UInt8Array | None = None) -> None:
        """Add the features of an image, and the image and its camera if the database does not have them yet.

        Args:
            image: the image, in the database or new.
            keypoints: [N, 2] in pixels, or [N, 4] with COLMAP's scale and orientation.
            root_sift: [N, 128] RootSIFT descriptors as COLMAP's bytes, or None.
        """
        image_id = self._image_id_from_name.get(image.name)
        if image_id is None:
            image_id = self._add_new_image(image)
        self._insert("keypoints", image_id=image_id, **_matrix(keypoints.astype(np.float32, copy=False)))
        if root_sift is not None:
            self._insert("descriptors", image_id=image_id, type=_SIFT, **_matrix(root_sift))

    def _insert(self, table: str, **values: object) -> int:
        """Insert a row; returns its id."""
        try:  # quicker than `_writing`: pairs are many
            cursor = self._connection.execute(_insertion(table, tuple(values)), tuple(values.values()))
        except sqlite3.Error as error:
            raise _not_written(self._path, error) from error
        return int(cursor.lastrowid or 0)

    def _add_new_image(self, image: SceneImage) -> int:
        """Add an image with a rig, a frame and, if its GPS position is known, a pose prior, like COLMAP."""
        camera_id = self._camera_id_from_idx.get(image.camera_idx)
        if camera_id is None:
            camera_id = self._add_camera(image.camera)
            self._camera_id_from_idx[image.camera_idx] = camera_id
        image_id = self._insert("images", name=image.name, camera_id=camera_id)
        self._image_id_from_name[image.name] = image_id
        # Databases of older versions of COLMAP have no rigs and frames. Mappers need them for all images or for none.
        for one in (*self._images_without_frame, (image_id, camera_id)):
            self._add_frame(*one)
        self._images_without_frame = []
        position, frame = (image.gps_position, _WGS84) if image.xyz_m is None else (image.xyz_m, _CARTESIAN)
        if position is not None:
            self._insert(
                "pose_priors",
                corr_data_id=image_id,
                corr_sensor_id=camera_id,
                corr_sensor_type=_CAMERA_SENSOR,
                position=_blob(np.array(position, np.float64)),
                position_covariance=_blob(np.full(9, np.nan)),
                gravity=_blob(np.full(3, np.nan)),
                coordinate_system=frame,
            )
        return image_id

    def _add_camera(self, camera: Camera) -> int:
        native = as_pycolmap(camera)
        return self._insert(
            "cameras",
            model=int(native.model),
            width=native.width,
            height=native.height,
            params=_blob(np.array(native.params, np.float64)),
            prior_focal_length=int(native.has_prior_focal_length),
        )

    def _add_frame(self, image_id: int, camera_id: int) -> None:
        rig_id = self._rig_id(camera_id)
        if rig_id is None:
            rig_id = self._insert("rigs", ref_sensor_id=camera_id, ref_sensor_type=_CAMERA_SENSOR)
        frame_id = self._insert("frames", rig_id=rig_id)
        self._insert("frame_data", frame_id=frame_id, data_id=image_id, sensor_id=camera_id, sensor_type=_CAMERA_SENSOR)

    def _rig_id(self, camera_id: int) -> int | None:
        """The rig that has a camera, None if there is none."""
        for table, column in (("rig_sensors", "sensor"), ("rigs", "ref_sensor")):
            with _writing(self._path):
                found = self._connection.execute(
                    f"SELECT rig_id FROM {table} WHERE {column}_id = ? AND {column}_type = ?",
                    (camera_id, _CAMERA_SENSOR),
                ).fetchone()
            if found is not None:
                return int(found[0])
        return None

    def add_pair(self, pair: ImagePair, matches: Matches, geometry: TwoViewGeometry | Rejected) -> None:
        """Add the matches of a pair, and its geometry if it was verified."""
        id0, id1 = self._image_id_from_name[pair.name0], self._image_id_from_name[pair.name1]
        pair_id, is_swapped = pair_id_of(id0, id1), id0 > id1
        indices = matches.indices.astype(np.uint32)
        self._insert("matches", pair_id=pair_id, **_matrix(indices[:, ::-1] if is_swapped else indices))
        if isinstance(geometry, TwoViewGeometry):
            inliers = indices[geometry.inlier_mask]
            columns = _matrix(inliers[:, ::-1] if is_swapped else inliers) | _geometry_columns(geometry, is_swapped)
            self._insert("two_view_geometries", pair_id=pair_id, **columns)

    def remove_geometry(self, pair: ImagePair) -> None:
        """Remove the geometry of a pair; its matches stay."""
        self._delete("two_view_geometries", pair)

    def replace_geometry(self, pair: ImagePair, matches: Matches, geometry: TwoViewGeometry | Rejected) -> None:
        """Replace matches and geometry of a pair."""
        self._delete("two_view_geometries", pair)
        self._delete("matches", pair)
        self.add_pair(pair, matches, geometry)

    def _delete(self, table: str, pair: ImagePair) -> None:
        pair_id = pair_id_of(self._image_id_from_name[pair.name0], self._image_id_from_name[pair.name1])
        with _writing(self._path):
            self._connection.execute(f"DELETE FROM {table} WHERE pair_id = ?", (pair_id,))

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
        raise StoreError(f"{shown_path(path)}: cannot be written, only {free // 2**20} MiB are left on the disk")


def keep_first_keypoints(path: Path, num_from_name: Mapping[str, int]) -> None:
    """Leave only the first keypoints of each image in a database.

    Args:
        path: an existing database, which no other run opens.
        num_from_name: how many, by name of image; at most as many as there are.

    Raises:
        StoreError: if it cannot be written.
    """
    with _writing(path), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "UPDATE keypoints SET rows = ?, data = SUBSTR(data, 1, ? * cols * 4)"
            " WHERE image_id = (SELECT image_id FROM images WHERE name = ?)",
            [(num, num, name) for name, num in sorted(num_from_name.items())],
        )
        connection.execute("COMMIT")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Convert SQLite's errors, such as a full disk, to ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: sqlite3.Error) -> StoreError:
    return StoreError(f"{shown_path(path)}: cannot be written ({error})")


@functools.cache
def _insertion(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _matrix(values: AnyArray) -> dict[str, object]:
    """Columns of a matrix."""
    return {"rows": values.shape[0], "cols": values.shape[1], "data": _blob(values)}


def _blob(values: AnyArray | None) -> bytes | None:
    """Values in row-major order, little-endian; NULL if there are none, like COLMAP."""
    if values is None or values.size == 0:
        return None
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def _geometry_columns(geometry: TwoViewGeometry, is_swapped: bool) -> dict[str, object]:
    """Columns of a geometry without those of its inliers.

    Args:
        geometry: of a pair.
        is_swapped: whether the database has the images in the other order.
    """
    F, E, H = geometry.F, geometry.E, geometry.H
    calibrated = E is not None or geometry.kind != "general"
    rotation, t = None, None
    if E is not None:
        rotation, t = pycolmap.Rotation3d(geometry.cam1_from_cam0.R), geometry.cam1_from_cam0.t
    if is_swapped:
        native = pycolmap.TwoViewGeometry(F=F, E=E, H=H)
        if rotation is not None and t is not None:
            native.cam2_from_cam1 = pycolmap.Rigid3d(rotation, t)
        native.invert()
        F, E, H = np.asarray(native.F), native.E, native.H
        pose = native.cam2_from_cam1
        if pose is not None:
            rotation, t = pose.rotation, pose.translation
    return {
        "config": _CONFIGURATION_FROM_KIND[geometry.kind] if calibrated else _UNCALIBRATED,
        "F": _blob(F),
        "E": _blob(E),
        "H": _blob(H),
        "qvec": None if rotation is None else _blob(rotation.quat[_W_FIRST]),
        "tvec": _blob(t),
    }


def given_camera_idxs(images: tuple[SceneImage, ...]) -> frozenset[int]:
    """Indices of the cameras whose intrinsics the user gave."""
    cameras: dict[int, Camera] = {image.camera_idx: image.camera for image in images}
    return frozenset(idx for idx, camera in cameras.items() if camera.source == "given")
