"""The keypoints of an image that are matched first, and what their matches say about the pair."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, IndexArray
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.features import best_spread
from sfm_lightglue.types import Features, Matches

_NUM_BEST = 10
"""Number of matches with the highest scores that a pair with a common view is judged by."""

_NUM_IMAGES = 128
"""Images whose first keypoints are kept: two blocks of the pairs of a scene and some more."""


_NUM_NEIGHBOURS, _MIN_WANTED = 8, 2
"""Number of the nearest first keypoints, and how many of them must be wanted, so that a further keypoint is matched."""

_FEWEST_AGAIN, _SHARE_AGAIN = 1024, 2 / 3
"""Of more keypoints, those amid the most wanted ones are matched: so many, or this share of all of the image. With
1,024 of 1,536, a pair takes half the time, and nine in ten matches are found."""

_MULTIPLE = 128
"""The number of keypoints is a multiple of this, or all are matched: products of a new shape take a millisecond
more."""

TWO_STEPS_VERSION = 2
"""Number to raise when a change of the code changes which keypoints are matched after the first ones."""


KeptRows = tuple[IndexArray, IndexArray]
"""Rows of the keypoints of image 0 and of image 1 that are matched."""


class Selected(NamedTuple):
    """Some features of an image."""

    features: Features
    rows: IndexArray
    """[K] their rows among all features of the image, ascending."""
    neighbours: IndexArray
    """[N, 8] the nearest of them to each feature of the image, by their places in `rows`; fewer if there are."""


class FoundMatches(NamedTuple):
    """What the network found of a pair."""

    matches: Matches
    is_wanted: tuple[BoolArray, BoolArray]
    """[K] of image 0 and of image 1: the keypoints that no layer found without a match."""


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


def _nearest(points: Float32Array, others: Float32Array) -> IndexArray:
    """[N, 8] the nearest of other points to each point [N, 2], in any order; fewer if there are."""
    num = min(_NUM_NEIGHBOURS, len(others))
    squared = sum(np.subtract.outer(points[:, axis], others[:, axis]) ** 2 for axis in (0, 1))
    nearest: IndexArray = np.argpartition(squared, num - 1, axis=1)[:, :num]
    return nearest


def in_all_keypoints(matches: Matches, rows0: IndexArray, rows1: IndexArray) -> Matches:
    """Matches of some keypoints, with the rows of all features of both images.

    Args:
        matches: of the keypoints.
        rows0: of the keypoints of image 0 among all of its features.
        rows1: of image 1.
    """
    rows = (rows0[matches.indices[:, 0]], rows1[matches.indices[:, 1]])
    return Matches(np.stack(rows, axis=1).astype(np.int32), matches.scores, matches.stop_layer)


def rows_to_match(selected: Selected, is_wanted: BoolArray, scores: Float32Array) -> IndexArray:
    """The keypoints of an image that are worth matching after the first ones, by their rows among all, ascending.

    Outside of the common view, no layer of the network wants a keypoint, and amid first ones that are not wanted the
    others would not be either.

    Args:
        selected: the first keypoints of the image.
        is_wanted: [K] which of them the network wants.
        scores: [N] of all keypoints, by which those with equally many wanted neighbours are chosen.
    """
    num_wanted = is_wanted[selected.neighbours].sum(axis=1)
    is_near = num_wanted >= _MIN_WANTED
    is_near[selected.rows] |= is_wanted
    most = max(_FEWEST_AGAIN, round(_SHARE_AGAIN * len(scores)))
    num = min(-(-max(int(is_near.sum()), 1) // _MULTIPLE) * _MULTIPLE, most, len(scores))
    order = np.lexsort((-scores, -num_wanted, ~is_near))
    return np.sort(order[:num])


def rows_of_pair(
    selected: tuple[Selected, Selected], is_wanted: tuple[BoolArray, BoolArray], pair: tuple[Features, Features]
) -> KeptRows:
    """`rows_to_match` of both images of a pair, from their first keypoints and all of their features."""
    rows0, rows1 = (rows_to_match(selected[side], is_wanted[side], pair[side].scores) for side in (0, 1))
    return rows0, rows1


def is_settled(matches: Matches, enough_matches: float, min_best_score: float) -> bool:
    """Whether more keypoints are not worth their time: there are enough matches, or no hope for any.

    Args:
        matches: of the first keypoints.
        enough_matches: a sum of scores, that is, an expected number of correct matches.
        min_best_score: mean score of the ten best matches below which the images have no common view.
    """
    best = np.sort(matches.scores)[-_NUM_BEST:]
    return bool(matches.scores.sum() >= enough_matches or best.sum() < _NUM_BEST * min_best_score)
