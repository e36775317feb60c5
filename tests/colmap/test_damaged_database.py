"""Damaged databases are refused by name before pycolmap reads them; what COLMAP passes over is read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap import shared_database
from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.colmap.known_images import read_known_images
from sfm_lightglue.colmap.shared_database import SharedDatabase, remove_features
from sfm_lightglue.errors import DataError


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Eight images of two rigs, with rows in every table that this library reads."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 2, 2, 2
    options.num_points3D, options.num_points2D_without_point3D = 30, 3
    pycolmap.set_random_seed(0)
    with pycolmap.Database.open(tmp_path / "database.db") as opened:
        pycolmap.synthesize_dataset(options, opened)
    return tmp_path / "database.db"


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            connection.execute(statement)


def add_nothing(path: Path) -> None:
    """What `colmap` does with an existing database, without images."""
    copy = path.with_name("copy.db")
    with SharedDatabase(path) as shared:
        shared.copy_to(copy)
        remove_features(copy, [image.image_id for image in read_known_images(copy, path)])
        with DatabaseWriter(copy):
            pass
        shared.replace_content(copy)


USES: tuple[Callable[[Path], object], ...] = (read_database, add_nothing)
INFINITE = f"x'{np.full(9, np.inf).tobytes().hex()}'"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE cameras SET model = 99", "unknown model, 99"),
        ("UPDATE cameras SET params = x'00'", "another number of parameters"),
        ("UPDATE cameras SET params = NULL", "another number of parameters"),
        (f"UPDATE cameras SET params = substr({INFINITE}, 1, length(params))", "not finite"),
        ("UPDATE cameras SET params = zeroblob(length(params))", "focal length that is not positive"),
        ("UPDATE cameras SET width = -5", "impossible size"),
        ("UPDATE cameras SET height = 'tall'", "impossible size"),
        ("UPDATE images SET camera_id = 4000 WHERE image_id = 1", "camera that does not exist"),
        ("UPDATE images SET name = x'ff' WHERE image_id = 1", "no valid name"),
        ("UPDATE images SET name = CAST(x'ffff' AS TEXT) WHERE image_id = 1", "no valid name"),
        ("UPDATE images SET image_id = 3000000000 WHERE image_id = 1", "row 3000000000 of images has an invalid id"),
        ("UPDATE keypoints SET rows = rows + 1", "row 1 of keypoints has keypoints of a wrong size"),
        ("UPDATE keypoints SET rows = 1152921504606846976", "keypoints of a wrong size"),
        ("UPDATE keypoints SET rows = rows * 6 / 5, cols = 5", "keypoints of a wrong size"),
        ("UPDATE keypoints SET data = NULL", "keypoints of a wrong size"),
        ("UPDATE descriptors SET cols = -128", "descriptors of a wrong size"),
        ("UPDATE descriptors SET type = 'SIFT'", "unknown type of descriptors"),
        ("UPDATE matches SET cols = 'x'", "matches of a wrong size"),
        ("UPDATE matches SET pair_id = -1 WHERE pair_id = (SELECT min(pair_id) FROM matches)", "invalid id of a pair"),
        ("UPDATE two_view_geometries SET data = substr(data, 2)", "inliers of a wrong size"),
        ("UPDATE two_view_geometries SET F = x'00'", "F of a wrong size"),
        ("UPDATE two_view_geometries SET qvec = x'00'", "qvec of a wrong size"),
        ("UPDATE two_view_geometries SET camera1 = zeroblob(70)", "a damaged camera"),
        ("UPDATE rig_sensors SET sensor_from_rig = x'00'", "a pose of a wrong size"),
        ("UPDATE rig_sensors SET rig_id = 4000", "a rig that does not exist"),
        ("UPDATE frame_data SET data_id = -1 WHERE data_id = 1", "an invalid id"),
        ("ALTER TABLE images DROP COLUMN camera_id", "no column camera_id"),
        ("ALTER TABLE keypoints RENAME COLUMN cols TO columns", "keypoints has no column cols"),
    ],
)
def test_a_damaged_row_is_named(database: Path, statement: str, message: str) -> None:
    change(database, "PRAGMA foreign_keys = OFF")
    try:
        change(database, statement)
    except sqlite3.OperationalError:  # SQLite itself refuses to leave out a column of a foreign key
        change(database, "PRAGMA writable_schema = ON", "UPDATE sqlite_master SET sql = replace(sql, 'camera_id', 'x')")
    before = database.read_bytes()
    for use in USES:
        with pytest.raises(DataError, match=rf"database\.db: .*damaged.*{message}"):
            use(database)
    assert database.read_bytes() == before


def test_a_view_is_no_table(database: Path) -> None:
    change(database, "ALTER TABLE descriptors RENAME TO kept", "CREATE VIEW descriptors AS SELECT * FROM kept")
    for use in USES:
        with pytest.raises(DataError, match="descriptors is no table"):
            use(database)


@pytest.mark.parametrize("matrix", ["F", "E"])
def test_values_that_are_not_finite_are_refused(database: Path, matrix: str) -> None:
    change(database, f"UPDATE two_view_geometries SET {matrix} = {INFINITE}")
    with pytest.raises(DataError, match=r"database\.db: .*not finite"):
        read_database(database)


def test_a_file_with_wrong_pages_is_refused_or_read(database: Path) -> None:
    whole, rng = database.read_bytes(), np.random.default_rng(0)
    num_refused = 0
    for number in range(30):
        pages = bytearray(whole if number % 2 else whole[: rng.integers(len(whole))])
        for position in rng.integers(0, len(pages), 40):
            pages[position] ^= 255
        database.write_bytes(pages)
        for use in USES:
            try:
                use(database)
            except DataError as error:
                assert "database.db" in str(error)
                num_refused += 1
    assert num_refused > 30


def test_rows_of_removed_images_are_passed_over(database: Path) -> None:
    """Programs that remove an image without foreign keys leave its keypoints and matches."""
    change(database, "DELETE FROM images WHERE image_id = 1", "DELETE FROM frame_data WHERE data_id = 1")
    assert len(read_database(database).names) == 7


@pytest.mark.parametrize("name", ["database.db", "database.db-wal", "database.db-journal"])
def test_a_named_pipe_is_refused_without_waiting(database: Path, name: str) -> None:
    path = database.with_name(name)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    for use in USES:
        with pytest.raises(DataError, match=f"{name}: not a file"):
            use(database)


@pytest.mark.parametrize("path", ["/dev/null", "/", "/" + "x" * 300, "/a\0b"])
def test_what_is_no_file_is_refused(path: str) -> None:
    for use in (read_database, lambda path: SharedDatabase(path).__enter__()):
        with pytest.raises(DataError, match=r"not a file|cannot be read|no such file"):
            use(Path(path))


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
def test_a_database_in_a_read_only_folder_is_read_if_it_is_whole(
    database: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """The rights do not hold for the administrator, so the first connection fails as it would for another user."""
    if suffix:
        database.with_name(database.name + suffix).write_bytes(b"changes")
    connect, modes = shared_database._connect, []

    def refuse(path: Path, mode: str) -> sqlite3.Connection:
        modes.append(mode)
        connection = connect(path, mode)
        return cast(sqlite3.Connection, ReadOnly(connection)) if mode == "ro" and path == database else connection

    monkeypatch.setattr(shared_database, "_connect", refuse)
    if suffix:
        with pytest.raises(DataError, match=f"because database.db{suffix} has changes"):
            read_database(database)
    else:
        assert len(read_database(database).names) == 8
        assert "ro&immutable=1" in modes


class ReadOnly:
    """A connection that cannot make its files beside the database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def backup(self, *args: object, **options: object) -> None:
        error = sqlite3.OperationalError("attempt to write a readonly database")
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY
        raise error

    def close(self) -> None:
        self.connection.close()
