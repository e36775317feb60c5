"""Check the files of a COLMAP model before pycolmap reads them: it trusts their counts and can hang on damaged ones."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.colmap.binary_model import read_binary_content
from sfm_lightglue.colmap.model_content import (
    CAMERA_SENSOR,
    INVALID_ID,
    INVALID_POINT_ID,
    FrameRow,
    ModelContent,
    RigRow,
    SensorId,
    focal_length_idxs,
)
from sfm_lightglue.colmap.text_model import read_text_content
from sfm_lightglue.colmap.track_check import check_tracks
from sfm_lightglue.messages import shown_path

logger = logging.getLogger(__name__)

MODEL_FILES = ("cameras", "images", "points3D")

_MAX_SIZE_PX = 2**24
_MAX_NORM_ERROR = 0.01
"""Largest difference of the length of a rotation's quaternion from 1. Programs that round to three digits keep it."""


def checked_content(folder: Path, is_complete: bool = False) -> ModelContent:
    """The content of a model's files, binary if there are binary ones, else text.

    Args:
        folder: with cameras, images and points3D.
        is_complete: tracks and keypoints must refer to each other without exception, as COLMAP keeps them. Else the
            model may lack points or tracks that other programs left out.

    Raises:
        DataError: if a file is damaged, cannot be read or does not belong to the others.
    """
    is_binary = all((folder / f"{name}.bin").is_file() for name in MODEL_FILES)
    content = read_binary_content(folder) if is_binary else read_text_content(folder)
    check_content(content, is_complete)
    return content


def check_content(content: ModelContent, is_complete: bool = False) -> None:
    """Check the values of a model's files, and that the files belong together.

    Args:
        content: of the files.
        is_complete: as in `checked_content`.

    Raises:
        DataError: if a value is impossible, or a file does not belong to the others.
    """
    _check_cameras(content)
    _check_images(content)
    _check_rigs_and_frames(content)
    _check_points(content)
    num_missing = check_tracks(content, is_complete)
    if num_missing > 0:
        folder = shown_path(content.folder)
        logger.warning("%s: %d keypoints have a point that the model does not have", folder, num_missing)


def _check_cameras(content: ModelContent) -> None:
    _require_unique(content, "cameras", "camera", [camera.camera_id for camera in content.cameras])
    for camera in content.cameras:
        name = f"camera {camera.camera_id}"
        if not all(0 < length <= _MAX_SIZE_PX for length in camera.size):
            raise content.damaged("cameras", f"{name} has a size of {camera.size[0]} x {camera.size[1]} pixels")
        if not np.isfinite(camera.params).all():
            raise content.damaged("cameras", f"{name} has a parameter that is not finite")
        if not all(camera.params[i] > 0 for i in focal_length_idxs(camera.model)):
            raise content.damaged("cameras", f"{name} has a focal length that is not positive")


def _check_images(content: ModelContent) -> None:
    images = content.images
    _require_unique(content, "images", "image", images.ids.tolist())
    if len(set(images.names)) != len(images.names):
        double = sorted(images.names)
        name = next(one for one, other in itertools.pairwise(double) if one == other)
        raise content.damaged("images", f"two images have the name {name!r}")
    unknown = set(images.camera_ids.tolist()) - {camera.camera_id for camera in content.cameras}
    if unknown:
        raise content.damaged("images", f"an image has camera {min(unknown)}, which the model does not have")
    _check_poses(content, "images", images.poses)
    if not np.isfinite(images.xy).all():
        raise content.damaged("images", "a keypoint is not finite")


def _check_poses(content: ModelContent, name: str, poses: AnyArray) -> None:
    if not np.isfinite(poses).all():
        raise content.damaged(name, "a pose is not finite")
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(poses[:, :4], axis=1)
    if not (np.abs(norms - 1) < _MAX_NORM_ERROR).all():
        raise content.damaged(name, "a pose has no rotation: its quaternion must have the length 1")


