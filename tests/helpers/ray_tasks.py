"""Functions that workers of a Ray cluster import."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from sfm_lightglue.errors import DataError
from sfm_lightglue.reconstruction.ray_worker import match_and_verify


def double(value: int) -> int:
    return 2 * value


def sum_of(first: list[int], second: int) -> int:
    return sum(first) + second


def die_once(marker: str, value: int) -> int:
    """The first call kills its process."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return value
    os.kill(os.getpid(), signal.SIGKILL)
    return -1


def fail(value: int) -> int:
    if value == 3:
        raise DataError("photo.jpg: no picture")
    return value


def match_after_dying_once(*arguments: Any) -> Any:
    """`match_and_verify`, whose first call kills its process."""
    die_once(str(Path(os.environ["SFM_LIGHTGLUE_TEST_FOLDER"]) / "match"), 0)
    return match_and_verify(*arguments)
