"""The fit of the logistic model of look-alikes: standardised cues, weights of known sign, validation by scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.evaluation.tables import markdown_table
from sfm_lightglue.lookalikes.probability import OverlapModel

SIGN_FROM_CUE = {
    "log_inliers": 1,
    "inlier_ratio": 1,
    "distinctive_ratio": 1,
    "log_distinctive": 1,
    "mean_score": 1,
    "matched_low": 1,
    "matched_high": 1,
    "relative_matched": 1,
    "unmatched_cells_low": -1,
    "unmatched_cells_high": -1,
    "missing_low": -1,
    "missing_high": -1,
    "scale_spread": -1,
    "scale_offset": -1,
    "track_rarity": 1,
    "triplets_closed": 1,
    "tracks_closed": 1,
    "tracks_crossed": -1,
    "jaccard": 1,
    "relative_inliers": 1,
    "order_gap": -1,
    "position_gap": -1,
}
"""Cues of the model, and the sign that their weights may have: what a cue means does not depend on the renderer."""

PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2)
"""Factors of the squared weights, relative to the mean loss; validation chooses one."""

NUM_BINS = 10
_MIN_WEIGHT = 1e-3
"""Cues with smaller weights are left out."""


@dataclass(frozen=True, eq=False, slots=True)
class PairTable:
    """Labelled pairs.

    Args:
        values: [P, F] cues, NaN where one is not known.
        is_true: [P] whether the pair is a true overlap.
        group: [P] pairs of one group are held out together.
        weight: [P] weight of the pair in the loss.
    """

    values: Float64Array
    is_true: BoolArray
    group: IndexArray
    weight: Float64Array

    def take(self, chosen: BoolArray) -> PairTable:
        """The chosen rows."""
        return PairTable(self.values[chosen], self.is_true[chosen], self.group[chosen], self.weight[chosen])


def fit(table: PairTable, fields: Sequence[str], penalty: float) -> OverlapModel:
    """The coefficients that minimise the weighted logistic loss and a penalty of the squared weights.

    Args:
        table: labelled pairs, whose columns are `fields`.
        fields: names of the cues, all in `SIGN_FROM_CUE`.
        penalty: see `PENALTIES`.
    """
    means, scales = np.zeros(len(fields)), np.ones(len(fields))
    for column in range(len(fields)):
        known = table.values[~np.isnan(table.values[:, column]), column]
        if len(known) > 0:
            means[column], scales[column] = known.mean(), max(float(known.std()), 1e-3)
    standard = np.nan_to_num((table.values - means) / scales)
    sign = np.where(table.is_true, 1.0, -1.0)
    share = table.weight / table.weight.sum()

    def loss(parameters: Float64Array) -> tuple[float, Float64Array]:
        weights, bias = parameters[:-1], parameters[-1]
        margin = sign * (standard @ weights + bias)
        slope = -share * sign / (1 + np.exp(np.clip(margin, -50, 50)))
        value = float((share * np.logaddexp(0, -margin)).sum() + penalty * (weights**2).sum())
        return value, np.append(standard.T @ slope + 2 * penalty * weights, slope.sum())

    bounds = [(0.0, None) if SIGN_FROM_CUE[name] > 0 else (None, 0.0) for name in fields]
    found = minimize(loss, np.zeros(len(fields) + 1), jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)])
    weights, bias = found.x[:-1], float(found.x[-1])
    kept = [column for column in range(len(fields)) if abs(weights[column]) >= _MIN_WEIGHT]
    rounded = [tuple(round(float(values[column]), 4) for column in kept) for values in (means, scales, weights)]
    true_fraction = float((share * table.is_true).sum())
    return OverlapModel(tuple(fields[column] for column in kept), *rounded, round(bias, 4), round(true_fraction, 4))


def logits(model: OverlapModel, values: Float64Array, fields: Sequence[str]) -> Float64Array:
    """Logits [P] of rows whose columns are `fields`."""
    columns = [list(fields).index(name) for name in model.fields]
    standard = (values[:, columns] - np.array(model.means)) / np.array(model.scales)
    result: Float64Array = np.nan_to_num(standard) @ np.array(model.weights) + model.bias
    return result


def held_out_probabilities(table: PairTable, fields: Sequence[str], penalty: float) -> Float64Array:
    """The probability [P] of each pair by a model that has seen no pair of its group."""
    probabilities = np.zeros(len(table.is_true))
    for group in np.unique(table.group):
        held_out = table.group == group
        model = fit(table.take(~held_out), fields, penalty)
        probabilities[held_out] = 1 / (1 + np.exp(-logits(model, table.values[held_out], fields)))
    return probabilities


def mean_loss(table: PairTable, probabilities: Float64Array) -> float:
    """Weighted mean of the negative logarithm of the probability of the label."""
    right = np.clip(np.where(table.is_true, probabilities, 1 - probabilities), 1e-9, 1)
    return float(-(table.weight * np.log(right)).sum() / table.weight.sum())


def ranking_quality(is_true: BoolArray, values: Float64Array) -> float:
    """Probability that a true pair has a larger value than a false one (area under the ROC curve)."""
    positive, negative = values[is_true], values[~is_true]
    if len(positive) == 0 or len(negative) == 0:
        return float("nan")
    ordered = np.sort(negative)
    below, upto = np.searchsorted(ordered, positive, "left"), np.searchsorted(ordered, positive, "right")
    return float((below + upto).mean() / (2 * len(negative)))


def reliability_table(table: PairTable, probabilities: Float64Array) -> str:
    """A Markdown table: of the pairs with a probability in a range, how many are true."""
    bins = np.minimum((probabilities * NUM_BINS).astype(int), NUM_BINS - 1)
    rows = []
    for idx in range(NUM_BINS):
        own = bins == idx
        weight = table.weight[own]
        if weight.sum() > 0:
            mean = (weight * probabilities[own]).sum() / weight.sum()
            true = (weight * table.is_true[own]).sum() / weight.sum()
            rows.append(
                [f"{idx / NUM_BINS:.1f} to {(idx + 1) / NUM_BINS:.1f}", str(own.sum()), f"{mean:.2f}", f"{true:.2f}"]
            )
    return markdown_table(["probability", "pairs", "mean", "true"], rows, 1)


def calibration_error(table: PairTable, probabilities: Float64Array) -> float:
    """Weighted mean difference of probability and fraction of true pairs over the ranges of `reliability_table`."""
    bins = np.minimum((probabilities * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = [abs((table.weight * (probabilities - table.is_true))[bins == idx].sum()) for idx in range(NUM_BINS)]
    return float(sum(gaps) / table.weight.sum())
