"""Robust estimates of the noise of residuals."""

from __future__ import annotations

import math

import numpy as np

from sfm_lightglue.arrays import Float64Array


def robust_noise(residuals: Float64Array, limit: float = math.inf, floor: float = 1e-12) -> tuple[float, float]:
    """Standard deviation per coordinate of residuals [N, D], D = 1 or 2, without their tail.

    The residuals within 2.5 (in two dimensions 3) deviations, and within the limit beyond which none were kept, are
    averaged; a normal distribution cut at that place tells what the deviation was before.

    Args:
        residuals: of a fit.
        limit: largest length of a residual.
        floor: positive and far below the limit; no smaller deviation is believed, even where all residuals are 0.

    Returns:
        The deviation, and which share of its variance the residuals below the limit have.

    Source: Rousseeuw and Leroy, Robust regression and outlier detection, 1987, section 5.1 (reweighted scale).
    """
    num_dimensions = residuals.shape[1]
    squared = (residuals**2).sum(axis=1)
    cut_deviations = 2.5 if num_dimensions == 1 else 3.0
    # Residuals as even as if there were no noise, only the limit, tell no deviation: it is at least 2/3 of it.
    highest = limit / 1.5
    middle = float(np.median(squared))
    noise = max(min(math.sqrt(middle / {1: 0.4549, 2: 1.3863}[num_dimensions]), highest), floor)
    for _ in range(20):
        cut = min(cut_deviations * noise, limit)
        below = squared <= max(cut**2, middle)
        mean = float(squared[below].mean()) / num_dimensions
        noise = max(min(math.sqrt(mean / _variance_below(cut / noise, num_dimensions)), highest), floor)
    return noise, _variance_below(limit / noise, num_dimensions)


def _variance_below(k: float, num_dimensions: int) -> float:
    """Variance per coordinate of unit normal deviates that are no longer than k."""
    k = min(k, 30.0)
    density = math.exp(-(k**2) / 2)
    if num_dimensions == 1:
        return 1 - 2 * k * density / math.sqrt(2 * math.pi) / math.erf(k / math.sqrt(2))
    return 1 - k**2 / 2 * density / (1 - density)
