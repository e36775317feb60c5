"""Each image with the images that follow it: for video frames and walks, ordered by name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.types import ImagePair, Scene


@dataclass(frozen=True, slots=True)
class SequentialConfig:
    """Options of the sequential pairs."""

    window: int = 10
    """Each image is matched with this many of the images that follow it."""

    quadratic: bool = True
    """Also match images that are 2, 4, 8, ..., 2 ** (window - 1) positions apart: bridges gaps and reduces drift."""

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ConfigError(f"`pairs.window` must be at least 1, got {self.window}")


class SequentialPairs:
    """Neighbours in the order of the names, with runs of digits compared as numbers: frame2 before frame10."""

    def __init__(self, config: SequentialConfig | None = None) -> None:
        self.config = config or SequentialConfig()

    def check(self, scene: Scene) -> None:
        """Every scene can be used."""

    def select(self, context: PairContext) -> tuple[ImagePair, ...]:
        """The pairs, sorted."""
        names = sorted(context.scene.names, key=natural_order)
        offsets = set(range(1, self.config.window + 1))
        if self.config.quadratic:
            offsets |= {2**power for power in range(self.config.window)}
        pairs = {
            ImagePair.from_names(name, names[i + offset])
            for i, name in enumerate(names)
            for offset in offsets
            if i + offset < len(names)
        }
        return tuple(sorted(pairs))


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key in which runs of digits are numbers."""
    parts = re.split(r"(\d+)", name)
    key = [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts)]
    return (*key, (2, 0, name))
