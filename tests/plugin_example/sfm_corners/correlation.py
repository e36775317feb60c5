"""Mutual nearest neighbours by correlation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.identity import Identity
from sfm_lightglue.types import Features, Matches


@dataclass(frozen=True, slots=True)
class CorrelationConfig:
    """Options of the correlation matcher."""

    min_correlation: float = 0.8
    """Minimum correlation of a match."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_correlation <= 1:
            raise ConfigError(f"correlation: min_correlation must lie in [0, 1], got {self.min_correlation}")


class CorrelationMatcher:
    """Normalised cross-correlation of descriptors of length 1."""

    def __init__(self, config: CorrelationConfig | None = None) -> None:
        self.config = config or CorrelationConfig()

    @property
    def identity(self) -> Identity:
        """Name and configuration."""
        return Identity("correlation", 1, self.config)

    @property
    def batch_size(self) -> int:
        """One, because larger batches are not faster."""
        return 1

    def match(self, features0: Features, features1: Features) -> Matches:
        """Match two images; the score of a match is its correlation."""
        if len(features0) == 0 or len(features1) == 0:
            return Matches.empty()
        widths = features0.descriptors.shape[1], features1.descriptors.shape[1]
        if widths[0] != widths[1]:
            raise ConfigError(f"matcher correlation: descriptors of {widths[0]} and of {widths[1]} dimensions")
        correlation = features0.descriptors @ features1.descriptors.T
        best1, best0 = correlation.argmax(axis=1), correlation.argmax(axis=0)
        idx0 = np.arange(len(best1))
        scores = np.clip(correlation[idx0, best1], 0, 1)
        kept = (best0[best1] == idx0) & (scores >= self.config.min_correlation)
        indices = np.stack([idx0[kept], best1[kept]], axis=1).astype(np.int32)
        return Matches(indices, scores[kept].astype(np.float32))

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Match several pairs, one after the other."""
        return [self.match(features0, features1) for features0, features1 in pairs]
