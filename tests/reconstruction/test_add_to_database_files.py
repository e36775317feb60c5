"""The file of a COLMAP database: what is none, old versions, other programs, crashes, and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap import shared_database
from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.errors import DataError, StoreError
from tests.helpers.checkout import ROOT
from tests.helpers.colmap_databases import NAMES, QUICK, Host, dump, make_host, map_plainly, prepared


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tests below compute, once for all of them."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def host(store: Path) -> Host:
    return make_host(store)


@pytest.mark.parametrize("content", [b"no database at all, but a text that is long enough" * 9, b"SQLite format 3\0"])
def test_what_is_no_database_is_a_data_error(small_scene_dir: Path, host: Host, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "database.db"
    path.write_bytes(content)
    for use in (lambda: host(path, small_scene_dir / "images"), lambda: read_database(path)):
        with pytest.raises(DataError, match=r"database\.db: not a COLMAP database"):
            use()
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_left_alone(small_scene_dir: Path, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(DataError, match="an SQLite database, but not COLMAP's"):
        host(path, small_scene_dir / "images")
    with pytest.raises(DataError, match="no such file"):
        read_database(tmp_path / "missing.db")
    assert path.read_bytes() == before


def test_an_empty_database_is_a_beginning(small_scene_dir: Path, host: Host, tmp_path: Path) -> None:
    pycolmap.Database.open(tmp_path / "created.db").close()
    (tmp_path / "nothing.db").touch()
    for name in ("created.db", "nothing.db"):
        assert host(tmp_path / name, small_scene_dir / "images").num_verified == 15
        assert len(read_database(tmp_path / name).names) == 6


def test_a_locked_database_is_told_before_any_work(
    small_scene_dir: Path, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_database, "LOCK_TIMEOUT_S", 0.1)
    database = prepared(tmp_path / "database.db", small_scene_dir / "images")
    stages: list[str] = []
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another program is writing to it"):
            host(database, small_scene_dir / "images", progress=lambda stage, *_: stages.append(stage))
        other.execute("ROLLBACK")
    assert stages == []
    assert host(database, small_scene_dir / "images").num_verified == 15


@pytest.mark.parametrize("keeps_lock", [True, False])
def test_a_database_that_someone_changes_meanwhile_is_left_to_them(
    small_scene_dir: Path, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps_lock: bool
) -> None:
    monkeypatch.setattr(shared_database, "LOCK_TIMEOUT_S", 0.1)
    database = prepared(tmp_path / "database.db", small_scene_dir / "images")
    with closing(sqlite3.connect(database, isolation_level=None)) as other:

        def interfere(stage: str, num_done: int, num_total: int) -> None:
            if stage == "match" and num_done == 3:
                other.execute("BEGIN IMMEDIATE")
                other.execute("UPDATE cameras SET prior_focal_length = 0")
                if not keeps_lock:
                    other.execute("COMMIT")

        reason = "another program is writing to it" if keeps_lock else "another program changed it during this run"
        with pytest.raises(StoreError, match=reason):
            host(database, small_scene_dir / "images", progress=interfere)
        if keeps_lock:
            other.execute("COMMIT")
    content = read_database(database)
    assert {camera.source for camera in content.camera_from_name.values()} == {"guessed"}, "their change is lost"
    assert content.matches_from_pair == {}
    assert host(database, small_scene_dir / "images").num_verified == 15


KILLED = """
import json, os, signal, sys
from pathlib import Path
from sfm_lightglue.reconstruction.add_to_database import add_to_database
from sfm_lightglue.colmap import shared_database
from sfm_lightglue.reconstruction.config import ReconstructConfig

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def progress(stage, num_done, num_total):
    if sys.argv[3] == stage and num_done == num_total // 2:
        die()

if sys.argv[3] == "publish":
    take_tables = shared_database._take_tables
    def half_way(connection):
        connection.execute("PRAGMA cache_size = 1")  # so that pages reach the disk before the end
        take_tables(connection)
        die()
    shared_database._take_tables = half_way
