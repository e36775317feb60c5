"""A second chance for the images that no model has: harder attempts with their most similar registered images.

What is tried is in proportion to the number of these images; a scene without any costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, reporting, silent
from sfm_lightglue.retrieval.similar_images import SimilarImages
from sfm_lightglue.stages.added_pairs import AddedPair, AddedPairs
from sfm_lightglue.stages.hard_pairs import ATTEMPTS, Attempt, HardPairs
from sfm_lightglue.stages.pair_plan import PairPlan
from sfm_lightglue.types import ImagePair

SECOND_CHANCE_VERSION = 3
"""Number to raise when a change of the code helps other images, or with other pairs."""

_ENOUGH_PAIRS, _ENOUGH_INLIERS = 2, 120
"""Verified pairs of an image, and their inliers together, after which nothing else is tried."""

_MAX_FOLLOWING = 4
"""Further partners of an image, those that share points with the ones that it matched."""

_MIN_GAIN = 1.5
"""A pair that was verified before must get so many times its inliers."""


@dataclass(frozen=True, slots=True)
class SecondChanceConfig:
    """Options of the second chance for images that are in no model, and of new pairs between models."""

    max_images: int = 50
    """Largest number of images that are helped; 0 helps none. The time grows with it."""

    num_partners: int = 3
    """Number of registered images, the most similar ones, with which each attempt is made."""

    max_pairs_between: int = 8
    """Largest number of pairs that are asked for between two models, so that they can be merged. 0 asks for none,
    and also switches off the search for joint hypotheses: no models are joined by what all images of one say about
    its position in the other."""

    def __post_init__(self) -> None:
        if self.max_images < 0 or self.max_pairs_between < 0:
            raise ConfigError("`second_chance.max_images` and `max_pairs_between` must not be negative")
        if self.num_partners < 1:
            raise ConfigError(f"`second_chance.num_partners` must be positive, got {self.num_partners}")


@dataclass(frozen=True, eq=False, slots=True)
class SecondChance:
    """Finds verified pairs of images that are left over.

    Args:
        hard: makes attempts.
        similar: global descriptors of the scene.
        plan: an image is matched with images only that it could be paired with.
        verified: number of inliers of the verified pairs, by pair.
        shared: for a registered image, numbers of points that it shares with others, by name.
        config: limits.
        executor: works on several images at a time.
        progress: called with "retry" after each image.
    """

    hard: HardPairs
    similar: SimilarImages
    plan: PairPlan
    verified: Mapping[ImagePair, int]
    shared: Callable[[str], Mapping[str, int]]
    config: SecondChanceConfig
    executor: Executor = SERIAL
    progress: Progress = silent

    def help(self, names: Sequence[str], registered: Iterable[str]) -> AddedPairs:
        """Try to match images with registered ones.

        Args:
            names: images that no model has.
            registered: images of published models.
        """
        known = frozenset(registered)
        chosen = sorted(names)[: self.config.max_images]
        partners = [self._partners(name, known) for name in chosen]
        helped = self.executor.map(lambda item: self._helped(*item, known), zip(chosen, partners, strict=True))
        pairs: dict[ImagePair, AddedPair] = {}
        tried: dict[str, tuple[str, ...]] = {}
        altered: dict[str, str] = {}
        results = reporting(helped, "retry", len(chosen), self.progress)
        for name, help_of in zip(chosen, results, strict=True):
            pairs |= help_of.pairs
            tried[name] = help_of.tried
            if help_of.altered:
                altered[name] = help_of.altered
        num_left = len(names) - len(chosen)
        notes = (f"{num_left} images that are left over got no second chance: `second_chance.max_images`",)
        return AddedPairs(dict(sorted(pairs.items())), tried, notes if num_left > 0 else (), altered)

    def _partners(self, name: str, registered: frozenset[str]) -> list[str]:
        """Registered images that an image may see: its verified partners, then the most similar ones."""
        inliers = {_other(pair, name): num for pair, num in self.verified.items() if name in (pair.name0, pair.name1)}
        found = sorted(inliers.keys() & registered, key=lambda one: (-inliers[one], one))
        row_from_name = {one: row for row, one in enumerate(self.similar.names)}
        if name in row_from_name:
            rows = [row_from_name[one] for one in sorted(registered & row_from_name.keys())]
            num = self.config.num_partners + (len(rows) if self.plan.is_exact else len(self.plan.excluded))
            nearest, _ = self.similar.between([row_from_name[name]], np.array(rows, np.int64), num)
            found += [self.similar.names[row] for row in nearest[0].tolist() if row >= 0]
        allowed = (one for one in dict.fromkeys(found) if self.plan.allows(ImagePair.from_names(name, one)))
        return list(islice(allowed, self.config.num_partners))

    def _helped(self, name: str, partners: Sequence[str], registered: frozenset[str]) -> _Help:
        """The pairs that attempts found for an image, and what was tried."""
        inliers = {pair: num for pair, num in self.verified.items() if name in (pair.name0, pair.name1)}
        ordinary, replacing = _Found(inliers), _Found({})
        altered, tried = "", []
        for attempt in ATTEMPTS if partners else ():
            if not self.hard.can_try(attempt):
                tried.append(f"{attempt.text} (not installed)")
                continue
            tried.append(attempt.text)
            direct = _Found({})
            succeeded = self._matched(name, partners, attempt, ordinary, direct)
            if succeeded:
                self._matched(
                    name, self._following(name, succeeded, registered - {*partners}), attempt, ordinary, direct
                )
            if direct.num_inliers > replacing.num_inliers:
                replacing, altered = direct, attempt.text
            if ordinary.is_enough or replacing.is_enough:
                break
        before = max(ordinary.num_inliers, sum(inliers.values()))
        if not ordinary.is_enough and replacing.num_inliers > _MIN_GAIN * before:
            return _Help(replacing.pairs, tuple(tried), altered)
        return _Help(ordinary.pairs, tuple(tried))

    def _following(self, name: str, succeeded: Sequence[str], registered: frozenset[str]) -> list[str]:
        """Registered images that share the most points with those that an image matched."""
        votes: dict[str, int] = {}
        for partner in succeeded:
            for other, num in self.shared(partner).items():
                votes[other] = votes.get(other, 0) + num
        others = sorted(votes.keys() & registered, key=lambda one: (-votes[one], one))
        return [one for one in others if self.plan.allows(ImagePair.from_names(name, one))][:_MAX_FOLLOWING]

    def _matched(
        self, name: str, partners: Sequence[str], attempt: Attempt, ordinary: _Found, direct: _Found
    ) -> list[str]:
        """Make an attempt with several images, and keep what is better than before."""
        succeeded = []
        for partner in partners:
            found, pair = self.hard.match(name, partner, attempt), ImagePair.from_names(name, partner)
            if ordinary.add(pair, found.ordinary) | direct.add(pair, found.direct):
                succeeded.append(partner)
        return succeeded


@dataclass(frozen=True, slots=True)
class _Help:
    """Pairs that were found for an image, what was tried, and the attempt whose features replace the ordinary ones."""

    pairs: dict[ImagePair, AddedPair]
    tried: tuple[str, ...]
    altered: str = ""


class _Found:
    """The best pairs of an image so far.

    Args:
        inliers: of pairs that were verified before.
    """

    def __init__(self, inliers: Mapping[ImagePair, int]) -> None:
        self.pairs: dict[ImagePair, AddedPair] = {}
        self._inliers = inliers

    def add(self, pair: ImagePair, added: AddedPair | None) -> bool:
        """Keep a pair if it has more inliers than before, clearly more than when it was verified first."""
        if added is None:
            return False
        before = self.pairs[pair][1].num_inliers if pair in self.pairs else _MIN_GAIN * self._inliers.get(pair, 0)
        is_better = added[1].num_inliers > before
        if is_better:
            self.pairs[pair] = added
        return is_better

    @property
    def num_inliers(self) -> int:
        """Of all pairs together."""
        return sum(geometry.num_inliers for _, geometry in self.pairs.values())

    @property
    def is_enough(self) -> bool:
        """Whether nothing else needs to be tried."""
        return len(self.pairs) >= _ENOUGH_PAIRS and self.num_inliers >= _ENOUGH_INLIERS


def _other(pair: ImagePair, name: str) -> str:
    return pair.name1 if pair.name0 == name else pair.name0
