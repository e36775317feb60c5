"""How many matches and inliers the pairs of a COLMAP database have, without reading the matches."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array
from sfm_lightglue.colmap.database_check import MAX_IMAGE_ID
from sfm_lightglue.colmap.shared_database import damaged_database, pair_id_of

_KIND_FROM_CONFIGURATION = {2: "general", 3: "general", 4: "planar", 5: "pure_rotation", 6: "planar", 9: "general"}
"""By COLMAP's number: calibrated, uncalibrated, planar, panoramic, planar or panoramic, calibrated in a rig."""


@dataclass(frozen=True, slots=True)
class PairCount:
    """One pair that was matched.

    Args:
        names: of both images, sorted.
        num_matches: of the matcher.
        num_inliers: of the geometry; 0 without one.
        kind: "general", "planar" or "pure_rotation"; "" without a geometry.
    """

    names: tuple[str, str]
    num_matches: int
    num_inliers: int
    kind: str


@dataclass(frozen=True, slots=True)
class DatabaseCounts:
    """The numbers of a database.

    Args:
        num_keypoints_from_name: of each image.
        pairs: sorted by their names.
    """

    num_keypoints_from_name: dict[str, int]
    pairs: tuple[PairCount, ...]


def database_counts(path: Path) -> DatabaseCounts:
    """Count keypoints, matches and inliers in a COLMAP database. The file is not changed.

    Raises:
        DataError: if the file is missing, or is no COLMAP database.
    """
    with _reading(path) as connection:
        names = dict(connection.execute("SELECT image_id, name FROM images"))
        keypoints = dict(connection.execute("SELECT image_id, rows FROM keypoints"))
        matches = dict(connection.execute("SELECT pair_id, rows FROM matches"))
        rows = connection.execute("SELECT pair_id, rows, config FROM two_view_geometries")
        geometries = {pair_id: (num_inliers, kind) for pair_id, num_inliers, kind in rows}
    pairs = []
    for pair_id in {*matches, *geometries}:
        ids = pair_id // MAX_IMAGE_ID, pair_id % MAX_IMAGE_ID
        if not set(ids) <= names.keys():
            continue
        name0, name1 = sorted(names[image_id] for image_id in ids)
        num_inliers, configuration = geometries.get(pair_id, (0, 0))
        kind = _KIND_FROM_CONFIGURATION.get(configuration, "") if num_inliers else ""
        pairs.append(PairCount((name0, name1), matches.get(pair_id, 0), num_inliers if kind else 0, kind))
    counts = {names[image_id]: number for image_id, number in sorted(keypoints.items()) if image_id in names}
    return DatabaseCounts(counts, tuple(sorted(pairs, key=lambda pair: pair.names)))


@dataclass(frozen=True, slots=True, eq=False)
class MatchedKeypoints:
    """The matches of a pair.

    Args:
        xy0: [M, 2] keypoints of the first image, in pixels of the stored image.
        xy1: [M, 2] of the second one.
        inlier_mask: [M].
    """

    xy0: Float32Array
    xy1: Float32Array
    inlier_mask: BoolArray


def matched_keypoints(path: Path, names: tuple[str, str]) -> MatchedKeypoints:
    """The matches of one pair of a COLMAP database. The file is not changed.

    Args:
        path: of the database.
        names: of both images, in the order of the result.

    Raises:
        DataError: if the file is missing, damaged, or has no such images.
    """
    with _reading(path) as connection:
        ids, keypoints = [], []
        for name in names:
            row = connection.execute("SELECT image_id FROM images WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise damaged_database(path, f"it has no image {name}")
            ids.append(row[0])
            keypoints.append(_array(connection, "keypoints", "image_id", row[0], np.float32)[:, :2])
        pair_id = pair_id_of(*ids)
        matches = _array(connection, "matches", "pair_id", pair_id, np.uint32).astype(np.int64)
        inliers = _array(connection, "two_view_geometries", "pair_id", pair_id, np.uint32).astype(np.int64)
    if len(matches) == 0:
        matches = inliers
    if len(matches) > 0 and (matches.max(axis=0) >= [len(keypoints[side]) for side in np.argsort(ids)]).any():
        raise damaged_database(path, f"matches of {names[0]} and {names[1]} refer to missing keypoints")
    width = 1 + max(int(each.max(initial=0)) for each in (matches, inliers))
    mask = np.isin(matches @ (width, 1), inliers @ (width, 1))
    columns = (0, 1) if ids[0] < ids[1] else (1, 0)
    xy0, xy1 = (keypoints[side][matches[:, columns[side]]] for side in (0, 1))
    return MatchedKeypoints(xy0, xy1, mask)


def _array(
    connection: sqlite3.Connection, table: str, key: str, number: int, dtype: type[np.generic]
) -> np.ndarray[Any, Any]:
    """A matrix of a table, [0, 2] if it has none."""
    query = f"SELECT rows, cols, data FROM {table} WHERE {key} = ?"
    found = connection.execute(query, (number,)).fetchone()
    if found is None or not found[2]:
        return np.zeros((0, 2), dtype)
    return np.frombuffer(found[2], dtype).reshape(found[0], found[1])


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write."""
    try:
        uri = f"{Path(path).resolve().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            yield connection
    except (sqlite3.Error, ValueError) as error:
        raise damaged_database(path, error) from error
