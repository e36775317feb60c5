"""The probability that a verified pair is a true overlap: a logistic model over its cues.

Its coefficients come with the package. `benchmarks/lookalikes_training.py` fitted them to synthetic scenes, near
weights that were set by hand.

The rules about pairs compare scores: probabilities on a scale on which their limits were tuned. A linear function of
the logit of a score, which comes with the model too, gives a calibrated probability.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.selection import CLEARLY_WRONG, MIN_CLEARLY_WRONG
from sfm_lightglue.lookalikes.tracks import PairTracks
from sfm_lightglue.lookalikes.twins import (
    has_lone_surroundings,
    has_order,
    has_twins,
    logits_among_twins,
    unlike_surroundings,
)

PACKAGED_MODEL = Path(__file__).with_name("overlap_model.json")
"""File of the coefficients that come with the package."""

_NUM_ITERATIONS = 100
"""Iterations of the estimate of the fraction of true pairs of a scene."""

_PSEUDO_PAIRS = (9.0, 1.0)
"""True and false pairs that are added to those of a scene, so that few pairs do not decide alone."""

_REFUTED, _REFUTED_SCORE = -7.0, 0.05
"""Logit by the rules of twins below which these refute a pair on a way that looks true, and its score then: -8.9 to
-8.2 for pairs of a rendered square with two equal facades, -7.9 to -7 for far books of a shelf of which all look alike.
Of the pairs of photographs without look-alikes that look true, none is below -6.2."""

_MIN_FRACTION = 0.3
"""Smallest fraction of true pairs of a scene."""


@dataclass(frozen=True, slots=True)
class OverlapModel:
    """A logistic model: the logit is `bias + sum(weight (cue - mean) / scale)`; a cue that is not known adds nothing.

    This is the logit of the score, which the rules use. That of the calibrated probability is `slope logit + offset`.

    Args:
        fields: names of the cues, of `PairCues.FIELDS`.
        means: of the cues.
        scales: of the cues, positive.
        weights: of the cues.
        bias: of the logit.
        true_fraction: fraction of true pairs for which the probabilities hold.
        slope: of the calibrated logit, positive.
        offset: of the calibrated logit.

    Raises:
        ValueError: if the numbers do not fit together.
    """

    fields: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    true_fraction: float
    slope: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        unknown = set(self.fields) - set(PairCues.FIELDS)
        if unknown:
            raise ValueError(f"OverlapModel: unknown cues {', '.join(sorted(unknown))}")
        if not len(self.fields) == len(self.means) == len(self.scales) == len(self.weights):
            raise ValueError("OverlapModel: expected a mean, a scale and a weight for each cue")
        if not all(scale > 0 for scale in self.scales) or not 0 < self.true_fraction < 1:
            raise ValueError("OverlapModel: scales must be positive, the fraction of true pairs must lie in (0, 1)")
        if not self.slope > 0:
            raise ValueError("OverlapModel: the slope of the calibrated logit must be positive")

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> OverlapModel:
        """From plain values, as `as_mapping` gives them."""
        fields, means, scales, weights = (tuple(values[name]) for name in ("fields", "means", "scales", "weights"))
        plain = (float(values[name]) for name in ("bias", "true_fraction", "slope", "offset"))
        return cls(fields, means, scales, weights, *plain)

    def as_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def logits(self, cues: Sequence[PairCues]) -> Float64Array:
        """The logits [P] of the probabilities, for a scene with the model's fraction of true pairs."""
        values = np.array([[getattr(one, name) for name in self.fields] for one in cues], np.float64)
        standard = (values.reshape(len(cues), len(self.fields)) - np.array(self.means)) / np.array(self.scales)
        logits: Float64Array = np.nan_to_num(standard, posinf=0.0, neginf=0.0) @ np.array(self.weights) + self.bias
        return logits


@cache
def packaged_model() -> OverlapModel:
    """The model that comes with the package."""
    return OverlapModel.from_mapping(json.loads(PACKAGED_MODEL.read_text(encoding="utf-8")))


@dataclass(frozen=True, eq=False, slots=True)
class SceneProbabilities:
    """The probabilities of the verified pairs of a scene.

    Args:
        probabilities: [P] to be a true overlap.
        has_twins: whether places match as completely as one place does.
        is_unlike: [P] pairs of a scene without known twins that may show twins all the same, see `unlike_surroundings`.
    """

    probabilities: Float64Array
    has_twins: bool
    is_unlike: BoolArray


