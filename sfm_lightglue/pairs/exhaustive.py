"""Every image with every other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from sfm_lightglue.types import ImagePair, Scene


@dataclass(frozen=True, slots=True)
class ExhaustiveConfig:
    """There is nothing to choose."""


class ExhaustivePairs:
    """All N (N - 1) / 2 pairs: the surest choice up to some hundred photos."""

    def __init__(self, config: ExhaustiveConfig | None = None) -> None:
        self.config = config or ExhaustiveConfig()

    def select(self, scene: Scene) -> tuple[ImagePair, ...]:
        """The pairs, sorted."""
        return tuple(ImagePair(name0, name1) for name0, name1 in combinations(scene.names, 2))
