"""Lists of image pairs in SuperGlue's text format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm_lightglue.errors import DataError
from sfm_lightglue.scene.list_file import read_list_lines

PAIR_FORMAT = "name0 name1 [rot0 rot1] [K0 (9 numbers) K1 (9 numbers)] [T_0to1 (16 numbers)]"
"""A line of a list, in the format of SuperGlue; everything after the names is optional."""

_MAX_LINE = 20_000
"""Characters; two of the longest paths and all numbers have less."""

_NUM_NUMBERS = (36, 34, 20, 18, 2, 0)
"""Allowed numbers of numbers after the names: with and without rotations, intrinsics, and a pose after these."""


@dataclass(frozen=True, slots=True)
class ListedPair:
    """A line of a list of pairs.

    Args:
        text: the line.
        names: of the two images; empty if the line cannot be parsed.
        rotations: counter-clockwise quarter turns that make each image upright; 0 uses EXIF data.
        intrinsics: (fx, fy, cx, cy) of both images in OpenCV's pixels, or None.
        truth: 16 numbers of the true cam1_from_cam0 by rows, or None.
        error: what is wrong with the line, "" if it is correct.
        location: "file:line".
    """

    text: str
    names: tuple[str, ...]
    rotations: tuple[int, int] = (0, 0)
    intrinsics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    truth: tuple[float, ...] | None = None
    error: str = ""
    location: str = ""


def read_listed_pairs(path: Path, image_root: Path) -> list[ListedPair]:
    """The pairs of a text file; a line that cannot be parsed becomes a pair with an error.

    Args:
        path: text file or pipe with one pair a line, see `PAIR_FORMAT`; blank lines and lines that begin with # are
            skipped. Names may contain spaces if both are files.
        image_root: folder that the names are relative to.

    Raises:
        DataError: if the list cannot be read, or contains no pair.
    """
    texts = [(number, line.strip()) for number, line in enumerate(read_list_lines(path, accepts_pipe=True), 1)]
    pairs = [_parse(text, f"{path}:{number}", image_root) for number, text in texts if text and text[0] != "#"]
    if not pairs:
        raise DataError(f"{path}: lists no pair; a line is {PAIR_FORMAT}")
    return pairs


def _parse(text: str, location: str, image_root: Path) -> ListedPair:
    if len(text) > _MAX_LINE:
        error = f"{location}: a line of {len(text)} characters; expected {PAIR_FORMAT}"
        return ListedPair(f"{text[:_MAX_LINE]}...", (), error=error, location=location)
    for num_numbers in _NUM_NUMBERS:
        words = text.rsplit(maxsplit=num_numbers) if num_numbers else [text]
        numbers = _numbers(words[1:])
        names = _two_names(words[0], image_root) if len(words) == num_numbers + 1 else None
        if numbers is None or names is None:
            continue
        turns, rest = (numbers[:2], numbers[2:]) if num_numbers in {36, 20, 2} else ([0.0, 0.0], numbers)
        if not all(turn in (0, 1, 2, 3) for turn in turns):
            error = f"{location}: rot0 and rot1 are quarter turns, 0 to 3"
            return ListedPair(text, names, error=error, location=location)
        return ListedPair(
            text,
            names,
            (int(turns[0]), int(turns[1])),
            (_intrinsics(rest[:9]), _intrinsics(rest[9:18])) if rest else None,
            tuple(rest[18:]) or None,
            location=location,
        )
    return ListedPair(text, (), error=f"{location}: expected {PAIR_FORMAT}", location=location)


def _numbers(words: Sequence[str]) -> list[float] | None:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _two_names(text: str, image_root: Path) -> tuple[str, str] | None:
    words = [word.strip('"') for word in text.split()]
    if len(words) == 2:
        return words[0], words[1]
    for i, character in enumerate(text):
        if character in " \t":
            name0, name1 = text[:i].strip().strip('"'), text[i:].strip().strip('"')
            if os.path.isfile(image_root / name0) and os.path.isfile(image_root / name1):
                return name0, name1
    return None


def _intrinsics(K: Sequence[float]) -> tuple[float, float, float, float]:
    return K[0], K[4], K[2], K[5]
