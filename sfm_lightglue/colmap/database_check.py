"""Check a COLMAP database before pycolmap reads it: pycolmap trusts its types and sizes, and may end the process."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator

import numpy as np

from sfm_lightglue.colmap.model_content import focal_length_idxs, model_from_number, num_params_from_model

MAX_IMAGE_ID = 2147483647
"""COLMAP's identifier of a pair is the identifier of its first image times this plus that of its second."""

_REQUIRED_COLUMNS = {
    "cameras": {"camera_id", "model", "width", "height", "params", "prior_focal_length"},
    "images": {"image_id", "name", "camera_id"},
    "keypoints": {"image_id", "rows", "cols", "data"},
    "descriptors": {"image_id", "rows", "cols", "data"},
    "matches": {"pair_id", "rows", "cols", "data"},
    "two_view_geometries": {"pair_id", "rows", "cols", "data", "config"},
    "rigs": {"rig_id", "ref_sensor_id", "ref_sensor_type"},
    "rig_sensors": {"rig_id", "sensor_id", "sensor_type", "sensor_from_rig"},
    "frames": {"frame_id", "rig_id"},
    "frame_data": {"frame_id", "data_id", "sensor_id", "sensor_type"},
    "pose_priors": set(),
}
"""Columns that all versions have. pycolmap adds those of new versions, and tables that are missing."""

_IS_ID = "typeof({0}) = 'integer' AND {0} BETWEEN 0 AND 4294967294"
_IS_IMAGE_ID = f"typeof({{0}}) = 'integer' AND {{0}} BETWEEN 0 AND {MAX_IMAGE_ID - 1}"
_IS_SENSOR = "typeof({0}) = 'integer' AND {0} BETWEEN -1 AND 1000"
_IS_PAIR = (
    f"typeof(pair_id) = 'integer' AND pair_id >= 0 AND pair_id % {MAX_IMAGE_ID} > pair_id / {MAX_IMAGE_ID}"
    f" AND pair_id / {MAX_IMAGE_ID} < {MAX_IMAGE_ID}"
)
_IS_MATRIX = (
    "typeof(rows) = 'integer' AND typeof(cols) = 'integer' AND rows BETWEEN 0 AND 2147483647 AND"
    " cols BETWEEN 0 AND 65536 AND typeof(data) IN ('blob', 'null') AND coalesce(length(data), 0) = rows * cols * {0}"
    " AND (rows = 0 OR {1})"
)
_IS_BLOB = "typeof({0}) IN ('blob', 'null') AND coalesce(length({0}), 0) IN (0, {1})"

