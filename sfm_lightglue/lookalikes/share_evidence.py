"""Evidence of the share of points that two images have in common: do they show one place, or two?

In a right model, the share falls as the views of two images differ more: a detector finds a point again from similar
views only. So the far frames of a video have few points in common although they show one place. In a fold, images of
different places stand side by side, and have fewer points in common than images of one place that are farther apart.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaln, xlog1py, xlogy

from sfm_lightglue.arrays import BoolArray, Float64Array

_NUM_STRONGEST = 3
"""Number of pairs of each image that show which share of its points is usual."""

_MANY_PAIRS = 10
"""Number of pairs of an image with views as different from which they alone show which share is usual. With fewer, the
pairs of the whole model count for the rest."""

_USUAL_QUANTILE, _STEP_DEG = 0.75, 0.5
"""Of the shares of the pairs of a model whose views differ at least as much, this quantile is usual: in a fold, many of
them are of different places. Differences are rounded down to these steps for it."""

_USUAL_RANGE = 0.2, 0.9
"""Range of the usual share of points."""

_TELLING = 0.25, 0.45
"""Usual share up to which a pair tells nothing, and from which its evidence has its full weight: if one place has as
few points in common as two places have, nothing tells them apart."""

_FALSE_SHAPE = 0.8, 2.4
"""Parameters of the beta distribution of the shares of images that show different places."""

_TRUE_COUNT = 16.0
"""Sum of the parameters of the beta distribution of the shares of images that show the same place."""

_OUTLIERS = 0.05
"""Probability that the share of images of one place has any value: blurred, dark or covered images have few points."""


def share_evidence(
    shares: Float64Array, differences: Float64Array, is_known: BoolArray
) -> tuple[Float64Array, BoolArray]:
    """Logarithm of the likelihood ratio of each share: that of one place over that of two places.

    What is usual for an image is the mean of the largest shares of its pairs whose views differ at least as much. If
    these are few, pairs of the whole model count, too. Of both images of a pair, the one with the smaller value counts:
    a blurred or dark image has a small share with all images. The value is at most that of the model.

    Args:
        shares: [n, n] symmetric shares of points that both images observe.
        differences: [n, n] symmetric differences of the views, in degrees.
        is_known: [n, n] symmetric; where there is a share.

    Returns:
        The evidence [n, n], and where there is any [n, n].
    """
    usual = _usual_shares(shares, differences, is_known)
    telling_from, telling_to = _TELLING
    weight = np.clip((usual - telling_from) / (telling_to - telling_from), 0.0, 1.0)
    mean = np.clip(usual, *_USUAL_RANGE)
    filled = np.clip(np.where(is_known, shares, 0.5), 0.01, 0.99)
    true = (1 - _OUTLIERS) * beta_density(filled, _TRUE_COUNT * mean, _TRUE_COUNT * (1 - mean)) + _OUTLIERS
    evidence: Float64Array = weight * np.log(true / beta_density(filled, *_FALSE_SHAPE))
    is_told: BoolArray = is_known & (weight > 0)
    return evidence, is_told


def _usual_shares(shares: Float64Array, differences: Float64Array, is_known: BoolArray) -> Float64Array:
    """The share [n, n] of points that is usual for two images whose views differ as much as theirs."""
    # The most different views first.
    order = np.argsort(np.where(is_known, -differences, np.inf), axis=1, kind="stable")
    ordered = np.take_along_axis(np.where(is_known, shares, -1.0), order, axis=1)
    strongest = np.full((len(shares), _NUM_STRONGEST), -1.0)  # of the columns so far, ascending
    means = np.zeros_like(shares)
    for column in range(shares.shape[1]):
        strongest[:, 0] = np.maximum(strongest[:, 0], ordered[:, column])
        strongest.sort(axis=1)
        is_used = strongest >= 0
        means[:, column] = np.where(is_used, strongest, 0.0).sum(axis=1) / np.maximum(is_used.sum(axis=1), 1)
    has_any = is_known.any(axis=1)
    of_all = means[:, -1:]  # without regard to differences
    typical = float(np.median(of_all[has_any])) if has_any.any() else _USUAL_RANGE[1]
    of_model = np.take_along_axis(_usual_of_model(shares, differences, is_known), order, axis=1)
    weights = np.minimum(np.arange(1, shares.shape[1] + 1) / _MANY_PAIRS, 1.0)  # by the number of pairs so far
    own = np.zeros_like(shares)
    np.put_along_axis(own, order, weights * means + (1 - weights) * np.minimum(of_model, of_all), axis=1)
    usual: Float64Array = np.minimum(np.minimum(own, own.T), typical)
    return usual


def _usual_of_model(shares: Float64Array, differences: Float64Array, is_known: BoolArray) -> Float64Array:
    """The quantile [n, n] of the shares of all pairs of a model whose views differ at least as much."""
    steps = np.where(is_known, differences // _STEP_DEG, 0).astype(np.int64)
    of_step = np.ones(int(steps.max(initial=0)) + 1)
    for step in np.unique(steps[is_known]).tolist():
        of_step[step] = np.quantile(shares[is_known & (steps >= step)], _USUAL_QUANTILE)
    found: Float64Array = np.minimum.accumulate(of_step)[steps]
    return found


def beta_density(x: Float64Array, a: Float64Array | float, b: Float64Array | float) -> Float64Array:
    """Density of the beta distribution. The import of SciPy's function takes 0.3 s.

    Args:
        x: between 0 and 1.
        a: first parameter, positive; of the shape of `x`, or one for all.
        b: second parameter, likewise.
    """
    density: Float64Array = np.exp(xlogy(a - 1, x) + xlog1py(b - 1, -x) - betaln(a, b))
    return density