def _check_rigs_and_frames(content: ModelContent) -> None:
    if not content.rigs and not content.frames:  # written before COLMAP 3.12
        return
    rigs = {rig.rig_id: rig for rig in content.rigs}
    _require_unique(content, "rigs", "rig", [rig.rig_id for rig in content.rigs])
    _require_unique(content, "frames", "frame", [frame.frame_id for frame in content.frames])
    _check_rigs(content)
    _check_poses(content, "frames", np.array([frame.pose for frame in content.frames]).reshape(-1, 7))
    sensor_of_image = {
        image_id: (CAMERA_SENSOR, camera_id)
        for image_id, camera_id in zip(content.images.ids.tolist(), content.images.camera_ids.tolist(), strict=True)
    }
    seen: set[int] = set()
    for frame in content.frames:
        if frame.rig_id not in rigs:
            raise content.damaged("frames", f"frame {frame.frame_id} has rig {frame.rig_id}, which does not exist")
        _check_frame(content, frame, rigs[frame.rig_id], sensor_of_image, seen)
    without = sensor_of_image.keys() - seen
    if without:
        raise content.damaged("frames", f"image {min(without)} is in no frame")


def _check_rigs(content: ModelContent) -> None:
    camera_ids = {camera.camera_id for camera in content.cameras}
    seen: set[SensorId] = set()
    for rig in content.rigs:
        name, sensors = f"rig {rig.rig_id}", rig.pose_from_sensor
        if len(sensors) != rig.num_sensors or seen & sensors.keys():
            raise content.damaged("rigs", f"{name} has a sensor that it or another rig has already")
        seen |= sensors.keys()
        if any(kind < 0 or (kind == CAMERA_SENSOR and idx not in camera_ids) for kind, idx in sensors):
            raise content.damaged("rigs", f"{name} has a camera that the model does not have")
        poses = [pose for pose in sensors.values() if pose is not None]
        _check_poses(content, "rigs", np.array(poses).reshape(-1, 7))


def _check_frame(
    content: ModelContent, frame: FrameRow, rig: RigRow, sensor_of_image: dict[int, SensorId], seen: set[int]
) -> None:
    """Check that the images of a frame are of cameras of its rig whose pose is known; adds them to `seen`."""
    name = f"frame {frame.frame_id}"
    reference = next(iter(rig.pose_from_sensor), None)
    for sensor, image_id in frame.data:
        if sensor not in rig.pose_from_sensor:
            raise content.damaged("frames", f"{name} has data of a sensor that its rig does not have")
        if sensor[0] != CAMERA_SENSOR:
            continue
        if sensor_of_image.get(image_id) != sensor:
            raise content.damaged("frames", f"{name} has image {image_id}, which does not exist or has another camera")
        if image_id in seen:
            raise content.damaged("frames", f"image {image_id} is in two frames")
        if sensor != reference and rig.pose_from_sensor[sensor] is None:
            raise content.damaged("rigs", f"rig {rig.rig_id} lacks the pose of camera {sensor[1]} of image {image_id}")
        seen.add(image_id)


def _check_points(content: ModelContent) -> None:
    points = content.points
    ids = np.sort(points.ids)
    if (ids[1:] == ids[:-1]).any() or (ids == INVALID_POINT_ID).any():
        raise content.damaged("points3D", "two points have the same id, or a point has none")
    if not np.isfinite(points.xyz).all():
        raise content.damaged("points3D", "a point is not finite")
    if not np.isfinite(points.errors).all():
        raise content.damaged("points3D", "the error of a point is not finite")


def _require_unique(content: ModelContent, file: str, kind: str, ids: list[int]) -> None:
    if len(set(ids)) != len(ids):
        raise content.damaged(file, f"two {kind}s have the same id")
    if not all(0 <= number < INVALID_ID for number in ids):
        raise content.damaged(file, f"a {kind} has an invalid id")
