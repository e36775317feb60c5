"""Read the binary files of a COLMAP model; each size and count is checked before it is used."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.colmap.model_content import (
    CameraRow,
    FrameRow,
    ImageTable,
    ModelContent,
    PointTable,
    RigRow,
    SensorId,
    damaged,
    model_from_number,
    num_params_from_model,
)
from sfm_lightglue.input_file import read_input_file

_KEYPOINT = np.dtype([("xy", "<f8", 2), ("point_id", "<u8")])
_POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("color", "u1", 3), ("error", "<f8"), ("length", "<u8")])
_TRACK_ELEMENT_BYTES = 8

_MAX_NAME_BYTES = 4096

_CHUNK = 2**17
"""Number of points that are gathered at once, which limits the memory."""


def read_binary_content(folder: Path, files: Mapping[str, bytes] | None = None) -> ModelContent:
    """The content of a binary model. References between its files are not checked.

    Args:
        folder: of the model, for messages only if `files` is given.
        files: content of the files by name, such as "cameras.bin", if it was read already.

    Raises:
        DataError: if a file is damaged or cannot be read.
    """

    def open_file(name: str) -> _Cursor:
        path = folder / f"{name}.bin"
        if files is None:
            return _Cursor(path, read_input_file(path))
        if path.name not in files:
            raise damaged(path, "it is missing")
        return _Cursor(path, files[path.name])

    has_rigs, has_frames = (
        (folder / f"{name}.bin").exists() if files is None else f"{name}.bin" in files for name in ("rigs", "frames")
    )
    return ModelContent(
        folder,
        ".bin",
        _read_cameras(open_file("cameras")),
        _read_rigs(open_file("rigs")) if has_rigs else (),
        _read_frames(open_file("frames")) if has_frames else (),
        _read_images(open_file("images")),
        _read_points(open_file("points3D")),
    )


def read_binary_images(folder: Path, content: bytes) -> ImageTable:
    """The images of a binary model alone.

    Args:
        folder: of the model, for messages.
        content: of its file "images.bin".

    Raises:
        DataError: if the file is damaged.
    """
    return _read_images(_Cursor(folder / "images.bin", content))


class _Cursor:
    """A position in the bytes of a file."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data, self.position = path, data, 0

    def take(self, layout: str) -> tuple[Any, ...]:
        """The next values, little-endian."""
        size = struct.calcsize(f"<{layout}")
        self.require(1, size)
        values = struct.unpack_from(f"<{layout}", self.data, self.position)
        self.position += size
        return values

    def count(self, min_bytes: int, layout: str = "Q") -> int:
        """The next value, a number of records of at least so many bytes each."""
        (number,) = self.take(layout)
        self.require(number, min_bytes)
        return int(number)

    def require(self, number: int, num_bytes: int) -> None:
        """Check that so many records of so many bytes can follow."""
        left = len(self.data) - self.position
        if number * num_bytes > left:
            self.fail(
                f"{number} records of {num_bytes} bytes or more must follow byte {self.position}, {left} are left"
            )

    def array(self, dtype: np.dtype[Any], number: int) -> AnyArray:
        """The next records."""
        self.require(number, dtype.itemsize)
        values: AnyArray = np.frombuffer(self.data, dtype, number, self.position)
        self.position += number * dtype.itemsize
        return values

    def text(self) -> str:
        """The next characters, to a null byte."""
        end = self.data.find(b"\0", self.position, self.position + _MAX_NAME_BYTES)
        if end < 0:
            self.fail("the name of an image has no end")
        raw, self.position = self.data[self.position : end], end + 1
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.fail(f"the name of an image is not UTF-8: {raw[:80]!r}")

    def end(self) -> None:
        """Check that nothing follows."""
        if self.position != len(self.data):
            self.fail(f"{len(self.data) - self.position} bytes too many")

    def fail(self, detail: str) -> NoReturn:
        raise damaged(self.path, detail)


