"""Read scenes with `cameras.json` or `truth.json`, in OpenCV's pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datasets.scene_truth import image_root_of, scene_name
from datasets.text import read_text
from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.geometry.transforms import Rigid3, is_rotation, project_to_rotation
from sfm_lightglue.types import Camera

CAMERAS_FILE, TRUTH_FILE = "cameras.json", "truth.json"

METRIC_SCENES = frozenset({"fountain_p11", "tum_fr2_desk"})
"""Scenes of the shared data whose world unit is known to be the metre."""

_MAX_ROUNDING = 1e-3
"""Rotations that differ from one by less, as those of programs that compute with few digits, become the nearest one."""


def read_cameras_json(path: Path) -> SceneTruth:
    """Read the cameras of a `cameras.json` or `truth.json`.

    The file maps a name to {width, height, K [3][3], R [3][3], t [3], dist}: R and t are cam_from_world, K
    has OpenCV's pixel convention (the centre of the first pixel is (0, 0)), and dist is OpenCV's
    [k1 k2 p1 p2 k3 k4 k5 k6]; trailing values may be omitted.

    Args:
        path: the file; the images are in a folder `images` beside it, or in the same folder.

    Raises:
        DataError: if the file is missing or damaged, with the name of the image.
    """
    try:
        entries = json.loads(read_text(path))
    except ValueError as error:
        raise DataError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{path}: expected a mapping from names of images to cameras")
    poses, cameras = {}, {}
    for name, entry in sorted(entries.items()):
        try:
            poses[name], cameras[name] = _pose(entry), _camera(entry)
        except KeyError as error:
            raise DataError(f"{path}: {name}: {error.args[0]} is missing") from error
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: {name}: {error}") from error
    scene = scene_name(path.parent)
    is_metric = path.name == TRUTH_FILE or scene in METRIC_SCENES
    return SceneTruth(scene, image_root_of(path.parent), poses, cameras, is_metric)


def camera_from_opencv(K: Float64Array, dist: Float64Array, size: tuple[int, int]) -> Camera:
    """Convert OpenCV's camera to the COLMAP model with the fewest parameters that is equal to it.

    Args:
        K: [3, 3] in pixels, the centre of the first pixel at (0, 0).
        dist: [0 to 8] k1 k2 p1 p2 k3 k4 k5 k6; trailing values may be omitted.
        size: (width, height) in pixels.

    Raises:
        ValueError: if COLMAP has no such model, or the numbers are not a valid camera.

    Source: OpenCV's documentation of calib3d; COLMAP's models.h.
    """
    (fx, skew, cx), (zero, fy, cy), last = K
    if skew != 0 or zero != 0 or tuple(last) != (0, 0, 1):
        raise ValueError(f"K must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {K.tolist()}")
    if fx <= 0 or fy <= 0:
        raise ValueError(f"focal lengths must be positive, got {fx} and {fy}")
    if dist.ndim != 1 or len(dist) > 8:
        raise ValueError(f"dist: expected at most 8 numbers, got shape {list(dist.shape)}")
    distortion = np.zeros(8)
    distortion[: len(dist)] = dist
    k1, k2, p1, p2 = distortion[:4]
    # COLMAP has the centre of the first pixel at (0.5, 0.5).
    principal = (cx + 0.5, cy + 0.5)
    if distortion[4:].any():
        return Camera("FULL_OPENCV", *size, (fx, fy, *principal, *distortion))
    if p1 != 0 or p2 != 0 or (fx != fy and (k1 != 0 or k2 != 0)):
        return Camera("OPENCV", *size, (fx, fy, *principal, k1, k2, p1, p2))
    if k2 != 0:
        return Camera("RADIAL", *size, (fx, *principal, k1, k2))
    if k1 != 0:
        return Camera("SIMPLE_RADIAL", *size, (fx, *principal, k1))
    if fx != fy:
        return Camera("PINHOLE", *size, (fx, fy, *principal))
    return Camera("SIMPLE_PINHOLE", *size, (fx, *principal))


def _pose(entry: Mapping[str, Any]) -> Rigid3:
    R = _numbers(entry, "R", (3, 3))
    if not is_rotation(R) and np.abs(R @ R.T - np.eye(3)).max() <= _MAX_ROUNDING and np.linalg.det(R) > 0:
        R = project_to_rotation(R)
    return Rigid3(R, _numbers(entry, "t", (3,)))


def _camera(entry: Mapping[str, Any]) -> Camera:
    size = entry["width"], entry["height"]
    if not all(isinstance(value, int) for value in size):
        raise ValueError(f"width and height must be whole numbers, got {size[0]!r} and {size[1]!r}")
    return camera_from_opencv(_numbers(entry, "K", (3, 3)), _numbers(entry, "dist", None), size)


def _numbers(entry: Mapping[str, Any], key: str, shape: tuple[int, ...] | None) -> Float64Array:
    if not isinstance(entry, Mapping):
        raise TypeError(f"expected a mapping, got {entry!r}")
    try:
        values = np.array(entry[key], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: expected numbers, got {entry[key]!r}") from error
    if (shape is not None and values.shape != shape) or not np.isfinite(values).all():
        raise ValueError(f"{key}: expected finite numbers {list(shape or [])}, got {entry[key]!r}")
    return values
