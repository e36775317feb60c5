"""Validation of `train` on real photographs."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.command import require_checkout

if TYPE_CHECKING:
    from sfm_lightglue.matchers.lightglue import LightGlueMatcherConfig
    from sfm_lightglue.models.lightglue import LightGlue


class PhotoValidation:
    """A `Validation` on pairs of the hololens sequence with 10 to 50 % overlap; ground truth is its depth.

    Args:
        data: root of the shared data; None is the default folder.
        thresholds: with which the network matches.

    Raises:
        ConfigError: outside of the checkout, where the readers of benchmarks are missing.
        DataError: if the shared data are missing.
    """

    _MAX_IMAGE_SIZE, _NUM_KEYPOINTS, _NUM_PAIRS = 540, 1024, 100

    def __init__(self, data: Path | None, thresholds: LightGlueMatcherConfig) -> None:
        require_checkout("--validate")
        self._thresholds = thresholds
        from datasets.image_pairs import depth_pairs
        from datasets.shared import shared_data_root
        from sfm_lightglue.evaluation.match_errors import PairFeatures
        from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
        from sfm_lightglue.matchers.nearest import NearestMatcher

        folder = shared_data_root(data) / "sequences" / "hololens"
        self._pairs = depth_pairs(folder, "hololens", (0.1, 0.5), self._NUM_PAIRS)
        extractor = SiftExtractor(SiftConfig(max_keypoints=self._NUM_KEYPOINTS, max_image_size=self._MAX_IMAGE_SIZE))
        self._features = PairFeatures(extractor)
        self._nearest = self._scores(NearestMatcher(), "nearest_")

    def __call__(self, network: LightGlue) -> dict[str, float]:
        """Scores of the network with its thresholds, and those of nearest neighbours; AUC@10 of the network first."""
        from sfm_lightglue.matchers.lightglue import LightGlueMatcher
        from sfm_lightglue.models.checkpoints import save_lightglue

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "validated.safetensors"
            save_lightglue(network, path)
            scores = self._scores(LightGlueMatcher(replace(self._thresholds, weights=str(path)), "cpu"), "hololens_")
        return scores | self._nearest

    def _scores(self, matcher: object, prefix: str) -> dict[str, float]:
        from sfm_lightglue.evaluation.match_errors import evaluate_matcher, summarize

        outcomes = evaluate_matcher(matcher, self._pairs, self._features, self._MAX_IMAGE_SIZE)  # type: ignore[arg-type]
        summary = summarize([outcome for group in outcomes.values() for outcome in group])
        auc5, auc10, auc20 = summary.auc or (0.0, 0.0, 0.0)
        scores = {"auc10": auc10, "auc5": auc5, "auc20": auc20, "correct": summary.correct}
        scores |= {"precision": summary.precision, "ms": summary.ms}
        return {f"{prefix}{name}": value for name, value in scores.items()}
