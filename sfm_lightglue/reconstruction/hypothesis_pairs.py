"""Pairs that were kept apart, and that tell how two models lie to each other after all.

A pair alone cannot tell whether it shows one place or two that look alike. All images of both models together can, if
one position of the models explains them clearly better than all others; see `joint_hypotheses`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.mapping.joint_evidence import EvidenceSides
from sfm_lightglue.mapping.joint_hypotheses import ClearPosition, clear_hypothesis, joint_hypotheses
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.merging_by_points import joining_note
from sfm_lightglue.mapping.pair_agreement import StoredPair
from sfm_lightglue.reconstruction.piece_merging import MAX_MODELS, registered_names
from sfm_lightglue.stages.added_pairs import AddedPair, AddedPairs
from sfm_lightglue.stages.hard_pairs import HardPairs
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.types import ImagePair, TwoViewGeometry

logger = logging.getLogger(__name__)

_MAX_PAIRS = 100
"""Pairs between two models that are looked at; evenly chosen from more."""

_MAX_IMAGES = 200
"""Largest number of images of a scene that is looked at: all points of two models are compared for each position."""

_NUM_LOGGED = 3
"""Hypotheses of two models that are logged, those of most pairs."""


@dataclass(frozen=True, eq=False, slots=True)
class HypothesisPairs:
    """Looks for them between models that were kept apart because they look alike.

    Args:
        hard: matches the ordinary keypoints of pairs and verifies them, with the store.
        weighed: the verified pairs of the scene.
        distrusted: pairs that joined places that look alike in a model, also those that take part again. A position
            that one of them tells is that of twins.
        seed: of random samples.
    """

    hard: HardPairs
    weighed: WeighedPairs
    distrusted: frozenset[ImagePair]
    seed: int

    def find(self, published: Sequence[JudgedModel]) -> AddedPairs:
        """The pairs of the position of two models that is clearly better than all others.

        The positions of three models are not compared with each other, so only the two models of the clearest one are
        joined.

        Args:
            published: the models, the largest first.
        """
        if len(self.hard.features) > _MAX_IMAGES:
            return AddedPairs()
        sides = EvidenceSides(self._descriptors)
        found = [self._between(first, second, sides) for first, second in combinations(published[:MAX_MODELS], 2)]
        clear = [each for each in found if each is not None]
        if not clear:
            return AddedPairs()
        joining = min(clear, key=lambda each: each.position.rival_ratio)
        pairs = {pair: joining.matched[pair] for pair in joining.position.best.pairs if pair not in self.weighed.kept}
        return AddedPairs(pairs, joining=frozenset(joining.position.best.pairs), joining_note=joining.note)

    def _between(self, first: JudgedModel, second: JudgedModel, sides: EvidenceSides) -> _Joining | None:
        names = registered_names(first), registered_names(second)
        if names[0] & names[1]:  # these are merged by their common images, or contradict each other
            return None
        weighed = self.weighed
        verified = sorted({*weighed.kept, *weighed.contradicted, *weighed.apart})
        pairs = [pair for pair in verified if _connects(pair, *names)]
        if not any(pair in weighed.apart for pair in pairs):
            return None
        chosen = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), _MAX_PAIRS)).astype(np.int64)).tolist()
        asked = sorted({*(pairs[k] for k in chosen), *(pair for pair in pairs if pair in self.distrusted)})
        matched = {pair: found for pair in asked if (found := self._matched(pair)) is not None}
        stored = [self._stored(pair, each) for pair, each in matched.items()]
        hypotheses = joint_hypotheses(first.model, second.model, stored, sides, self.seed)
        told = "; ".join(str(each) for each in hypotheses[:_NUM_LOGGED]) or "no position that could be believed"
        logger.info("models of %d and %d images: %s", len(names[0]), len(names[1]), told)
        clear = clear_hypothesis(hypotheses)
        if clear is None or self.distrusted & {*clear.best.pairs}:
            return None
        return _Joining(clear, matched, (len(names[0]), len(names[1])))

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


@dataclass(frozen=True, eq=False, slots=True)
class _Joining:
    """The clear position of two models, the matched pairs between them, and the numbers of their images."""

    position: ClearPosition
    matched: Mapping[ImagePair, AddedPair]
    sizes: tuple[int, int]

    @property
    def note(self) -> str:
        """For users, if the models are merged."""
        best, rival = self.position.best, self.position.rival
        found, of_rival = (f"{each.num_matched} of {each.num_expected}" for each in (best.evidence, rival.evidence))
        return joining_note(self.sizes, len(best.pairs), found, of_rival)


def _connects(pair: ImagePair, names0: frozenset[str], names1: frozenset[str]) -> bool:
    return (pair.name0 in names0 and pair.name1 in names1) or (pair.name0 in names1 and pair.name1 in names0)