config = ReconstructConfig.from_mapping(json.loads(sys.argv[5]))
add_to_database(Path(sys.argv[1]), Path(sys.argv[2]), config, Path(sys.argv[4]), progress=progress)
"""


@pytest.mark.parametrize("moment", ["match", "publish"])
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_killed_run_leaves_the_database_as_it_was(
    small_scene_dir: Path, store: Path, host: Host, tmp_path: Path, moment: str, journal: str
) -> None:
    database = prepared(tmp_path / "database.db", small_scene_dir / "images")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
    before = dump(database)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED,
            str(database),
            str(small_scene_dir / "images"),
            moment,
            str(store),
            json.dumps(QUICK),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert dump(database) == before
    assert host(database, small_scene_dir / "images").num_verified == 15
    assert map_plainly(database, small_scene_dir / "images").num_reg_images() == 6


def old_database(path: Path) -> Path:
    """As COLMAP 3.8 made them: no rigs, frames, priors or poses of pairs, poses of images in their place."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """
            CREATE TABLE cameras (camera_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, model INTEGER NOT NULL,
                width INTEGER NOT NULL, height INTEGER NOT NULL, params BLOB, prior_focal_length INTEGER NOT NULL);
            CREATE TABLE images (image_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, name TEXT NOT NULL UNIQUE,
                camera_id INTEGER NOT NULL, prior_qw REAL, prior_qx REAL, prior_qy REAL, prior_qz REAL,
                prior_tx REAL, prior_ty REAL, prior_tz REAL);
            CREATE TABLE keypoints (image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL,
                cols INTEGER NOT NULL, data BLOB);
            CREATE TABLE descriptors (image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL,
                cols INTEGER NOT NULL, data BLOB);
            CREATE TABLE matches (pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL,
                cols INTEGER NOT NULL, data BLOB);
            CREATE TABLE two_view_geometries (pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL,
                cols INTEGER NOT NULL, data BLOB, config INTEGER NOT NULL, F BLOB, E BLOB, H BLOB);
            PRAGMA user_version = 3800;
            """
        )
        params = np.array([430.0, 430.0, 240.0, 180.0]).tobytes()
        connection.execute("INSERT INTO cameras VALUES (7, 1, 480, 360, ?, 1)", (params,))
        for number, name in enumerate(NAMES[:4]):
            row = (9 - number, name, 7, None, None, None, None, None, None, None)
            connection.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        connection.commit()
    return path


def test_a_database_of_an_old_version_works_too(small_scene_dir: Path, host: Host, tmp_path: Path) -> None:
    """Also with photos that it does not know, which get frames where the others have none."""
    database = old_database(tmp_path / "database.db")
    before = database.read_bytes()
    assert read_database(database).names == NAMES[:4]
    assert database.read_bytes() == before, "reading changes it"
    host(database, small_scene_dir / "images")
    with pycolmap.Database.open(database) as opened:
        assert {image.name: image.image_id for image in opened.read_all_images()}.items() >= {NAMES[0]: 9}.items()
    assert map_plainly(database, small_scene_dir / "images").num_reg_images() == 6


def test_views_indices_and_triggers_of_others_are_kept(small_scene_dir: Path, host: Host, tmp_path: Path) -> None:
    """Each trigger fires once for a row that we add, and never for a row that was there."""
    database = prepared(tmp_path / "database.db", small_scene_dir / "images")
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(
            """
            CREATE TABLE log (what TEXT, id INTEGER);
            CREATE INDEX log_id ON log (id);
            CREATE VIEW names AS SELECT name FROM images;
            CREATE TRIGGER no_names INSTEAD OF INSERT ON names BEGIN INSERT INTO log VALUES ('name', 0); END;
            CREATE TRIGGER "a row" AFTER INSERT ON keypoints BEGIN INSERT INTO log VALUES ('added', new.image_id); END;
            CREATE TRIGGER images AFTER INSERT ON images BEGIN INSERT INTO log VALUES ('image', new.image_id); END;
            CREATE TRIGGER log_log AFTER INSERT ON log WHEN new.what = 'added'
                BEGIN INSERT INTO log VALUES ('logged', new.id); END;
            """
        )
    schema = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    with closing(sqlite3.connect(database)) as connection:
        before = connection.execute(schema).fetchall()
    host(database, small_scene_dir / "images")
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(schema).fetchall() == before
        image_ids = [50 - 3 * number for number in range(len(NAMES))]
        expected = sorted((what, image_id) for what in ("added", "logged") for image_id in image_ids)
        assert sorted(connection.execute("SELECT what, id FROM log")) == expected
        connection.execute("INSERT INTO names VALUES ('x')")
        connection.execute("INSERT INTO keypoints VALUES (1000, 0, 0, NULL)")
        news = connection.execute("SELECT what, id FROM log WHERE id NOT IN (SELECT image_id FROM images)").fetchall()
        assert sorted(news) == [("added", 1000), ("logged", 1000), ("name", 0)]
