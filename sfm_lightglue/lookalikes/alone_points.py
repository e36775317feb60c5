"""Evidence of points that are alone: do two images show one place, or two that have most of their points in common?

In images of one place, the points that one of them lacks lie between common ones. In images of two places they fill
whole parts of the image, however few they are.

So do things that stood there in one of two visits, such as parked cars. These have common points around them. Another
place differs around what it has in common.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.lookalikes.missing_points import SharedPoints
from sfm_lightglue.lookalikes.sparse_model import SparseModel

_MIN_ALONE = 3
"""Number of points of each of two images that must be alone in the other one to speak against one place."""

_USUAL = 2.5, -11.0
"""In images of one place, the logit of the fraction of points that are alone is usually smaller than this linear
function of the fraction of the others that are common. It was read off models of photographs."""

_LEAST_USUAL = -5.5
"""Smallest value of this function: .4 % of the points are alone by chance."""

_PER_LOGIT, _MAX_AGAINST = 1.5, 4.0
"""Evidence against one place per unit of the logit above this function, and the largest one."""

_WITHOUT = 0.1
"""Evidence for one place of two images of which one has no point that is alone in the other one. It is small: what is
around twins may be out of sight."""

_PER_RARE = 1.0
"""Further evidence if all rare points of such images are common; in proportion to their fraction."""

_MANY_POINTS = 50
"""Number of points of an image from which the evidence has its full weight."""

_MIN_AROUND, _MIN_FRACTION_AROUND = 10, 0.35
"""Number of points that are alone and lie around the common ones, not between them, from which two groups of images
show different places, and their fraction of the points that are alone. It is at most .2 for things before a wall that
stood there in one of two visits, and at least .5 for rendered rooms. Shelves with equal boxes differ between these: .25
and .4 in a folded model, which is told only, see `FoldCheck.doubted`."""


def alone_evidence(counts: SharedPoints, is_known: BoolArray) -> Float64Array:
    """Logarithms of likelihood ratios [n, n] that two images show one place, by the points that are alone.

    A thing that stands for a while and then leaves has points that are alone. What it hid is expected in no image in
    which it hides that. So the direction with the weaker evidence against one place counts. See also `differ_around`.

    Args:
        counts: common, missing and alone points of a model.
        is_known: [n, n] where the counts have a meaning; elsewhere the result is 0.
    """
    totals = np.maximum(counts.num_common + counts.num_missing, 1)
    fractions = np.clip(counts.num_alone, 0.5, totals - 0.5) / totals
    matched = np.minimum(counts.num_common / np.maximum(totals - counts.num_alone, 1), 1.0)
    matched = np.maximum(matched, matched.T)  # an image with many points has many that the other one did not detect
    usual = np.maximum(_USUAL[0] + _USUAL[1] * matched, _LEAST_USUAL)
    excess = np.log(fractions / (1 - fractions)) - usual
    num_alone = np.minimum(counts.num_alone, counts.num_alone.T)
    against = np.clip(_PER_LOGIT * np.minimum(excess, excess.T), 0.0, _MAX_AGAINST)
    sizes = np.sqrt(np.maximum(counts.num_rare.diagonal(), 1.0))
    favour = _WITHOUT + _PER_RARE * counts.num_rare / np.outer(sizes, sizes)
    evidence = np.where(num_alone == 0, favour, np.where(num_alone >= _MIN_ALONE, -against, 0.0))
    weights = np.minimum(np.minimum(totals, totals.T) / _MANY_POINTS, 1.0)
    known: Float64Array = np.where(is_known, evidence * weights, 0.0)
    return known


def differ_around(
    model: SparseModel, counts: SharedPoints, groups: tuple[IndexArray, IndexArray], is_against: BoolArray
) -> bool:
    """Whether two groups of images differ around what they have in common, and not only between.

    Args:
        model: with the images.
        counts: its points.
        groups: rows of the images of both.
        is_against: [n, n] where two images seem to show different places.
    """
    return all(_is_around(model, counts, *each, is_against) for each in (groups, groups[::-1]))


def _is_around(
    model: SparseModel, counts: SharedPoints, from_rows: IndexArray, to_rows: IndexArray, is_against: BoolArray
) -> bool:
    """Whether enough points of the first images that are alone in the second ones lie around the common points."""
    is_asked = np.zeros(is_against.shape, np.bool_)
    is_asked[np.ix_(from_rows, to_rows)] = is_against[np.ix_(from_rows, to_rows)]
    starts = np.searchsorted(model.image_rows, np.arange(len(model.names) + 1))
    asked = np.flatnonzero(is_asked[counts.alone[:, 0], counts.alone[:, 1]])
    keys = counts.alone[asked, 0] * len(model.names) + counts.alone[asked, 1]
    asked = asked[np.argsort(keys, kind="stable")]
    pairs, firsts = np.unique(np.sort(keys), return_index=True)
    found: list[IndexArray] = [np.zeros(0, np.int64)]
    for pair, rows in zip(pairs.tolist(), np.split(asked, firsts[1:]), strict=False):
        first, second = divmod(pair, len(model.names))
        own = slice(starts[second], starts[second + 1])
        is_common = np.isin(model.point_rows[own], model.point_rows[starts[first] : starts[first + 1]])
        hull = ConvexHull(model.pixels[own][is_common], qhull_options="QJ").equations  # QJ: also of points on a line
        is_outside = (counts.alone_pixels[rows] @ hull[:, :2].T + hull[:, 2] > 0).any(axis=1)
        found.append(counts.alone[rows[is_outside], 2])
    around = np.concatenate(found)
    return len(np.unique(around)) >= _MIN_AROUND and len(around) >= _MIN_FRACTION_AROUND * len(asked)
