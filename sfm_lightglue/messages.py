"""Parts of messages that several modules share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Literal


def shortened(names: Sequence[str], most: int = 10, all_in: str = "") -> str:
    """List names in a message: the first ones, and the number of the others.

    Args:
        names: the names in the order of the message.
        most: maximum number of names in the message.
        all_in: name of a file that lists all names, "" if there is none.
    """
    where = f" (all in {all_in})" if all_in else ""
    more = f" and {len(names) - most} more{where}" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path in a message: control characters are escaped, and the middle of a very long path is left out."""
    text = os.fspath(path)
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN // 2]}...{text[-_MAX_SHOWN // 2 :]}"


_MAX_SHOWN = 400


def duration(seconds: float) -> str:
    """A time in the unit that suits it: "40 seconds", "5 minutes", "12 hours" or "3 days"."""
    for unit, length_s, least_s in (("days", 86400, 2 * 86400), ("hours", 3600, 2 * 3600), ("minutes", 60, 120)):
        if seconds >= least_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(seconds, 1):.0f} second{'s' * (seconds >= 1.5)}"


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """A hint that proposes the nearest known name, "" if no name is similar."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


Extra = Literal["cluster", "completion", "heif", "onnx", "poselib", "video", "viewer"]
"""The extras of pyproject.toml that messages name."""


def install_hint(extra: Extra) -> str:
    """The command that installs an extra, with quotes because zsh expands bare brackets."""
    return f'pip install "sfm-lightglue[{extra}]"'
