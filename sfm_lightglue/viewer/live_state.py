"""Arrays that are sent to the process of the window."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import numpy as np

from sfm_lightglue.arrays import AnyArray


def packed(state: dict[str, AnyArray]) -> bytes:
    """A state as bytes: the length in 8 bytes, then a NPZ file."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = state
    np.savez(buffer, **arrays)
    data = buffer.getvalue()
    return len(data).to_bytes(8, "big") + data


def unpacked(stream: BinaryIO) -> dict[str, AnyArray] | None:
    """The next state of a stream; None at its end."""
    size = int.from_bytes(stream.read(8), "big")
    data = stream.read(size)
    if size == 0 or len(data) < size:
        return None
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return dict(stored)
