"""Read a COLMAP database into our types: cameras, features, matches and geometries."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pycolmap

from sfm_lightglue.arrays import AnyArray, Float32Array
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.colmap.shared_database import copy_database, damaged_database
from sfm_lightglue.errors import DataError, SfmError
from sfm_lightglue.geometry.epipolar import essential_from_pose
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.types import Camera, Features, ImagePair, Matches, Rejected, TwoViewGeometry, TwoViewKind

logger = logging.getLogger(__name__)

_Kind = pycolmap.TwoViewGeometryConfiguration

_KIND_FROM_CONFIGURATION: dict[pycolmap.TwoViewGeometryConfiguration, TwoViewKind] = {
    _Kind.CALIBRATED: "general",
    _Kind.CALIBRATED_RIG: "general",
    _Kind.UNCALIBRATED: "general",
    _Kind.PLANAR: "planar",
    _Kind.PANORAMIC: "pure_rotation",
}
"""All other configurations (degenerate, watermark, several motions, not yet verified) are not used for mapping."""

UINT8_FROM_ROOT_SIFT = 512.0
"""Factor with which COLMAP stores RootSIFT as bytes: its values lie in [0, 1] and rarely above 0.5."""


@dataclass(frozen=True, slots=True)
class ColmapDatabase:
    """The images of a database and their pairs.

    Args:
        camera_from_name: camera of each image; its source is "given" if COLMAP marks the focal length as known, else
            "guessed".
        features_from_name: features of each image, empty if the database has none. Scores are 1, because COLMAP stores
            none. SIFT descriptors are RootSIFT of length 1, like ours; other descriptors are unchanged.
        matches_from_pair: matches of each pair that has a match or an inlier, with the inliers that guided matching
            added. Scores are 1.
        geometry_from_pair: geometry of each pair that has an inlier, with a mask over its matches.

    Example:
        >>> content = sfm_lightglue.read_database("photos/reconstruction/database.db")
        >>> features = content.features_from_name[content.names[0]]
        >>> features.descriptors.shape[1]
        0
    """

    camera_from_name: Mapping[str, Camera]
    features_from_name: Mapping[str, Features]
    matches_from_pair: Mapping[ImagePair, Matches]
    geometry_from_pair: Mapping[ImagePair, TwoViewGeometry | Rejected]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, sorted."""
        return tuple(self.camera_from_name)


