"""A check after mapping: were places that look alike made one place of a model?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.lookalikes.alone_points import alone_evidence, differ_around
from sfm_lightglue.lookalikes.fold_groups import agreeing_groups, sides_of_conflicts
from sfm_lightglue.lookalikes.missing_points import SharedPoints, shared_points
from sfm_lightglue.lookalikes.share_evidence import share_evidence
from sfm_lightglue.lookalikes.sparse_model import SparseModel
from sfm_lightglue.types import ImagePair

if TYPE_CHECKING:
    import pycolmap

_MIN_POINTS = 15
"""Number of points that two images should have in common from which their share has a meaning."""

_MANY_POINTS = 50
"""Number of points from which their share has its full weight."""

_MIN_OVERLAP = 0.1
"""Added to the overlap of two images, by which evidence for a pair is multiplied before images are grouped: an image
between two places joins those with which it has most points in common."""

_MAX_PRIOR = 1.0
"""Largest influence of the probability of a pair from before mapping, as a logarithm of odds."""

_MAX_TWIN_PRIOR = 3.0
"""The same in a scene with twins, where little else is known."""

_MIN_JOINING = 0.3
"""Fraction of the inliers of a pair that are points of the model if it agrees with the model."""

_CONFLICT = -1.0
"""Logarithm of the likelihood ratio below which two images contradict each other."""

_TWIN_CONFLICT = -2.2
"""The same in a scene with twins, where the evidence is the odds of pairs: a true pair of a wide baseline is often not
probable, but seldom clearly wrong (a probability of 0.1)."""

_MIN_CONFLICTS = 3
"""Number of pairs of images of two groups that must contradict each other for a fold."""

_MIN_DOUBTED, _MIN_DOUBTED_FRACTION = 5, 0.04
"""Number of pairs of images with more alone points than is usual from which a model may be folded although no groups
contradict each other, and their fraction of those with evidence. It is at least .06 in two shelves whose bays differ
between their equal boxes, at most .02 in right models of rendered scenes, and .01 in those of photographs."""

_MIN_GROUP = 2
"""Number of images of each group that must take part in them."""


@dataclass(frozen=True, slots=True)
class GroupConflict:
    """Two groups of images that contradict each other.

    Args:
        groups: their indices in `FoldCheck.groups`, the smaller one first.
        conflict: mean over the pairs of images with evidence of the logarithm of the likelihood ratio that they show
            different places.
        num_pairs: number of these pairs.
    """

    groups: tuple[int, int]
    conflict: float
    num_pairs: int


@dataclass(frozen=True, eq=False, slots=True)
class FoldCheck:
    """What the points of a model say about places that look alike.

    Args:
        names: of the registered images, sorted.
        evidence: [n, n] logarithms of the likelihood ratios that two images show the same place; NaN if nothing is
            known.
        num_common: [n, n] number of the points that two images have in common.
        groups: names of the images that do not contradict each other; together all images.
        conflicts: groups that contradict each other, the strongest conflict first; empty for a model without a fold.
        conflict: of the two groups that contradict each other most; 0 if no groups do.
        is_joined: [n, n] whether a trusted pair joins the smallest groups of two images that agree with each other, or
            lies in one group with both. `groups` are larger: those that have points in common, and no conflict.
        doubted: names of the images of the pairs that seem to show different places, if these are too many for chance.
            Pairs of two visits between which things were moved seem so too.
        doubted_pairs: these pairs, sorted.
    """

    names: tuple[str, ...]
    evidence: Float64Array
    num_common: IndexArray
    groups: tuple[tuple[str, ...], ...]
    conflicts: tuple[GroupConflict, ...]
    conflict: float
    is_joined: BoolArray
    doubted: tuple[str, ...] = ()
    doubted_pairs: tuple[ImagePair, ...] = ()

    @property
    def num_known(self) -> int:
        """Number of pairs of images of which something is known."""
        return int((~np.isnan(self.evidence)).sum()) // 2

    def joining_pairs(self, num_inliers: Mapping[ImagePair, int]) -> list[ImagePair]:
        """The pairs that join groups which contradict each other: their matches became points of the model.

        Other pairs of these groups contradict the model: they may be those that are right.

        Args:
            num_inliers: of the verified pairs.
        """
        group_from_name = {name: number for number, names in enumerate(self.groups) for name in names}
        contradicting = {each.groups for each in self.conflicts}
        found = []
        for pair in self.joined(num_inliers):
            groups = sorted(group_from_name[name] for name in (pair.name0, pair.name1))
            if (groups[0], groups[1]) in contradicting:
                found.append(pair)
        return found

    def joined(self, num_inliers: Mapping[ImagePair, int], fraction: float = _MIN_JOINING) -> list[ImagePair]:
        """The pairs that agree with the model: their images have many of their matches as common points.

        Args:
            num_inliers: of the pairs.
            fraction: of the inliers that must be common points.
        """
        rows_from_pair = self._rows_from_pair(num_inliers)
        return [pair for pair, rows in rows_from_pair.items() if self.num_common[rows] >= fraction * num_inliers[pair]]

    def without_joined(self, pairs: Collection[ImagePair]) -> list[ImagePair]:
        """The pairs of images of the model, sorted, without those whose groups a trusted pair joins."""
        return [pair for pair, rows in self._rows_from_pair(pairs).items() if not self.is_joined[rows]]

    def _rows_from_pair(self, pairs: Collection[ImagePair]) -> dict[ImagePair, tuple[int, int]]:
        row_from_name = {name: row for row, name in enumerate(self.names)}
        return {
            pair: (row_from_name[pair.name0], row_from_name[pair.name1])
            for pair in sorted(pairs)
            if pair.name0 in row_from_name and pair.name1 in row_from_name
        }


def check_fold(
    model: pycolmap.Reconstruction,
    attempted: Collection[ImagePair] | None = None,
    probabilities: Mapping[ImagePair, float] | None = None,
    trusted: Collection[ImagePair] = (),
    has_twins: bool = False,
) -> FoldCheck:
    """Look for places that look alike and were made one.

    Images whose cameras see the same place from nearly the same side should observe the same points. In a fold, images
    of different places stand side by side, and observe only the points in common that their places have in common. The
    share of each two images is compared with the one that is usual in the model where views differ as much.

    Args:
        model: with points.
        attempted: pairs that were matched, verified or not; others say nothing. None for all pairs.
        probabilities: that a verified pair is a true overlap, where this is known.
        trusted: pairs that are true overlaps; the groups that they join do not contradict each other.
        has_twins: whether places match as completely as one place does. Then images of different places have nearly all
            points in common, and the probabilities are the evidence.

    Returns:
        The groups of images that agree with each other, and those that contradict each other.
    """
    arrays = SparseModel.from_model(model)
    counts = shared_points(arrays)
    shares, totals = point_shares(arrays, counts, attempted)
    is_known = totals > 0
    evidence, is_told = share_evidence(shares, _differences(counts), is_known)
    evidence *= np.minimum(totals / _MANY_POINTS, 1.0)
    odds = _prior_odds(arrays.names, probabilities or {}, _MAX_TWIN_PRIOR if has_twins else _MAX_PRIOR)
    if has_twins:
        evidence, is_told = np.where(odds == 0, np.minimum(evidence, 0.0), odds), is_known
    num_common = arrays.num_common()
    scales = np.sqrt(np.maximum(num_common.diagonal(), 1.0))
    overlaps = num_common / np.outer(scales, scales)
    by_points = np.where(evidence > 0, evidence * (_MIN_OVERLAP + overlaps), evidence)
    weighed = np.where(has_twins, evidence, by_points + odds)
    is_weighed = is_known & (is_told | (odds != 0)) | (has_twins & (odds != 0) & (num_common > 0))
    is_trusted = _is_in(arrays.names, trusted)
    groups = agreeing_groups(np.where(is_weighed, weighed, 0.0), is_weighed)
    found, limit = _conflicts(groups, evidence, is_told, _TWIN_CONFLICT if has_twins else _CONFLICT), _CONFLICT
    if not has_twins:  # pairs of two places that have much in common look true, and would join these
        groups_by_points = agreeing_groups(np.where(is_told, by_points, 0.0), is_told)
        found_by_points = _conflicts(groups_by_points, evidence, is_told)
        if _strongest(_untrusted(found_by_points, groups_by_points, is_trusted)) > _strongest(
            _untrusted(found, groups, is_trusted)
        ):
            groups, found = groups_by_points, found_by_points
    if not found:  # the places may have most points in common
        evidence, is_told, limit = alone_evidence(counts, is_known), is_known, 0.0
        # Without twins, probabilities tell how complete pairs are: nothing, where places have most points in common.
        groups = agreeing_groups(np.where(is_known, evidence + has_twins * odds, 0.0), is_known)
        found = [
            each
            for each in _conflicts(groups, evidence, is_known)
            if differ_around(
                arrays, counts, (groups[each.groups[0]], groups[each.groups[1]]), is_known & (evidence < _CONFLICT)
            )
        ]
    found = _untrusted(found, groups, is_trusted)
    sides = sides_of_conflicts(groups, [each.groups for each in found], num_common)
    side_of_row = {row: number for number, side in enumerate(sides) for row in side.tolist()}
    conflicts: dict[tuple[int, int], GroupConflict] = {}
    for each in found:  # the strongest first
        numbers = sorted(side_of_row[int(groups[number][0])] for number in each.groups)
        conflicts.setdefault((numbers[0], numbers[1]), replace(each, groups=(numbers[0], numbers[1])))
    names = tuple(tuple(arrays.names[row] for row in side) for side in sides)
    worst = _strongest(found)
    known = np.where(is_told, evidence, np.nan)
    is_joined = _is_joined(groups, is_trusted)
    pairs = [ImagePair(arrays.names[row0], arrays.names[row1]) for row0, row1 in _doubted(known, is_joined, limit)]
    doubted = tuple(sorted({name for pair in pairs for name in (pair.name0, pair.name1)})), tuple(sorted(pairs))
    return FoldCheck(arrays.names, known, num_common, names, tuple(conflicts.values()), worst, is_joined, *doubted)


def _is_joined(groups: Sequence[IndexArray], is_trusted: BoolArray) -> BoolArray:
    """Whether a trusted pair joins the groups of two images [n, n], or lies in the group of both."""
    group_from_row = np.zeros(len(is_trusted), np.int64)
    for number, rows in enumerate(groups):
        group_from_row[rows] = number
    joins = np.zeros((len(groups), len(groups)), np.bool_)
    rows0, rows1 = np.nonzero(is_trusted)
    joins[group_from_row[rows0], group_from_row[rows1]] = True
    is_joined: BoolArray = joins[np.ix_(group_from_row, group_from_row)]
    return is_joined


def _doubted(evidence: Float64Array, is_joined: BoolArray, limit: float) -> list[list[int]]:
    """Rows of both images of the pairs with evidence below a limit, without those whose groups a trusted pair joins."""
    is_against = (evidence < limit) & ~is_joined  # false if nothing is known
    num_against, num_known = int(is_against.sum()) // 2, int((~np.isnan(evidence)).sum()) // 2
    if num_against < max(_MIN_DOUBTED, _MIN_DOUBTED_FRACTION * num_known):
        return []
    rows: list[list[int]] = np.argwhere(np.triu(is_against, 1)).tolist()
    return rows


def _untrusted(
    conflicts: Sequence[GroupConflict], groups: Sequence[IndexArray], is_trusted: BoolArray
) -> list[GroupConflict]:
    """The conflicts of groups that no trusted pair joins."""
    return [each for each in conflicts if not is_trusted[np.ix_(*(groups[number] for number in each.groups))].any()]


def point_shares(
    arrays: SparseModel, counts: SharedPoints, attempted: Collection[ImagePair] | None
) -> tuple[Float64Array, IndexArray]:
    """Share of the points of each two images that both observe, and the number of these points, 0 if it is not known.

    Of the two directions, that with the larger share counts: images differ in the number of their points, and walls
    without points hide more of one side than of the other.
    """
    totals = counts.num_common + counts.num_missing
    shares = np.where(totals >= _MIN_POINTS, (counts.num_common + 0.5) / (totals + 1.0), -1.0)
    is_first = shares >= shares.T
    shares, totals = np.where(is_first, shares, shares.T), np.where(is_first, totals, totals.T)
    is_known = shares >= 0
    np.fill_diagonal(is_known, False)
    if attempted is not None:
        is_known &= _is_in(arrays.names, attempted)
    return shares, np.where(is_known, totals, 0)


def _differences(counts: SharedPoints) -> Float64Array:
    """The differences [n, n] of the views of each two images, the mean of both directions; NaN if none is known."""
    both = np.stack([counts.differences, counts.differences.T])
    is_given = ~np.isnan(both)
    num_given = is_given.sum(axis=0)
    mean: Float64Array = np.where(is_given, both, 0.0).sum(axis=0) / np.maximum(num_given, 1)
    return np.where(num_given > 0, mean, np.nan)


def _is_in(names: tuple[str, ...], pairs: Collection[ImagePair]) -> BoolArray:
    """Which two images [n, n] are one of the pairs."""
    row_from_name = {name: row for row, name in enumerate(names)}
    found = [(row_from_name.get(pair.name0, -1), row_from_name.get(pair.name1, -1)) for pair in pairs]
    rows: IndexArray = np.array([each for each in found if min(each) >= 0], np.int64).reshape(-1, 2)
    is_in = np.zeros((len(names), len(names)), np.bool_)
    is_in[rows[:, 0], rows[:, 1]] = is_in[rows[:, 1], rows[:, 0]] = True
    return is_in


def _prior_odds(names: tuple[str, ...], probabilities: Mapping[ImagePair, float], most: float) -> Float64Array:
    """Logarithms of the odds [n, n] that pairs are true overlaps, limited; 0 if nothing is known."""
    row_from_name = {name: row for row, name in enumerate(names)}
    odds = np.zeros((len(names), len(names)))
    for pair, probability in sorted(probabilities.items()):
        rows = [row_from_name.get(name, -1) for name in (pair.name0, pair.name1)]
        if min(rows) >= 0:
            odds[rows[0], rows[1]] = odds[rows[1], rows[0]] = np.log(
                max(probability, 1e-9) / max(1 - probability, 1e-9)
            )
    limited: Float64Array = np.clip(odds, -most, most)
    return limited


def _strongest(conflicts: Sequence[GroupConflict]) -> float:
    """The value of the first one; 0 without conflicts."""
    return conflicts[0].conflict if conflicts else 0.0


def _conflicts(
    groups: list[IndexArray], evidence: Float64Array, is_known: BoolArray, limit: float = _CONFLICT
) -> list[GroupConflict]:
    """The groups that contradict each other, by pairs with evidence below a limit; the strongest conflict first."""
    found = []
    for (number0, rows0), (number1, rows1) in combinations(enumerate(groups), 2):
        if min(len(rows0), len(rows1)) < _MIN_GROUP:
            continue
        block = np.ix_(rows0, rows1)
        known, values = is_known[block], evidence[block]
        against = known & (values < limit)
        taking_part = min(int(against.any(axis=1).sum()), int(against.any(axis=0).sum()))
        if against.sum() < _MIN_CONFLICTS or taking_part < _MIN_GROUP:
            continue
        conflict = float(-values[known].mean())
        if conflict > 0:
            found.append(GroupConflict((number0, number1), conflict, int(known.sum())))
    return sorted(found, key=lambda each: (-each.conflict, each.groups))
