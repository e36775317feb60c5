"""Evaluate a matcher on image pairs with ground truth: correct matches, precision, pose errors, time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.evaluation.depth import project_by_depth, read_depth
from sfm_lightglue.evaluation.homography_errors import corner_error, estimate_homography
from sfm_lightglue.evaluation.pose_errors import pose_auc
from sfm_lightglue.evaluation.truth import EvaluationPair
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.geometry.epipolar import essential_from_pose, homogeneous, squared_symmetric_epipolar_errors
from sfm_lightglue.geometry.transforms import relative_pose_error_deg
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.scene.cameras import normalized_from_pixels
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.verification import estimate_two_view_geometry
from sfm_lightglue.types import Features, Matches, TwoViewGeometry

CORRECT_PX = 3.0
"""Largest reprojection error of a correct match, in pixels of the reference size."""

CORRECT_EPIPOLAR = 1e-4
"""Largest squared symmetric epipolar error of a correct match, in normalised coordinates, if no depth is known."""

AUC_THRESHOLDS_DEG = (5.0, 10.0, 20.0)
AUC_THRESHOLDS_PX = (1.0, 3.0, 5.0)


@dataclass(frozen=True, slots=True)
class PairOutcome:
    """Errors of one matcher on one pair.

    Args:
        num_matches: number of matches that the ground truth classifies.
        num_correct: number of correct ones.
        pose_error_deg: the larger of the errors of rotation and of direction of translation; infinity if no pose was
            estimated, None if the true pose is not known.
        match_ms: wall time of the second call of the matcher. The first call with new sizes may compile kernels.
        stop_layer: layer at which an adaptive network stopped, else 0.
        corner_error_px: of the homography, as defined in `corner_error`; None if the true one is not known.
    """

    num_matches: int
    num_correct: int
    pose_error_deg: float | None
    match_ms: float
    stop_layer: int
    corner_error_px: float | None = None


@dataclass(frozen=True, slots=True)
class MatchingScores:
    """Scores of a matcher over many pairs.

    Args:
        num_pairs: number of pairs that were matched.
        auc: of the pose error at 5, 10 and 20 degrees; None if no true pose is known.
        precision: fraction of correct matches among those that the ground truth classifies, over all pairs.
        correct: mean number of correct matches per pair.
        ms: median milliseconds per pair.
        fraction_from_stop_layer: fraction of pairs by the layer at which the network stopped.
        corner_auc: of the homography's corner error at 1, 3 and 5 pixels; None if no true homography is known.
        num_failed: number of pairs for which no pose or homography was estimated although the true one is known.
    """

    num_pairs: int
    auc: tuple[float, float, float] | None
    precision: float
    correct: float
    ms: float
    fraction_from_stop_layer: dict[int, float]
    corner_auc: tuple[float, float, float] | None = None
    num_failed: int = 0

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        auc5, auc10, auc20 = self.auc or (None, None, None)
        return {
            "num_pairs": self.num_pairs,
            "auc5": auc5,
            "auc10": auc10,
            "auc20": auc20,
            "correct": self.correct,
            "precision": self.precision,
            "ms": self.ms,
            "stop_layers": {str(layer): fraction for layer, fraction in self.fraction_from_stop_layer.items()},
        }


class PairFeatures:
    """The features of evaluation pairs, extracted once for all matchers.

    Args:
        extractor: all matchers get its features.
        max_images: number of images whose features stay in memory.
    """

    def __init__(self, extractor: Extractor, max_images: int = 128) -> None:
        self._extractor = extractor
        self._cache: LruCache[tuple[Path, int | None], Features] = LruCache(max_images)

    def for_pair(self, pair: EvaluationPair) -> tuple[Features, Features]:
        """The features of both images."""
        return self._for_image(pair.path0, pair.quarter_turns[0]), self._for_image(pair.path1, pair.quarter_turns[1])

    def _for_image(self, path: Path, quarter_turns: int | None) -> Features:
        features = self._cache.get((path, quarter_turns))
        if features is None:
            image = replace(Image.read(path), quarter_turns_override=quarter_turns)
            features = self._extractor.extract(image)
            self._cache.put((path, quarter_turns), features)
        return features


def evaluate_pair(
    matcher: Matcher,
    features: tuple[Features, Features],
    pair: EvaluationPair,
    max_image_size: int,
    config: TwoViewConfig | None = None,
    seed: int = 0,
) -> PairOutcome:
    """Match one pair and compute the errors.

    Args:
        matcher: the matcher to evaluate.
        features: of both images.
        pair: the ground truth.
        max_image_size: reference size: `CORRECT_PX` is in pixels of an image with at most this longer side.
        config: of the pose estimation.
        seed: of its random samples.
    """
    (outcome,) = evaluate_estimators(matcher, features, pair, max_image_size, [config or TwoViewConfig()], [seed])
    return outcome


def evaluate_estimators(
    matcher: Matcher,
    features: tuple[Features, Features],
    pair: EvaluationPair,
    max_image_size: int,
    configs: Sequence[TwoViewConfig],
    seeds: Sequence[int] = (0,),
) -> list[PairOutcome]:
    """Match one pair and compute the errors of several estimators on the same matches.

    Arguments as in `evaluate_pair`; one outcome for each configuration and each seed.
    """
    matcher.match(*features)
    start = time.perf_counter()
    matches = matcher.match(*features)
    match_ms = 1000 * (time.perf_counter() - start)
    is_classified, correct = classify_matches(matches, features, pair, max_image_size)
    num_classified, num_correct = int(is_classified.sum()), int((is_classified & correct).sum())
    return [
        PairOutcome(
            num_classified,
            num_correct,
            _pose_error_deg(matches, features, pair, config, seed),
            match_ms,
            matches.stop_layer,
            _corner_error_px(matches, features, pair, config, seed),
        )
        for config in configs
        for seed in seeds
    ]


def _pose_error_deg(
    matches: Matches, features: tuple[Features, Features], pair: EvaluationPair, config: TwoViewConfig, seed: int
) -> float | None:
    if pair.cam1_from_cam0 is None or pair.camera0 is None or pair.camera1 is None:
        return None
    geometry = estimate_two_view_geometry(*features, matches, pair.camera0, pair.camera1, config, seed)
    if not isinstance(geometry, TwoViewGeometry):
        return np.inf
    # Published tables map direction errors above 90 degrees to 180 minus the error (SuperGlue, 2020). Not here: a
    # translation in the opposite direction is an error.
    rotation, direction = relative_pose_error_deg(geometry.cam1_from_cam0, pair.cam1_from_cam0)
    # After a pure rotation there is no direction to compare.
    return max(rotation, direction) if np.any(pair.cam1_from_cam0.t) else rotation


def _corner_error_px(
    matches: Matches, features: tuple[Features, Features], pair: EvaluationPair, config: TwoViewConfig, seed: int
) -> float | None:
    if pair.H is None:
        return None
    H = estimate_homography(*features, matches, config, seed)
    return corner_error(H, pair.H, features[0].image_size, features[1].image_size)


def classify_matches(
    matches: Matches, features: tuple[Features, Features], pair: EvaluationPair, max_image_size: int
) -> tuple[BoolArray, BoolArray]:
    """Two masks [M]: matches that the ground truth classifies, and correct matches.

    Raises:
        ValueError: if the pair has neither a pose with cameras nor a homography.
    """
    points0, points1 = (one.keypoints[matches.indices[:, side]].astype(np.float64) for side, one in enumerate(features))
    all_matches = np.ones(len(matches), dtype=np.bool_)
    scale = min(1.0, max_image_size / max(features[1].image_size))
    if pair.H is not None:
        return all_matches, _distances(_transfer(pair.H, points0), points1) * scale < CORRECT_PX
    if pair.camera0 is None or pair.camera1 is None or pair.cam1_from_cam0 is None:
        raise ValueError(f"{pair.path0}, {pair.path1}: neither a pose with cameras nor a homography is known")
    if pair.depth0 is not None:
        projected, z, known = project_by_depth(
            points0, read_depth(pair.depth0), pair.camera0, pair.camera1, pair.cam1_from_cam0
        )
        return known, (z > 0) & (_distances(projected, points1) * scale < CORRECT_PX)
    errors = squared_symmetric_epipolar_errors(
        essential_from_pose(pair.cam1_from_cam0),
        normalized_from_pixels(pair.camera0, points0),
        normalized_from_pixels(pair.camera1, points1),
    )
    return all_matches, errors < CORRECT_EPIPOLAR


def _distances(a: Float64Array, b: Float64Array) -> Float64Array:
    distances: Float64Array = np.linalg.norm(a - b, axis=1)
    return distances


def _transfer(H: Float64Array, points: Float64Array) -> Float64Array:
    mapped = homogeneous(points) @ H.T
    transferred: Float64Array = mapped[:, :2] / mapped[:, 2:]
    return transferred


def summarize(outcomes: Sequence[PairOutcome], num_seeds: int = 1) -> MatchingScores:
    """Scores over the outcomes of several pairs.

    Args:
        outcomes: at least one.
        num_seeds: number of outcomes per pair.

    Raises:
        ValueError: if there is no outcome.
    """
    if not outcomes:
        raise ValueError("summarize: no pairs")
    errors_deg = [outcome.pose_error_deg for outcome in outcomes if outcome.pose_error_deg is not None]
    errors_px = [outcome.corner_error_px for outcome in outcomes if outcome.corner_error_px is not None]
    num_matches = sum(outcome.num_matches for outcome in outcomes)
    num_correct = sum(outcome.num_correct for outcome in outcomes)
    layers = Counter(outcome.stop_layer for outcome in outcomes)
    return MatchingScores(
        len(outcomes) // num_seeds,
        _auc(errors_deg, AUC_THRESHOLDS_DEG),
        num_correct / num_matches if num_matches else 0.0,
        num_correct / len(outcomes),
        float(np.median([outcome.match_ms for outcome in outcomes])),
        {layer: count / len(outcomes) for layer, count in sorted(layers.items())},
        _auc(errors_px, AUC_THRESHOLDS_PX),
        round(np.isinf([*errors_deg, *errors_px]).sum() / num_seeds),
    )


def _auc(errors: Sequence[float], thresholds: tuple[float, float, float]) -> tuple[float, float, float] | None:
    if not errors:
        return None
    first, second, third = pose_auc(np.array(errors), thresholds)
    return first, second, third


def evaluate_matcher(
    matcher: Matcher,
    pairs: Sequence[EvaluationPair],
    features: PairFeatures,
    max_image_size: int,
    progress: Progress = silent,
    num_seeds: int = 1,
) -> dict[str, list[PairOutcome]]:
    """Outcomes by group in the order of the pairs, one for each pair and each seed of the pose estimation."""
    outcomes: dict[str, list[PairOutcome]] = {}
    for num_done, pair in enumerate(pairs, start=1):
        found = evaluate_estimators(
            matcher, features.for_pair(pair), pair, max_image_size, [TwoViewConfig()], range(num_seeds)
        )
        outcomes.setdefault(pair.group, []).extend(found)
        progress("evaluate", num_done, len(pairs))
    return outcomes
