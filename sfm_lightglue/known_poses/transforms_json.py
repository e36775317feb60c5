"""Poses of `transforms.json`, the format of nerfstudio, instant-ngp and of Blender's synthetic scenes.

`transform_matrix` is world_from_cam with OpenGL's camera axes: x right, y up, z backwards. Intrinsics stand in a frame
or at the top: fl_x, fl_y, cx, cy, w, h, k1 to k4, p1, p2; or only `camera_angle_x`, the horizontal angle of view in
radians. Pixels are those of COLMAP: the centre of the first one is (0.5, 0.5).

Source: docs.nerf.studio, Data conventions.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.errors import DataError
from sfm_lightglue.known_poses.base import KnownImage, checked_rotation, given_camera, number_of
from sfm_lightglue.messages import shown_path
from sfm_lightglue.types import Camera

_FISHEYE = "OPENCV_FISHEYE"
_PERSPECTIVE = frozenset({"OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE"})

_INTRINSICS = ("fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "k2", "k3", "k4", "p1", "p2")
_ALL = (*_INTRINSICS, "camera_angle_x", "camera_angle_y", "camera_model", "is_fisheye")

_FLIPPED = np.diag([1.0, -1.0, -1.0, 1.0])
"""From OpenGL's camera axes to ours, and back."""


def is_transforms(values: Any) -> bool:
    """Whether the content of a JSON file has this format."""
    return isinstance(values, dict) and isinstance(values.get("frames"), list)


def read_transforms(values: Any, path: Path) -> list[KnownImage]:
    """The images of a file.

    Args:
        values: content of the file.
        path: of the file, for messages.

    Raises:
        DataError: if a frame lacks a name, a pose or intrinsics, or has an impossible value.
    """
    found = []
    for number, frame in enumerate(values["frames"], start=1):
        name = frame.get("file_path") if isinstance(frame, dict) else None
        if not isinstance(name, str) or not name:
            raise DataError(f"{shown_path(path)}: frame {number} has no file_path")
        world_from_cam = checked_rotation(frame.get("transform_matrix"), path, name)
        cam_from_world = checked_rotation(_FLIPPED @ world_from_cam.inverse().as_matrix(), path, name)
        intrinsics = {key: frame.get(key, values.get(key)) for key in _ALL}
        intrinsics = {key: value for key, value in intrinsics.items() if value is not None}
        key = tuple(sorted((key, str(value)) for key, value in intrinsics.items()))
        found.append(KnownImage(name, cam_from_world, partial(_camera, intrinsics, path, name), key))
    return found


def _camera(values: dict[str, Any], path: Path, name: str, size: tuple[int, int]) -> Camera:
    def number(key: str, default: float | None = None) -> float:
        return number_of(values, key, default, path, name)

    stated = (int(number("w", size[0])), int(number("h", size[1])))
    if stated != size:
        raise DataError(
            f"{shown_path(path)}: image {name!r}: the file says {stated[0]} x {stated[1]} pixels, the image has"
            f" {size[0]} x {size[1]}; give the images of the file, neither resized nor turned"
        )
    width, height = size
    if "fl_x" in values:
        fx = number("fl_x")
    elif "camera_angle_x" in values:
        fx = width / 2 / math.tan(number("camera_angle_x") / 2)
    else:
        raise DataError(f"{shown_path(path)}: image {name!r}: neither fl_x nor camera_angle_x")
    fy = number("fl_y", fx)
    plane = (fx, fy, number("cx", width / 2), number("cy", height / 2))
    k1, k2, k3, k4 = (number(key, 0.0) for key in ("k1", "k2", "k3", "k4"))
    p1, p2 = number("p1", 0.0), number("p2", 0.0)
    model = str(values.get("camera_model", _FISHEYE if values.get("is_fisheye") else "OPENCV"))
    if model == _FISHEYE:
        return given_camera("OPENCV_FISHEYE", size, (*plane, k1, k2, k3, k4), path, name)
    if model not in _PERSPECTIVE or k4 != 0:
        what = f"camera_model {model}" if model not in _PERSPECTIVE else "k4 of a perspective camera"
        raise DataError(f"{shown_path(path)}: image {name!r}: {what} is not supported")
    if (k1, k2, k3, p1, p2) == (0, 0, 0, 0, 0):
        return given_camera("PINHOLE", size, plane, path, name)
    if k3 == 0:
        return given_camera("OPENCV", size, (*plane, k1, k2, p1, p2), path, name)
    return given_camera("FULL_OPENCV", size, (*plane, k1, k2, p1, p2, k3, 0, 0, 0), path, name)
