"""Every image with every other."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.pair_sets import AllPairs
from sfm_lightglue.types import Scene


@dataclass(frozen=True, slots=True)
class ExhaustiveConfig:
    """No options."""


class ExhaustivePairs:
    """All N (N - 1) / 2 pairs: the most complete choice, for up to some hundred images."""

    def __init__(self, config: ExhaustiveConfig | None = None) -> None:
        self.config = config or ExhaustiveConfig()

    def check(self, scene: Scene) -> None:
        """Every scene can be used."""

    def num_pairs(self, scene: Scene) -> int:
        """The number of pairs."""
        return len(scene.images) * (len(scene.images) - 1) // 2

    def needs_features(self, scene: Scene) -> bool:
        """No: the names are enough."""
        return False

    def select(self, context: PairContext) -> AllPairs:
        """The pairs, sorted; each is made when it is asked for."""
        return AllPairs(context.scene.names)
