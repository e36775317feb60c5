"""Images that no model has: their pairs, and those of their partners, are matched with more of their keypoints.

An image comes into a model by the points that its matches see. So the matches of its partners with other images, which
give these points, help it as much as its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, reporting, silent
from sfm_lightglue.stages.added_pairs import AddedPair, AddedPairs
from sfm_lightglue.stages.cached import CachedMatcher, CachedVerifier
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.pair_plan import PairPlan
from sfm_lightglue.stages.thorough_matcher import ThoroughMatcher
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import Camera, ImagePair, TwoViewGeometry

THOROUGHLY = "matched thoroughly"
"""What was tried, for users."""

_MOST_OWN = 8
"""Pairs of an image that are matched thoroughly, those with the most expected matches first."""

_NUM_PARTNERS, _MOST_OF_PARTNER = 3, 4
"""Partners of an image, those with the most inliers, and the pairs of each."""


@dataclass(frozen=True, eq=False, slots=True)
class ThoroughChance:
    """Matches a few pairs thoroughly, with the ordinary keypoints. Everything that is computed is kept in the store.

    Args:
        features: of the scene.
        camera_from_name: intrinsics.
        matcher: takes over the pairs that stay the same.
        verifier: with the store.
        store: keeps the matches.
        plan: only pairs that may be matched are.
        verified: number of inliers of the verified pairs that take part in mapping, by pair.
        barred: verified pairs that do not.
        executor: works on several pairs at a time.
        progress: called with "retry" after each pair.
    """

    features: SceneFeatures
    camera_from_name: Mapping[str, Camera]
    matcher: ThoroughMatcher
    verifier: CachedVerifier
    store: Store
    plan: PairPlan
    verified: Mapping[ImagePair, int]
    barred: Collection[ImagePair]
    executor: Executor = SERIAL
    progress: Progress = silent

    def help(self, names: Sequence[str], registered: Iterable[str]) -> AddedPairs:
        """The pairs that get more inliers than they had.

        Args:
            names: images that no model has.
            registered: images of published models.
        """
        known = frozenset(registered)
        partners = _partners(self.verified)
        pairs_from_name = {name: self._pairs_of(name, known, partners) for name in sorted(names)}
        pairs = sorted({pair for found in pairs_from_name.values() for pair in found})
        results = reporting(self.executor.map(self._matched, pairs), "retry", len(pairs), self.progress)
        added = {pair: found for pair, found in zip(pairs, results, strict=True) if found is not None}
        return AddedPairs(added, {name: (THOROUGHLY,) for name, found in pairs_from_name.items() if found})

    def _pairs_of(
        self, name: str, registered: frozenset[str], partners: Mapping[str, Mapping[str, int]]
    ) -> list[ImagePair]:
        """The pairs that may help an image."""
        own = [ImagePair.from_names(name, other) for other in registered]
        found = self._unsettled((pair for pair in own if self.plan.allows(pair)), _MOST_OWN)
        inliers = partners.get(name, {})
        best = sorted(inliers.keys() & registered, key=lambda one: (-inliers[one], one))[:_NUM_PARTNERS]
        for partner in best:
            inside = partners[partner].keys() & registered
            found += self._unsettled((ImagePair.from_names(partner, other) for other in inside), _MOST_OF_PARTNER)
        return found

    def _unsettled(self, pairs: Iterable[ImagePair], limit: int) -> list[ImagePair]:
        """The pairs that the matcher matches with more keypoints, those with the most expected matches first."""
        expected = {}
        for pair in pairs:
            if pair in self.barred:
                continue
            both = (self.features.keypoints_of(name) for name in (pair.name0, pair.name1))
            matches = self.matcher.unsettled(*both)
            if matches is not None:
                expected[pair] = float(matches.scores.sum())
        return sorted(expected, key=lambda pair: (-expected[pair], pair))[:limit]

    def _matched(self, pair: ImagePair) -> AddedPair | None:
        both = self.features[pair.name0], self.features[pair.name1]
        cameras = self.camera_from_name[pair.name0], self.camera_from_name[pair.name1]
        matches = CachedMatcher(self.matcher, self.store).match(*both)
        geometry = self.verifier.verify(pair, both, matches, cameras)
        if not isinstance(geometry, TwoViewGeometry) or geometry.kind == "pure_rotation":
            return None
        return (matches, geometry) if geometry.num_inliers > self.verified.get(pair, 0) else None


def _partners(verified: Mapping[ImagePair, int]) -> dict[str, dict[str, int]]:
    """By image, the images that it has verified pairs with, and their numbers of inliers."""
    partners: dict[str, dict[str, int]] = {}
    for pair, num in verified.items():
        partners.setdefault(pair.name0, {})[pair.name1] = num
        partners.setdefault(pair.name1, {})[pair.name0] = num
    return partners
