"""A database that other programs use too: copied in a consistent state, replaced in one transaction.

Only Python's SQLite opens the file. pycolmap has another SQLite inside, and two of them in one process do not respect
each other's locks, so pycolmap gets private copies.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from sfm_lightglue.errors import DataError, StoreError

LOCK_TIMEOUT_S = 5.0
"""Maximum time to wait while another program keeps the database locked."""

_MAX_IMAGE_ID = 2147483647
"""COLMAP's identifier of a pair is the identifier of its first image times this plus that of its second."""


def pair_id_of(image_id: int, other_id: int) -> int:
    """COLMAP's identifier of a pair of images, in any order."""
    return min(image_id, other_id) * _MAX_IMAGE_ID + max(image_id, other_id)


class SharedDatabase:
    """An existing database in a `with` block, which detects changes by other programs during the block.

    Args:
        path: path of the database; pycolmap must not have it open in this process.

    Raises:
        DataError: if the file is not a COLMAP database.
        StoreError: if another program is writing to the database, or it is read-only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> SharedDatabase:
        with _explained(self._path):
            self._connection = _connect(self._path, "rw")
        try:
            with _explained(self._path):
                # A write lock shows now whether the file is writable, and not after hours of work.
                self._connection.execute("BEGIN IMMEDIATE")
                self._version = self._data_version()
                self._connection.execute("ROLLBACK")
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def copy_to(self, target: Path) -> None:
        """Copy the database in its current state."""
        with _explained(self._path):
            _copy(self._connection, target)
        _require_colmap(self._path, target)

    def replace_content(self, source: Path) -> None:
        """Replace all tables by those of another database in one transaction, so a killed process changes nothing.

        Raises:
            StoreError: if another program is writing to this database, or has changed it since the block began.
        """
        with _explained(self._path):
            self._connection.execute("ATTACH ? AS source", (str(source),))
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if self._data_version() != self._version:
                    raise StoreError(
                        f"{self._path}: another program changed it during this run, so nothing was written; run the"
                        " same command again: nothing is computed twice"
                    )
                _take_tables(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _data_version(self) -> int:
        """A number that changes when another connection commits."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


def copy_database(path: Path, target: Path) -> None:
    """Copy a database in its current state; it may be in use or read-only.

    Raises:
        DataError: if the file does not exist, or is not a COLMAP database.
        StoreError: if another program keeps the database locked.
    """
    with _explained(path):
        connection = _connect(path, "ro")
        try:
            _copy(connection, target)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN:
                raise
            # SQLite cannot make its lock file in a read-only folder. "immutable" opens the database without locks.
            connection.close()
            connection = _connect(path, "ro&immutable=1")
            _copy(connection, target)
        finally:
            connection.close()
    _require_colmap(path, target)


def remove_features(path: Path, image_ids: Iterable[int]) -> int:
    """Remove the features of images, and all matches and geometries of their pairs.

    Args:
        path: path of a database that no other program has open.
        image_ids: COLMAP's identifiers of the images.

    Returns:
        Number of pairs of one of these images and another image that lost matches or geometries.
    """
    first, second = (f"pair_id {part} {_MAX_IMAGE_ID} IN (SELECT image_id FROM gone)" for part in "/%")
    with _explained(path), contextlib.closing(_connect(path, "rw")) as connection:
        connection.execute("BEGIN")
        connection.execute("CREATE TEMP TABLE gone (image_id INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO gone VALUES (?)", [(image_id,) for image_id in image_ids])
        for table in ("keypoints", "descriptors"):
            connection.execute(f"DELETE FROM {table} WHERE image_id IN (SELECT image_id FROM gone)")
        pairs = "SELECT pair_id FROM matches UNION SELECT pair_id FROM two_view_geometries"
        (num_with_others,) = connection.execute(
            f"SELECT COUNT(*) FROM ({pairs}) WHERE ({first}) <> ({second})"
        ).fetchone()
        for table in ("matches", "two_view_geometries"):
            connection.execute(f"DELETE FROM {table} WHERE {first} OR {second}")
        connection.execute("COMMIT")
    return int(num_with_others)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    if not path.is_file():
        raise DataError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=LOCK_TIMEOUT_S)


def _copy(source: sqlite3.Connection, target: Path) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_S

    def give_up(status: int, remaining: int, total: int) -> None:
        if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} and time.monotonic() > deadline:
            raise TimeoutError

    with contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy, progress=give_up)


def _require_colmap(path: Path, copy: Path) -> None:
    """Check that a database is COLMAP's, or has no tables.

    Args:
        path: path of the original for messages.
        copy: path of a copy, which is read.

    Raises:
        DataError: if the database has other tables.
    """
    with _explained(path), contextlib.closing(_connect(copy, "ro")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and not {"cameras", "images", "keypoints", "matches"} <= tables:
        raise DataError(f"{path}: an SQLite database, but not COLMAP's: it has no tables of cameras and images")


def _take_tables(connection: sqlite3.Connection) -> None:
    """Replace the tables of `main` by those of `source`, in the open transaction.

    Triggers are made last, so that they do not run on the copied rows.
    """
    objects = connection.execute(
        "SELECT type, name, sql FROM source.sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
        " ORDER BY type = 'table' DESC, rowid"
    ).fetchall()
    here = _objects(connection)
    for kind, name, sql in objects:
        if kind == "table":
            if (kind, name) in here:
                connection.execute(f"DROP TABLE main.{_quoted(name)}")
            connection.execute(sql)
            connection.execute(f"INSERT INTO main.{_quoted(name)} SELECT * FROM source.{_quoted(name)}")
    here = _objects(connection)  # dropped tables took their indices and triggers along; views are still there
    for kind, name, sql in objects:
        if (kind, name) not in here:
            connection.execute(sql)
    if connection.execute("SELECT 1 FROM source.sqlite_master WHERE name = 'sqlite_sequence'").fetchone():
        connection.execute("DELETE FROM main.sqlite_sequence")
        connection.execute("INSERT INTO main.sqlite_sequence SELECT * FROM source.sqlite_sequence")
    (version,) = connection.execute("PRAGMA source.user_version").fetchone()
    connection.execute(f"PRAGMA main.user_version = {int(version)}")


def _objects(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """(type, name) of all objects in `main`; a trigger can have the same name as a table."""
    return set(connection.execute("SELECT type, name FROM main.sqlite_master"))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Convert SQLite's errors to ours, with the path of the database."""
    try:
        yield
    except TimeoutError as error:
        _raise_locked(path, error)
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            _raise_locked(path, error)
        if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
            raise DataError(f"{path}: not a COLMAP database, or a damaged one ({error})") from error
        raise StoreError(f"{path}: cannot be written ({error})") from error


def _raise_locked(path: Path, error: Exception) -> NoReturn:
    raise StoreError(
        f"{path}: another program is writing to it; wait until it has finished, or close it, and run the same command"
        " again: nothing is computed twice"
    ) from error