def _read_cameras(file: _Cursor) -> tuple[CameraRow, ...]:
    rows = []
    for _ in range(file.count(24)):
        camera_id, number, width, height = file.take("IiQQ")
        model = model_from_number().get(number)
        if model is None:
            file.fail(f"camera {camera_id} has an unknown model, {number}")
        params = file.take(f"{num_params_from_model()[model]}d")
        rows.append(CameraRow(camera_id, model, (width, height), params))
    file.end()
    return tuple(rows)


def _read_rigs(file: _Cursor) -> tuple[RigRow, ...]:
    rows = []
    for _ in range(file.count(8)):
        (rig_id,) = file.take("I")
        num_sensors = file.count(8, "I")
        sensors: dict[SensorId, tuple[float, ...] | None] = {}
        for number in range(num_sensors):
            sensor = file.take("iI")
            has_pose = number > 0 and file.take("B") != (0,)
            sensors[(sensor[0], sensor[1])] = file.take("7d") if has_pose else None
        rows.append(RigRow(rig_id, sensors, num_sensors))
    file.end()
    return tuple(rows)


def _read_frames(file: _Cursor) -> tuple[FrameRow, ...]:
    rows = []
    for _ in range(file.count(68)):
        frame_id, rig_id, *pose = file.take("II7d")
        data = [file.take("iIQ") for _ in range(file.count(16, "I"))]
        rows.append(FrameRow(frame_id, rig_id, tuple(pose), tuple(((kind, idx), one) for kind, idx, one in data)))
    file.end()
    return tuple(rows)


def _read_images(file: _Cursor) -> ImageTable:
    heads, names, keypoints = [], [], [np.zeros(0, _KEYPOINT)]
    for _ in range(file.count(73)):
        heads.append(file.take("I7dI"))
        names.append(file.text())
        keypoints.append(file.array(_KEYPOINT, file.count(_KEYPOINT.itemsize)))
    file.end()
    together = np.concatenate(keypoints)
    return ImageTable(
        np.array([head[0] for head in heads], np.int64),
        np.array([head[1:8] for head in heads], np.float64).reshape(-1, 7),
        np.array([head[8] for head in heads], np.int64),
        tuple(names),
        np.array([len(one) for one in keypoints[1:]], np.int64),
        np.ascontiguousarray(together["xy"]),
        np.ascontiguousarray(together["point_id"]),
    )


def _read_points(file: _Cursor) -> PointTable:
    number = file.count(_POINT.itemsize)
    raw = np.frombuffer(file.data, np.uint8)
    offsets = _point_offsets(file, number)
    heads, is_track = np.zeros(number, _POINT), np.ones(len(raw), np.bool_)
    is_track[:8] = False
    for start in range(0, number, _CHUNK):
        where = offsets[start : start + _CHUNK, None] + np.arange(_POINT.itemsize)
        heads[start : start + _CHUNK] = raw[where].view(_POINT)[:, 0]
        is_track[where] = False
    tracks = raw[is_track].view("<u4").reshape(-1, 2).astype(np.int64)
    return PointTable(
        heads["id"].copy(),
        np.ascontiguousarray(heads["xyz"]),
        np.ascontiguousarray(heads["color"]),
        heads["error"].copy(),
        heads["length"].astype(np.int64),
        tracks,
    )


def _point_offsets(file: _Cursor, number: int) -> AnyArray:
    """Position [number] of each point's record in the file; each ends where the next begins."""
    unpack, data, size = struct.Struct("<Q").unpack_from, file.data, len(file.data)
    position, offsets = file.position, []
    for i in range(number):
        offsets.append(position)
        if position + _POINT.itemsize > size:
            file.position = position
            file.require(number - i, _POINT.itemsize)
        (length,) = unpack(data, position + _POINT.itemsize - 8)
        position += _POINT.itemsize + _TRACK_ELEMENT_BYTES * length
        if position > size:
            file.fail(f"the track of point {i + 1} of {number} has {length} observations, more than the file")
    file.position = position
    file.end()
    return np.array(offsets, np.int64)
