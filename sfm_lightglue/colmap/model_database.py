"""A COLMAP database of the images of a model, with its ids, and what a database has of images and pairs."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray, Float32Array
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.errors import DataError, StoreError
from sfm_lightglue.messages import shown_path
from sfm_lightglue.types import ImagePair


def write_database_of_model(model: pycolmap.Reconstruction, path: Path) -> None:
    """Write cameras, rigs, frames, images and keypoints of a model into a database, with the ids of the model.

    Args:
        model: its registered images.
        path: of the database, which does not exist yet.

    Raises:
        StoreError: if it cannot be written.
    """
    try:
        with quiet_log(), pycolmap.Database.open(path) as database:
            for camera_id in sorted(model.cameras):
                database.write_camera(model.cameras[camera_id], use_camera_id=True)
            for rig_id in sorted(model.rigs):
                database.write_rig(model.rigs[rig_id], use_rig_id=True)
            images = [model.images[image_id] for image_id in sorted(model.reg_image_ids())]
            for frame_id in sorted({image.frame_id for image in images}):
                database.write_frame(model.frames[frame_id], use_frame_id=True)
            for image in images:
                database.write_image(image, use_image_id=True)
                keypoints = np.array([point.xy for point in image.points2D], np.float32).reshape(-1, 2)
                database.write_keypoints(image.image_id, keypoints)
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreError(f"{shown_path(path)}: cannot be written ({error})") from error


def append_keypoints(path: Path, images: Iterable[tuple[str, AnyArray]]) -> dict[str, int]:
    """Add the keypoints to a database that images of models have beyond those of the database.

    Args:
        path: an existing database, which no other run opens.
        images: names, and pixels [N, 2] of all keypoints, of which the first are those of the database. If a name comes
            several times, the keypoints are the same.

    Returns:
        How many keypoints each image has more than before, by name; without those that have none.

    Raises:
        StoreError: if it cannot be written.
    """
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            return _append(connection, images)
    except sqlite3.Error as error:
        raise StoreError(f"{shown_path(path)}: cannot be written ({error})") from error


def _append(connection: sqlite3.Connection, images: Iterable[tuple[str, AnyArray]]) -> dict[str, int]:
    num_added: dict[str, int] = {}
    found = connection.execute("SELECT name, image_id, rows, cols FROM keypoints JOIN images USING (image_id)")
    stored = {name: rest for name, *rest in found}
    for name, pixels in images:
        image_id, num_rows, num_columns = stored[name]
        if name in num_added or len(pixels) <= num_rows:
            continue
        rows = np.zeros((len(pixels) - num_rows, num_columns), np.float32)
        rows[:, :2] = pixels[num_rows:]
        connection.execute(
            "UPDATE keypoints SET rows = ?, data = CAST(COALESCE(data, X'') || ? AS BLOB) WHERE image_id = ?",
            (len(pixels), rows.astype("<f4").tobytes(), image_id),
        )
        num_added[name] = len(rows)
    return num_added


def read_stored_keypoints(path: Path) -> Iterator[tuple[str, Float32Array]]:
    """The keypoints [N, 2] of each image of a database that has some, in pixels.

    Raises:
        DataError: if it cannot be read.
    """
    with _reading(path) as connection:
        rows = connection.execute("SELECT name, rows, cols, data FROM keypoints JOIN images USING (image_id)")
        for name, num_rows, num_columns, data in rows:
            values = np.frombuffer(data or b"", "<f4").reshape(num_rows, num_columns)
            yield name, values[:, :2]


def read_stored_names(path: Path) -> dict[int, str]:
    """Names of the images of a database by id.

    Raises:
        DataError: if it cannot be read.
    """
    with _reading(path) as connection:
        return dict(connection.execute("SELECT image_id, name FROM images ORDER BY image_id"))


def read_matched_pairs(path: Path) -> set[ImagePair]:
    """The pairs of a database that were matched.

    Raises:
        DataError: if it cannot be read.
    """
    names = read_stored_names(path)
    with _reading(path) as connection:
        pair_ids = [pair_id for (pair_id,) in connection.execute("SELECT pair_id FROM matches")]
    ids = (pycolmap.pair_id_to_image_pair(pair_id) for pair_id in pair_ids)
    return {ImagePair.from_names(names[id0], names[id1]) for id0, id1 in ids}


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection
    except (sqlite3.Error, ValueError) as error:
        raise DataError(f"{shown_path(path)}: the database cannot be read ({error})") from error
