"""Each image with the images that look most alike."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float32Array, IndexArray, Int32Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.pair_sets import IndexedPairs
from sfm_lightglue.retrieval.describe import describe_scene
from sfm_lightglue.retrieval.similar_images import SimilarImages
from sfm_lightglue.types import Scene

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetrievalConfig:
    """Options of the pairs of similar images."""

    num_neighbors: int = 10
    """Each image is matched with at most this many of the images that look most alike; an image that is among the most
    similar ones of many others gets more pairs."""

    min_neighbors: int = 4
    """Each image keeps at least this many, even if they look no more alike than images of different places do."""

    def __post_init__(self) -> None:
        if self.num_neighbors < 1 or self.min_neighbors < 1:
            raise ConfigError("`pairs.num_neighbors` and `pairs.min_neighbors` must be positive")


class RetrievalPairs:
    """The most similar images of each image, without those that are far less similar than is usual in the scene.

    Images are compared by global descriptors, and the most similar ones by matches of their largest keypoints that
    agree in both directions. Images without keypoints get no pairs.
    """

    def __init__(self, config: RetrievalConfig | None = None) -> None:
        self.config = config or RetrievalConfig()

    def check(self, scene: Scene) -> None:
        """Every scene can be used."""

    def num_pairs(self, scene: Scene) -> int:
        """The largest possible number of pairs."""
        num = len(scene.images)
        return min(num * self.config.num_neighbors, num * (num - 1) // 2)

    def select(self, context: PairContext) -> IndexedPairs:
        """The pairs, sorted."""
        similar = describe_scene(context.features, context.store, context.executor, context.progress)
        rows = likely_rows(similar, self.config)
        logger.debug("%d pairs of similar images among %d", len(rows), len(similar))
        return IndexedPairs.from_rows(similar.names, rows).among_names(context.scene.names)


def likely_rows(similar: SimilarImages, config: RetrievalConfig) -> IndexArray:
    """Pairs [P, 2] of images that look alike, as indices, in any order, possibly repeated and swapped.

    Args:
        similar: the images.
        config: how many.
    """
    found, similarity = similar.nearest(config.num_neighbors)
    is_kept = similarity >= max(_NO_MATCH, _least_similarity(similar, found, similarity))
    is_kept[:, : config.min_neighbors] = True
    rows, columns = np.nonzero(is_kept & (found >= 0))
    return np.stack((rows, found[rows, columns].astype(np.int64)), axis=1)


_NO_MATCH = 0.003
"""Images without any match among their 128 largest keypoints have a lower similarity."""

_USUAL_RANK = 3
"""Most images of a scene have at least so many neighbours that see the same."""

_FRACTION_OF_USUAL = 0.25
"""Pairs with this fraction of the similarity of such neighbours are kept in any case."""

_NUM_RANDOM = 1000
_RANDOM_QUANTILE = 0.75


def _least_similarity(similar: SimilarImages, found: Int32Array, similarity: Float32Array) -> float:
    """Pairs of lower similarity are left out: that of most pairs of images that are not each other's neighbours.

    Where all images of a scene see the same, such pairs are similar too. The limit is therefore at most a fraction of
    the similarity that the third neighbours of the images have.
    """
    others = _random_similarities(similar, found)
    if similarity.shape[1] < _USUAL_RANK or len(others) == 0:
        return -np.inf
    usual = float(np.median(similarity[:, _USUAL_RANK - 1]))
    return min(float(np.quantile(others, _RANDOM_QUANTILE)), _FRACTION_OF_USUAL * usual)


def _random_similarities(similar: SimilarImages, found: Int32Array) -> Float32Array:
    """Similarities of at most 1,000 pairs of images that are not neighbours."""
    num = len(similar)
    if num < 2:
        return np.zeros(0, np.float32)
    rows = np.random.default_rng(0).integers(0, num, (_NUM_RANDOM, 2))
    is_neighbor = (found[rows[:, 0]] == rows[:, 1:]).any(axis=1) | (found[rows[:, 1]] == rows[:, :1]).any(axis=1)
    return similar.similarity(rows[~is_neighbor & (rows[:, 0] != rows[:, 1])])
