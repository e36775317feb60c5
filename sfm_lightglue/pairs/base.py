"""What every pair selector is."""

from __future__ import annotations

from typing import Protocol

from sfm_lightglue.types import ImagePair, Scene


class PairSelector(Protocol):
    """Chooses the pairs of images that are worth matching."""

    def select(self, scene: Scene) -> tuple[ImagePair, ...]:
        """The pairs, sorted, without repetition."""
