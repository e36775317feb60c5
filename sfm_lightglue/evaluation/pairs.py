"""Evaluate all combinations on the same pairs; each extractor and each matcher runs once per image or pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.evaluation.combinations import (
    Candidates,
    Combination,
    LeftOut,
    build_extractor,
    build_matcher,
    require_any,
)
from sfm_lightglue.evaluation.match_errors import (
    MatchingScores,
    PairFeatures,
    PairOutcome,
    evaluate_estimators,
    summarize,
)
from sfm_lightglue.evaluation.truth import EvaluationPair
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.weights.lookup import WeightsCacheError

REFERENCE_SIZE_PX = 1600
"""Errors of matches are in pixels of an image with at most this longer side, for every detector."""


@dataclass(frozen=True, slots=True)
class PairScores:
    """Scores of one combination on one group of pairs."""

    group: str
    combination: Combination
    scores: MatchingScores

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON, without areas under curves whose ground truth is not known."""
        one, scores = self.combination, self.scores
        record: dict[str, object] = {
            "group": self.group,
            "extractor": one.extractor,
            "matcher": one.matcher,
            "estimator": one.estimator,
        }
        plain = scores.as_dict()
        if scores.auc is None:
            plain = {key: value for key, value in plain.items() if not key.startswith("auc")}
        if scores.corner_auc is not None:
            plain |= {f"auc{limit}px": value for limit, value in zip((1, 3, 5), scores.corner_auc, strict=True)}
        return record | plain | {"num_failed": scores.num_failed}


@dataclass(frozen=True, slots=True)
class PairEvaluation:
    """Scores in the order of the groups, and what was left out."""

    scores: tuple[PairScores, ...]
    left_out: tuple[LeftOut, ...]


def evaluate_pairs(
    pairs: Sequence[EvaluationPair],
    candidates: Candidates,
    reference_size_px: int = REFERENCE_SIZE_PX,
    seed: int = 0,
    progress: Progress = silent,
) -> PairEvaluation:
    """Evaluate every combination on every pair.

    Components whose weights are missing or do not fit are left out and reported. If there are several groups, their
    union is reported as group "all".

    Args:
        pairs: with a known pose or homography.
        candidates: components to combine.
        reference_size_px: errors of matches are in pixels of an image with at most this longer side.
        seed: of the random samples of the estimators.
        progress: called after each pair, with the name of the extractor.

    Raises:
        SfmError: if nothing was evaluated, with all reasons.
        DataError: if an image cannot be read.
    """
    left_out = list(candidates.left_out)
    outcomes: dict[Combination, dict[str, list[PairOutcome]]] = {}
    for name, choice in candidates.extractors.items():
        try:
            extractor = build_extractor(choice, candidates.device)
        except (WeightsError, WeightsCacheError) as error:
            left_out.append(LeftOut(name, error))
            continue
        evaluation = _ExtractorEvaluation(name, pairs, candidates, PairFeatures(extractor), reference_size_px, seed)
        outcomes |= evaluation.outcomes(left_out, progress)
    require_any(len(outcomes), left_out)
    groups = list(dict.fromkeys(pair.group for pair in pairs))
    scores = [
        PairScores(group, combination, summarize(by_group[group]))
        for group in groups
        for combination, by_group in outcomes.items()
    ]
    if len(groups) > 1:
        scores += [
            PairScores("all", combination, summarize([outcome for some in by_group.values() for outcome in some]))
            for combination, by_group in outcomes.items()
        ]
    return PairEvaluation(tuple(scores), tuple(left_out))


@dataclass(frozen=True, slots=True)
class _ExtractorEvaluation:
    """The evaluation of one extractor with all matchers and estimators."""

    extractor: str
    pairs: Sequence[EvaluationPair]
    candidates: Candidates
    features: PairFeatures
    reference_size_px: int
    seed: int

    def outcomes(self, left_out: list[LeftOut], progress: Progress) -> dict[Combination, dict[str, list[PairOutcome]]]:
        estimators = self.candidates.estimators
        matchers = self._matchers(left_out)
        outcomes: dict[str, list[list[PairOutcome]]] = {name: [] for name in matchers}
        for num_done, pair in enumerate(self.pairs, start=1):
            if not matchers:
                break
            try:
                both = self.features.for_pair(pair)
            except (WeightsError, WeightsCacheError, ConfigError) as error:
                left_out.append(LeftOut(self.extractor, error))
                return {}
            for name, matcher in list(matchers.items()):
                try:
                    if num_done == 1:
                        matcher.match(*both)  # a network reads its weights in the first call, which is not timed
                    outcomes[name].append(
                        evaluate_estimators(
                            matcher, both, pair, self.reference_size_px, list(estimators.values()), [self.seed]
                        )
                    )
                except (WeightsError, WeightsCacheError, ConfigError) as error:
                    left_out.append(LeftOut(f"{self.extractor} + {name}", error))
                    del matchers[name], outcomes[name]
            progress(self.extractor, num_done, len(self.pairs))
        return {
            Combination(self.extractor, name, estimator): self._by_group([row[index] for row in rows])
            for name, rows in outcomes.items()
            for index, estimator in enumerate(estimators)
        }

    def _matchers(self, left_out: list[LeftOut]) -> dict[str, Matcher]:
        built: dict[str, Matcher] = {}
        extractor = self.candidates.extractors[self.extractor]
        for name, choice in self.candidates.matchers.items():
            try:
                built[name] = build_matcher(extractor, choice, self.candidates.device)
            except (WeightsError, WeightsCacheError, ConfigError) as error:
                left_out.append(LeftOut(f"{self.extractor} + {name}", error))
        return built

    def _by_group(self, outcomes: Sequence[PairOutcome]) -> dict[str, list[PairOutcome]]:
        by_group: dict[str, list[PairOutcome]] = {}
        for pair, outcome in zip(self.pairs, outcomes, strict=True):
            by_group.setdefault(pair.group, []).append(outcome)
        return by_group
