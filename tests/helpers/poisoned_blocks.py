"""Blocks for SIFT that hold NaN when they are borrowed, and a list of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest

from sfm_lightglue.arrays import Float32Array
from sfm_lightglue.execution.blocks import borrowed_block
from sfm_lightglue.extractors import sift


def poison_blocks(monkeypatch: pytest.MonkeyPatch) -> list[Float32Array]:
    """Fill every block that SIFT borrows with NaN before.

    Returns:
        The blocks so far; the list holds them, so that none has the memory of another one by chance.
    """
    found: list[Float32Array] = []

    @contextlib.contextmanager
    def poisoned(size: int) -> Iterator[Float32Array]:
        with borrowed_block(size) as block:
            block[:] = np.nan
            found.append(block)
            yield block

    monkeypatch.setattr(sift, "borrowed_block", poisoned)
    return found


def num_different(blocks: list[Float32Array]) -> int:
    """Number of blocks with memory of their own."""
    return len({block.__array_interface__["data"][0] for block in blocks})
