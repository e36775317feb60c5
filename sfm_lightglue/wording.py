"""Words that messages of several modules share."""

from __future__ import annotations

from collections.abc import Sequence


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
