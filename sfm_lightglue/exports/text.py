"""Numbers of text files, with all digits."""

from __future__ import annotations


def numbers(*values: float) -> str:
    """Numbers with spaces between them; each is read back as the same number."""
    return " ".join(repr(float(value)) for value in values)
