"""Poses of OpenSfM's `reconstruction.json`, which OpenDroneMap writes too.

A shot has cam_from_world as an axis times an angle in radians, and a translation. Camera axes are ours. Intrinsics are
in normalised image coordinates: divided by the longer side, with the origin at the centre of the image.

Source: opensfm.org/docs, sections Reconstruction file and Geometric models.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.known_poses.base import KnownImage, checked_rotation, given_camera, number_of
from sfm_lightglue.messages import shown_path
from sfm_lightglue.types import Camera

logger = logging.getLogger(__name__)

_RADIAL = ("k1", "k2", "k3", "k4")
_SIMPLE = {"perspective": "RADIAL", "fisheye": "RADIAL_FISHEYE"}
"""COLMAP's models of projections with one focal length and a centred principal point."""

_FULL = {
    "brown": ("FULL_OPENCV", ("k1", "k2", "p1", "p2", "k3")),
    "simple_radial": ("OPENCV", ("k1",)),
    "radial": ("OPENCV", ("k1", "k2")),
    "fisheye_opencv": ("OPENCV_FISHEYE", _RADIAL),
}
"""COLMAP's model, and the names of its coefficients in COLMAP's order; missing ones are 0."""

_NUM_PARAMS = {"FULL_OPENCV": 12, "OPENCV": 8, "OPENCV_FISHEYE": 8}


def is_opensfm(values: Any) -> bool:
    """Whether the content of a JSON file has this format."""
    return (
        isinstance(values, list)
        and len(values) > 0
        and all(isinstance(one, dict) and isinstance(one.get("shots"), dict) for one in values)
    )


def read_opensfm(values: Any, path: Path) -> list[KnownImage]:
    """The images of the reconstruction with most shots: others have frames of their own.

    Args:
        values: content of the file.
        path: of the file, for messages.

    Raises:
        DataError: if a shot lacks a pose or a camera, or has an impossible value.
    """
    largest = max(values, key=lambda one: len(one["shots"]))
    if len(values) > 1:
        logger.warning(
            "%s: has %d reconstructions, each in its own frame; that with %d images is used",
            shown_path(path),
            len(values),
            len(largest["shots"]),
        )
    cameras = largest.get("cameras")
    found = []
    for name, shot in sorted(largest["shots"].items()):
        camera_key = shot.get("camera") if isinstance(shot, dict) else None
        camera = cameras.get(camera_key) if isinstance(cameras, dict) else None
        if not isinstance(camera, dict):
            raise DataError(f"{shown_path(path)}: image {name!r}: has no camera")
        rotation, translation = (_vector(shot, key, path, name) for key in ("rotation", "translation"))
        pose = checked_rotation(np.column_stack([rotation_from_rotvec(rotation), translation]), path, name)
        found.append(KnownImage(name, pose, partial(_camera, camera, path, str(camera_key)), str(camera_key)))
    return found


def _vector(shot: dict[str, Any], key: str, path: Path, name: str) -> Float64Array:
    """Three finite numbers of a shot."""
    try:
        found = np.asarray(shot.get(key), np.float64)
    except (TypeError, ValueError, OverflowError):
        found = np.zeros(0)
    if found.shape != (3,) or not np.isfinite(found).all():
        raise DataError(f"{shown_path(path)}: image {name!r}: {key} must have three numbers, got {shot.get(key)!r}")
    return found


def _camera(values: dict[str, Any], path: Path, name: str, size: tuple[int, int]) -> Camera:
    def number(key: str, default: float | None = None) -> float:
        return number_of(values, key, default, path, name)

    longer, center = max(size), (size[0] / 2, size[1] / 2)
    width, height = number("width", size[0]), number("height", size[1])
    if abs(width * size[1] - height * size[0]) > longer:  # a rounded size of a reduced image is right
        raise DataError(
            f"{shown_path(path)}: camera {name!r}: has {width:.0f} x {height:.0f} pixels, an image of it"
            f" {size[0]} x {size[1]}; give the images of the file, not turned"
        )
    kind = str(values.get("projection_type", "perspective"))
    if kind in _SIMPLE:
        focal = number("focal") * longer
        return given_camera(_SIMPLE[kind], size, (focal, *center, number("k1", 0.0), number("k2", 0.0)), path, name)
    if kind not in _FULL:
        raise DataError(f"{shown_path(path)}: camera {name!r}: projection_type {kind} is not supported")
    model, names = _FULL[kind]
    fx = number("focal_x", values.get("focal")) * longer
    fy = number("focal_y", values.get("focal")) * longer
    cx, cy = center[0] + number("c_x", 0.0) * longer, center[1] + number("c_y", 0.0) * longer
    params = [fx, fy, cx, cy, *(number(key, 0.0) for key in names)]
    return given_camera(model, size, params + [0.0] * (_NUM_PARAMS[model] - len(params)), path, name)
