"""Errors of pycolmap about the files that it works with, told as ours."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pycolmap

from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.errors import ReconstructionError, StoreError
from sfm_lightglue.messages import shown_path

_FILE_ERROR = re.compile(
    "SQLite error|database factory|filesystem error|ExistsDir|ExistsFile|[Cc]ould not open|file_open"
)
"""Parts of pycolmap's messages about the database and the folder, which it works in; it has no classes of errors."""


@contextlib.contextmanager
def mapper_errors(folder: Path) -> Iterator[None]:
    """Tell faults of the work folder and of the memory as ours. All other errors of pycolmap are passed on as bugs."""
    try:
        yield
    except MemoryError as error:
        raise ReconstructionError("the memory does not suffice to build the model; take fewer images") from error
    except (RuntimeError, ValueError) as error:
        if _FILE_ERROR.search(str(error)) is None:
            raise
        raise StoreError(
            f"{shown_path(folder)}: the mapper cannot read or write its files ({error}); check the disk and its free"
            " space, and run the same command again"
        ) from error


@contextlib.contextmanager
def opened_database(path: Path) -> Iterator[pycolmap.Database]:
    """A database that the mapper works with, opened by pycolmap.

    Raises:
        StoreError: if it cannot be read.
    """
    with mapper_errors(path.parent), quiet_log(), pycolmap.Database.open(path) as database:
        yield database
