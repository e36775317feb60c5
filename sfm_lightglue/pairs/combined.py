"""The pairs of several selectors together, without those that the user excludes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfm_lightglue.pairs.base import CountsPairs, ExplainsChoice, PairContext, PairSelector, needs_features
from sfm_lightglue.pairs.from_file import read_pairs
from sfm_lightglue.pairs.pair_sets import AllPairs, IndexedPairs
from sfm_lightglue.types import ImagePair, Scene


@dataclass(frozen=True, slots=True)
class CombinedPairsConfig:
    """What is combined.

    Args:
        parts: configuration of each selector.
        exclude: text file with the pairs to leave out, two names a line; "" for none.
    """

    parts: tuple[Any, ...]
    exclude: str = ""


class CombinedPairs:
    """The pairs that any of the parts selects, without excluded ones.

    Args:
        parts: selectors by name, at least one.
        exclude: text file with the pairs to leave out, two names a line; "" for none.
    """

    def __init__(self, parts: Mapping[str, PairSelector], exclude: str = "") -> None:
        self._parts = dict(parts)
        self._exclude = exclude

    def check(self, scene: Scene) -> None:
        """Find errors in the input of each part, and in the list of excluded pairs."""
        for part in self._parts.values():
            part.check(scene)
        self.excluded(scene)

    def num_pairs(self, scene: Scene) -> int:
        """An upper bound: the sum of the parts, and all pairs if a part cannot tell."""
        num_all = len(scene.images) * (len(scene.images) - 1) // 2
        parts = [part.num_pairs(scene) if isinstance(part, CountsPairs) else num_all for part in self._parts.values()]
        return min(num_all, sum(parts))

    def needs_features(self, scene: Scene) -> bool:
        """Yes, if a part needs them."""
        return any(needs_features(part, scene) for part in self._parts.values())

    def select(self, context: PairContext) -> Sequence[ImagePair]:
        """The pairs, sorted."""
        first, *others = sorted(
            (part.select(context) for part in self._parts.values()), key=lambda pairs: not isinstance(pairs, AllPairs)
        )
        if not others and not self._exclude:
            return first
        pairs = first if isinstance(first, AllPairs) else IndexedPairs.from_pairs(context.scene.names, first)
        for other in others:
            pairs = pairs.union(other)
        return pairs.without(self.excluded(context.scene))

    def excluded(self, scene: Scene) -> IndexedPairs:
        """The pairs of the list, also those that no part selects.

        Raises:
            DataError: if the list cannot be read, or a line does not contain two names of the scene.
        """
        if not self._exclude:
            return IndexedPairs.from_pairs(scene.names, ())
        return read_pairs(Path(self._exclude), scene, report=False)

    @property
    def explanation(self) -> str:
        """What the parts say of their choice, one line, with the names of those that say nothing."""
        said = {
            name: part.explanation if isinstance(part, ExplainsChoice) else "" for name, part in self._parts.items()
        }
        return "; ".join(one or name for name, one in said.items()) if any(said.values()) else ""
