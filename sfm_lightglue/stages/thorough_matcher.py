"""A matcher that takes over what a quicker one has settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sfm_lightglue.identity import Identity
from sfm_lightglue.matchers.lightglue import LightGlueMatcher
from sfm_lightglue.stages.cached import CachedMatcher
from sfm_lightglue.stages.keypoints import HasKeypoints
from sfm_lightglue.types import Features, Matches


class ThoroughMatcher:
    """Matches as a LightGlue in two steps does, but computes only the pairs that a quicker one ended early.

    Args:
        thorough: matches more pairs with more than their first keypoints.
        quick: the same network with other limits, and the store that has its matches.
    """

    def __init__(self, thorough: LightGlueMatcher, quick: CachedMatcher) -> None:
        self._thorough = thorough
        self._quick = quick

    @property
    def identity(self) -> Identity:
        """That of the thorough matcher: the matches are the same."""
        return self._thorough.identity

    @property
    def batch_size(self) -> int:
        """That of the thorough matcher."""
        return self._thorough.batch_size

    def prepare(self) -> None:
        """Load the network now, see `PreparedMatcher`."""
        self._thorough.prepare()

    def match(self, features0: Features, features1: Features) -> Matches:
        """Matches of one pair, in the order of the first image's features."""
        return self.match_batch([(features0, features1)])[0]

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of several pairs; those that stay the same are read from the store."""
        known = [self._settled(*pair) for pair in pairs]
        computed = iter(
            self._thorough.match_batch([pair for pair, found in zip(pairs, known, strict=True) if found is None])
        )
        return [next(computed) if found is None else found for found in known]

    def unsettled(self, keypoints0: HasKeypoints, keypoints1: HasKeypoints) -> Matches | None:
        """The matches of the quicker matcher, if the store has them and this one would match more keypoints."""
        found = self._quick.read(keypoints0, keypoints1)
        return found if found is not None and self._thorough.may_have_more(found) else None

    def _settled(self, features0: Features, features1: Features) -> Matches | None:
        """The matches of the quicker matcher, if this one has the same; else None."""
        found = self._quick.read(features0, features1)
        return None if found is None or self._thorough.may_have_more(found) else replace(found, key="")