def read_database(path: Path, names: Collection[str] | None = None) -> ColmapDatabase:
    """Read a COLMAP database of any version that pycolmap supports. The file is not changed.

    COLMAP's scale of a keypoint is half of our scale, a diameter in pixels of the full image. Orientations are the
    same.

    Args:
        path: path of the database.
        names: names of the images to read, with the pairs among them; None reads all.

    Raises:
        DataError: if the database does not exist, has no image of such a name, or has invalid values.
        StoreError: if another program keeps the database locked.

    Example:
        >>> sfm_lightglue.read_database("photos/reconstruction/database.db").names
        ('view_00.jpg', 'view_01.jpg', ...)
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix="colmap-") as folder:
        copy = Path(folder) / "database.db"
        copy_database(path, copy)
        with open_copy(copy, path) as database:
            return _Reader(path, database, names).read()


@contextlib.contextmanager
def open_copy(copy: Path, original: Path) -> Iterator[pycolmap.Database]:
    """Open a private copy of a database in a `with` block; pycolmap upgrades the copy to its own version.

    Args:
        copy: path of the copy.
        original: path of the original for messages.

    Raises:
        DataError: if the database is damaged, also if that shows in the block only.
    """
    try:
        with quiet_log(), pycolmap.Database.open(copy) as database:
            yield database
    except SfmError:
        raise
    except Exception as error:  # damaged rows raise IndexError, MemoryError, RuntimeError, ValueError ...
        raise damaged_database(original, f"{type(error).__name__}: {error}") from error


def camera_from_pycolmap(native: pycolmap.Camera) -> Camera:
    """Convert a camera of pycolmap to ours."""
    source = "given" if native.has_prior_focal_length else "guessed"
    return Camera(native.model_name, native.width, native.height, tuple(native.params), source)  # type: ignore[arg-type]


def bytes_from_root_sift(descriptors: Float32Array) -> npt.NDArray[np.uint8]:
    """RootSIFT descriptors [N, 128] as the bytes that COLMAP stores."""
    return np.clip(np.round(descriptors * UINT8_FROM_ROOT_SIFT), 0, 255).astype(np.uint8)


class _Reader:
    def __init__(self, path: Path, database: pycolmap.Database, names: Collection[str] | None) -> None:
        self.path, self.database = path, database
        self.native_cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}
        images = sorted(database.read_all_images(), key=lambda image: image.name)
        self.images = [image for image in images if names is None or image.name in names]
        missing = sorted(set(names or ()) - {image.name for image in images})
        if missing:
            raise DataError(f"{path}: has no image named {missing[0]!r}")
        self.num_ambiguous = 0

    def read(self) -> ColmapDatabase:
        camera_from_name = {
            image.name: camera_from_pycolmap(self.native_cameras[image.camera_id]) for image in self.images
        }
        features_from_name = {image.name: self._features(image, camera_from_name[image.name]) for image in self.images}
        matches_from_pair: dict[ImagePair, Matches] = {}
        geometry_from_pair: dict[ImagePair, TwoViewGeometry | Rejected] = {}
        image_from_id = {image.image_id: image for image in self.images}
        matched, _ = self.database.read_num_matches()
        verified = set(self.database.read_two_view_geometry_num_inliers()[0])
        for pair_id in sorted({*matched, *verified}):
            ids = pycolmap.pair_id_to_image_pair(pair_id)
            if not set(ids) <= image_from_id.keys():
                continue
            first, second = sorted((image_from_id[image_id] for image_id in ids), key=lambda image: image.name)
            pair = ImagePair(first.name, second.name)
            sizes = len(features_from_name[first.name]), len(features_from_name[second.name])
            native = None
            if pair_id in verified:
                native = self.database.read_two_view_geometry(first.image_id, second.image_id)
            matches, inlier_mask = self._matches(first, second, native, sizes)
            matches_from_pair[pair] = matches
            if native is not None:
                both = features_from_name[first.name], features_from_name[second.name]
                geometry_from_pair[pair] = self._geometry(native, first, second, both, matches, inlier_mask)
        if self.num_ambiguous:
            logger.warning(
                "%s: left out %d matches with a feature that another match of the pair has",
                self.path,
                self.num_ambiguous,
            )
        return ColmapDatabase(camera_from_name, features_from_name, matches_from_pair, geometry_from_pair)

    def _features(self, image: pycolmap.Image, camera: Camera) -> Features:
        rows = np.zeros((0, 2), np.float32)
        if self.database.exists_keypoints(image.image_id):
            rows = np.ascontiguousarray(self.database.read_keypoints(image.image_id), dtype=np.float32)
        if not np.isfinite(rows).all():
            raise DataError(f"{self.path}: a keypoint of {image.name} is not finite")
        scales, orientations = _scale_and_orientation(rows)
        descriptors = self._descriptors(image, len(rows))
        try:
            return Features(
                np.ascontiguousarray(rows[:, :2]),
                np.ones(len(rows), np.float32),
                descriptors,
                camera.size,
                scales,
                orientations,
            )
        except ValueError as error:
            raise DataError(f"{self.path}: the features of {image.name} do not fit its camera ({error})") from error

    def _descriptors(self, image: pycolmap.Image, num_keypoints: int) -> Float32Array:
        if not self.database.exists_descriptors(image.image_id):
            return np.zeros((num_keypoints, 0), np.float32)
        kept = self.database.read_descriptors(image.image_id)
        if len(kept.data) != num_keypoints:
            raise DataError(
                f"{self.path}: {image.name} has {num_keypoints} keypoints, but {len(kept.data)} descriptors"
            )
        kinds = pycolmap.FeatureExtractorType
        if kept.type == kinds.SIFT or (kept.type == kinds.UNDEFINED and kept.data.shape[1] == 128):
            values = kept.data.astype(np.float32)
            norms = np.linalg.norm(values, axis=1, keepdims=True)
            unit: Float32Array = values / np.maximum(norms, np.float32(1))
            return unit
        return np.ascontiguousarray(kept.to_float().data, dtype=np.float32)

    def _matches(
        self,
        first: pycolmap.Image,
        second: pycolmap.Image,
        geometry: pycolmap.TwoViewGeometry | None,
        sizes: tuple[int, int],
    ) -> tuple[Matches, npt.NDArray[np.bool_]]:
        """All matches and the mask of the inliers. Inliers of guided matching are added to the matches."""
        no_rows = np.zeros((0, 2), np.int32)
        inliers, raw = no_rows, no_rows
        if geometry is not None:
            inliers = np.asarray(geometry.inlier_matches, dtype=np.int32).reshape(-1, 2)
        if self.database.exists_matches(first.image_id, second.image_id):
            raw = self.database.read_matches(first.image_id, second.image_id).astype(np.int32).reshape(-1, 2)
        rows = np.concatenate([inliers, raw])
        if len(rows) and not ((rows >= 0).all() and (rows < sizes).all()):
            raise DataError(f"{self.path}: matches of {first.name} and {second.name} refer to missing keypoints")
        distinct = np.sort(np.unique(rows, axis=0, return_index=True)[1])
        kept = distinct[_one_to_one(rows[distinct])]
        self.num_ambiguous += len(distinct) - len(kept)
        order = kept[np.argsort(rows[kept, 0], kind="stable")]
        return Matches(np.ascontiguousarray(rows[order]), np.ones(len(order), np.float32)), order < len(inliers)

    def _geometry(
        self,
        native: pycolmap.TwoViewGeometry,
        first: pycolmap.Image,
        second: pycolmap.Image,
        features: tuple[Features, Features],
        matches: Matches,
        inlier_mask: npt.NDArray[np.bool_],
    ) -> TwoViewGeometry | Rejected:
        cameras = self.native_cameras[first.camera_id], self.native_cameras[second.camera_id]
        if not all(np.isfinite(matrix).all() for matrix in (native.E, native.F, native.H) if matrix is not None):
            raise DataError(f"{self.path}: the geometry of {first.name} and {second.name} is not finite")
        pose = _pose(native, cameras, features)
        kind = _KIND_FROM_CONFIGURATION.get(_Kind(native.config))
        if kind is None or pose is None:
            return Rejected("degenerate", len(matches), int(inlier_mask.sum()))
        E = native.E if native.E is not None else essential_from_pose(pose)
        K0_inverse = np.linalg.inv(cameras[0].calibration_matrix())
        K1 = cameras[1].calibration_matrix()
        F = native.F if native.F is not None else np.linalg.inv(K1).T @ E @ K0_inverse
        calibrated = _Kind(native.config) != _Kind.UNCALIBRATED
        return TwoViewGeometry(kind, inlier_mask, pose, F, E if calibrated else None, native.H)


def _pose(
    native: pycolmap.TwoViewGeometry,
    cameras: tuple[pycolmap.Camera, pycolmap.Camera],
    features: tuple[Features, Features],
) -> Rigid3 | None:
    """`cam1_from_cam0` of the database, else computed from its matrices; None if it has no suitable matrix.

    May change the configuration of `native` if the database left it open.
    """
    if native.cam2_from_cam1 is None:
        needed = {_Kind.CALIBRATED: native.E, _Kind.CALIBRATED_RIG: native.E, _Kind.UNCALIBRATED: native.F}
        if needed.get(_Kind(native.config), native.H) is None:
            return None
        points = [one.keypoints.astype(np.float64) for one in features]
        pycolmap.estimate_two_view_geometry_pose(cameras[0], points[0], cameras[1], points[1], native)
    return None if native.cam2_from_cam1 is None else _unit_pose(native.cam2_from_cam1)


def _unit_pose(native: pycolmap.Rigid3d) -> Rigid3:
    """The pose with a translation of length 1, or 0."""
    pose = Rigid3.from_matrix(native.matrix())
    length = float(np.linalg.norm(pose.t))
    return Rigid3(pose.R, pose.t / length) if length > 1e-12 else Rigid3(pose.R, np.zeros(3))


def _scale_and_orientation(rows: Float32Array) -> tuple[Float32Array | None, Float32Array | None]:
    """Scales and orientations [N] of keypoints [N, 2], [N, 4] (scale, orientation) or [N, 6] (affine shape).

    Both are None if the keypoints have none, or COLMAP's defaults.
    """
    if rows.shape[1] == 4:
        scales, orientations = rows[:, 2], rows[:, 3]
    elif rows.shape[1] == 6:
        a11, a12, a21, a22 = rows[:, 2:].T
        # The mean length of the columns of the affine shape, as in COLMAP.
        scales = (np.hypot(a11, a21) + np.hypot(a12, a22)) / 2
        orientations = np.arctan2(a21, a11)
    else:
        return None, None
    if (scales == 1).all() and (orientations == 0).all():  # COLMAP's defaults for features without scale
        return None, None
    turned: AnyArray = np.mod(orientations, 2 * np.pi)
    return np.ascontiguousarray(2 * scales, dtype=np.float32), turned.astype(np.float32)


def _one_to_one(rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Indices of the rows [M, 2] that share neither their first nor their second value with an earlier kept row."""
    used: tuple[set[int], set[int]] = set(), set()
    kept = []
    for index, (idx0, idx1) in enumerate(rows.tolist()):
        if idx0 not in used[0] and idx1 not in used[1]:
            used[0].add(idx0)
            used[1].add(idx1)
            kept.append(index)
    return np.array(kept, dtype=np.int64)
