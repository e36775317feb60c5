"""Read files that a user names: regular files of limited size, with an error that names the file."""

from __future__ import annotations

import os
import stat

from sfm_lightglue.errors import DataError, SfmError
from sfm_lightglue.messages import shown_path

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_input_file(
    path: str | os.PathLike[str], max_bytes: int | None = None, error_type: type[SfmError] = DataError
) -> bytes:
    """The bytes of a regular file. Other kinds of files could block, or never end, so they are not read.

    Args:
        path: of the file.
        max_bytes: larger files are refused; None accepts every size.
        error_type: class of the error.

    Raises:
        SfmError: of `error_type`, if it is no regular file, is too large, or cannot be read.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
                raise error_type(f"{shown_path(path)}: cannot be read (it is {kind}, not a regular file)")
            if max_bytes is not None and status.st_size > max_bytes:
                size_mb, limit_mb = status.st_size / 1e6, max_bytes / 1e6
                raise error_type(
                    f"{shown_path(path)}: cannot be read ({size_mb:.0f} MB; at most {limit_mb:.0f} MB are read)"
                )
            return file.read()
    except OSError as error:
        raise error_type(f"{shown_path(path)}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:  # a null character in the path
        raise error_type(f"{shown_path(path)}: cannot be read ({error})") from error
    except MemoryError as error:
        raise error_type(f"{shown_path(path)}: cannot be read (not enough memory)") from error