_RULES = (
    ("cameras", _IS_ID.format("camera_id"), "an invalid id"),
    (
        "cameras",
        "typeof(width) = 'integer' AND typeof(height) = 'integer' AND width BETWEEN 0 AND 16777216"
        " AND height BETWEEN 0 AND 16777216",
        "an impossible size",
    ),
    ("cameras", "typeof(prior_focal_length) = 'integer'", "no number where prior_focal_length must be"),
    ("images", _IS_IMAGE_ID.format("image_id"), "an invalid id"),
    ("images", "camera_id IN (SELECT camera_id FROM cameras)", "a camera that does not exist"),
    ("keypoints", _IS_IMAGE_ID.format("image_id"), "an invalid id of an image"),
    ("keypoints", _IS_MATRIX.format(4, "cols IN (2, 4, 6)"), "keypoints of a wrong size"),
    ("descriptors", _IS_IMAGE_ID.format("image_id"), "an invalid id of an image"),
    ("descriptors", _IS_MATRIX.format(1, "cols > 0"), "descriptors of a wrong size"),
    ("descriptors", "typeof(type) = 'integer' AND type BETWEEN -1 AND 100", "an unknown type of descriptors"),
    ("matches", _IS_PAIR, "an invalid id of a pair"),
    ("matches", _IS_MATRIX.format(4, "cols = 2"), "matches of a wrong size"),
    ("two_view_geometries", _IS_PAIR, "an invalid id of a pair"),
    ("two_view_geometries", _IS_MATRIX.format(4, "cols = 2"), "inliers of a wrong size"),
    ("two_view_geometries", "typeof(config) = 'integer' AND config BETWEEN 0 AND 100", "an unknown configuration"),
    *(
        ("two_view_geometries", _IS_BLOB.format(name, size), f"{name} of a wrong size")
        for name, size in (("F", 72), ("E", 72), ("H", 72), ("qvec", 32), ("tvec", 24))
    ),
    ("rigs", f"{_IS_ID.format('rig_id')} AND {_IS_ID.format('ref_sensor_id')}", "an invalid id"),
    ("rigs", _IS_SENSOR.format("ref_sensor_type"), "an unknown type of sensor"),
    ("rigs", "ref_sensor_type <> 0 OR ref_sensor_id IN (SELECT camera_id FROM cameras)", "an unknown camera"),
    ("rig_sensors", "rig_id IN (SELECT rig_id FROM rigs)", "a rig that does not exist"),
    ("rig_sensors", _IS_SENSOR.format("sensor_type"), "an unknown type of sensor"),
    ("rig_sensors", _IS_ID.format("sensor_id"), "an invalid id"),
    ("rig_sensors", "sensor_type <> 0 OR sensor_id IN (SELECT camera_id FROM cameras)", "an unknown camera"),
    ("rig_sensors", _IS_BLOB.format("sensor_from_rig", 56), "a pose of a wrong size"),
    ("frames", _IS_ID.format("frame_id"), "an invalid id"),
    ("frames", "rig_id IN (SELECT rig_id FROM rigs)", "a rig that does not exist"),
    ("frame_data", "frame_id IN (SELECT frame_id FROM frames)", "a frame that does not exist"),
    ("frame_data", f"{_IS_ID.format('data_id')} AND {_IS_ID.format('sensor_id')}", "an invalid id"),
    ("frame_data", _IS_SENSOR.format("sensor_type"), "an unknown type of sensor"),
    ("pose_priors", _IS_BLOB.format("position", 24), "a position of a wrong size"),
    ("pose_priors", _IS_BLOB.format("position_covariance", 72), "a covariance of a wrong size"),
    ("pose_priors", _IS_BLOB.format("gravity", 24), "a gravity of a wrong size"),
    ("pose_priors", "typeof(coordinate_system) = 'integer'", "an unknown coordinate system"),
)
"""(table, condition of every row, what a row has that does not fulfil it). Rules for missing columns do not apply."""


