"""Groups of images of a folded model that have more rare points in common than images with such views usually have.

In a fold, images of different places stand side by side, and have in common what the places have in common: points that
most images observe that should. Images of one place also have those points in common that few other images observe. How
many these are depends on the angle between both views. So each two images are compared with all others of a similar
angle, most of which show different places in a fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.lookalikes.fold_groups import agreeing_groups
from sfm_lightglue.lookalikes.fold_places import view_angles_deg
from sfm_lightglue.lookalikes.missing_points import shared_points
from sfm_lightglue.lookalikes.sparse_model import SparseModel

if TYPE_CHECKING:
    import pycolmap

_MAX_ANGLE_DEG = 50.0
"""Largest angle between two views that are compared."""

_SIMILAR_DEG, _MIN_SIMILAR = 5.0, 4
"""Two images are compared with those whose views differ by nearly the same angle, up to this difference, if there are
as many of them."""

_STEP_DEG = 0.5
"""The usual share is that of pairs around an angle; the angles of pairs are rounded to these steps for it, so that the
time does not grow with the square of the number of pairs."""

_LEAST_SHARE = 0.02
"""Smallest share of rare points, so that its logarithm has a limit."""

_STANDS_OUT, _SPREAD = 0.5, 0.25
"""Natural logarithm of the share of rare points above the usual one from which two images show one place, and the
difference that is evidence of one. In two folded models of rendered shelves, it is at least .51 in 13 true pairs each,
and at most .38 in all wrong ones. Where nothing tells places apart, as in houses and towers with equal sides, it is at
most .5 in true pairs, and .35 in wrong ones."""

_LIMITS = -2.0, 1.0
"""Range of the evidence of a pair."""

_MIN_OF_OTHER = 2
"""Fewest images of another place with which an image must stand out to belong there, too. In a folded model of rendered
shelves, one image of an end has more rare points than usual in common with two images of each end; in another one, an
image of an end is in a group with one of the other end, and stands out with all four images of its own one."""

_MIN_JOINING = 0.4
"""Mean evidence from which an image without a place joins one: .5 and 1.0 for two right ones, .1 for a wrong one."""

MIN_PLACE = 3
"""Smallest number of images of a group: with two, no third view confirms that both show one place."""


def places_by_rare_points(model: pycolmap.Reconstruction) -> list[tuple[str, ...]]:
    """The groups of at least three images of a model that probably show one place each.

    Args:
        model: with points; it is known that it may be folded.

    Returns:
        Names of the images of each group, sorted; images of which nothing is known, or that may show two of these
        places, are in no group.
    """
    arrays = SparseModel.from_model(model)
    excess = _excess(_rare_shares(arrays), view_angles_deg(arrays))
    evidence = np.clip((excess - _STANDS_OUT) / _SPREAD, *_LIMITS)
    groups = agreeing_groups(np.nan_to_num(evidence), ~np.isnan(evidence))
    places = _told_apart([rows.tolist() for rows in groups if len(rows) >= MIN_PLACE], evidence)
    return [tuple(arrays.names[row] for row in rows) for rows in places if len(rows) >= MIN_PLACE]


def _told_apart(places: Sequence[list[int]], evidence: Float64Array) -> list[list[int]]:
    """The places without the images that stand out with another one, too, and with those that do with one alone.

    Groups grow from the best pairs, so an image may be in a small group with another one that tells it apart.
    """
    found = [
        [row for row in rows if not _stands_out_with(row, places, evidence) - {k}] for k, rows in enumerate(places)
    ]
    grouped = {row for rows in places for row in rows}
    for row in sorted(set(range(len(evidence))) - grouped):
        numbers = _stands_out_with(row, places, evidence)
        if len(numbers) == 1 and numbers == _stands_out_with(row, places, evidence, _MIN_JOINING):
            found[numbers.pop()].append(row)
    return [sorted(rows) for rows in found]


def _stands_out_with(row: int, places: Sequence[list[int]], evidence: Float64Array, least: float = 0.0) -> set[int]:
    """The numbers of the places whose images an image stands out with: those of more than the least mean evidence."""
    known = [evidence[row, [other for other in rows if other != row]] for rows in places]
    known = [values[~np.isnan(values)] for values in known]
    return {k for k, values in enumerate(known) if len(values) >= _MIN_OF_OTHER and values.mean() > least}


def _rare_shares(model: SparseModel) -> Float64Array:
    """Share [n, n] of the points that two images have in common; rare points count more.

    The weight of a point is the negative logarithm of the fraction of the images that observe it, of those that should.
    Both images themselves do not count in it.
    """
    counts = shared_points(model)
    others = np.maximum(counts.num_with - 2, 0)
    weights = -np.log((others + 0.5) / (others + counts.num_without + 1.0))
    common = model.weighted_common(weights)
    sizes = np.sqrt(np.maximum(common.diagonal(), 1e-9))
    shares: Float64Array = common / np.outer(sizes, sizes)
    return shares


def _excess(shares: Float64Array, angles_deg: Float64Array) -> Float64Array:
    """Logarithm [n, n] of each share over the median of pairs with a similar angle; NaN if these are too few."""
    rows, columns = np.triu_indices(len(shares), 1)
    is_compared = angles_deg[rows, columns] <= _MAX_ANGLE_DEG  # false if the angle is not known
    rows, columns = rows[is_compared], columns[is_compared]
    order = np.argsort(angles_deg[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    angles, values = angles_deg[rows, columns], np.log(np.maximum(shares[rows, columns], _LEAST_SHARE))
    excess = np.full(shares.shape, np.nan)
    for step in np.unique(np.floor(angles / _STEP_DEG)).tolist():
        first, last = np.searchsorted(angles, [step * _STEP_DEG, (step + 1) * _STEP_DEG], "left").tolist()
        middle = (step + 0.5) * _STEP_DEG
        start, stop = np.searchsorted(angles, [middle - _SIMILAR_DEG, middle + _SIMILAR_DEG], "left").tolist()
        if stop - start <= _MIN_SIMILAR:  # a pair is not compared with itself
            continue
        usual = _medians_without(np.sort(values[start:stop]), values[first:last])
        at = rows[first:last], columns[first:last]
        excess[at] = excess[at[1], at[0]] = values[first:last] - usual
    return excess


def _medians_without(ordered: Float64Array, values: Float64Array) -> Float64Array:
    """The median [k] of sorted numbers [n] without one of them, for each of k of them."""
    idxs = np.searchsorted(ordered, values, "left")
    lower, upper = (len(ordered) - 2) // 2, (len(ordered) - 1) // 2  # of the others
    medians: Float64Array = (ordered[lower + (idxs <= lower)] + ordered[upper + (idxs <= upper)]) / 2
    return medians
