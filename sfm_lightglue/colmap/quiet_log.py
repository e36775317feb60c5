"""COLMAP's log: silent while this library calls it, because errors are raised as exceptions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pycolmap


@contextlib.contextmanager
def quiet_log() -> Iterator[None]:
    """Silence COLMAP's log, and restore its level afterwards."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.FATAL.value)
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before
