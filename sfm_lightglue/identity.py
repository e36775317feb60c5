"""What a component is, for the keys of the store and for the record of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    """All that the output of a component depends on, beside its input.

    Args:
        name: as in the registry.
        version: raised whenever the code starts to compute something else.
        config: the component's configuration, a frozen dataclass of plain values.
        weights: sha256 of its weights, "" where it has none.
    """

    name: str
    version: int
    config: Any
    weights: str = ""