def scene_probabilities(
    tracks: PairTracks,
    cues: Sequence[PairCues],
    is_wrong: BoolArray | None = None,
    is_trusted: BoolArray | None = None,
    model: OverlapModel | None = None,
    has_fold: bool = False,
) -> SceneProbabilities:
    """The probability of each verified pair of a scene to be a true overlap, by its cues and by other pairs.

    Args:
        tracks: of all pairs of the scene.
        cues: of these pairs.
        is_wrong: [P] pairs that joined twins in a model; None for none.
        is_trusted: [P] pairs that the user named; None for none.
        model: None for the one that comes with the package.
        has_fold: whether a model of the scene was folded: then it has twins, whatever the cues say.
    """
    logits = (model or packaged_model()).logits(cues)
    wrong = np.zeros(len(cues), np.bool_) if is_wrong is None else is_wrong
    if has_fold or has_twins(cues, logits) or has_lone_surroundings(tracks.pairs, cues, logits):
        found = _sigmoid(logits_among_twins(tracks, cues, logits, wrong, is_trusted))
        return SceneProbabilities(found, True, np.zeros(len(cues), np.bool_))
    found = overlap_probabilities(cues, model)
    if has_order(cues) and (found < CLEARLY_WRONG).sum() >= MIN_CLEARLY_WRONG:
        found = _on_a_way(found, logits_among_twins(tracks, cues, logits, wrong, is_trusted))
    return SceneProbabilities(found, False, unlike_surroundings(cues, logits))


def _on_a_way(own: Float64Array, among_twins: Float64Array) -> Float64Array:
    """The scores [P] of pairs of a scene with improbable pairs, whose names are in the order of a way.

    Equal sides of an object leave few pairs whose cues alone look true, and equal facades some wrong ones that do.
    Neighbours on the way, the rotations along it, rare points and triplets tell them apart, as among complete twins.
    These rules take most pairs for wrong ones. So a pair that is probable by either is believed, unless they refute it.

    Args:
        own: [P] scores by the cues of the pairs alone.
        among_twins: [P] logits by the rules of twins.
    """
    found = np.where(among_twins > 0, np.maximum(own, _sigmoid(among_twins)), own)
    return np.where((among_twins < _REFUTED) & (own > 0.5), _REFUTED_SCORE, found)


def overlap_probabilities(cues: Sequence[PairCues], model: OverlapModel | None = None) -> Float64Array:
    """The score [P] in [0, 1] of each verified pair: how likely it is a true overlap, on the scale of the rules.

    In some scenes most pairs are wrong. The fraction of true pairs is estimated from the pairs themselves, and the
    probabilities follow it. It is never larger than that of the model: that most pairs of a scene are true is no reason
    to believe the one that joins its two ends.

    Args:
        cues: of all pairs of the scene.
        model: None for the one that comes with the package.

    Source: Saerens, Latinne and Decaestecker, Adjusting the outputs of a classifier to new a priori probabilities,
    2002, section 2.2 (here with added pairs).
    """
    model = model or packaged_model()
    return _with_fraction(model, model.logits(cues))


def calibrated_probabilities(cues: Sequence[PairCues], model: OverlapModel | None = None) -> Float64Array:
    """The calibrated probability [P] of each verified pair of a scene to be a true overlap.

    Of pairs with a value near .8, about 80 % should be true overlaps. The mean error of this was .038 in rendered
    scenes of kinds that were not trained on, .064 in those of a benchmark, and .140 in the same with another seed: a
    value in the middle says little about one scene. Scenes with complete twins were left out, by their truth. Where
    twins match as completely as one place does, the values have no meaning, whether the library noticed them or not.

    Args:
        cues: of all pairs of the scene.
        model: None for the one that comes with the package.

    Source: Platt, Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods,
    1999, equation 2; for the fraction of true pairs, see `overlap_probabilities`.
    """
    model = model or packaged_model()
    return _with_fraction(model, model.slope * model.logits(cues) + model.offset)


def _with_fraction(model: OverlapModel, logits: Float64Array) -> Float64Array:
    """The probabilities [P] by logits and by the fraction of true pairs that they say themselves."""
    shift, probabilities = 0.0, _sigmoid(logits)
    for _ in range(_NUM_ITERATIONS):
        probabilities = _sigmoid(logits + shift)
        shift = fraction_shift(model, float(probabilities.sum()), len(logits))
    return probabilities


def fraction_shift(model: OverlapModel, num_true: float, num_pairs: int) -> float:
    """What the fraction of true pairs of a scene adds to the logits of all of them; at most 0.

    Args:
        model: with the fraction for which its logits hold.
        num_true: of the pairs; may be an expected value.
        num_pairs: of the scene.
    """
    pseudo_true, pseudo_false = _PSEUDO_PAIRS
    fraction = (num_true + pseudo_true) / (num_pairs + pseudo_true + pseudo_false)
    return _logit(min(max(fraction, _MIN_FRACTION), model.true_fraction)) - _logit(model.true_fraction)


def _sigmoid(logits: Float64Array) -> Float64Array:
    probabilities: Float64Array = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    return probabilities


def _logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))
