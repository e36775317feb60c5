"""Read the text files of a COLMAP model, of all versions, with the line of each error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from sfm_lightglue.colmap.model_content import (
    CAMERA_SENSOR,
    INVALID_POINT_ID,
    CameraRow,
    FrameRow,
    ImageTable,
    ModelContent,
    PointTable,
    RigRow,
    SensorId,
    damaged,
    num_params_from_model,
)
from sfm_lightglue.input_file import read_input_file

_SENSOR_TYPES = {b"CAMERA": CAMERA_SENSOR, b"IMU": 1}

_ANNOUNCED = re.compile(rb"# Number of \w+: (\d{1,18})\b")

_MAX_ID = 2**63 - 1
"""Largest integer that COLMAP reads from text."""


def read_text_content(folder: Path) -> ModelContent:
    """The content of a model in text format. References between its files are not checked.

    Raises:
        DataError: if a file is damaged or cannot be read.
    """
    has_rigs, has_frames = ((folder / f"{name}.txt").exists() for name in ("rigs", "frames"))
    return ModelContent(
        folder,
        ".txt",
        _read_cameras(folder / "cameras.txt"),
        _read_rigs(folder / "rigs.txt") if has_rigs else (),
        _read_frames(folder / "frames.txt") if has_frames else (),
        _read_images(folder / "images.txt"),
        _read_points(folder / "points3D.txt"),
    )


class _Line:
    """The items of a line between white space."""

    def __init__(self, path: Path, number: int, line: bytes) -> None:
        self.path, self.number = path, number
        self.items = line.split()
        self.position = 0

    def next(self) -> bytes:
        """The next item."""
        if self.position == len(self.items):
            self.fail("is too short")
        self.position += 1
        return self.items[self.position - 1]

    def integer(self) -> int:
        """The next item as a number from 0 to `_MAX_ID`."""
        item = self.next()
        if not item.isdigit() or len(item) > 19 or int(item) > _MAX_ID:
            self.fail(f"has {item[:40]!r} where an integer from 0 must be")
        return int(item)

    def floats(self, number: int) -> tuple[float, ...]:
        """The next items as numbers."""
        if len(self.items) - self.position < number:
            self.fail("is too short")
        start, self.position = self.position, self.position + number
        return self.as_floats(self.items[start : self.position])

    def as_floats(self, items: list[bytes]) -> tuple[float, ...]:
        """Items as numbers."""
        try:
            values = tuple(map(float, items))
        except ValueError as error:
            self.fail(f"has an item that is no number ({str(error)[:80]})")
        if any(b"_" in item for item in items):  # Python reads 1_0 as 10
            self.fail("has an item that is no number")
        return values

    def rest(self) -> list[bytes]:
        """All further items."""
        start, self.position = self.position, len(self.items)
        return self.items[start:]

    def sensor(self) -> SensorId:
        """The next two items, the type and the id of a sensor."""
        kind = _SENSOR_TYPES.get(self.next())
        if kind is None:
            self.fail("has an unknown type of sensor")
        return kind, self.integer()

    def end(self) -> None:
        """Check that no item follows."""
        if self.position != len(self.items):
            self.fail("is too long")

    def fail(self, detail: str) -> NoReturn:
        raise damaged(self.path, f"line {self.number} {detail}")


def _lines(path: Path) -> Iterator[_Line]:
    """The lines that are neither empty nor comments."""
    raw, count = _raw_lines(path), 0
    for number, line in enumerate(raw, 1):
        if line and not line.startswith(b"#"):
            yield _Line(path, number, line)
            count += 1
    _require_announced(path, raw, count)


def _require_announced(path: Path, lines: list[bytes], count: int) -> None:
    """Check that there are as many records as COLMAP's comment above them announces: else the file was cut off."""
    if count == 0 and lines and not read_input_file(path).endswith(b"\n"):
        raise damaged(path, "it ends within a comment")
    for line in lines[:8]:
        if (found := _ANNOUNCED.match(line)) and count < int(found[1]):
            raise damaged(
                path,
                f"its comment announces {int(found[1])} records, it has {count}; if that is right, remove the comment",
            )


def _raw_lines(path: Path) -> list[bytes]:
    """All lines without spaces at their ends. The last one is left out if it is empty: a file ends with a newline."""
    lines = [line.strip(b" \t\r\v\f") for line in read_input_file(path).split(b"\n")]
    return lines if lines[-1] else lines[:-1]


