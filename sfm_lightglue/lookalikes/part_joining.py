"""Parts of a scene that one hypothesis joins clearly better than any other one.

The pairs between two parts say how these lie to each other. Pairs of one hypothesis match the same tracks, pairs of
another one match the same tracks with other ones: at most one hypothesis is right. A doubtful pair says little by
itself. But if it is far more probable than all pairs that contradict it, and these are many, or other pairs say the
same, then it tells how the parts are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.lookalikes.views import ImageView, PairView

MIN_AMBIGUOUS = 0.25
"""A pair with a smaller probability helps to join no parts."""

_MIN_ODDS_RATIO = 10.0
"""The odds of a pair that joins two parts, in relation to the largest odds of the pairs that contradict it."""

_MIN_SAME, _MIN_RIVALS = 2, 8
"""Number of other pairs between the parts that say the same, or of those that contradict it: one of both is needed, so
that the hypothesis was compared with others."""

_MIN_COMMON_TRACKS, _MIN_SAME_TRACKS = 8, 0.5
"""Number of tracks that two pairs must both match to be compared, and the fraction of them that pairs of one hypothesis
match alike."""

_MAX_ROUNDS = 10
"""Number of rounds at most. Each computes the tracks again, and joins a part with at most one other part."""


class Parts:
    """Disjoint sets of images; the number of a set is the smallest of its images.

    Args:
        num_images: each is a set of its own at first.
    """

    def __init__(self, num_images: int) -> None:
        self._parents = list(range(num_images))

    def root(self, image: int) -> int:
        """The number of the set of an image."""
        while self._parents[image] != image:
            self._parents[image] = self._parents[self._parents[image]]
            image = self._parents[image]
        return image

    def join(self, first: int, second: int) -> None:
        """Unite the sets of two images."""
        roots = sorted((self.root(first), self.root(second)))
        self._parents[roots[1]] = roots[0]

    def between(self, pairs: Sequence[PairView]) -> dict[tuple[int, int], list[int]]:
        """The indices of the pairs between each two parts, the part with the smaller number first."""
        found: dict[tuple[int, int], list[int]] = {}
        for idx, pair in enumerate(pairs):
            roots = sorted((self.root(pair.image0), self.root(pair.image1)))
            if roots[0] != roots[1]:
                found.setdefault((roots[0], roots[1]), []).append(idx)
        return found


def with_clear_joining(
    images: Sequence[ImageView],
    pairs: Sequence[PairView],
    probabilities: Float64Array,
    is_used: BoolArray,
    parts: Parts,
) -> BoolArray:
    """The used pairs, and those that join two parts clearly better than the pairs that contradict them.

    Args:
        images: of the scene.
        pairs: its pairs.
        probabilities: [P] to be a true overlap.
        is_used: [P] pairs that take part in mapping.
        parts: that these connect; changed in place.
    """
    is_used = is_used.copy()
    for _ in range(_MAX_ROUNDS):
        between = parts.between(pairs)
        best = {key: max(idxs, key=lambda idx: (probabilities[idx], -idx)) for key, idxs in sorted(between.items())}
        possible = [key for key, idx in best.items() if probabilities[idx] >= MIN_AMBIGUOUS]
        possible.sort(key=lambda key: (-probabilities[best[key]], key))
        tracks = _Tracks.of_pairs(images, pairs, is_used) if possible else None
        joined: set[int] = set()
        for key in possible:
            assert tracks is not None
            if not joined & {*key} and _is_clear(tracks, pairs, probabilities, best[key], between[key], parts):
                is_used[best[key]] = True
                parts.join(*key)
                joined |= {*key}
        if not joined:
            break
    return is_used


def _is_clear(
    tracks: _Tracks,
    pairs: Sequence[PairView],
    probabilities: Float64Array,
    best: int,
    between: Sequence[int],
    parts: Parts,
) -> bool:
    """Whether the best pair between two parts is clearly better than those that contradict it."""
    part = parts.root(pairs[best].image0)
    expected = tracks.matched(pairs[best], False)
    num_same, num_rivals, most = 0, 0, 0.0
    for idx in between:
        if idx == best:
            continue
        same = tracks.fraction_alike(expected, tracks.matched(pairs[idx], parts.root(pairs[idx].image0) != part))
        if same is None:
            continue
        if same >= _MIN_SAME_TRACKS:
            num_same += 1
        else:
            num_rivals += 1
            most = max(most, float(probabilities[idx]))
    is_compared = num_same >= _MIN_SAME or num_rivals >= _MIN_RIVALS
    return is_compared and _odds(float(probabilities[best])) >= _MIN_ODDS_RATIO * _odds(most)


def _odds(probability: float) -> float:
    return probability / max(1 - probability, 1e-9)


@dataclass(frozen=True, eq=False, slots=True)
class _Tracks:
    """The tracks of all keypoints of a scene over some of its pairs.

    Args:
        starts: [N] number of the first keypoint of each image.
        track: [K] of each keypoint.
    """

    starts: IndexArray
    track: IndexArray

    @classmethod
    def of_pairs(cls, images: Sequence[ImageView], pairs: Sequence[PairView], is_used: BoolArray) -> _Tracks:
        """The tracks over the used pairs."""
        starts = np.cumsum([0, *(len(image.keypoints) for image in images)])
        ends = [np.zeros((0, 2), np.int64)]
        for idx in np.flatnonzero(is_used).tolist():
            ends.append(pairs[idx].rows + starts[[pairs[idx].image0, pairs[idx].image1]])
        rows, columns = np.concatenate(ends).T
        graph = coo_array((np.ones(len(rows)), (rows, columns)), (starts[-1], starts[-1]))
        return cls(starts, connected_components(graph, directed=False)[1].astype(np.int64))

    def matched(self, pair: PairView, is_swapped: bool) -> IndexArray:
        """The tracks [K, 2] that a pair matches, sorted by those of the first side."""
        found = self.track[pair.rows + self.starts[[pair.image0, pair.image1]]]
        found = found[:, ::-1] if is_swapped else found
        ordered: IndexArray = found[np.argsort(found[:, 0], kind="stable")]
        return ordered

    @staticmethod
    def fraction_alike(first: IndexArray, second: IndexArray) -> float | None:
        """Fraction of the common tracks that two pairs match with the same one; None if these are too few."""
        if len(first) == 0:
            return None
        place = np.minimum(np.searchsorted(first[:, 0], second[:, 0]), len(first) - 1)
        is_common = first[place, 0] == second[:, 0]
        if is_common.sum() < _MIN_COMMON_TRACKS:
            return None
        return float((first[place, 1] == second[:, 1])[is_common].mean())
