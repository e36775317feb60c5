"""Parts of a scene that one hypothesis joins clearly better than any other one.

The pairs between two parts say how these lie to each other. Pairs of one hypothesis match the same tracks, pairs of
another one match the same tracks with other ones: at most one hypothesis is right. A doubtful pair says little by
itself. But if it is far more probable than all pairs that contradict it, and these are many, or other pairs say the
same, then it tells how the parts are joined. A pair to a third part that matches the same tracks contradicts it, too:
the third part may be a twin of one of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.lookalikes.views import ImageView, PairView

MIN_AMBIGUOUS = 0.25
"""A pair with a smaller probability helps to join no parts."""

MIN_JOINING_PROBABILITY = 0.9
"""Probability that at least one of several ambiguous pairs is true which join parts without a comparison."""

_MIN_JOINING_PAIRS = 2
"""Number of ambiguous pairs without a common image that join two parts together."""

_MIN_ODDS_RATIO = 10.0
"""The odds of a pair that joins two parts, in relation to the largest odds of the pairs that contradict it."""

_MIN_SAME, _MIN_RIVALS = 2, 8
"""Number of other ambiguous pairs between the parts that say the same, or of those that contradict it: one of both is
needed, and one that contradicts it in any case, so that the hypothesis was compared with others."""

_MIN_COMMON_TRACKS, _MIN_SAME_TRACKS = 8, 0.5
"""Number of tracks that two pairs must both match to be compared, and the fraction of them that pairs of one hypothesis
match alike."""

_MIN_UNCOMPARED = 0.1
"""A pair between the parts that cannot be compared counts as a contradiction from this fraction of the probability."""

Between = Mapping[tuple[int, int], Sequence[int]]
"""The indices of the pairs between each two parts."""


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


def joint_probability(pairs: Sequence[PairView], probabilities: Float64Array, idxs: Sequence[int]) -> float:
    """The probability that one of some pairs is true; 0 if too few of them have no common image.

    Args:
        pairs: of the scene.
        probabilities: [P] of the pairs.
        idxs: of the pairs that are asked about.
    """
    seen: set[int] = set()
    independent = []
    for idx in sorted(idxs, key=lambda each: (-probabilities[each], each)):
        ends = {pairs[idx].image0, pairs[idx].image1}
        if not ends & seen:
            seen |= ends
            independent.append(probabilities[idx])
    if len(independent) < _MIN_JOINING_PAIRS:
        return 0.0
    return float(1 - np.prod(1 - np.array(independent)))


def with_clear_joining(
    images: Sequence[ImageView],
    pairs: Sequence[PairView],
    probabilities: Float64Array,
    is_used: BoolArray,
    parts: Parts,
    is_left_out: BoolArray | None = None,
    is_wrong: BoolArray | None = None,
) -> BoolArray:
    """The used pairs, and those that join two parts clearly better than the pairs that contradict them.

    Args:
        images: of the scene.
        pairs: its pairs.
        probabilities: [P] to be a true overlap.
        is_used: [P] pairs that take part in mapping.
        parts: that these connect; changed in place.
        is_left_out: [P] pairs that join nothing, but contradict others; None for none.
        is_wrong: [P] pairs that joined places that look alike: what says the same joins nothing; None for none.
    """
    nothing = np.zeros(len(pairs), np.bool_)
    is_wrong = nothing if is_wrong is None else is_wrong
    is_left_out = is_wrong if is_left_out is None else is_left_out | is_wrong
    is_used = is_used.copy()
    tracks: _Tracks | None = None
    doubtful: list[int] = []
    refused: set[int] = set()  # best pairs; asked again only after no other one joins parts
    is_changed = False
    while True:
        between = parts.between(pairs)
        possible = _possible(pairs, probabilities, is_left_out, between)
        if possible and tracks is None:
            tracks = _Tracks.of_pairs(images, pairs, is_used)
        strong = _strong(probabilities, between)
        joined: set[int] = set()
        for key, best in possible:
            if tracks is None or best in refused or joined & {*key}:  # what was found between the parts is outdated
                continue
            hypothesis = _Hypothesis(tracks, pairs, probabilities, best, parts)
            is_third = hypothesis.is_of_third(strong, key) or hypothesis.is_again(doubtful)
            agreeing = [] if is_third else hypothesis.agreeing(between[key], is_left_out, is_wrong)
            if not agreeing:
                refused.add(best)
            else:
                is_used[agreeing] = True
                tracks = tracks.joined([pairs[idx] for idx in agreeing])
                doubtful += agreeing
                parts.join(*key)
                joined |= {*key}
        if not joined and not (is_changed and refused):
            return is_used
        refused = refused if joined else set()
        is_changed = bool(joined)


def _strong(probabilities: Float64Array, between: Between) -> Between:
    """The pairs that can be hardly less probable than a pair that joins parts: most of a scene are not."""
    found = {
        key: [idx for idx in idxs if not _is_clear(MIN_AMBIGUOUS, probabilities[idx])] for key, idxs in between.items()
    }
    return {key: idxs for key, idxs in found.items() if idxs}


def _possible(
    pairs: Sequence[PairView], probabilities: Float64Array, is_left_out: BoolArray, between: Between
) -> list[tuple[tuple[int, int], int]]:
    """The parts that may be joined, each with the best pair between them, the most probable one first.

    Tracks cost more than this, so parts whose pairs cannot suffice whatever their tracks are do not come so far.
    """
    found = []
    for key, idxs in sorted(between.items()):
        ambiguous = [idx for idx in idxs if probabilities[idx] >= MIN_AMBIGUOUS and not is_left_out[idx]]
        if not ambiguous:
            continue
        best = max(ambiguous, key=lambda idx: (probabilities[idx], -idx))
        has_weak = any(_is_clear(probabilities[best], probabilities[idx]) for idx in idxs)
        if has_weak or joint_probability(pairs, probabilities, ambiguous) >= MIN_JOINING_PROBABILITY:
            found.append((key, best))
    return sorted(found, key=lambda each: (-probabilities[each[1]], each[0]))


@dataclass(frozen=True, eq=False, slots=True)
class _Hypothesis:
    """How the best pair between two parts says that they are joined."""

    tracks: _Tracks
    pairs: Sequence[PairView]
    probabilities: Float64Array
    best: int
    parts: Parts

    def is_of_third(self, between: Between, key: tuple[int, int]) -> bool:
        """Whether a pair to a third part matches the same tracks and is hardly less probable."""
        return any(
            not _is_clear(self.probabilities[self.best], self.probabilities[idx]) and self._has_common(idx)
            for other, idxs in between.items()
            if other != key and {*other} & {*key}
            for idx in idxs
        )

    def is_again(self, doubtful: Sequence[int]) -> bool:
        """Whether a doubtful pair already joined one of the parts by the same tracks."""
        return any(self._has_common(idx) for idx in doubtful)

    def agreeing(self, between: Sequence[int], is_left_out: BoolArray, is_wrong: BoolArray) -> list[int]:
        """The best pair and the ambiguous ones that say the same, if it is clearly better than all others.

        Args:
            between: the pairs between both parts.
            is_left_out: [P] as in `with_clear_joining`.
            is_wrong: [P] as there.
        """
        part = self.parts.root(self.pairs[self.best].image0)
        expected = self.tracks.matched(self.pairs[self.best])
        highest = float(self.probabilities[self.best])
        same, num_rivals, most = [self.best], 0, 0.0
        for idx in between:
            if idx == self.best:
                continue
            found, probability = self.tracks.matched(self.pairs[idx]), float(self.probabilities[idx])
            found = found if self.parts.root(self.pairs[idx].image0) == part else found[:, ::-1]
            alike = self.tracks.fraction_alike(expected, found)
            if alike is None:
                most = max(most, probability if probability >= _MIN_UNCOMPARED * highest else 0.0)
            elif alike < _MIN_SAME_TRACKS:
                num_rivals += 1
                most = max(most, probability)
            elif is_wrong[idx]:
                return []
            elif probability >= MIN_AMBIGUOUS and not is_left_out[idx]:
                same.append(idx)
        if num_rivals == 0:
            joint = joint_probability(self.pairs, self.probabilities, same)
            is_compared = joint >= MIN_JOINING_PROBABILITY
        else:
            is_compared = len(same) > _MIN_SAME or num_rivals >= _MIN_RIVALS
        return same if is_compared and _is_clear(highest, most) else []

    def _has_common(self, idx: int) -> bool:
        """Whether another pair matches the same tracks of one of both parts."""
        best, other = self.pairs[self.best], self.pairs[idx]
        own, found = self.tracks.matched(best), self.tracks.matched(other)
        return any(
            np.isin(np.unique(found[:, column]), own[:, side]).sum() >= _MIN_COMMON_TRACKS
            for side, column in self._sides_of_one_part(best, other)
        )

    def _sides_of_one_part(self, best: PairView, other: PairView) -> Iterator[tuple[int, int]]:
        """The sides of two pairs that lie in the same part."""
        for side, image in enumerate((best.image0, best.image1)):
            for column, other_image in enumerate((other.image0, other.image1)):
                if self.parts.root(image) == self.parts.root(other_image):
                    yield side, column


def _is_clear(probability: float, rival: float) -> bool:
    """Whether a pair is clearly more probable than one that contradicts it."""
    return _odds(float(probability)) >= _MIN_ODDS_RATIO * _odds(float(rival))


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
        return cls(starts, _components(np.concatenate(ends), int(starts[-1])))

    def joined(self, pairs: Sequence[PairView]) -> _Tracks:
        """The tracks over further pairs, too."""
        matched = np.concatenate([self.matched(pair) for pair in pairs])
        return _Tracks(self.starts, _components(matched, len(self.track))[self.track])

    def matched(self, pair: PairView) -> IndexArray:
        """The tracks [K, 2] that a pair matches."""
        found: IndexArray = self.track[pair.rows + self.starts[[pair.image0, pair.image1]]]
        return found

    @staticmethod
    def fraction_alike(first: IndexArray, second: IndexArray) -> float | None:
        """Fraction of the common tracks that two pairs match with the same one; None if these are too few.

        A match is common if one of its tracks is matched by both pairs, whatever side of them that is.
        """
        is_common = np.isin(second[:, 0], first[:, 0]) | np.isin(second[:, 1], first[:, 1])
        if is_common.sum() < _MIN_COMMON_TRACKS:
            return None
        size = 1 + max(int(first.max(initial=0)), int(second.max(initial=0)))
        is_alike = np.isin(second[:, 0] * size + second[:, 1], first[:, 0] * size + first[:, 1])
        return float(is_alike[is_common].mean())


def _components(edges: IndexArray, num_nodes: int) -> IndexArray:
    """The number [num_nodes] of the connected component of each node."""
    graph = coo_array((np.ones(len(edges), np.bool_), tuple(edges.T)), (num_nodes, num_nodes))
    found: IndexArray = connected_components(graph, directed=False)[1].astype(np.int64)
    return found
