"""Every image with every other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.types import ImagePair, Scene


@dataclass(frozen=True, slots=True)
class ExhaustiveConfig:
    """No options."""


class ExhaustivePairs:
    """All N (N - 1) / 2 pairs: the most complete choice, for up to some hundred images."""

    def __init__(self, config: ExhaustiveConfig | None = None) -> None:
        self.config = config or ExhaustiveConfig()

    def check(self, scene: Scene) -> None:
        """Every scene can be used."""

    def select(self, context: PairContext) -> tuple[ImagePair, ...]:
        """The pairs, sorted."""
        return tuple(ImagePair(name0, name1) for name0, name1 in combinations(context.scene.names, 2))
