"""The fit of the logistic model of look-alikes: a prior of known weights, and validation by kinds of scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.evaluation.tables import markdown_table
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.probability import OverlapModel, calibrated_probabilities, fraction_shift
from sfm_lightglue.store.atomic_file import atomic_write

PRIOR = OverlapModel(
    fields=(
        *("tracks_closed", "jaccard", "relative_matched", "matched_high", "unmatched_cells_low"),
        *("unmatched_cells_high", "missing_low", "distinctive_ratio", "triplets_closed", "position_gap"),
        *("order_gap", "log_inliers"),
    ),
    means=(0.4, 0.45, 0.45, 0.2, 0.22, 0.33, 0.62, 0.82, 0.7, 1.2, 0.3, 2.0),
    scales=(0.3, 0.2, 0.25, 0.12, 0.15, 0.17, 0.13, 0.15, 0.3, 0.8, 0.25, 0.25),
    weights=(1.2, 0.9, 0.9, 0.6, -1.0, -0.8, -0.6, 0.5, 0.5, -1.0, -0.5, 0.2),
    bias=0.5,
    true_fraction=0.6,
)
"""Weights that were set by hand. Training starts from them, and never changes their signs: what a cue means does not
depend on the renderer."""

PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0, 1e4)
"""Factors of the squared differences of the weights from those of `PRIOR` times the slope, relative to the mean loss;
validation chooses one. The largest one leaves slope and offset alone to the data."""

_MIN_SLOPE = 0.05
"""Smallest slope of the calibrated logit."""

NUM_BINS = 10


@dataclass(frozen=True, eq=False, slots=True)
class PairTable:
    """Labelled pairs, with the cues of `PRIOR`.

    Args:
        values: [P, F] cues, NaN where one is not known.
        is_true: [P] whether the pair is a true overlap.
        group: [P] pairs of one group are held out together.
        scene: [P] number of the scene of each pair.
        weight: [P] weight of the pair in the loss.
    """

    values: Float64Array
    is_true: BoolArray
    group: IndexArray
    scene: IndexArray
    weight: Float64Array

    def take(self, chosen: BoolArray) -> PairTable:
        """The chosen rows."""
        return PairTable(*(getattr(self, field.name)[chosen] for field in dataclass_fields(self)))

    def save(self, path: Path) -> None:
        """Write the pairs to an .npz file; cues are rounded to four decimals."""
        columns = {field.name: getattr(self, field.name) for field in dataclass_fields(self)}
        with atomic_write(path) as file:
            np.savez_compressed(file, **columns | {"values": self.values.round(4).astype(np.float32)})

    @classmethod
    def load(cls, path: Path) -> PairTable:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            columns = {field.name: stored[field.name] for field in dataclass_fields(cls)}
        return cls(**columns | {"values": columns["values"].astype(np.float64)})


def fit(table: PairTable, penalty: float) -> OverlapModel:
    """The most probable coefficients: logistic loss, and weights that are normally distributed around those of `PRIOR`.

    The calibrated logit is `slope score + offset`. The score has the bias of `PRIOR`, so that limits of scores keep
    their meaning, and its weights are near to those of `PRIOR`; slope and offset are free.

    In the library, the fraction of true pairs of a scene is estimated from its pairs and shifts their logits. So here,
    each scene has the shift of its true fraction: what is learned are the likelihoods of the cues, not how often twins
    are rendered.

    Args:
        table: labelled pairs.
        penalty: see `PENALTIES`.
    """
    standard = np.nan_to_num((table.values - np.array(PRIOR.means)) / np.array(PRIOR.scales))
    sign, share = np.where(table.is_true, 1.0, -1.0), table.weight / table.weight.sum()
    prior, shift = np.array(PRIOR.weights), _true_shifts(table)

    def loss(parameters: Float64Array) -> tuple[float, Float64Array]:
        weights, offset, slope = parameters[:-2], parameters[-2], parameters[-1]
        margin = sign * (standard @ weights + slope * PRIOR.bias + offset + shift)
        gradient = -share * sign / (1 + np.exp(np.clip(margin, -50, 50)))
        change = weights - slope * prior
        value = float((share * np.logaddexp(0, -margin)).sum() + penalty * (change**2).sum())
        of_weights = standard.T @ gradient + 2 * penalty * change
        of_slope = PRIOR.bias * gradient.sum() - 2 * penalty * float(change @ prior)
        return value, np.concatenate([of_weights, [gradient.sum(), of_slope]])

    start = np.array([*PRIOR.weights, 0.0, 1.0])
    bounds = [(0.0, None) if weight > 0 else (None, 0.0) for weight in PRIOR.weights]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None), (_MIN_SLOPE, None)])
    offset, slope = (round(float(value), 4) for value in found.x[-2:])
    weights = tuple(round(float(weight), 4) for weight in found.x[:-2] / found.x[-1])
    return replace(PRIOR, weights=weights, slope=slope, offset=offset)


def _true_shifts(table: PairTable) -> Float64Array:
    """The shifts [P] of the logits by the true fraction of true pairs of each scene, within the library's limits."""
    shifts = np.zeros(len(table.is_true))
    for scene in np.unique(table.scene):
        own = table.scene == scene
        shifts[own] = fraction_shift(PRIOR, float(table.is_true[own].sum()), int(own.sum()))
    return shifts


def scene_probabilities_of(table: PairTable, model: OverlapModel) -> Float64Array:
    """The probability [P] of each pair as the library computes it, with all pairs of its scene."""
    probabilities = np.zeros(len(table.is_true))
    for scene in np.unique(table.scene):
        own = table.scene == scene
        cues = [PairCues(**dict(zip(PRIOR.fields, row, strict=True))) for row in table.values[own].tolist()]
        probabilities[own] = calibrated_probabilities(cues, model)
    return probabilities


def held_out_probabilities(table: PairTable, penalty: float) -> Float64Array:
    """The probability [P] of each pair by a model that has seen no pair of its group."""
    probabilities = np.zeros(len(table.is_true))
    for group in np.unique(table.group):
        held_out = table.group == group
        model = fit(table.take(~held_out), penalty)
        probabilities[held_out] = scene_probabilities_of(table.take(held_out), model)
    return probabilities


def chosen_penalty(table: PairTable, held_out: Mapping[float, Float64Array]) -> float:
    """The largest penalty whose loss is not larger than the smallest one by more than a standard error.

    The standard error is that of the mean difference over the groups: weights leave those of `PRIOR` only as far as the
    groups agree that this is better.

    Args:
        table: labelled pairs.
        held_out: the probabilities [P] of `held_out_probabilities` by penalty.

    Source: Breiman, Friedman, Olshen and Stone, Classification and regression trees, 1984, section 3.4.3 (here with
    paired differences).
    """
    groups = [table.group == group for group in np.unique(table.group)]
    losses = {
        penalty: np.array([mean_loss(table.take(own), values[own]) for own in groups])
        for penalty, values in held_out.items()
    }
    best = min(losses.values(), key=lambda each: float(each.mean()))
    return max(penalty for penalty, each in losses.items() if _mean_is_within_error(each - best))


def _mean_is_within_error(differences: Float64Array) -> bool:
    if len(differences) < 2:
        return bool(differences.mean() <= 0)
    return bool(differences.mean() <= differences.std(ddof=1) / np.sqrt(len(differences)))


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
