"""Parts of a scene: sets of images that pairs connect, and how sure pairs between them are together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.lookalikes.views import PairView

_MIN_JOINING_PAIRS = 2
"""Number of ambiguous pairs without a common image that join two parts together."""

Between = Mapping[tuple[int, int], Sequence[int]]
"""The indices of the pairs between each two parts."""


class Parts:
    """Disjoint sets of images; the number of a set is the smallest of its images.

    Args:
        num_images: each is a set of its own at first.
    """

    def __init__(self, num_images: int) -> None:
        self._parents = list(range(num_images))
        self._members = [[image] for image in range(num_images)]

    def root(self, image: int) -> int:
        """The number of the set of an image."""
        while self._parents[image] != image:
            self._parents[image] = self._parents[self._parents[image]]
            image = self._parents[image]
        return image

    def join(self, first: int, second: int) -> None:
        """Unite the sets of two images."""
        roots = sorted((self.root(first), self.root(second)))
        if roots[0] != roots[1]:
            self._parents[roots[1]] = roots[0]
            self._members[roots[0]] += self._members[roots[1]]
            self._members[roots[1]] = []

    def members(self, root: int) -> frozenset[int]:
        """The images of a set, by its number."""
        return frozenset(self._members[root])

    def between(self, pairs: Sequence[PairView]) -> dict[tuple[int, int], list[int]]:
        """The indices of the pairs between each two parts, the part with the smaller number first."""
        found: dict[tuple[int, int], list[int]] = {}
        for idx, pair in enumerate(pairs):
            roots = sorted((self.root(pair.image0), self.root(pair.image1)))
            if roots[0] != roots[1]:
                found.setdefault((roots[0], roots[1]), []).append(idx)
        return found


def independent_pairs(pairs: Sequence[PairView], probabilities: Float64Array, idxs: Sequence[int]) -> list[int]:
    """Those of some pairs that have no common image: the most probable one, the next one without its images, ...

    Args:
        pairs: of the scene.
        probabilities: [P] of the pairs.
        idxs: of the pairs that are asked about.
    """
    seen: set[int] = set()
    found = []
    for idx in sorted(idxs, key=lambda each: (-probabilities[each], each)):
        ends = {pairs[idx].image0, pairs[idx].image1}
        if not ends & seen:
            seen |= ends
            found.append(idx)
    return found


def joint_probability(pairs: Sequence[PairView], probabilities: Float64Array, idxs: Sequence[int]) -> float:
    """The probability that one of some pairs is true; 0 if too few of them have no common image.

    Args:
        pairs: of the scene.
        probabilities: [P] of the pairs.
        idxs: of the pairs that are asked about.
    """
    independent = independent_pairs(pairs, probabilities, idxs)
    if len(independent) < _MIN_JOINING_PAIRS:
        return 0.0
    return float(1 - np.prod(1 - probabilities[independent]))
