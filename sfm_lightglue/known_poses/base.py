"""What the readers of known poses return."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.geometry.transforms import Rigid3, project_to_rotation
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.messages import shown_path
from sfm_lightglue.scene.cameras import make_camera
from sfm_lightglue.types import Camera

CameraOfSize = Callable[[tuple[int, int]], Camera]
"""The camera of an image of (width, height) pixels: some formats do not say the size."""

MAX_BYTES = 4 * 10**9

_MAX_ROTATION_ERROR = 1e-3
"""Largest difference from a rotation of matrices that were written with few digits."""


@dataclass(frozen=True, eq=False, slots=True)
class KnownImage:
    """An image of a file of poses.

    Args:
        name: as the file spells it.
        cam_from_world: its pose.
        camera: its intrinsics for a size of the image.
        camera_key: images with the same key share a camera.
    """

    name: str
    cam_from_world: Rigid3
    camera: CameraOfSize
    camera_key: Hashable


def checked_rotation(matrix: Any, path: Path, name: str) -> Rigid3:
    """A pose of a matrix [3, 4] or [4, 4] of numbers, which may have few digits.

    Args:
        matrix: nested lists or an array.
        path: of the file, for the message.
        name: of the image, for the message.

    Raises:
        DataError: if it is no rotation and translation.
    """
    try:
        values = np.asarray(matrix, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{shown_path(path)}: image {name!r}: its pose is no matrix of numbers") from error
    if values.shape not in {(3, 4), (4, 4)} or not np.isfinite(values).all():
        raise DataError(f"{shown_path(path)}: image {name!r}: its pose is not a matrix [3, 4] or [4, 4] of numbers")
    R = project_to_rotation(values[:3, :3])
    if np.abs(R - values[:3, :3]).max() > _MAX_ROTATION_ERROR:
        raise DataError(
            f"{shown_path(path)}: image {name!r}: its pose has a scale or a reflection; poses must be rotations and"
            " translations"
        )
    return Rigid3(R, values[:3, 3])


def given_camera(model: str, size: tuple[int, int], params: Sequence[float], path: Path, name: str) -> Camera:
    """A camera with checked parameters.

    Raises:
        DataError: if a parameter is impossible.
    """
    try:
        return make_camera(model, size, params)
    except ConfigError as error:
        raise DataError(f"{shown_path(path)}: image {name!r}: {error}") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: if it cannot be read, or is no JSON.
    """
    try:
        return json.loads(read_input_file(path, MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown_path(path)}: not a JSON file ({error})") from error


def number_of(values: Any, key: str, default: float | None, path: Path, name: str) -> float:
    """A finite number of a JSON object.

    Args:
        values: the object.
        key: of the number.
        default: if the object has no such key; None if it must have it.
        path: of the file, for the message.
        name: of the image or camera, for the message.

    Raises:
        DataError: if it is missing or no finite number.
    """
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise DataError(f"{shown_path(path)}: {name!r}: {key} is {value!r}, expected a number")
    return float(value)
