"""Colours of points by what is known about them, and the legend of the colours."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.viewer.assemble import MODEL_COLORS
from sfm_lightglue.viewer.contents import Contents

UNKNOWN = np.array([0.55, 0.55, 0.58])
"""Colour of a point without a value."""

_GOOD_TO_BAD = np.array([(0.10, 0.35, 0.90), (0.10, 0.75, 0.55), (0.95, 0.85, 0.20), (0.90, 0.20, 0.15)])
_LOW_TO_HIGH = np.array([(0.27, 0.10, 0.45), (0.20, 0.45, 0.60), (0.25, 0.75, 0.45), (0.98, 0.90, 0.25)])


def point_colors(contents: Contents, coloring: str) -> AnyArray:
    """Colours of the points.

    Args:
        contents: with the points.
        coloring: one of `COLORINGS`.

    Returns:
        [N, 3] red, green, blue in 0 to 1.
    """
    if coloring == "error":
        return ramp(contents.errors_px, 0.0, error_limit(contents), _GOOD_TO_BAD)
    if coloring == "length":
        return ramp(np.log2(np.maximum(contents.track_lengths, 1)), 1.0, length_limit(contents), _LOW_TO_HIGH)
    if coloring == "height":
        heights = contents.points @ contents.up.astype(np.float32)
        low, high = np.quantile(heights, (0.02, 0.98)) if len(heights) > 0 else (0.0, 1.0)
        return ramp(heights, float(low), float(high), _LOW_TO_HIGH)
    if coloring == "model":
        by_model: AnyArray = MODEL_COLORS[contents.model_of_point % len(MODEL_COLORS)]
        return by_model
    own: AnyArray = contents.colors / 255.0
    return own


def error_colors(values: Float64Array) -> Float64Array:
    """Colours [E, 3] of lengths [E] of lines between two models: from 0 to the largest of them."""
    return ramp(values, 0.0, float(values.max(initial=0.0)), _GOOD_TO_BAD)


def ramp(values: AnyArray, low: float, high: float, stops: Float64Array) -> Float64Array:
    """Colours [N, 3] of values [N] between colours [S, 3] at equal distances; values beyond the limits get the ends."""
    share = np.clip((np.asarray(values, np.float64) - low) / (high - low if high > low else 1.0), 0, 1)
    place = np.nan_to_num(share) * (len(stops) - 1)
    first = np.minimum(place.astype(int), len(stops) - 2)
    part = (place - first)[:, None]
    colors = stops[first] * (1 - part) + stops[first + 1] * part
    found: Float64Array = np.where(np.isfinite(values)[:, None], colors, UNKNOWN)
    return found


def error_limit(contents: Contents) -> float:
    """The reprojection error of the last colour: a round number that 95 % of the points do not exceed."""
    finite = contents.errors_px[np.isfinite(contents.errors_px)]
    high = float(np.quantile(finite, 0.95)) if len(finite) > 0 else 1.0
    return next((step for step in (0.25, 0.5, 1.0, 2.0) if high <= step), 5.0)


def length_limit(contents: Contents) -> float:
    """Binary logarithm of the track length of the last colour, which 99 % of the points do not exceed."""
    lengths = contents.track_lengths
    high = float(np.quantile(lengths, 0.99)) if len(lengths) > 0 else 2.0
    return float(np.log2(max(high, 4.0)))


def legend(contents: Contents, coloring: str) -> tuple[str, str, Float64Array] | None:
    """The texts of the first and the last colour, and the colours between [S, 3]; None without a scale."""
    if coloring == "error":
        return "0 px", f"{error_limit(contents):g} px error", _GOOD_TO_BAD
    if coloring == "length":
        return "2 images", f"{round(2 ** length_limit(contents))} or more", _LOW_TO_HIGH
    if coloring == "height":
        return "low", "high", _LOW_TO_HIGH
    return None


def error_legend(contents: Contents) -> tuple[str, str, Float64Array] | None:
    """The scale of the lines between two models; None if there are none."""
    if len(contents.error_values) == 0:
        return None
    return "0", f"{contents.error_values.max():.3g} between centres", _GOOD_TO_BAD
