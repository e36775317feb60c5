"""Tracks over pairs of a scene, by which other pairs are compared."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

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
        pieces: [U] sorted numbers of tracks of `track` that are one with others.
        whole: [U] the number of the track that each of them is a piece of.
    """

    starts: IndexArray
    track: IndexArray
    pieces: IndexArray = field(default_factory=lambda: np.zeros(0, np.int64))
    whole: IndexArray = field(default_factory=lambda: np.zeros(0, np.int64))
    _observed: dict[tuple[int, int], tuple[PairView, IndexArray]] = field(default_factory=dict, init=False)
    _by_image: list[csr_array] = field(default_factory=list, init=False)

    @classmethod
    def of_pairs(cls, images: Sequence[ImageView], pairs: Sequence[PairView], is_used: BoolArray) -> PartTracks:
        """The tracks over the used pairs."""
        starts = np.cumsum([0, *(len(image.keypoints) for image in images)])
        ends = [np.zeros((0, 2), np.int64)]
        for idx in np.flatnonzero(is_used).tolist():
            ends.append(pairs[idx].rows + starts[[pairs[idx].image0, pairs[idx].image1]])
        return cls(starts, _components(np.concatenate(ends), int(starts[-1])))

    def joined(self, pairs: Sequence[PairView], images: Collection[int]) -> PartTracks:
        """The tracks over further pairs, too.

        Args:
            pairs: of some images.
            images: these, and all that have tracks in common with them.
        """
        pieces, whole = _united(np.concatenate([self.matched(pair) for pair in pairs]))
        number: IndexArray = np.arange(int(self.track.max(initial=-1)) + 1)
        number[pieces] = whole
        found = PartTracks(self.starts, number[self.track])
        for key, (pair, tracks) in self._observed.items():
            if pair.image0 not in images and pair.image1 not in images:
                found._observed[key] = pair, tracks
        return found

    def united(self, pair: PairView) -> PartTracks:
        """The tracks over a further pair, too, to see what others match: this costs nothing for all other keypoints."""
        return PartTracks(self.starts, self.track, *_united(self.matched(pair)))

    def matched(self, pair: PairView) -> IndexArray:
        """The tracks [K, 2] that a pair matches."""
        found: IndexArray = self.track[pair.rows + self.starts[[pair.image0, pair.image1]]]
        if len(self.pieces) == 0:
            return found
        place = np.minimum(np.searchsorted(self.pieces, found), len(self.pieces) - 1)
        return np.where(self.pieces[place] == found, self.whole[place], found)

    def observed(self, idx: int, pair: PairView, side: int) -> IndexArray:
        """The sorted tracks that a pair matches in one of its images, each once.

        Args:
            idx: of the pair; what was found for it is kept.
            pair: this pair.
            side: 0 for its first image, 1 for its second one.
        """
        if (idx, side) not in self._observed:
            self._observed[idx, side] = pair, np.unique(self.matched(pair)[:, side])
        return self._observed[idx, side][1]

    def fraction_seen_together(self, first: IndexArray, second: IndexArray) -> float:
        """Of the tracks that two pairs match with different ones, the fraction whose different ones one image observes.

        Such tracks are surely different points. Others can be parts of the track of one point that was matched in no
        pair of their images.

        Args:
            first: [K, 2] the tracks that a pair matches.
            second: the same of another pair, in the same order of the parts.
        """
        found = []
        observed = self._images()
        for side in (0, 1):
            order = np.argsort(first[:, side], kind="stable")
            place = np.minimum(np.searchsorted(first[order, side], second[:, side]), len(first) - 1)
            others = first[order[place], 1 - side]
            is_unlike = (first[order[place], side] == second[:, side]) & (others != second[:, 1 - side])
            common = observed[others[is_unlike]].multiply(observed[second[is_unlike, 1 - side]])
            found.append(np.asarray(common.sum(axis=1)).ravel() > 0)
        is_together = np.concatenate(found)
        return float(is_together.mean()) if len(is_together) > 0 else 0.0

    def _images(self) -> csr_array:
        """[T, N] which image observes a track."""
        if not self._by_image:
            images = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
            ones: Float64Array = np.ones(len(images))
            shape = int(self.track.max(initial=-1)) + 1, len(self.starts) - 1
            self._by_image.append(csr_array((ones, (self.track, images)), shape))
        return self._by_image[0]

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


def num_common(first: IndexArray, second: IndexArray) -> int:
    """Number of the tracks in both of two sorted lists of different ones."""
    return len(np.intersect1d(first, second, assume_unique=True))


def _united(matched: IndexArray) -> tuple[IndexArray, IndexArray]:
    """The sorted tracks that pairs match, and the smallest number of those that are one with each of them.

    Args:
        matched: [K, 2] by the pairs.
    """
    pieces, edges = np.unique(matched, return_inverse=True)
    if len(pieces) == 0:
        return pieces, pieces
    component = _components(edges.reshape(-1, 2), len(pieces))
    _, first = np.unique(component, return_index=True)
    return pieces, pieces[first[component]]


def _components(edges: IndexArray, num_nodes: int) -> IndexArray:
    """The number [num_nodes] of the connected component of each node."""
    graph = coo_array((np.ones(len(edges), np.bool_), tuple(edges.T)), (num_nodes, num_nodes))
    found: IndexArray = connected_components(graph, directed=False)[1].astype(np.int64)
    return found
