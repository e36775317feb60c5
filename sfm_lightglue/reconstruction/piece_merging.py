"""New pairs between the models of a scene, so that those of one place can be merged."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.retrieval.similar_images import SimilarImages
from sfm_lightglue.stages.added_pairs import AddedPair, AddedPairs
from sfm_lightglue.stages.hard_pairs import AS_THEY_ARE, MORE_KEYPOINTS, HardPairs
from sfm_lightglue.stages.pair_plan import PairPlan
from sfm_lightglue.types import ImagePair

MAX_MODELS = 5
"""Models, the largest ones, between which pairs are asked for."""

_NUM_WITH_MORE = 3
"""Pairs of two models that are matched with more keypoints if they do not match as they are."""

_ENOUGH_PAIRS = 4
"""Verified pairs between two models after which no more are asked for."""

_MAX_PER_IMAGE = 2
"""Pairs of an image with one other model: pairs of different images tell more."""

_NUM_NEAR = 3
"""Most similar images of the other model that are considered for each image."""


@dataclass(frozen=True, eq=False, slots=True)
class PiecePairs:
    """Asks for pairs between models.

    Args:
        hard: matches them.
        similar: global descriptors of the scene.
        plan: only pairs that may be matched are asked for.
        verified: pairs that are verified already, kept or not.
        apart: those of them that take no part because they may show places that look alike.
        position_m_from_name: known positions [3] of images in metres; of two images with positions, the nearest ones
            are asked for first.
        max_pairs: largest number of pairs between two models.
        executor: works on several pairs of models at a time.
    """

    hard: HardPairs
    similar: SimilarImages
    plan: PairPlan
    verified: Collection[ImagePair]
    apart: Collection[ImagePair]
    position_m_from_name: Mapping[str, Float64Array]
    max_pairs: int
    executor: Executor = SERIAL

    def find(self, published: Sequence[JudgedModel]) -> AddedPairs:
        """Verified pairs between models; none between models that were kept apart because they look alike.

        Args:
            published: the models, the largest first.
        """
        sides = [registered_names(each) for each in published[:MAX_MODELS]]
        chosen = [
            (sides[i], sides[k])
            for i, k in combinations(range(len(sides)), 2)
            if not self._look_alike(sides[i], sides[k])
        ]
        pairs: dict[ImagePair, AddedPair] = {}
        for found in self.executor.map(lambda item: self._between(*item), chosen):
            pairs |= found
        return AddedPairs(dict(sorted(pairs.items())))

    def candidates(self, names0: Collection[str], names1: Collection[str]) -> list[ImagePair]:
        """Pairs of images of two sets that are probably of one place, the most probable first."""
        row_from_name = {name: row for row, name in enumerate(self.similar.names)}
        rows0, rows1 = (
            [row_from_name[name] for name in sorted(names) if name in row_from_name] for names in (names0, names1)
        )
        nearest, similarity = self.similar.between(rows0, np.array(rows1, np.int64), _NUM_NEAR)
        found: dict[ImagePair, float] = {}
        for row, others, values in zip(rows0, nearest.tolist(), similarity.tolist(), strict=True):
            for other, value in zip(others, values, strict=True):
                if other >= 0 and other != row:
                    found[ImagePair.from_names(self.similar.names[row], self.similar.names[other])] = value
        allowed = [pair for pair in found if pair not in self.verified and self.plan.allows(pair)]
        by_similarity = sorted(allowed, key=lambda pair: (-found[pair], pair))
        rank = {pair: number for number, pair in enumerate(by_similarity)}
        distances = {pair: self._distance_m(pair) for pair in allowed}
        if all(np.isfinite(value) for value in distances.values()):
            for number, pair in enumerate(sorted(allowed, key=lambda each: (distances[each], each))):
                rank[pair] += number
        return _spread(sorted(allowed, key=lambda pair: (rank[pair], pair)))[: self.max_pairs]

    def _distance_m(self, pair: ImagePair) -> float:
        both = [self.position_m_from_name.get(name) for name in (pair.name0, pair.name1)]
        if both[0] is None or both[1] is None:
            return np.inf
        return float(np.linalg.norm(both[0][:2] - both[1][:2]))

    def _look_alike(self, names0: Collection[str], names1: Collection[str]) -> bool:
        """Whether verified pairs between two models take no part because they may show places that look alike."""
        names = [(pair.name0, pair.name1) for pair in self.apart]
        return any((a in names0 and b in names1) or (b in names0 and a in names1) for a, b in names)

    def _between(self, names0: Collection[str], names1: Collection[str]) -> dict[ImagePair, AddedPair]:
        found: dict[ImagePair, AddedPair] = {}
        asked = self.candidates(names0, names1)
        for attempt, pairs in ((AS_THEY_ARE, asked), (MORE_KEYPOINTS, asked[:_NUM_WITH_MORE])):
            for pair in pairs:
                if len(found) >= _ENOUGH_PAIRS:
                    return found
                added = None if pair in found else self.hard.match(pair.name0, pair.name1, attempt).ordinary
                if added is not None:
                    found[pair] = added
        return found


def registered_names(judged: JudgedModel) -> frozenset[str]:
    """The images with a pose in a model."""
    return frozenset(name for name, image in judged.verdict.images.items() if image.status == "registered")


def _spread(pairs: Sequence[ImagePair]) -> list[ImagePair]:
    """The pairs in their order, without those of images that have enough earlier ones."""
    count: dict[str, int] = {}
    chosen = []
    for pair in pairs:
        if max(count.get(pair.name0, 0), count.get(pair.name1, 0)) < _MAX_PER_IMAGE:
            chosen.append(pair)
            for name in (pair.name0, pair.name1):
                count[name] = count.get(name, 0) + 1
    return chosen
