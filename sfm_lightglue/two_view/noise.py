"""Robust estimates of the noise of residuals."""

from __future__ import annotations

import math

import numpy as np

from sfm_lightglue.arrays import Float64Array

_MEDIAN_OF_CHI2 = {1: 0.4549, 2: 1.3863}
"""Median of the chi-squared distribution, by its degrees of freedom."""


def median_noise(squared: Float64Array, num_dimensions: int) -> float:
    """Standard deviation per coordinate of normal errors, from the median of their squared lengths.

    Args:
        squared: [N] squared lengths.
        num_dimensions: of the errors, 1 or 2.
    """
    return math.sqrt(float(np.median(squared)) / _MEDIAN_OF_CHI2[num_dimensions])


def robust_noise(residuals: Float64Array, limit: float = math.inf, floor: float = 1e-12) -> tuple[float, float]:
    """Standard deviation per coordinate of residuals, without the effect of outliers.

    Residuals within 2.5 deviations (3 in two dimensions) and within the limit enter the mean of squares. The mean is
    corrected for the part of a normal distribution beyond that cut.

    Args:
        residuals: [N, D] of a fit, D = 1 or 2.
        limit: largest length of a residual; larger ones were removed before.
        floor: smallest deviation that is returned; positive and far below the limit.

    Returns:
        The deviation, and the variance below the limit as a fraction of the whole variance.

    Source: Rousseeuw and Leroy, Robust regression and outlier detection, 1987, section 5.1 (reweighted scale).
    """
    num_dimensions = residuals.shape[1]
    squared = (residuals**2).sum(axis=1)
    cut_deviations = 2.5 if num_dimensions == 1 else 3.0
    # Residuals that are uniform up to the limit do not determine a deviation: it is at most 2/3 of the limit.
    highest = limit / 1.5
    middle = float(np.median(squared))
    noise = max(min(median_noise(squared, num_dimensions), highest), floor)
    for _ in range(20):
        cut = min(cut_deviations * noise, limit)
        below = squared <= max(cut**2, middle)
        mean = float(squared[below].mean()) / num_dimensions
        noise = max(min(math.sqrt(mean / _variance_below(cut / noise, num_dimensions)), highest), floor)
    return noise, _variance_below(limit / noise, num_dimensions)


def _variance_below(k: float, num_dimensions: int) -> float:
    """Variance per coordinate of unit normal deviates whose length is at most k."""
    k = min(k, 30.0)
    density = math.exp(-(k**2) / 2)
    if num_dimensions == 1:
        return 1 - 2 * k * density / math.sqrt(2 * math.pi) / math.erf(k / math.sqrt(2))
    return 1 - k**2 / 2 * density / (1 - density)
