"""The times of the frames of a video, which `reconstruct` and `track` write beside them."""

from __future__ import annotations

import math
from pathlib import Path

from sfm_lightglue.errors import DataError
from sfm_lightglue.input_file import read_input_file

TIMES_NAME = "times.txt"

_MAX_BYTES = 10**8


def read_times(images: Path | None) -> dict[str, float]:
    """Times in seconds by name of image, of lines "NAME TIME" of `times.txt` in a folder of images or beside it.

    Args:
        images: the folder; None if it is not known.

    Returns:
        Empty without such a file. Lines of another form are left out: a file with times only names no image.
    """
    if images is None:
        return {}
    found: dict[str, float] = {}
    path = next((each for each in (images / TIMES_NAME, images.parent / TIMES_NAME) if each.is_file()), None)
    if path is None:
        return {}
    try:
        text = read_input_file(path, _MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read (not UTF-8 text)") from error
    for line in text.splitlines():
        name, _, time = line.strip().rpartition(" ")
        try:
            time_s = float(time)
        except ValueError:
            continue
        if name and math.isfinite(time_s):
            found[name.strip()] = time_s
    return found
