"""The content of a COLMAP model's files as arrays, and the error for damaged files."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pycolmap

from sfm_lightglue.arrays import Float64Array, UInt8Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.messages import shown_path

INVALID_ID = 2**32 - 1
"""COLMAP's value for an unknown camera, image, rig or frame, and the first integer that is no id."""

INVALID_POINT_ID = 2**64 - 1
"""COLMAP's value for a keypoint without a 3D point."""

CAMERA_SENSOR = 0
"""COLMAP's type of a sensor that is a camera."""

SensorId = tuple[int, int]
"""Type and id of a sensor; the id of a camera is the camera's."""

IntArray = npt.NDArray[np.int64]
PointIdArray = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False, slots=True)
class CameraRow:
    """A camera: COLMAP's id and name of its model, (width, height) in pixels, and parameters in COLMAP's order."""

    camera_id: int
    model: str
    size: tuple[int, int]
    params: tuple[float, ...]


@dataclass(frozen=True, eq=False, slots=True)
class RigRow:
    """A rig: its sensors, the reference first, each with the rotation (w, x, y, z) and translation, if known."""

    rig_id: int
    pose_from_sensor: dict[SensorId, tuple[float, ...] | None]
    num_sensors: int


@dataclass(frozen=True, eq=False, slots=True)
class FrameRow:
    """A frame: its rig, rotation (w, x, y, z) and translation [7], and (sensor, id of its data) of its data."""

    frame_id: int
    rig_id: int
    pose: tuple[float, ...]
    data: tuple[tuple[SensorId, int], ...]


@dataclass(frozen=True, eq=False, slots=True)
class ImageTable:
    """All images in the order of the file.

    Args:
        ids: [N].
        poses: rotation (w, x, y, z) and translation [N, 7].
        camera_ids: [N].
        names: N names.
        num_points: number of keypoints [N].
        xy: keypoints of all images [T, 2].
        point_ids: the 3D point of each keypoint [T], `INVALID_POINT_ID` if it has none.
    """

    ids: IntArray
    poses: Float64Array
    camera_ids: IntArray
    names: tuple[str, ...]
    num_points: IntArray
    xy: Float64Array
    point_ids: PointIdArray


@dataclass(frozen=True, eq=False, slots=True)
class PointTable:
    """All 3D points in the order of the file.

    Args:
        ids: [M].
        xyz: [M, 3].
        colors: [M, 3].
        errors: reprojection errors [M]; -1 if unknown.
        track_lengths: number of observations [M].
        tracks: image and keypoint of each observation [T, 2].
    """

    ids: PointIdArray
    xyz: Float64Array
    colors: UInt8Array
    errors: Float64Array
    track_lengths: IntArray
    tracks: IntArray


@dataclass(frozen=True, eq=False, slots=True)
class ModelContent:
    """The content of a model. Models of versions before COLMAP 3.12 have no rigs and no frames."""

    folder: Path
    suffix: str
    cameras: tuple[CameraRow, ...]
    rigs: tuple[RigRow, ...]
    frames: tuple[FrameRow, ...]
    images: ImageTable
    points: PointTable

    def damaged(self, name: str, detail: str) -> DataError:
        """The error for a damaged file of this model.

        Args:
            name: of the file, without suffix.
            detail: what is wrong.
        """
        return damaged(self.folder / f"{name}{self.suffix}", detail)


def damaged(path: Path, detail: str) -> DataError:
    """The error for a damaged file of a model."""
    return DataError(f"{shown_path(path)}: the model is damaged ({detail}); restore the model, or compute it again")


@functools.cache
def num_params_from_model() -> dict[str, int]:
    """Number of parameters of each camera model that pycolmap knows, by name."""
    names = [name for name in pycolmap.CameraModelId.__members__ if name != "INVALID"]
    return {name: len(pycolmap.Camera.create_from_model_name(0, name, 1.0, 1, 1).params) for name in names}


@functools.cache
def model_from_number() -> dict[int, str]:
    """Name of each camera model by the number that stands in binary models and databases."""
    return {int(member): name for name, member in pycolmap.CameraModelId.__members__.items() if name != "INVALID"}


@functools.cache
def focal_length_idxs(model: str) -> tuple[int, ...]:
    """Indices of the focal lengths among the parameters of a camera model."""
    return tuple(pycolmap.Camera.create_from_model_name(0, model, 1.0, 1, 1).focal_length_idxs())
