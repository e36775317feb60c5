"""What every exporter is, and the model that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array, IndexArray, UInt8Array
from sfm_lightglue.colmap.database_reader import camera_from_pycolmap
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.types import Camera

Pictures = Literal["none", "copied", "undistorted"]
"""What an exporter does with the images: leaves them where they are, copies them in stored pixels, or writes them
undistorted."""

IMAGES_FOLDER = "images"
"""Folder of the images in an export that has them."""

_NO_POINT = 2**64 - 1

_PIXELS = pycolmap.Camera.create_from_model_name(0, "SIMPLE_PINHOLE", 1.0, 2, 2)
_PIXELS.params = [1.0, 0.0, 0.0]  # with it, pycolmap returns all keypoints of an image as one array


@dataclass(frozen=True, eq=False, slots=True)
class PosedImage:
    """A registered image of a model.

    Args:
        name: path below the folder of the images, with forward slashes.
        cam_from_world: its pose.
        camera: its intrinsics, in pixels of the stored image.
        camera_id: images with the same number share one camera.
        keypoints: [K, 2] pixels of the keypoints that see a point, COLMAP convention.
        keypoint_idxs: [K] their indices among all keypoints of the image.
        points: [K] row of the point of each of them.
    """

    name: str
    cam_from_world: Rigid3
    camera: Camera
    camera_id: int
    keypoints: Float64Array
    keypoint_idxs: IndexArray
    points: IndexArray


@dataclass(frozen=True, eq=False, slots=True)
class Points:
    """The 3D points of a model.

    Args:
        ids: [P] numbers of the points in the model, ascending.
        xyz: [P, 3] positions, in the unit of the world.
        colors: [P, 3] red, green and blue.
        image_idxs: [T] image of each observation; those of a point are neighbours.
        rows: [T] row of each observation in the arrays of its image.
        starts: [P + 1] where the observations of each point begin, and the end.
    """

    ids: tuple[int, ...]
    xyz: Float64Array
    colors: UInt8Array
    image_idxs: IndexArray
    rows: IndexArray
    starts: IndexArray

    def __len__(self) -> int:
        return len(self.ids)

    def observations(self, point: int) -> zip[tuple[int, int]]:
        """(image, row in the arrays of this image) of each observation of a point, by the row of the point."""
        chosen = slice(int(self.starts[point]), int(self.starts[point + 1]))
        return zip(self.image_idxs[chosen].tolist(), self.rows[chosen].tolist(), strict=True)


@dataclass(frozen=True, eq=False, slots=True)
class ExportScene:
    """A model that is to be exported.

    Args:
        model: the model itself.
        images: its registered images, sorted by name.
        points: its points.
        image_folder: folder that the names are relative to, where it is when the export is finished; None if it is
            not known.
        georegistration: content of `georegistration.json` beside the model; None if the model is not in metres.
        times_s: times of images by name, in seconds; empty if they are not known.
    """

    model: pycolmap.Reconstruction
    images: tuple[PosedImage, ...]
    points: Points
    image_folder: Path | None = None
    georegistration: Mapping[str, Any] | None = None
    times_s: Mapping[str, float] | None = None

    @property
    def cameras(self) -> dict[int, Camera]:
        """The cameras of the registered images by number, sorted."""
        return dict(sorted({image.camera_id: image.camera for image in self.images}.items()))

    @property
    def origin(self) -> tuple[float, float, float] | None:
        """Latitude, longitude (degrees) and altitude (metres) of the frame with the axes east, north and up."""
        found = (self.georegistration or {}).get("origin")
        if found is None:
            return None
        return float(found["latitude_deg"]), float(found["longitude_deg"]), float(found["altitude_m"])


class Exporter(Protocol):
    """Writes a model in the format of another program."""

    @property
    def file_name(self) -> str:
        """Name of the file if the format is one file, such as "model.nvm"; "" if it is a folder."""

    @property
    def pictures(self) -> Pictures:
        """What happens to the images."""

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """What of some cameras the format cannot express, and None if it can express all of them."""

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write the files.

        Args:
            scene: the model, whose cameras have no `problem`.
            target: path of the file, or of an existing folder, which has the folder `images` if there are pictures.

        Raises:
            DataError: if the model lacks what the format needs.
            OSError: if a file cannot be written.
        """


@runtime_checkable
class ChecksScene(Protocol):
    """An `Exporter` that finds out before images are written that it cannot express a model."""

    def check(self, scene: ExportScene) -> None:
        """Check the names of the images, and whatever else `write` needs.

        Raises:
            DataError: if the model lacks what the format needs, or has what it cannot express.
        """


@runtime_checkable
class RecognizesFiles(Protocol):
    """An `Exporter` of one file that knows its files again. A file of one that does not is never replaced."""

    def is_own(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes, up to 64 KiB, has this format."""


def read_scene_of(model: pycolmap.Reconstruction) -> ExportScene:
    """The registered images and the points of a model as arrays."""
    points3D = model.points3D
    ids = tuple(sorted(points3D))
    id_array = np.array(ids, np.uint64)
    natives = sorted((model.images[image_id] for image_id in model.reg_image_ids()), key=lambda image: image.name)
    images = tuple(_posed(native, model.cameras[native.camera_id], id_array) for native in natives)
    counts = [len(image.points) for image in images]
    of_points = np.concatenate([np.zeros(0, np.int64), *(image.points for image in images)])
    order = np.argsort(of_points, kind="stable")
    rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(count) for count in counts)])
    points = Points(
        ids,
        np.array([points3D[point_id].xyz for point_id in ids], np.float64).reshape(-1, 3),
        np.array([points3D[point_id].color for point_id in ids], np.uint8).reshape(-1, 3),
        np.repeat(np.arange(len(images)), counts)[order],
        rows[order],
        np.searchsorted(of_points[order], np.arange(len(ids) + 1)),
    )
    return ExportScene(model, images, points)


def _posed(native: pycolmap.Image, camera: pycolmap.Camera, ids: np.ndarray[Any, np.dtype[np.uint64]]) -> PosedImage:
    points2D = native.points2D
    of_keypoints = np.array([keypoint.point3D_id for keypoint in points2D], np.uint64)
    chosen = np.flatnonzero(of_keypoints != _NO_POINT)
    xy = np.asarray(_PIXELS.cam_from_img(points2D), np.float64).reshape(-1, 2)[chosen]
    return PosedImage(
        native.name,
        Rigid3.from_matrix(native.cam_from_world().matrix()),
        camera_from_pycolmap(camera),
        int(native.camera_id),
        xy,
        chosen,
        np.searchsorted(ids, of_keypoints[chosen]).astype(np.int64),
    )


def quaternion_wxyz(R: Float64Array) -> tuple[float, float, float, float]:
    """The unit quaternion (w, x, y, z) of a rotation [3, 3], with w >= 0."""
    x, y, z, w = (float(value) for value in pycolmap.Rotation3d(R).quat)
    return (w, x, y, z) if w >= 0 else (-w, -x, -y, -z)
