"""Words that messages of several modules share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Literal


def shortened(names: Sequence[str], most: int = 10, all_in: str = "") -> str:
    """Names for a message: the first of them, and how many more.

    Args:
        names: in the order in which they are told.
        most: so many at the most.
        all_in: where the others can be read, "" where nowhere.
    """
    where = f" (all in {all_in})" if all_in else ""
    more = f" and {len(names) - most} more{where}" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """A question after the nearest known name, or nothing."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


Extra = Literal["poselib", "viewer"]
"""An extra of pyproject.toml that a message may name."""


def install_hint(extra: Extra) -> str:
    """The command that installs an extra; with quotes, because zsh takes bare brackets for a pattern."""
    return f'pip install "sfm-lightglue[{extra}]"'
