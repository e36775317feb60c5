"""The order of names as people count: frame2 before frame10."""

from __future__ import annotations

import re


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key in which runs of digits are numbers."""
    parts = re.split(r"(\d+)", name)
    key = [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts)]
    return (*key, (2, 0, name))
