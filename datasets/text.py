"""Text files of numbers; whatever is wrong with them is told with file and line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        DataError: where it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file ({error})") from error


def word_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The words of each line that is neither empty nor a comment (#), each with "file:line" for messages.

    Raises:
        DataError: where the file cannot be read, or is no text.
    """
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split()
        if words and not words[0].startswith("#"):
            yield f"{path}:{number}", words


def finite_numbers(place: str, words: Sequence[str], num_expected: int, what: str) -> Float64Array:
    """Words as finite numbers [num_expected].

    Args:
        place: "file:line" for the message.
        words: of a line or a file.
        num_expected: how many there must be.
        what: they are, for the message.

    Raises:
        DataError: where there are more or fewer, or one is no finite number.
    """
    if len(words) != num_expected:
        raise DataError(f"{place}: expected {num_expected} numbers ({what}), got {len(words)}")
    try:
        values = np.array([float(word) for word in words])
    except ValueError as error:
        raise DataError(f"{place}: {what}: {error}") from error
    if not np.isfinite(values).all():
        raise DataError(f"{place}: {what}: all numbers must be finite")
    return values
