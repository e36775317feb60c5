"""How deep an adaptive matcher went for each point, and which matchers can tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sfm_lightglue.arrays import IndexArray
from sfm_lightglue.types import Features


@dataclass(frozen=True, slots=True, eq=False)
class PointLayers:
    """How many layers each point of a pair went through.

    Args:
        num_layers0: [N0] of the points of the first image: fewer than `stop_layer` if the point was pruned.
        num_layers1: [N1] of the second image.
        stop_layer: number of layers after which the pair stopped.
        network_layers: number of layers of the network.
    """

    num_layers0: IndexArray
    num_layers1: IndexArray
    stop_layer: int
    network_layers: int


@runtime_checkable
class TellsLayers(Protocol):
    """A matcher that can tell how deep it went for each point."""

    def point_layers(self, features0: Features, features1: Features) -> PointLayers:
        """How many layers each point of a pair went through."""
