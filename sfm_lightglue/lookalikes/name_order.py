"""Whether the order of the names is that of the camera's way: then neighbours in it show the same place.

If places look alike, near images can be less similar than far ones, so the similarity of neighbours says little. But on
a way, two images and their two successors are related alike, whether both relations are true or both are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.lookalikes.views import PairView

_NUM_RANDOM = 1000
"""Number of random orders; the order is that of a way if the statistic is larger than those of all of them."""

_MAX_IMAGES = 200
"""Number of images that are looked at: of a larger scene, those in the middle."""

_MIN_IMAGES = 6
"""Fewer images say nothing."""

_ANGLE_SCALE_DEG = 15.0
"""Angle between the rays of the inliers at which a pair counts for a third."""


def is_a_way(
    num_images: int, pairs: Sequence[PairView], strengths: Float64Array, angles_deg: Float64Array, seed: int = 0
) -> bool:
    """Whether neighbours in the order of the images are neighbours on a way: a permutation test.

    Args:
        num_images: of the scene; the pairs name them by their place in the order.
        pairs: the verified pairs.
        strengths: [P] how completely they match.
        angles_deg: [P] median angles between the rays of their inliers; NaN if they are not known.
        seed: of the random orders.
    """
    start = max((num_images - _MAX_IMAGES) // 2, 0)
    count = min(num_images, _MAX_IMAGES)
    if count < _MIN_IMAGES:
        return False
    near = np.zeros((count, count))
    values = strengths * np.exp(-np.nan_to_num(angles_deg) / _ANGLE_SCALE_DEG)
    for pair, value in zip(pairs, values.tolist(), strict=True):
        rows = pair.image0 - start, pair.image1 - start
        if min(rows) >= 0 and max(rows) < count:
            near[rows] = near[rows[::-1]] = value
    upper = np.triu_indices(count, 1)
    ranks = ranks_of(near[upper])
    if ranks.std() == 0:
        return False
    near[upper] = (ranks - ranks.mean()) / ranks.std()
    near.T[upper] = near[upper]
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(count - 1, 1)
    both, successors = first * count + second, (first + 1) * count + second + 1

    def shift_product(order: IndexArray) -> float:
        """How alike each two images and their two successors are."""
        ordered = near[order[:, None], order]
        return float(ordered.take(both) @ ordered.take(successors))

    of_names = shift_product(np.arange(count))
    return of_names > max(shift_product(rng.permutation(count)) for _ in range(_NUM_RANDOM))


def ranks_of(values: Float64Array) -> Float64Array:
    """Ranks [N] from 1; equal values have the mean of their ranks. The import of SciPy's function takes 0.3 s.

    Args:
        values: [N], without NaN.
    """
    _, rows, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return np.asarray(last - 0.5 * (counts - 1), np.float64)[rows]
