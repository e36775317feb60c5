"""The keypoints of an image that are matched first, and what their matches say about the pair."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, IndexArray, Int32Array
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.features import best_spread
from sfm_lightglue.types import Features, Matches

_NUM_BEST = 10
"""Number of matches with the highest scores that a pair with a common view is judged by."""

_NUM_IMAGES = 128
"""Images whose first keypoints are kept: two blocks of the pairs of a scene and some more."""


_NUM_NEIGHBOURS, _MIN_WANTED = 8, 2
"""Number of the nearest first keypoints, and how many of them must be wanted, so that a further keypoint is matched."""

_FEWEST_AGAIN, _SHARE_AGAIN = 1024, Fraction(2, 3)
"""So many keypoints are matched at least, and at most so many or this share of all of the image: those near the most
wanted ones. With 1,024 of 1,536, a pair takes half the time, and nine in ten matches are found."""

_MULTIPLE = 128
"""The number of keypoints is a multiple of this, or all are matched: products of a new shape take a millisecond
more."""

ENOUGH_MATCHES, MIN_BEST_SCORE = 80.0, 0.5
"""Limits of `is_settled` if none are given."""

TWO_STEPS_VERSION = 4
"""Number to raise when a change of the code changes the matches of pairs that are matched in two steps."""

KeptRows = tuple[IndexArray, IndexArray]
"""Rows of the keypoints of image 0 and of image 1 that are matched."""


class Selected(NamedTuple):
    """Some features of an image."""

    features: Features
    rows: IndexArray
    """[K] their rows among all features of the image, ascending."""
    neighbours: Int32Array
    """[N, 8] the nearest of them to each feature of the image, by their places in `rows`; fewer if there are."""


class FoundMatches(NamedTuple):
    """What the network found of a pair."""

    matches: Matches
    is_wanted: tuple[BoolArray, BoolArray]
    """[K] of image 0 and of image 1: True for keypoints that no layer judged to be without a match."""

    @classmethod
    def of(
        cls, matches0: IndexArray, scores0: Float32Array, stop_layer: int, is_wanted: tuple[BoolArray, BoolArray]
    ) -> FoundMatches:
        """From the match of each keypoint [N] of image 0, -1 without one, and its score."""
        idxs0 = np.flatnonzero(matches0 >= 0)
        indices = np.stack([idxs0, matches0[idxs0]], axis=1).astype(np.int32)
        return cls(Matches(indices, scores0[idxs0].astype(np.float32), stop_layer), is_wanted)


class FirstKeypoints:
    """The best-spread keypoints of images; kept, because an image occurs in several pairs.

    Safe to use from several threads.

    Args:
        limit: largest number of keypoints of an image.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: LruCache[Features, Selected] = LruCache(_NUM_IMAGES)  # features are equal only to themselves

    def of(self, features: Features) -> Selected:
        """The keypoints of an image; the same object for the same features."""
        kept = self._kept.get(features)
        if kept is None:
            keypoints, scores = features.keypoints, features.scores
            rows = np.sort(best_spread(keypoints, scores, self._limit, features.image_size))
            kept = Selected(features.rows(rows), rows, _nearest(keypoints, keypoints[rows]))
            self._kept.put(features, kept)
        return kept


def _nearest(points: Float32Array, others: Float32Array) -> Int32Array:
    """[N, 8] the nearest of other points to each point [N, 2], in any order; fewer if there are."""
    num = min(_NUM_NEIGHBOURS, len(others))
    squared = sum(np.subtract.outer(points[:, axis], others[:, axis]) ** 2 for axis in (0, 1))
    # The copy is kept: a part of the whole array would keep all of it in memory.
    return np.argpartition(squared, num - 1, axis=1)[:, :num].astype(np.int32)


def in_all_keypoints(matches: Matches, rows: KeptRows, num_keypoints: tuple[int, int]) -> Matches:
    """Matches of some keypoints, with the rows of all features of both images; tells which were asked.

    Args:
        matches: of the keypoints.
        rows: of the keypoints of both images among all of their features.
        num_keypoints: of both images, all of them.
    """
    indices = np.stack([rows[side][matches.indices[:, side]] for side in (0, 1)], axis=1).astype(np.int32)
    asked0, asked1 = (_asked(rows[side], num_keypoints[side]) for side in (0, 1))
    return Matches(indices, matches.scores, matches.stop_layer, asked0=asked0, asked1=asked1)


def _asked(rows: IndexArray, num: int) -> BoolArray | None:
    """The keypoints [N] of some rows; None if they are all."""
    is_asked = np.zeros(num, np.bool_)
    is_asked[rows] = True
    return None if bool(is_asked.all()) else is_asked


