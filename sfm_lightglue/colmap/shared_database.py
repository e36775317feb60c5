"""A database that other programs use too: copied in a consistent state, replaced in one transaction.

Only Python's SQLite opens the file. pycolmap has another SQLite inside, and two of them in one process do not respect
each other's locks, so pycolmap gets private copies.
"""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from sfm_lightglue.colmap.database_check import MAX_IMAGE_ID, database_fault
from sfm_lightglue.errors import DataError, StoreError
from sfm_lightglue.messages import shown_path

LOCK_TIMEOUT_S = 5.0
"""Maximum time to wait while another program keeps the database locked."""

_STORE_CODES = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
"""Errors of the disk or of rights; all others are of the content."""


def pair_id_of(image_id: int, other_id: int) -> int:
    """COLMAP's identifier of a pair of images, in any order."""
    return min(image_id, other_id) * MAX_IMAGE_ID + max(image_id, other_id)


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
                        f"{shown_path(self._path)}: another program changed it during this run, so nothing was"
                        " written; run the same command again: nothing is computed twice"
                    )
                _take_tables(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def has_content_of(self, path: Path) -> bool:
        """Whether this database has the same tables and rows as another one, which no other program has open."""
        with _explained(self._path), contextlib.closing(_connect(path, "ro")) as other:
            names = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
            tables = self._connection.execute(names).fetchall()
            return tables == other.execute(names).fetchall() and all(
                row == other_row
                for (table,) in tables
                for row, other_row in zip_longest(
                    *(one.execute(f'SELECT * FROM "{table}" ORDER BY rowid') for one in (self._connection, other))
                )
            )

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
            if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}:
                raise
            # SQLite cannot make its lock file in a read-only folder. "immutable" opens the database without locks.
            connection.close()
            _refuse_unread_changes(path)
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
    first, second = (f"pair_id {part} {MAX_IMAGE_ID} IN (SELECT image_id FROM gone)" for part in "/%")
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
    """Connect to a regular file: SQLite would wait for a named pipe for ever, also for one at a side file's path."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{shown_path(path)}: not a file")
        for side in (path.with_name(path.name + suffix) for suffix in ("-wal", "-journal", "-shm")):
            if side.exists() and not side.is_file():
                raise DataError(f"{shown_path(side)}: not a file, but SQLite keeps changes of the database there")
        uri = f"{path.resolve().as_uri()}?mode={mode}"
    except FileNotFoundError as error:
        raise DataError(f"{shown_path(path)}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{shown_path(path)}: cannot be read ({reason})") from error
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=LOCK_TIMEOUT_S)


def _refuse_unread_changes(path: Path) -> None:
    """Without locks, SQLite does not see changes that another program has left in a file beside the database."""
    for changes in (path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")):
        if changes.exists() and changes.stat().st_size > 0:
            raise DataError(
                f"{shown_path(path)}: cannot be read, because {changes.name} has changes and the folder is read-only;"
                " copy both files into another folder"
            )


def _copy(source: sqlite3.Connection, target: Path) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT_S

    def give_up(status: int, remaining: int, total: int) -> None:
        if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} and time.monotonic() > deadline:
            raise TimeoutError

    with contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy, progress=give_up)


def _require_colmap(path: Path, copy: Path) -> None:
    """Check that a database is COLMAP's and not damaged, or has no tables.

    Args:
        path: path of the original for messages.
        copy: path of a copy, which is read.

    Raises:
        DataError: if the database has other tables, or is damaged.
    """
    with _explained(path), contextlib.closing(_connect(copy, "ro")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and not {"cameras", "images", "keypoints", "matches"} <= tables:
            raise DataError(
                f"{shown_path(path)}: an SQLite database, but not COLMAP's: it has no tables of cameras and images"
            )
        fault = database_fault(connection) if tables else None
    if fault is not None:
        raise damaged_database(path, fault)


def damaged_database(path: Path, detail: object) -> DataError:
    """The error for a database with wrong content."""
    return DataError(f"{shown_path(path)}: not a COLMAP database, or a damaged one ({detail})")


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
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            _raise_locked(path, error)
        if code in _STORE_CODES:
            raise StoreError(f"{shown_path(path)}: cannot be written ({error})") from error
        raise damaged_database(path, error) from error
    except UnicodeDecodeError as error:  # SQLite's message has the damaged text of a table
        raise damaged_database(path, error) from error


def _raise_locked(path: Path, error: Exception) -> NoReturn:
    raise StoreError(
        f"{shown_path(path)}: another program is writing to it; wait until it has finished, or close it, and run the"
        " same command again: nothing is computed twice"
    ) from error
