"""Read text files of numbers; errors name file and line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        DataError: if the file cannot be read, or is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file ({error})") from error


def word_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """For each line that is neither empty nor a comment (#): "file:line" for messages, and its words.

    Raises:
        DataError: if the file cannot be read, or is not UTF-8 text.
    """
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split()
        if words and not words[0].startswith("#"):
            yield f"{path}:{number}", words


def finite_numbers(location: str, words: Sequence[str], num_expected: int, what: str) -> Float64Array:
    """Convert words to finite numbers [num_expected].

    Args:
        location: "file:line" for the message.
        words: of a line or a file.
        num_expected: required number of words.
        what: names of the numbers, for the message.

    Raises:
        DataError: if there are more or fewer words, or one is not a finite number.
    """
    if len(words) != num_expected:
        raise DataError(f"{location}: expected {num_expected} numbers ({what}), got {len(words)}")
    try:
        values = np.array([float(word) for word in words])
    except ValueError as error:
        raise DataError(f"{location}: {what}: {error}") from error
    if not np.isfinite(values).all():
        raise DataError(f"{location}: {what}: all numbers must be finite")
    return values
