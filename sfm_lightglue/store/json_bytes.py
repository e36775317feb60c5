"""JSON that is valid whatever a file is called."""

from __future__ import annotations

import json
from typing import Any


def json_bytes(values: Any, indent: int | None = None, encoding: str = "utf-8") -> bytes:
    """Plain values as JSON, readable where the encoding has the characters, else with all of them escaped.

    Bytes of a file name that are not UTF-8 are single surrogates in Python. No encoding has them, but JSON can escape
    them, and `json.loads` restores them.

    Args:
        values: plain values.
        indent: spaces of each level; None writes one line.
        encoding: one that contains ASCII.
    """
    try:
        return json.dumps(values, indent=indent, ensure_ascii=False).translate(_LINE_ENDS).encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(values, indent=indent).encode(encoding)


_LINE_ENDS = {ord(character): ascii(character)[1:-1] for character in "\u2028\u2029"} | {0x85: r"\u0085"}
"""Characters that end a line for some readers: a file of JSON lines must not contain them."""
