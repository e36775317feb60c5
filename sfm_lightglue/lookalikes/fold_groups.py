"""Groups of images that agree with each other, found by evidence for and against pairs."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray

_PRIOR_PAIRS = 2.0
"""Pairs without evidence that are added to each mean: groups with more evidence are merged first."""


def agreeing_groups(evidence: Float64Array, is_known: BoolArray) -> list[IndexArray]:
    """Merge images into groups, those with the most evidence first, as long as evidence for it outweighs the other.

    Args:
        evidence: [n, n] symmetric; positive where two images seem to show the same place.
        is_known: [n, n] symmetric; where there is evidence.

    Returns:
        Rows of the images of each group, ascending; the groups in the order of their first image.
    """
    num = len(evidence)
    sums = np.where(is_known, evidence, 0.0)
    counts = is_known.astype(np.float64)
    np.fill_diagonal(sums, 0.0)
    np.fill_diagonal(counts, 0.0)
    group = np.arange(num)
    means = sums / (counts + _PRIOR_PAIRS)
    np.fill_diagonal(means, -np.inf)
    best = means.max(axis=1, initial=-np.inf)
    while num > 1:
        first = int(best.argmax())
        if best[first] <= 0:
            break
        second = int(means[first].argmax())
        group[group == second] = first
        for values in (sums, counts):
            values[first] += values[second]
            values[:, first] += values[:, second]
        means[first] = means[:, first] = sums[first] / (counts[first] + _PRIOR_PAIRS)
        means[second] = means[:, second] = -np.inf
        means[first, [first, second]] = -np.inf
        means[group != np.arange(num), first] = means[first, group != np.arange(num)] = -np.inf
        best = means.max(axis=1, initial=-np.inf)
    return [np.flatnonzero(group == row) for row in np.flatnonzero(group == np.arange(num))]
