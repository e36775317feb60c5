"""Evidence of points that are alone: do two images show one place, or two that have most of their points in common?

In images of one place, the points that one of them lacks lie between common ones. In images of two places they fill
whole parts of the image, however few they are.
"""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.lookalikes.missing_points import SharedPoints

_MIN_ALONE = 3
"""Number of points of each of two images that must be alone in the other one to speak against one place."""

_USUAL = 2.5, -11.0
"""In images of one place, the logit of the fraction of points that are alone is usually smaller than this linear
function of the fraction of the others that are common. It was read off models of photographs."""

_PER_LOGIT, _MAX_AGAINST = 1.5, 4.0
"""Evidence against one place per unit of the logit above this function, and the largest one."""

_WITHOUT = 0.1
"""Evidence for one place of two images of which one has no point that is alone in the other one. It is small: what is
around twins may be out of sight."""

_PER_RARE = 1.0
"""Further evidence if all rare points of such images are common; in proportion to their fraction."""


def alone_evidence(counts: SharedPoints, is_known: BoolArray) -> Float64Array:
    """Logarithms of likelihood ratios [n, n] that two images show one place, by the points that are alone.

    A thing that stands for a while and then leaves has points that are alone. What it hid is expected in no image in
    which it hides that. So the direction with the weaker evidence against one place counts.

    Args:
        counts: common, missing and alone points of a model.
        is_known: [n, n] where the counts have a meaning; elsewhere the result is 0.
    """
    totals = np.maximum(counts.num_common + counts.num_missing, 1)
    fractions = np.clip(counts.num_alone, 0.5, totals - 0.5) / totals
    matched = np.minimum(counts.num_common / np.maximum(totals - counts.num_alone, 1), 1.0)
    matched = np.maximum(matched, matched.T)  # an image with many points has many that the other one did not detect
    excess = np.log(fractions / (1 - fractions)) - (_USUAL[0] + _USUAL[1] * matched)
    num_alone = np.minimum(counts.num_alone, counts.num_alone.T)
    against = np.clip(_PER_LOGIT * np.minimum(excess, excess.T), 0.0, _MAX_AGAINST)
    sizes = np.sqrt(np.maximum(counts.num_rare.diagonal(), 1.0))
    favour = _WITHOUT + _PER_RARE * counts.num_rare / np.outer(sizes, sizes)
    evidence = np.where(num_alone == 0, favour, np.where(num_alone >= _MIN_ALONE, -against, 0.0))
    known: Float64Array = np.where(is_known, evidence, 0.0)
    return known
