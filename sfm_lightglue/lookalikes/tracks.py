"""Tracks over a third image: whether the inliers of a pair agree with those of two other pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import BoolArray, IndexArray
from sfm_lightglue.lookalikes.views import ImageView, PairView

_MIN_TOGETHER = 0.25
"""Another pair matches the same things as a pair if it matches at least this fraction of its inliers."""


class TrackAgreement(NamedTuple):
    """Whether the inliers of a pair agree with tracks over other images.

    Args:
        num_tracks: number of keypoints of the first image that a track connects with one of the second image.
        is_confirmed: [K] inliers whose two keypoints a track connects.
        is_crossed: [K] other inliers whose first keypoint a track connects with another keypoint.
    """

    num_tracks: int
    is_confirmed: BoolArray
    is_crossed: BoolArray


class PairTracks:
    """The inliers of the pairs of a scene, by image.

    Args:
        images: of the scene.
        pairs: of the scene, each once.
    """

    def __init__(self, images: Sequence[ImageView], pairs: Sequence[PairView]) -> None:
        self._images, self.pairs = images, pairs
        self.idx_from_other: list[dict[int, int]] = [{} for _ in images]
        """For each image, the index of the pair with each other image."""
        for idx, pair in enumerate(pairs):
            self.idx_from_other[pair.image0][pair.image1] = idx
            self.idx_from_other[pair.image1][pair.image0] = idx

    def thirds(self, idx: int) -> list[int]:
        """The images that have pairs with both images of a pair, in their order."""
        pair = self.pairs[idx]
        return sorted(self.idx_from_other[pair.image0].keys() & self.idx_from_other[pair.image1].keys())

    def agreement(self, idx: int, thirds: Sequence[int]) -> TrackAgreement:
        """How a pair agrees with the tracks over third images.

        Args:
            idx: of the pair.
            thirds: images that have pairs with both.
        """
        pair = self.pairs[idx]
        rows0, rows1 = pair.rows.T
        has_track = np.zeros(len(self._images[pair.image0].keypoints), np.bool_)
        is_confirmed, is_crossed = np.zeros((2, len(rows0)), np.bool_)
        for third in thirds:
            via = self._row_map(pair.image0, third)
            via = np.where(via >= 0, self._row_map(third, pair.image1)[via], -1)
            has_track |= via >= 0
            is_confirmed |= via[rows0] == rows1
            is_crossed |= (via[rows0] >= 0) & (via[rows0] != rows1)
        return TrackAgreement(int(has_track.sum()), is_confirmed, is_crossed & ~is_confirmed)

    def matched_with(self, idx: int, side: int) -> BoolArray:
        """The keypoints [N] of an image of a pair that are inliers here or in pairs that share its inliers.

        Args:
            idx: of the pair.
            side: 0 for its first image, 1 for its second one.
        """
        pair = self.pairs[idx]
        image = (pair.image0, pair.image1)[side]
        is_inlier = np.zeros(len(self._images[image].keypoints), np.bool_)
        is_inlier[pair.rows[:, side]] = True
        found = is_inlier.copy()
        for other in self.idx_from_other[image].values():
            rows = self.pairs[other].rows[:, 0 if self.pairs[other].image0 == image else 1]
            if other != idx and is_inlier[rows].sum() >= _MIN_TOGETHER * len(pair.rows):
                found[rows] = True
        return found

    def _row_map(self, source: int, target: int) -> IndexArray:
        """[N] for each keypoint of an image, the row of its inlier in the other image; -1 without one."""
        pair = self.pairs[self.idx_from_other[source][target]]
        side = 0 if pair.image0 == source else 1
        found = np.full(len(self._images[source].keypoints), -1)
        found[pair.rows[:, side]] = pair.rows[:, 1 - side]
        return found