def rows_to_match(selected: Selected, is_wanted: BoolArray, scores: Float32Array) -> IndexArray:
    """The keypoints of an image that are worth matching after the first ones, by their rows among all, ascending.

    Outside of the common view, no layer of the network wants a keypoint, and near first ones that are not wanted the
    others would not be either. Of few keypoints, or if all first ones are wanted, also because the network judges none,
    all are matched.

    Args:
        selected: the first keypoints of the image.
        is_wanted: [K] which of them the network wants; they are matched again before any others.
        scores: [N] of all keypoints, by which those with equally many wanted neighbours are chosen.
    """
    if bool(is_wanted.all()):
        return np.arange(len(scores))
    num_wanted = is_wanted[selected.neighbours].sum(axis=1)
    is_sure = np.zeros(len(scores), np.bool_)
    is_sure[selected.rows] = is_wanted
    is_near = (num_wanted >= _MIN_WANTED) | is_sure
    most = max(_FEWEST_AGAIN, int(_SHARE_AGAIN * len(scores)) // _MULTIPLE * _MULTIPLE)
    num = min(max(-(-int(is_near.sum()) // _MULTIPLE) * _MULTIPLE, _FEWEST_AGAIN), most, len(scores))
    order = np.lexsort((-scores, -num_wanted, ~is_near, ~is_sure))
    return np.sort(order[:num])


class SecondStep(NamedTuple):
    """What is matched of a pair that its first keypoints do not settle."""

    selected: tuple[Selected, Selected]
    first: Matches
    """Of these first keypoints."""
    rows: KeptRows
    """Of the keypoints that are matched in the second step."""

    @classmethod
    def after(
        cls, selected: tuple[Selected, Selected], first: FoundMatches, pair: tuple[Features, Features]
    ) -> SecondStep:
        """The second step after the first one: first keypoints with a match count as wanted."""
        rows = []
        for side in (0, 1):
            is_wanted = first.is_wanted[side].copy()
            is_wanted[first.matches.indices[:, side]] = True
            rows.append(rows_to_match(selected[side], is_wanted, pair[side].scores))
        return cls(selected, first.matches, (rows[0], rows[1]))

    def result(self, matches: Matches) -> Matches:
        """The matches of the pair in the rows of all features, from those of the second step.

        If keypoints were left out and the others find less, these are the matches of the first step.
        """
        nums = len(self.selected[0].neighbours), len(self.selected[1].neighbours)
        firsts = self.selected[0].rows, self.selected[1].rows
        is_all = all(len(rows) == num for rows, num in zip(self.rows, nums, strict=True))
        if not is_all and matches.scores.sum() < self.first.scores.sum():
            return in_all_keypoints(self.first, firsts, nums)
        found = in_all_keypoints(matches, self.rows, nums)
        asked0, asked1 = (_asked(np.union1d(self.rows[side], firsts[side]), nums[side]) for side in (0, 1))
        return replace(found, asked0=asked0, asked1=asked1)


def num_matched(pair: tuple[Features, Features], rows: KeptRows | None) -> tuple[int, int]:
    """Number of keypoints of both images that are matched: those of some rows, or all."""
    first, second = pair if rows is None else rows
    return len(first), len(second)


def settled_limits(enough_matches: float | None, min_best_score: float | None) -> tuple[float, float]:
    """The limits of `is_settled`; None stands for `ENOUGH_MATCHES` and `MIN_BEST_SCORE`."""
    enough = ENOUGH_MATCHES if enough_matches is None else enough_matches
    return enough, MIN_BEST_SCORE if min_best_score is None else min_best_score


def may_have_more(matches: Matches, first_keypoints: int, enough_matches: float, min_best_score: float) -> bool:
    """Whether a pair has the matches of its first keypoints alone, and these do not settle it by other limits.

    Args:
        matches: of a matcher with the same `first_keypoints`, by which fewer pairs are matched again.
        first_keypoints: as in `LightGlueMatcherConfig`.
        enough_matches: see `is_settled`.
        min_best_score: see `is_settled`.
    """
    asked = matches.asked0, matches.asked1
    is_first = all(one is not None and int(one.sum()) <= first_keypoints for one in asked)
    return is_first and not is_settled(matches, enough_matches, min_best_score)


def is_settled(matches: Matches, enough_matches: float, min_best_score: float) -> bool:
    """Whether more keypoints are not worth their time: there are enough matches, or no hope for any.

    Args:
        matches: of the first keypoints.
        enough_matches: a sum of scores, that is, an expected number of correct matches.
        min_best_score: mean score of the ten best matches below which the images have no common view.
    """
    best = np.sort(matches.scores)[-_NUM_BEST:]
    return bool(matches.scores.sum() >= enough_matches or best.sum() < _NUM_BEST * min_best_score)