def database_fault(connection: sqlite3.Connection) -> str | None:
    """What is damaged in a database of COLMAP, None if nothing is.

    Rows of images that were removed may be left: COLMAP and this library pass over them.

    Args:
        connection: to a private copy of the database, of any version; it is not changed.

    Raises:
        sqlite3.Error: if the file itself is damaged.
    """
    connection.execute("PRAGMA trusted_schema = OFF")
    (state,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if state != "ok":
        return str(state).replace("\n", " ")[:300]
    kind_from_name = dict(connection.execute("SELECT lower(name), type FROM sqlite_master WHERE type <> 'trigger'"))
    tables = {}
    for name, required in _REQUIRED_COLUMNS.items():
        if name not in kind_from_name:
            continue
        if kind_from_name[name] != "table":
            return f"{name} is no table"
        tables[name] = {str(row[1]) for row in connection.execute(f"PRAGMA table_info({name})")}
        if not required <= tables[name]:
            return f"the table {name} has no column {min(required - tables[name])}"
    for fault in _faults(connection, tables):
        return fault
    return None


def _faults(connection: sqlite3.Connection, tables: dict[str, set[str]]) -> Iterator[str]:
    for table, condition, detail in _RULES:
        words = set(condition.replace("(", " ").replace(")", " ").replace(",", " ").split())
        if table not in tables or not _columns_of(words) <= tables[table] or not _tables_of(words) <= tables.keys():
            continue
        found = connection.execute(f"SELECT rowid FROM {table} WHERE ({condition}) IS NOT 1 LIMIT 1").fetchone()
        if found is not None:
            yield f"row {found[0]} of {table} has {detail}"
    yield from _camera_faults(connection)
    yield from _name_faults(connection)
    if {"camera1", "camera2"} <= tables.get("two_view_geometries", set()):
        yield from _pair_camera_faults(connection)


_ALL_COLUMNS = {
    *(column for columns in _REQUIRED_COLUMNS.values() for column in columns),
    *("type", "F", "E", "H", "qvec", "tvec", "position", "position_covariance", "gravity", "coordinate_system"),
}


def _columns_of(words: set[str]) -> set[str]:
    """The columns that a condition names and that a version of COLMAP may lack."""
    return words & (_ALL_COLUMNS - {"camera_id", "rig_id", "frame_id"})


def _tables_of(words: set[str]) -> set[str]:
    """The tables that a condition names."""
    return words & _REQUIRED_COLUMNS.keys()


def _camera_faults(connection: sqlite3.Connection) -> Iterator[str]:
    used = {camera_id for (camera_id,) in connection.execute("SELECT DISTINCT camera_id FROM images")}
    for camera_id, number, width, height, params in connection.execute(
        "SELECT camera_id, model, width, height, params FROM cameras"
    ):
        model = model_from_number().get(number) if isinstance(number, int) else None
        if model is None:
            yield f"camera {camera_id} has an unknown model, {str(number)[:20]}"
        elif not isinstance(params, bytes) or len(params) != 8 * num_params_from_model()[model]:
            yield f"camera {camera_id} has another number of parameters than {model}"
        elif not np.isfinite(np.frombuffer(params, "<f8")).all():
            yield f"camera {camera_id} has a parameter that is not finite"
        elif camera_id in used and (width == 0 or height == 0):
            yield f"camera {camera_id} has no size"
        elif camera_id in used and not (np.frombuffer(params, "<f8")[list(focal_length_idxs(model))] > 0).all():
            yield f"camera {camera_id} has a focal length that is not positive"


def _name_faults(connection: sqlite3.Connection) -> Iterator[str]:
    for image_id, kind, raw in connection.execute("SELECT image_id, typeof(name), CAST(name AS BLOB) FROM images"):
        try:
            name = raw.decode() if isinstance(raw, bytes) else ""
        except UnicodeDecodeError:
            name = ""
        if kind != "text" or not name or "\0" in name:
            yield f"image {image_id} has no valid name"


_PACKED_CAMERA = struct.Struct("<IiQQBQ")
"""Id, model, width, height, whether the focal length is known, and number of parameters of a camera of a pair."""


def _pair_camera_faults(connection: sqlite3.Connection) -> Iterator[str]:
    """Faults of the cameras that COLMAP estimates for single pairs."""
    for pair_id, *cameras in connection.execute(
        "SELECT pair_id, camera1, camera2 FROM two_view_geometries WHERE camera1 NOT NULL OR camera2 NOT NULL"
    ):
        if not all(raw is None or _is_packed_camera(raw) for raw in cameras):
            yield f"pair {pair_id} has a damaged camera"


def _is_packed_camera(raw: object) -> bool:
    if not isinstance(raw, bytes) or len(raw) < _PACKED_CAMERA.size:
        return False
    number, num_params = (_PACKED_CAMERA.unpack_from(raw)[i] for i in (1, 5))
    model = model_from_number().get(number)
    if (
        model is None
        or num_params != num_params_from_model()[model]
        or len(raw) != _PACKED_CAMERA.size + 8 * num_params
    ):
        return False
    return bool(np.isfinite(np.frombuffer(raw, "<f8", offset=_PACKED_CAMERA.size)).all())
