"""Keypoints of models that a database lacks are added to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.colmap.model_database import append_keypoints, read_stored_keypoints
from sfm_lightglue.errors import StoreError
from sfm_lightglue.types import Camera, SceneImage

CAMERA = Camera("SIMPLE_PINHOLE", 640, 480, (500.0, 320.0, 240.0), "given")
KEYPOINTS = {"a.jpg": np.array([[1.5, 2.5], [3.0, 4.0]], np.float32), "b.jpg": np.zeros((0, 2), np.float32)}
ADDED = np.array([[7.25, 8.0], [9.0, 10.0], [11.0, 12.5]])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "database.db"
    with DatabaseWriter(path) as writer:
        for name, keypoints in KEYPOINTS.items():
            writer.add_image(SceneImage(name, Path(name), CAMERA, 0, ""), keypoints)
    return path


def test_keypoints_are_added_behind_those_of_the_database(database: Path) -> None:
    refined = KEYPOINTS["a.jpg"] + 0.1  # the database keeps the places where they were detected
    images = [("a.jpg", np.concatenate([refined, ADDED])), ("b.jpg", ADDED[:1])]
    assert append_keypoints(database, [*images, *images]) == {"a.jpg": 3, "b.jpg": 1}
    stored = dict(read_stored_keypoints(database))
    np.testing.assert_array_equal(stored["a.jpg"], np.concatenate([KEYPOINTS["a.jpg"], ADDED]).astype(np.float32))
    np.testing.assert_array_equal(stored["b.jpg"], ADDED[:1].astype(np.float32))
    with pycolmap.Database.open(database) as opened:
        np.testing.assert_array_equal(opened.read_keypoints(1)[:, :2], stored["a.jpg"])
    assert append_keypoints(database, images) == {}


def test_nothing_is_added_where_there_is_nothing_more(database: Path) -> None:
    before = database.read_bytes()
    assert append_keypoints(database, KEYPOINTS.items()) == {}
    assert append_keypoints(database, []) == {}
    assert dict(read_stored_keypoints(database)).keys() == KEYPOINTS.keys()
    assert database.read_bytes() == before


def test_more_columns_are_zero(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    with DatabaseWriter(path) as writer:
        keypoints = np.array([[1.0, 2.0, 3.0, 0.5]], np.float32)
        writer.add_image(SceneImage("a.jpg", Path("a.jpg"), CAMERA, 0, ""), keypoints)
    append_keypoints(path, [("a.jpg", np.array([[1.0, 2.0], [5.0, 6.0]]))])
    with pycolmap.Database.open(path) as opened:
        np.testing.assert_array_equal(opened.read_keypoints(1)[:, :4], [[1, 2, 3, 0.5], [5, 6, 0, 0]])


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match=r"database\.db: cannot be written"):
        append_keypoints(path, [("a.jpg", ADDED)])
