"""The pairs of a scene that are matched: those that were selected, then those that verified pairs suggest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sfm_lightglue.pairs.base import ExcludesPairs, ExplainsChoice, PairContext, PairSelector
from sfm_lightglue.pairs.pair_sets import AllPairs, IndexedPairs, pairs_digest
from sfm_lightglue.pairs.transitive import TransitiveConfig
from sfm_lightglue.retrieval.closer_look import CLOSER_LOOK_VERSION
from sfm_lightglue.retrieval.describe import DESCRIBE_VERSION
from sfm_lightglue.types import ImagePair, Scene

logger = logging.getLogger(__name__)

_GUESSING = {"auto", "covisibility", "retrieval", "sequential", "spatial"}
"""Names of selectors that choose pairs which probably overlap, so that verified ones can suggest more. The others, a
list of pairs or a plug-in, select exactly the pairs that are wanted."""

_NO_ROUNDS = TransitiveConfig(rounds=0)


@dataclass(frozen=True, eq=False, slots=True)
class PairPlan:
    """Which pairs of a scene are matched.

    Args:
        pairs: of the first round.
        transitive: limits of the rounds after it.
        excluded: pairs that are never matched.
        chosen: what was selected and why, in one line.
    """

    pairs: Sequence[ImagePair]
    transitive: TransitiveConfig = _NO_ROUNDS
    excluded: Sequence[ImagePair] = ()
    chosen: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether the selected pairs are the only ones that are matched."""
        return self.transitive.rounds == 0 and not isinstance(self.pairs, AllPairs)

    def allows(self, pair: ImagePair) -> bool:
        """Whether a pair may be matched: in the first round, or in one of the others."""
        if self.is_exact:
            return pair in self.pairs
        return pair not in self.excluded

    def with_pairs(self, pairs: Sequence[ImagePair], scene: Scene) -> PairPlan:
        """This plan with further pairs of a scene in the first round."""
        added = [pair for pair in pairs if pair not in self.pairs] if pairs else []
        if not added:
            return self
        return replace(self, pairs=IndexedPairs.from_pairs(scene.names, self.pairs).union(added))

    @property
    def identity(self) -> tuple[object, ...]:
        """What the pairs that are matched depend on, apart from the images; part of the key of models."""
        digest = pairs_digest(self.pairs)
        if self.transitive.rounds == 0:
            return (digest,)
        versions = TRANSITIVE_VERSION, DESCRIBE_VERSION, CLOSER_LOOK_VERSION
        return digest, self.transitive, pairs_digest(self.excluded), *versions


TRANSITIVE_VERSION = 2
"""Number to raise when a change of the code suggests other pairs."""


def plan_pairs(selector: PairSelector, name: str, context: PairContext, transitive: TransitiveConfig) -> PairPlan:
    """Select the pairs of a scene.

    Args:
        selector: of the job.
        name: of the selector, or several names joined by "+".
        context: the scene and its features.
        transitive: limits of the rounds after the first one. All pairs, pairs from a file and those of plug-ins have no
            further rounds.

    Raises:
        DataError: if the selector's input cannot be used for this scene.
    """
    pairs = selector.select(context)
    excluded = selector.excluded(context.scene) if isinstance(selector, ExcludesPairs) else ()
    explanation = selector.explanation if isinstance(selector, ExplainsChoice) else ""
    if explanation and not isinstance(pairs, AllPairs):
        logger.info("%d pairs, %s", len(pairs), explanation)
    num_images = len(context.scene.images)
    asks_all = len(pairs) + len(excluded) >= num_images * (num_images - 1) // 2
    is_complete = asks_all or _GUESSING.isdisjoint(name.split("+"))
    return PairPlan(pairs, _NO_ROUNDS if is_complete else transitive, excluded, explanation or name)
