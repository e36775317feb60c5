"""Read files that a user names: regular files of limited size, with an error that names the file."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from sfm_lightglue.errors import DataError, SfmError
from sfm_lightglue.messages import shown_path

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; other kinds of files could block, or never end.

    Raises:
        OSError: if it is no regular file, or cannot be opened.
        ValueError: if the path contains a null character.
    """
    # Without O_NONBLOCK, opening a named pipe waits for its writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
    raise OSError(errno.EINVAL, f"it is {kind}, not a regular file")


def read_input_file(
    path: str | os.PathLike[str], max_bytes: int | None = None, error_type: type[SfmError] = DataError
) -> bytes:
    """The bytes of a regular file.

    Args:
        path: of the file.
        max_bytes: larger files are refused; None accepts every size.
        error_type: class of the error.

    Raises:
        SfmError: of `error_type`, if it is no regular file, is too large, or cannot be read.
    """
    try:
        with open_regular_file(path) as file:
            num_bytes = os.fstat(file.fileno()).st_size
            if max_bytes is not None and num_bytes > max_bytes:
                size = f"{num_bytes / 1e6:.0f} MB; at most {max_bytes / 1e6:.0f} MB are read"
                raise error_type(f"{shown_path(path)}: cannot be read ({size})")
            return file.read()
    except OSError as error:
        raise error_type(f"{shown_path(path)}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:  # a null character in the path
        raise error_type(f"{shown_path(path)}: cannot be read ({error})") from error
    except MemoryError as error:
        raise error_type(f"{shown_path(path)}: cannot be read (not enough memory)") from error
