"""Pairs that were kept apart, and that tell how two models lie to each other after all.

A pair alone cannot tell whether it shows one place or two that look alike. All images of both models together can, if
one position of the models explains them clearly better than all others; see `joint_hypotheses`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.mapping.joint_hypotheses import clear_hypothesis, joint_hypotheses
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.pair_agreement import StoredPair
from sfm_lightglue.reconstruction.piece_merging import MAX_MODELS, registered_names
from sfm_lightglue.stages.added_pairs import AddedPair, AddedPairs
from sfm_lightglue.stages.hard_pairs import HardPairs
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.types import ImagePair, TwoViewGeometry

logger = logging.getLogger(__name__)

_MAX_PAIRS = 100
"""Pairs between two models that are looked at; evenly chosen from more."""


@dataclass(frozen=True, eq=False, slots=True)
class HypothesisPairs:
    """Looks for them between models that were kept apart because they look alike.

    Args:
        hard: matches the ordinary keypoints of pairs and verifies them, with the store.
        weighed: the verified pairs of the scene.
        left_out: pairs that joined places that look alike in a model; they join nothing.
        seed: of random samples.
    """

    hard: HardPairs
    weighed: WeighedPairs
    left_out: frozenset[ImagePair]
    seed: int

    def find(self, published: Sequence[JudgedModel]) -> AddedPairs:
        """The pairs of the position of two models that is clearly better than all others, for each two models.

        Args:
            published: the models, the largest first.
        """
        found: dict[ImagePair, AddedPair] = {}
        for first, second in combinations(published[:MAX_MODELS], 2):
            found |= self._between(first, second)
        return AddedPairs(dict(sorted(found.items())), joining=frozenset(found))

    def _between(self, first: JudgedModel, second: JudgedModel) -> dict[ImagePair, AddedPair]:
        names = registered_names(first), registered_names(second)
        if names[0] & names[1]:  # these are merged by their common images, or contradict each other
            return {}
        weighed = self.weighed
        verified = sorted({*weighed.kept, *weighed.contradicted, *weighed.apart})
        pairs = [pair for pair in verified if _connects(pair, *names)]
        if not any(pair in weighed.apart for pair in pairs):
            return {}
        chosen = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), _MAX_PAIRS)).astype(np.int64)).tolist()
        matched = {pair: found for pair in (pairs[k] for k in chosen) if (found := self._matched(pair)) is not None}
        stored = [self._stored(pair, each) for pair, each in matched.items()]
        hypotheses = joint_hypotheses(first.model, second.model, stored, self._descriptors, self.seed)
        clear = clear_hypothesis(hypotheses)
        sizes = len(names[0]), len(names[1])
        logger.info(
            "models of %d and %d images: %s", *sizes, "; ".join(str(each) for each in hypotheses) or "no position"
        )
        return {} if clear is None else {pair: matched[pair] for pair in clear.pairs if pair not in self.left_out}

    def _matched(self, pair: ImagePair) -> AddedPair | None:
        """The matches and the geometry of a verified pair, as it was weighed."""
        both = self.hard.features[pair.name0], self.hard.features[pair.name1]
        changed = self.weighed.changed.get(pair)
        if changed is None:
            matches = self.hard.matchers.quick.match(*both)
            cameras = self.hard.camera_from_name[pair.name0], self.hard.camera_from_name[pair.name1]
            changed = matches, self.hard.verifier.verify(pair, both, matches, cameras)
        matches, geometry = changed
        if not isinstance(geometry, TwoViewGeometry) or geometry.kind == "pure_rotation":
            return None
        return matches, geometry

    def _stored(self, pair: ImagePair, found: AddedPair) -> StoredPair:
        matches, geometry = found
        rows = np.asarray(matches.indices[geometry.inlier_mask], np.int64)
        points0, points1 = (
            np.asarray(self.hard.features[name].keypoints, np.float64)[rows[:, side]]
            for side, name in enumerate((pair.name0, pair.name1))
        )
        rows0, rows1, pose = rows[:, 0], rows[:, 1], geometry.cam1_from_cam0
        return StoredPair(pair.name0, pair.name1, False, points0, points1, rows0, rows1, pose, 0.0)

    def _descriptors(self, name: str) -> AnyArray:
        return self.hard.features[name].descriptors


def _connects(pair: ImagePair, names0: frozenset[str], names1: frozenset[str]) -> bool:
    return (pair.name0 in names0 and pair.name1 in names1) or (pair.name0 in names1 and pair.name1 in names0)
