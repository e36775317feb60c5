"""Other processes, as the file system of Linux shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def children_of(pid: int, word: str) -> list[int]:
    """The processes that a process has started and whose command line contains a word; skips where it cannot tell."""
    folder = Path(f"/proc/{pid}/task/{pid}")
    if not (folder / "children").is_file():
        pytest.skip("needs the folder /proc of Linux")
    children = [int(child) for task in folder.parent.iterdir() for child in (task / "children").read_text().split()]
    return [child for child in children if word in Path(f"/proc/{child}/cmdline").read_text()]


def is_running(pid: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
