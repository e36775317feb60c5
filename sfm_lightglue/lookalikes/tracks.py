"""Tracks over a third image: whether the inliers of a pair agree with those of two other pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import IndexArray
from sfm_lightglue.lookalikes.views import ImageView, PairView


class TrackCounts(NamedTuple):
    """Keypoints of one image that two other pairs connect with keypoints of the other one.

    Args:
        num_tracks: all of them.
        num_closed: those whose ends the pair matches too.
        num_crossed: those whose first keypoint the pair matches with another one.
    """

    num_tracks: int
    num_closed: int
    num_crossed: int


class PairTracks:
    """The inliers of the pairs of a scene, by image.

    Args:
        images: of the scene.
        pairs: of the scene, each once.
    """

    def __init__(self, images: Sequence[ImageView], pairs: Sequence[PairView]) -> None:
        self._images, self._pairs = images, pairs
        self.idx_from_other: list[dict[int, int]] = [{} for _ in images]
        """For each image, the index of the pair with each other image."""
        for idx, pair in enumerate(pairs):
            self.idx_from_other[pair.image0][pair.image1] = idx
            self.idx_from_other[pair.image1][pair.image0] = idx

    def thirds(self, idx: int) -> list[int]:
        """The images that have pairs with both images of a pair, in their order."""
        pair = self._pairs[idx]
        return sorted(self.idx_from_other[pair.image0].keys() & self.idx_from_other[pair.image1].keys())

    def count(self, idx: int, third: int) -> TrackCounts:
        """The tracks of a pair over a third image.

        Args:
            idx: of the pair.
            third: image that has pairs with both.
        """
        image0, image1 = self._pairs[idx].image0, self._pairs[idx].image1
        direct, via = self._row_map(image0, image1), self._row_map(image0, third)
        via = np.where(via >= 0, self._row_map(third, image1)[via], -1)
        has_track = via >= 0
        is_same = via == direct
        return TrackCounts(
            int(has_track.sum()),
            int((has_track & is_same).sum()),
            int((has_track & (direct >= 0) & ~is_same).sum()),
        )

    def _row_map(self, source: int, target: int) -> IndexArray:
        """[N] for each keypoint of an image, the row of its inlier in the other image; -1 without one."""
        pair = self._pairs[self.idx_from_other[source][target]]
        side = 0 if pair.image0 == source else 1
        found = np.full(len(self._images[source].keypoints), -1)
        found[pair.rows[:, side]] = pair.rows[:, 1 - side]
        return found
