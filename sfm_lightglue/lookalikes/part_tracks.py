"""Tracks over pairs of a scene, by which other pairs are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.lookalikes.views import ImageView, PairView

MIN_COMMON_TRACKS = 8
"""Number of tracks that two pairs must both match to be compared."""


@dataclass(frozen=True, eq=False, slots=True)
class PartTracks:
    """The tracks of all keypoints of a scene over some of its pairs.

    Args:
        starts: [N] number of the first keypoint of each image.
        track: [K] of each keypoint.
    """

    starts: IndexArray
    track: IndexArray

    @classmethod
    def of_pairs(cls, images: Sequence[ImageView], pairs: Sequence[PairView], is_used: BoolArray) -> PartTracks:
        """The tracks over the used pairs."""
        starts = np.cumsum([0, *(len(image.keypoints) for image in images)])
        ends = [np.zeros((0, 2), np.int64)]
        for idx in np.flatnonzero(is_used).tolist():
            ends.append(pairs[idx].rows + starts[[pairs[idx].image0, pairs[idx].image1]])
        return cls(starts, _components(np.concatenate(ends), int(starts[-1])))

    def joined(self, pairs: Sequence[PairView]) -> PartTracks:
        """The tracks over further pairs, too."""
        matched = np.concatenate([self.matched(pair) for pair in pairs])
        return PartTracks(self.starts, _components(matched, len(self.track))[self.track])

    def matched(self, pair: PairView) -> IndexArray:
        """The tracks [K, 2] that a pair matches."""
        found: IndexArray = self.track[pair.rows + self.starts[[pair.image0, pair.image1]]]
        return found

    def fraction_seen_together(self, first: IndexArray, second: IndexArray) -> float:
        """Of the tracks that two pairs match with different ones, the fraction whose different ones one image observes.

        Such tracks are surely different points. Others can be parts of the track of one point that was matched in no
        pair of their images.

        Args:
            first: [K, 2] the tracks that a pair matches.
            second: the same of another pair, in the same order of the parts.
        """
        found = []
        observed = self._observed()
        for side in (0, 1):
            order = np.argsort(first[:, side], kind="stable")
            place = np.minimum(np.searchsorted(first[order, side], second[:, side]), len(first) - 1)
            others = first[order[place], 1 - side]
            is_unlike = (first[order[place], side] == second[:, side]) & (others != second[:, 1 - side])
            common = observed[others[is_unlike]].multiply(observed[second[is_unlike, 1 - side]])
            found.append(np.asarray(common.sum(axis=1)).ravel() > 0)
        is_together = np.concatenate(found)
        return float(is_together.mean()) if len(is_together) > 0 else 0.0

    def _observed(self) -> csr_array:
        """[T, N] which image observes a track."""
        images = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        ones: Float64Array = np.ones(len(images))
        return csr_array((ones, (self.track, images)), (int(self.track.max(initial=-1)) + 1, len(self.starts) - 1))

    @staticmethod
    def fraction_alike(first: IndexArray, second: IndexArray) -> float | None:
        """Fraction of the common tracks that two pairs match with the same one; None if these are too few.

        A match is common if one of its tracks is matched by both pairs, whatever side of them that is.
        """
        is_common = np.isin(second[:, 0], first[:, 0]) | np.isin(second[:, 1], first[:, 1])
        if is_common.sum() < MIN_COMMON_TRACKS:
            return None
        size = 1 + max(int(first.max(initial=0)), int(second.max(initial=0)))
        is_alike = np.isin(second[:, 0] * size + second[:, 1], first[:, 0] * size + first[:, 1])
        return float(is_alike[is_common].mean())


def _components(edges: IndexArray, num_nodes: int) -> IndexArray:
    """The number [num_nodes] of the connected component of each node."""
    graph = coo_array((np.ones(len(edges), np.bool_), tuple(edges.T)), (num_nodes, num_nodes))
    found: IndexArray = connected_components(graph, directed=False)[1].astype(np.int64)
    return found
