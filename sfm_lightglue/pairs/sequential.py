"""Each image with the images that follow it: for video frames and walks, ordered by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.pair_sets import IndexedPairs
from sfm_lightglue.scene.natural_order import natural_order
from sfm_lightglue.types import Scene


@dataclass(frozen=True, slots=True)
class SequentialConfig:
    """Options of the sequential pairs."""

    window: int = 10
    """Each image is matched with this many of the images that follow it."""

    quadratic: bool = True
    """Also match images that are 2, 4, 8, ..., 2 ** (window - 1) positions apart: bridges gaps and reduces drift."""

    loops: bool = False
    """Also match similar images that are more than the window apart: places to which the camera comes back."""

    num_loops: int = 5
    """Number of these images for each image, if `loops` is set."""

    def __post_init__(self) -> None:
        for name in ("window", "num_loops"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`pairs.{name}` must be at least 1, got {getattr(self, name)}")


class SequentialPairs:
    """Neighbours in the order of the names, with runs of digits compared as numbers: frame2 before frame10."""

    def __init__(self, config: SequentialConfig | None = None) -> None:
        self.config = config or SequentialConfig()

    def check(self, scene: Scene) -> None:
        """Every scene can be used."""

    def num_pairs(self, scene: Scene) -> int:
        """The number of pairs, with `loops` an upper bound."""
        num = len(scene.images)
        num_near = sum(num - offset for offset in self._offsets(num))
        return min(num * (num - 1) // 2, num_near + num * self.config.num_loops) if self.config.loops else num_near

    def needs_features(self, scene: Scene) -> bool:
        """Yes, if similar images are to be found."""
        return self.config.loops and len(scene.images) > 1

    def select(self, context: PairContext) -> IndexedPairs:
        """The pairs, sorted."""
        names = sorted(context.scene.names, key=natural_order)
        positions = np.arange(len(names))
        rows = [np.stack((positions[:-offset], positions[offset:]), axis=1) for offset in self._offsets(len(names))]
        pairs = IndexedPairs.from_rows(names, np.concatenate([np.zeros((0, 2), np.int64), *rows]))
        if not self.config.loops or len(names) < 2:
            return pairs
        from sfm_lightglue.pairs.loops import loop_pairs, similar_images

        return pairs.union(loop_pairs(similar_images(context), names, self.config.window, self.config.num_loops))

    def _offsets(self, num_images: int) -> list[int]:
        """How many positions the images of a pair are apart."""
        window = min(self.config.window, num_images)
        offsets = set(range(1, window + 1))
        if self.config.quadratic:
            offsets |= {2**power for power in range(window)}
        return sorted(offset for offset in offsets if offset < num_images)
