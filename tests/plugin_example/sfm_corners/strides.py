"""Each image with those a few steps further on."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.types import ImagePair, Scene


@dataclass(frozen=True, slots=True)
class StridesConfig:
    """Options of the strides."""

    strides: tuple[int, ...] = (1, 2)
    """Steps in the order of the names."""

    def __post_init__(self) -> None:
        if not self.strides or min(self.strides) < 1:
            raise ConfigError(f"strides: expected positive numbers, got {self.strides}")


class StridedPairs:
    """Pairs of images that lie as many names apart as one of the strides says."""

    def __init__(self, config: StridesConfig | None = None) -> None:
        self.config = config or StridesConfig()

    def select(self, scene: Scene) -> tuple[ImagePair, ...]:
        """The pairs, sorted."""
        names = scene.names
        pairs = {
            ImagePair(name0, name1)
            for stride in self.config.strides
            for name0, name1 in zip(names, names[stride:], strict=False)
        }
        return tuple(sorted(pairs))
