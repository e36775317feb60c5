"""The identity of components and of inputs, for the keys of the store and for the record of a run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    """Everything that the output of a component depends on, apart from its input.

    Args:
        name: name in the registry.
        version: number that is raised when a change of the code changes the output.
        config: the component's configuration, a frozen dataclass of plain values.
        weights: sha256 of its weights, "" if it has none.
    """

    name: str
    version: int
    config: Any
    weights: str = ""


def masked_digest(digest: str, mask_digest: str) -> str:
    """Digest of an image together with its mask; that of the image alone if it has none ("")."""
    return hashlib.sha256(f"{digest} masked by {mask_digest}".encode()).hexdigest() if mask_digest else digest
