"""The keypoints of an image that are matched first, and what their matches say about the pair."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import IndexArray
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.features import best_spread
from sfm_lightglue.types import Features, Matches

_NUM_BEST = 10
"""Number of matches with the highest scores that a pair with a common view is judged by."""

_NUM_IMAGES = 128
"""Images whose first keypoints are kept: two blocks of the pairs of a scene and some more."""


class Selected(NamedTuple):
    """Some features of an image."""

    features: Features
    rows: IndexArray
    """[K] their rows among all features of the image, ascending."""


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
            kept = Selected(features.rows(rows), rows)
            self._kept.put(features, kept)
        return kept


def in_all_keypoints(matches: Matches, selected0: Selected, selected1: Selected) -> Matches:
    """Matches of selected keypoints, with the rows of all features of both images."""
    rows = (selected0.rows[matches.indices[:, 0]], selected1.rows[matches.indices[:, 1]])
    return Matches(np.stack(rows, axis=1).astype(np.int32), matches.scores, matches.stop_layer)


def is_settled(matches: Matches, enough_matches: float, min_best_score: float) -> bool:
    """Whether more keypoints are not worth their time: there are enough matches, or no hope for any.

    Args:
        matches: of the first keypoints.
        enough_matches: a sum of scores, that is, an expected number of correct matches.
        min_best_score: mean score of the ten best matches below which the images have no common view.
    """
    best = np.sort(matches.scores)[-_NUM_BEST:]
    return bool(matches.scores.sum() >= enough_matches or best.sum() < _NUM_BEST * min_best_score)
