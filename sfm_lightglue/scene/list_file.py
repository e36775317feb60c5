"""The lines of a text file that lists images or pairs of images."""

from __future__ import annotations

import contextlib
import os
import re
import select
import stat
from pathlib import Path

from sfm_lightglue.errors import DataError
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.messages import shown_path

_MAX_BYTES = 500_000_000
"""Enough for ten million pairs with names of 25 characters."""


def read_list_lines(path: Path, accepts_pipe: bool = False, what: str = "list of pairs") -> list[str]:
    """The lines of a list in UTF-8, without their ends.

    Only line feeds and carriage returns end a line: names may contain the other characters that end one in Unicode.

    Args:
        path: of the list.
        accepts_pipe: whether it may be a pipe, such as `<(...)` of a shell, which can be read only once.
        what: kind of file in messages.

    Raises:
        DataError: if it is neither of these, is too large, cannot be read, or is not UTF-8.
    """
    data = _read_pipe(path) if accepts_pipe and _is_pipe(path) else read_input_file(path, _MAX_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{shown_path(path)}:{number}: the {what} is not UTF-8 text; save it as UTF-8") from error
    return re.split(r"\r\n|\n|\r", text)


def _is_pipe(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return stat.S_ISFIFO(os.stat(path).st_mode)
    return False


def _read_pipe(path: Path) -> bytes:
    """What is written into a pipe until its end; nothing if no process has it open for writing."""
    data = bytearray()
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as pipe:
            while (chunk := pipe.read(1 << 20)) != b"":
                if chunk is None:  # a process has it open for writing, but has not written yet
                    select.select([pipe], [], [])
                    continue
                data += chunk
                if len(data) > _MAX_BYTES:
                    raise DataError(f"{shown_path(path)}: cannot be read (more than {_MAX_BYTES / 1e6:.0f} MB)")
    except OSError as error:
        raise DataError(f"{shown_path(path)}: cannot be read ({error.strerror or error})") from error
    return bytes(data)