def _read_cameras(path: Path) -> tuple[CameraRow, ...]:
    rows = []
    for line in _lines(path):
        camera_id, model = line.integer(), line.next().decode(errors="replace")
        if model not in num_params_from_model():
            line.fail(f"has an unknown camera model, {model[:40]!r}")
        size = line.integer(), line.integer()
        rows.append(CameraRow(camera_id, model, size, line.floats(num_params_from_model()[model])))
        line.end()
    return tuple(rows)


def _read_rigs(path: Path) -> tuple[RigRow, ...]:
    rows = []
    for line in _lines(path):
        rig_id, num_sensors = line.integer(), line.integer()
        sensors: dict[SensorId, tuple[float, ...] | None] = {}
        for number in range(num_sensors):
            sensor = line.sensor()
            has_pose = number > 0 and line.next() == b"1"
            sensors[sensor] = line.floats(7) if has_pose else None
        line.end()
        rows.append(RigRow(rig_id, sensors, num_sensors))
    return tuple(rows)


def _read_frames(path: Path) -> tuple[FrameRow, ...]:
    rows = []
    for line in _lines(path):
        frame_id, rig_id, pose = line.integer(), line.integer(), line.floats(7)
        data = tuple((line.sensor(), line.integer()) for _ in range(line.integer()))
        line.end()
        rows.append(FrameRow(frame_id, rig_id, pose, data))
    return tuple(rows)


def _read_images(path: Path) -> ImageTable:
    ids, poses, camera_ids, names, num_points = [], [], [], [], []
    xy: list[float] = []
    point_ids: list[int] = []
    all_lines = _raw_lines(path)
    lines = iter(enumerate(all_lines, 1))
    for number, raw in lines:
        if not raw or raw.startswith(b"#"):
            continue
        line = _Line(path, number, raw)
        ids.append(line.integer())
        poses.append(line.floats(7))
        camera_ids.append(line.integer())
        names.append(_name(line))
        following = next(lines, None)
        if following is None:
            line.fail("must be followed by a line with the keypoints of the image, which may be empty")
        num_points.append(_keypoints(_Line(path, *following), xy, point_ids) if following[1] else 0)
    _require_announced(path, all_lines, len(ids))
    return ImageTable(
        np.array(ids, np.int64),
        np.array(poses, np.float64).reshape(-1, 7),
        np.array(camera_ids, np.int64),
        tuple(names),
        np.array(num_points, np.int64),
        np.array(xy, np.float64).reshape(-1, 2),
        np.array(point_ids, np.uint64),
    )


def _name(line: _Line) -> str:
    items = line.rest()
    if len(items) != 1:
        line.fail(
            "has no name of an image" if not items else "has a name with a space, which only binary models can hold"
        )
    try:
        return items[0].decode()
    except UnicodeDecodeError:
        line.fail(f"has a name that is not UTF-8: {items[0][:80]!r}")


def _keypoints(line: _Line, xy: list[float], point_ids: list[int]) -> int:
    """Append the keypoints of an image; returns their number."""
    items = line.rest()
    if len(items) % 3:
        line.fail("is too short: each keypoint has x, y and the id of its 3D point")
    xs, ys = line.as_floats(items[0::3]), line.as_floats(items[1::3])
    xy.extend(value for point in zip(xs, ys, strict=True) for value in point)
    for item in items[2::3]:
        if item == b"-1":
            point_ids.append(INVALID_POINT_ID)
        elif item.isdigit() and len(item) < 19:
            point_ids.append(int(item))
        else:
            line.fail(f"has {item[:40]!r} where the id of a 3D point must be")
    return len(xs)


def _read_points(path: Path) -> PointTable:
    ids, values, lengths = [], [], []
    tracks: list[int] = []
    for line in _lines(path):
        ids.append(line.integer())
        values.append((*line.floats(3), line.integer(), line.integer(), line.integer(), *line.floats(1)))
        if max(values[-1][3:6]) > 255:
            line.fail("has a colour that is not in 0 to 255")
        track = line.rest()
        if len(track) % 2:
            line.fail("is too short: each observation has the id of an image and the index of a keypoint")
        if not all(item.isdigit() and len(item) < 11 for item in track):
            line.fail("has an observation that is no integer")
        lengths.append(len(track) // 2)
        tracks.extend(map(int, track))
    together = np.array(values, np.float64).reshape(-1, 7)
    return PointTable(
        np.array(ids, np.uint64),
        np.ascontiguousarray(together[:, :3]),
        together[:, 3:6].astype(np.uint8),
        together[:, 6].copy(),
        np.array(lengths, np.int64),
        np.array(tracks, np.int64).reshape(-1, 2),
    )
