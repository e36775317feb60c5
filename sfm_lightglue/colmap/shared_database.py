"""The file of a database that other programs use too: copied as it is at one moment, replaced in one transaction.

The file is touched by Python's SQLite only. pycolmap brings another one along, and two of them in one process
do not see each other's locks; so pycolmap is given copies that nobody else knows.
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
"""So long another program may keep the database locked."""

_MAX_IMAGE_ID = 2147483647
"""COLMAP's number of a pair is that of its first image times this plus that of its second."""


class SharedDatabase:
    """An existing database within a `with` block, which tells whether someone else changes it meanwhile.

    Args:
        path: of the database; no pycolmap handle of this process may have it open.

    Raises:
        DataError: where the file is no COLMAP database.
        StoreError: where another program is writing to it, or nobody may.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> SharedDatabase:
        with _explained(self._path):
            self._connection = _connect(self._path, "rw")
        try:
            with _explained(self._path):
                # Whether it can be written is told now, not after hours of work.
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
        """Make a copy as it is now."""
        with _explained(self._path):
            _copy(self._connection, target)
        _require_colmap(self._path, target)

    def replace_content(self, source: Path) -> None:
        """Take over all tables of another database, wholly or not at all, even if the process is killed.

        Raises:
            StoreError: where another program is writing to this one, or has changed it since the block began.
        """
        with _explained(self._path):
            self._connection.execute("ATTACH ? AS source", (str(source),))
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if self._data_version() != self._version:
                    raise StoreError(
                        f"{self._path}: another program changed it meanwhile, so it is left as it is; run the same"
                        " command again, nothing is computed twice"
                    )
                _take_tables(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _data_version(self) -> int:
        """Changes whenever another connection has committed."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


def copy_database(path: Path, target: Path) -> None:
    """Copy a database as it is now, also one that is being used or must not be written.

    Raises:
        DataError: where there is none.
        StoreError: where another program keeps it locked.
    """
    with _explained(path):
        connection = _connect(path, "ro")
        try:
            _copy(connection, target)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN:
                raise
            # In a folder that cannot be written there is no place for the lock, and no need of one.
            connection.close()
            connection = _connect(path, "ro&immutable=1")
            _copy(connection, target)
        finally:
            connection.close()
    _require_colmap(path, target)


def remove_features(path: Path, image_ids: Iterable[int]) -> int:
    """Remove the features of images, and all matches and geometries in which they take part.

    Args:
        path: of a database that nobody else has open.
        image_ids: COLMAP's numbers of the images.

    Returns:
        How many pairs of one of these images and another one have lost their matches or geometries.
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
    """Of COLMAP's, or without any table."""
    with _explained(path), contextlib.closing(_connect(copy, "ro")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and not {"cameras", "images", "keypoints", "matches"} <= tables:
        raise DataError(f"{path}: SQLite, but not COLMAP: it has no cameras and images")


def _take_tables(connection: sqlite3.Connection) -> None:
    """Replace the tables of `main` by those of `source`, in the transaction that is open.

    Triggers come last: those of `source` have fired on its rows already.
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
    here = _objects(connection)  # tables took their indices and triggers along when they went, views have kept theirs
    for kind, name, sql in objects:
        if (kind, name) not in here:
            connection.execute(sql)
    if connection.execute("SELECT 1 FROM source.sqlite_master WHERE name = 'sqlite_sequence'").fetchone():
        connection.execute("DELETE FROM main.sqlite_sequence")
        connection.execute("INSERT INTO main.sqlite_sequence SELECT * FROM source.sqlite_sequence")
    (version,) = connection.execute("PRAGMA source.user_version").fetchone()
    connection.execute(f"PRAGMA main.user_version = {int(version)}")


def _objects(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Types and names; a trigger may have the name of a table."""
    return set(connection.execute("SELECT type, name FROM main.sqlite_master"))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
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
        f"{path}: another program is writing to it; wait until it has ended, or close it, and run the same command"
        " again: nothing is computed twice"
    ) from error
