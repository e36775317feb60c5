"""Folders that cannot be written: every attempt fails with an error of the system, as on a full or read-only disk."""

from __future__ import annotations

import builtins
import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

TOLD = {
    "ENOSPC": os.strerror(errno.ENOSPC),
    "EDQUOT": os.strerror(errno.EDQUOT),
    "EROFS": os.strerror(errno.EROFS),
}
"""The words of the system by the name of the error."""


class _FullFile(io.FileIO):
    code = errno.ENOSPC

    def write(self, data: Any, /) -> int:
        raise OSError(self.code, os.strerror(self.code))


def fail_writes(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    """Let writing of files below a folder fail in this process.

    Args:
        monkeypatch: undoes it.
        folder: reading remains possible.
        name: of the error: "ENOSPC" and "EDQUOT" fail when bytes are written, "EROFS" when a file or folder is made.
    """
    code, open_file, open_descriptor, make_folder = getattr(errno, name), io.open, os.open, os.mkdir

    def is_below(path: Any) -> bool:
        return isinstance(path, (str, os.PathLike)) and Path(path).absolute().is_relative_to(folder)

    def refuse(path: Any) -> None:
        raise OSError(code, os.strerror(code), str(path))

    def opened(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not (set(mode) & set("wax+") and is_below(path)):
            return open_file(path, mode, *arguments, **options)
        if name == "EROFS":
            refuse(path)
        raw = _FullFile(path, mode.replace("b", "").replace("t", ""))
        raw.code = code
        file = io.BufferedWriter(raw)
        return file if "b" in mode else io.TextIOWrapper(file, encoding="utf-8")

    def opened_descriptor(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if name == "EROFS" and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and is_below(path):
            refuse(path)
        return open_descriptor(path, flags, *arguments, **options)

    def made_folder(path: Any, *arguments: Any, **options: Any) -> None:
        if name == "EROFS" and is_below(path):
            refuse(path)
        make_folder(path, *arguments, **options)

    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(os, "open", opened_descriptor)
    monkeypatch.setattr(os, "mkdir", made_folder)
