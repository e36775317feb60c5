"""Groups of images that agree with each other, found by evidence for and against pairs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

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
        # Only rows whose best group is merged lose it. Rows without a positive mean need no exact one.
        is_stale = (best > 0) & (means[:, [first, second]].max(axis=1) >= best)
        is_stale[first] = True
        group[group == second] = first
        for values in (sums, counts):
            values[first] += values[second]
            values[:, first] += values[:, second]
        means[first] = means[:, first] = sums[first] / (counts[first] + _PRIOR_PAIRS)
        means[second] = means[:, second] = -np.inf
        means[first, [first, second]] = -np.inf
        means[group != np.arange(num), first] = means[first, group != np.arange(num)] = -np.inf
        best = np.maximum(best, means[:, first])
        best[is_stale] = means[is_stale].max(axis=1, initial=-np.inf)
    return [np.flatnonzero(group == row) for row in np.flatnonzero(group == np.arange(num))]


def sides_of_conflicts(
    groups: Sequence[IndexArray], contradicting: Collection[tuple[int, int]], num_common: IndexArray
) -> list[IndexArray]:
    """Join groups of images by the points that they have in common, the most first, unless they contradict each other.

    Where two groups that contradict each other hold together by a third one, they are so separated where they have the
    fewest points in common.

    Args:
        groups: rows of the images of each group.
        contradicting: indices of two groups, the smaller one first.
        num_common: [n, n] number of points that two images have in common.

    Returns:
        Rows of the images of each side, ascending; the sides in the order of their first image.
    """
    of_image = np.zeros(len(num_common), np.int64)
    for number, rows in enumerate(groups):
        of_image[rows] = number
    member = np.eye(len(groups), dtype=np.int64)[of_image]  # [images, groups]
    between = member.T @ num_common @ member
    first, second = np.nonzero(np.triu(between, 1))
    order = np.argsort(-between[first, second], kind="stable")
    side = np.arange(len(groups))
    for group0, group1 in zip(first[order].tolist(), second[order].tolist(), strict=True):
        sides = side[group0], side[group1]
        if not any({side[each[0]], side[each[1]]} == set(sides) for each in contradicting):
            side[side == sides[1]] = sides[0]
    found = [np.flatnonzero(side[of_image] == number) for number in np.unique(side)]
    return sorted(found, key=lambda rows: int(rows[0]))
