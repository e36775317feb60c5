"""Poses of Bundler's `bundle.out`, whose images are listed in `list.txt` beside it.

Camera axes: x right, y up, z backwards. The principal point is the centre of the image; k1 and k2 are those of COLMAP's
RADIAL. A camera with the focal length 0 was not registered.

Source: Snavely, Bundler v0.3 User's Manual, section VI.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from sfm_lightglue.errors import DataError
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.known_poses.base import MAX_BYTES, KnownImage, checked_rotation, given_camera
from sfm_lightglue.messages import shown_path
from sfm_lightglue.types import Camera

HEAD = b"# Bundle file"

_LISTS = ("list.txt", "list_orig.txt")
_NUMBERS_OF_CAMERA = 15

_FLIPPED = np.diag([1.0, -1.0, -1.0])


def read_bundler(path: Path) -> list[KnownImage]:
    """The registered images of a file.

    Raises:
        DataError: if the file or its list cannot be read, or they do not belong together.
    """
    names = _names(path)
    shown = shown_path(path)
    _, _, body = read_input_file(path, MAX_BYTES).partition(b"\n")
    try:
        head, _, rest = body.lstrip().partition(b"\n")
        num_cameras = int(head.split()[0])
        values = np.array(rest.split(maxsplit=_NUMBERS_OF_CAMERA * num_cameras)[: _NUMBERS_OF_CAMERA * num_cameras])
        rows = values.astype(np.float64).reshape(num_cameras, _NUMBERS_OF_CAMERA)
    except (ValueError, IndexError) as error:
        raise DataError(f"{shown}: damaged: expected {_NUMBERS_OF_CAMERA} numbers of each camera") from error
    if num_cameras != len(names):
        raise DataError(
            f"{shown}: has {num_cameras} cameras, and its list names {len(names)} images; give both of one run"
        )
    found = []
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        if row[0] == 0:
            continue
        R, t = _FLIPPED @ row[3:12].reshape(3, 3), _FLIPPED @ row[12:15]
        pose = checked_rotation(np.column_stack([R, t]), path, name)
        found.append(KnownImage(name, pose, partial(_camera, tuple(row[:3].tolist()), path, name), number))
    return found


def _camera(values: tuple[float, float, float], path: Path, name: str, size: tuple[int, int]) -> Camera:
    focal, k1, k2 = values
    center = (size[0] / 2, size[1] / 2)
    if k2 == 0:
        return given_camera("SIMPLE_RADIAL", size, (focal, *center, k1), path, name)
    return given_camera("RADIAL", size, (focal, *center, k1, k2), path, name)


def _names(path: Path) -> list[str]:
    listed = next((path.with_name(name) for name in _LISTS if path.with_name(name).is_file()), None)
    if listed is None:
        raise DataError(f"{shown_path(path)}: {_LISTS[0]} with the names of its images is missing beside it")
    try:
        lines = read_input_file(listed, MAX_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{shown_path(listed)}: cannot be read (not UTF-8 text)") from error
    return [_name(line) for line in lines if line.strip()]


def _name(line: str) -> str:
    """The name of a line, without the two numbers that Bundler writes behind it where it knows the focal length."""
    parts = line.strip().rsplit(maxsplit=2)
    if len(parts) == 3 and parts[1] == "0":
        try:
            float(parts[2])
        except ValueError:
            return line.strip()
        return parts[0]
    return line.strip()
