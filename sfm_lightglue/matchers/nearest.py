"""Mutual nearest neighbours in descriptor space, with Lowe's ratio test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float32Array, IndexArray
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.identity import Identity
from sfm_lightglue.types import Features, Matches

_ROWS_AT_A_TIME = 4096


@dataclass(frozen=True, slots=True)
class NearestConfig:
    """Options of the nearest-neighbour matcher."""

    ratio: float = 0.8
    """Largest ratio of the distances to the nearest and the second nearest descriptor; 1 switches the test off."""

    mutual: bool = True
    """Keep only matches whose features are mutual nearest neighbours."""

    max_distance: float = 0.9
    """Largest distance of two unit-length descriptors, between 0 and 2; 2 switches the test off."""

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            raise ConfigError(f"`matcher.ratio` must lie in (0, 1], got {self.ratio}")
        if not 0 < self.max_distance <= 2:
            raise ConfigError(f"`matcher.max_distance` must lie in (0, 2], got {self.max_distance}")


class NearestMatcher:
    """Nearest neighbours by the distance of L2-normalised descriptors.

    Source: Lowe, Distinctive image features from scale-invariant keypoints, 2004, section 7.1.
    """

    def __init__(self, config: NearestConfig | None = None) -> None:
        self.config = config or NearestConfig()

    @property
    def identity(self) -> Identity:
        """Name and configuration."""
        return Identity("nearest", 2, self.config)

    @property
    def batch_size(self) -> int:
        """One: larger batches are not faster."""
        return 1

    def match(self, features0: Features, features1: Features) -> Matches:
        """Matches with score 1 - distance / 2, in the order of the first image's features."""
        if not len(features0) or not len(features1):
            return Matches.empty()
        descriptors0, descriptors1 = _unit(features0.descriptors), _unit(features1.descriptors)
        if descriptors0.shape[1] != descriptors1.shape[1]:
            raise ConfigError(
                f"matcher nearest: descriptors of {descriptors0.shape[1]} and of {descriptors1.shape[1]} dimensions"
                " cannot be compared"
            )
        nearest1, best, second = _nearest_two(descriptors0, descriptors1)
        kept = np.ones(len(best), dtype=np.bool_)
        if self.config.ratio < 1:
            kept &= best < self.config.ratio * second
        if self.config.max_distance < 2:
            kept &= best <= self.config.max_distance
        idx0 = np.flatnonzero(kept)
        if self.config.mutual:
            idx0 = self._mutual(idx0, nearest1, descriptors0, descriptors1)
        else:
            idx0 = _one_for_each(idx0, nearest1, best)
        indices = np.stack([idx0, nearest1[idx0]], axis=1).astype(np.int32)
        # From the differences, not the dot products: those round differently for swapped images and other numbers of
        # threads, and the square root turns that into errors of 3e-4 near distance 0.
        distances = np.linalg.norm(descriptors0[indices[:, 0]] - descriptors1[indices[:, 1]], axis=1)
        return Matches(indices, np.clip(1 - distances / 2, 0, 1).astype(np.float32))

    def _mutual(
        self,
        idx0: IndexArray,
        nearest1: IndexArray,
        descriptors0: Float32Array,
        descriptors1: Float32Array,
    ) -> IndexArray:
        """The candidates that are mutual nearest neighbours, and pass the ratio test in the other direction too."""
        idx1 = np.unique(nearest1[idx0])
        nearest0, best, second = _nearest_two(descriptors1[idx1], descriptors0)
        if self.config.ratio < 1:
            nearest0 = np.where(best < self.config.ratio * second, nearest0, -1)
        position = np.searchsorted(idx1, nearest1[idx0])
        mutual: IndexArray = idx0[nearest0[position] == idx0]
        return mutual

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of several pairs, one after the other."""
        return [self.match(features0, features1) for features0, features1 in pairs]


def _unit(descriptors: Float32Array) -> Float32Array:
    norms = np.linalg.norm(descriptors, axis=1, keepdims=True)
    unit: Float32Array = descriptors / np.maximum(norms, np.float32(1e-12))
    return unit


def _nearest_two(queries: Float32Array, targets: Float32Array) -> tuple[IndexArray, Float32Array, Float32Array]:
    """Index of the nearest target, and distances of the two nearest, [Q] each; infinity if there is only one."""
    nearest = np.empty(len(queries), dtype=np.int64)
    similarities = np.full((2, len(queries)), -np.inf, dtype=np.float32)
    for start in range(0, len(queries), _ROWS_AT_A_TIME):
        block = queries[start : start + _ROWS_AT_A_TIME] @ targets.T
        rows = np.arange(len(block))
        span = slice(start, start + len(block))
        nearest[span] = block.argmax(axis=1)
        similarities[0, span] = block[rows, nearest[span]]
        block[rows, nearest[span]] = -np.inf
        similarities[1, span] = block.max(axis=1)
    best, second = np.sqrt(np.maximum(2 - 2 * similarities, 0))
    return nearest, best, second


def _one_for_each(idx0: IndexArray, nearest1: IndexArray, best: Float32Array) -> IndexArray:
    """One candidate for each feature of image 1: the one with the smallest distance."""
    order = idx0[np.lexsort((idx0, best[idx0], nearest1[idx0]))]
    first = np.concatenate([[True], np.diff(nearest1[order]) != 0]) if len(order) else np.zeros(0, np.bool_)
    return np.sort(order[first])
