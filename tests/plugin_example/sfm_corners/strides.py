"""Pairs of images at given distances in the order of the names."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.types import ImagePair, Scene


@dataclass(frozen=True, slots=True)
class StridesConfig:
    """Options of the strided pairs."""

    strides: tuple[int, ...] = (1, 2)
    """Distances of two images in the order of the names."""

    def __post_init__(self) -> None:
        if not self.strides or min(self.strides) < 1:
            raise ConfigError(f"strides: expected positive numbers, got {self.strides}")


class StridedPairs:
    """Selects the pairs of images whose distance is one of the strides."""

    def __init__(self, config: StridesConfig | None = None) -> None:
        self.config = config or StridesConfig()

    def check(self, scene: Scene) -> None:
        """Accept every scene."""

    def select(self, context: PairContext) -> tuple[ImagePair, ...]:
        """The pairs, sorted."""
        names = context.scene.names
        pairs = {
            ImagePair(name0, name1)
            for stride in self.config.strides
            for name0, name1 in zip(names, names[stride:], strict=False)
        }
        return tuple(sorted(pairs))
