"""Where a model may be folded: images from nearly one place that share fewer points than images from farther places.

In a right model, the nearer two views are, the more points their images share. If places that look alike lie on top of
each other, images of different places stand side by side, and share only what the places have in common: fewer points
than true neighbours, although these are farther away.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.lookalikes.alone_points import alone_evidence
from sfm_lightglue.lookalikes.fold_groups import agreeing_groups
from sfm_lightglue.lookalikes.missing_points import shared_points
from sfm_lightglue.lookalikes.model_check import FoldCheck, GroupConflict, point_shares
from sfm_lightglue.lookalikes.sparse_model import SparseModel
from sfm_lightglue.types import ImagePair

if TYPE_CHECKING:
    import pycolmap

_SPREAD = 0.06
"""Usual deviation of the share of points of images of one place from that of the best pair of both images."""

_IN_FAVOUR, _AGAINST = 1.0, -3.0
"""Largest and smallest evidence of a pair; the evidence falls by one for each deviation."""

_MARGIN_DEG = 2.0
"""A pair whose views differ by this angle more than those of the best pairs of its images may share fewer points."""

_MANY_POINTS = 50
"""Number of points of a pair from which its evidence has its full weight."""

_MIN_COMMON = 5
"""Number of common points from which the angle between two views has a meaning."""

_CONFLICT, _MIN_CONFLICTS = -1.0, 3
"""Evidence below which two images contradict each other, and the number of such pairs that some two groups must
have."""

_MIN_GROUP, _MIN_COVERED = 3, 0.4
"""Smallest group that is a place, and the fraction of the images that at least two such groups must have."""


def located_fold(
    model: pycolmap.Reconstruction, found: FoldCheck, attempted: Collection[ImagePair] | None = None
) -> FoldCheck | None:
    """The places of a model that may be folded.

    It is for models with another sign of a fold: in right models, too, images of one place can share few points, for
    example if things were moved between two visits.

    Args:
        model: with points.
        found: the check of the model, which found no conflict.
        attempted: pairs that were matched, verified or not; None for all.

    Returns:
        The check with these places as groups that contradict each other; None if no places stand out.
    """
    arrays = SparseModel.from_model(model)
    counts = shared_points(arrays)
    shares, totals = point_shares(arrays, counts, attempted)
    is_known = totals > 0
    evidence = _evidence(np.where(is_known, shares, np.nan), view_angles_deg(arrays))
    evidence = evidence * np.minimum(totals / _MANY_POINTS, 1.0) + np.minimum(alone_evidence(counts, is_known), 0.0)
    evidence[found.is_joined] = np.maximum(evidence[found.is_joined], 0.0)
    groups = agreeing_groups(evidence, evidence != 0)
    large = [rows for rows in groups if len(rows) >= _MIN_GROUP]
    if len(large) < 2 or sum(len(rows) for rows in large) < _MIN_COVERED * len(arrays.names):
        return None
    conflicts = _conflicts(groups, evidence, found)
    if not conflicts:
        return None
    names = tuple(tuple(arrays.names[row] for row in rows) for rows in groups)
    return replace(found, groups=names, conflicts=conflicts, conflict=conflicts[0].conflict)


def view_angles_deg(model: SparseModel) -> Float64Array:
    """Median angle [n, n] between the rays of two images to their common points; NaN if these are too few."""
    rays = model.points[model.point_rows] - model.centers[model.image_rows]
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
    starts = np.searchsorted(model.image_rows, np.arange(len(model.names) + 1))
    own = []
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        order = start + np.argsort(model.point_rows[start:stop], kind="stable")
        own.append((model.point_rows[order], rays[order]))
    angles = np.full((len(own), len(own)), np.nan)
    is_enough = model.num_common() >= _MIN_COMMON * model.step
    for first, second in np.argwhere(np.triu(is_enough, 1)).tolist():
        (points0, rays0), (points1, rays1) = own[first], own[second]
        _, rows0, rows1 = np.intersect1d(points0, points1, return_indices=True)
        if len(rows0) >= _MIN_COMMON:
            cosines = np.clip((rays0[rows0] * rays1[rows1]).sum(axis=1), -1, 1)
            angles[first, second] = angles[second, first] = np.degrees(np.arccos(np.median(cosines)))
    return angles


def _evidence(shares: Float64Array, angles_deg: Float64Array) -> Float64Array:
    """Evidence [n, n] for one place; 0 if nothing is known. The reference is the weaker best pair of both images."""
    num = len(shares)
    filled = np.where(np.isnan(shares), -1.0, shares)
    best = filled.argmax(axis=1)
    references = np.where(filled.max(axis=1) >= 0, filled.max(axis=1), np.inf)
    angles = angles_deg[np.arange(num), best]
    usual = np.minimum.outer(references, references)
    nearest = np.fmin.outer(angles, angles)
    evidence = np.clip(_IN_FAVOUR - (usual - shares) / _SPREAD, _AGAINST, _IN_FAVOUR)
    is_near = angles_deg <= nearest + _MARGIN_DEG  # false if an angle is not known
    evidence = np.where(is_near, evidence, np.maximum(evidence, 0.0))
    known: Float64Array = np.nan_to_num(evidence)
    return known


def _conflicts(groups: list[IndexArray], evidence: Float64Array, found: FoldCheck) -> tuple[GroupConflict, ...]:
    """The groups with evidence against one place, the strongest conflict first; empty if no two clearly contradict."""
    conflicts, is_clear = [], False
    for (number0, rows0), (number1, rows1) in combinations(enumerate(groups), 2):
        block = np.ix_(rows0, rows1)
        values = evidence[block]
        num_known = int((values != 0).sum())
        if found.num_common[block].any() and num_known > 0 and not found.is_joined[block].any():
            conflict = float(-values.sum() / num_known)
            if conflict > 0:
                conflicts.append(GroupConflict((number0, number1), conflict, num_known))
                is_clear |= int((values < _CONFLICT).sum()) >= _MIN_CONFLICTS
    if not is_clear:
        return ()
    return tuple(sorted(conflicts, key=lambda each: (-each.conflict, each.groups)))
