"""Images and pairs of a row of points, as the cues of look-alikes see them: exact matches by the number of a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sfm_lightglue.lookalikes.views import ImageView, PairView

SIZE = (600, 400)


class Walk:
    """A camera that moves along a wall of points, one pixel of the image for each unit.

    Args:
        starts: left edge of each image on the wall.
        num_points: of the wall, which is 3000 long.
        twins: points by the number of the point that they look like.
    """

    def __init__(self, starts: Sequence[float], num_points: int = 1500, twins: Mapping[int, int] | None = None) -> None:
        rng = np.random.default_rng(0)
        self.points = rng.uniform([0, 0], [3000, SIZE[1]], (num_points, 2))
        self.look = np.arange(num_points)
        for point, twin in (twins or {}).items():
            self.look[point] = twin
        self.rows = [np.flatnonzero((self.points[:, 0] > x) & (self.points[:, 0] < x + SIZE[0])) for x in starts]
        self.images = [
            ImageView((self.points[rows] - (x, 0)).astype(np.float32), SIZE)
            for x, rows in zip(starts, self.rows, strict=True)
        ]

    def pair(self, image0: int, image1: int, keep: float = 1.0, shift: int = 0) -> PairView:
        """A pair that matches what looks alike in both images.

        Args:
            image0: first image.
            image1: second image.
            keep: fraction of the matches that are inliers.
            shift: matches are wrong by this number of rows.
        """
        _, rows0, rows1 = np.intersect1d(
            self.look[self.rows[image0]], self.look[self.rows[image1]], return_indices=True
        )
        num = max(3, round(keep * len(rows0)))
        rows = np.column_stack([rows0, np.roll(rows1, shift)])[:num].astype(np.int64)
        return PairView(image0, image1, rows, len(rows0), len(rows0), num, 0.9, np.eye(3))
