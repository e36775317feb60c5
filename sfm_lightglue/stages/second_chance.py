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

SECOND_CHANCE_VERSION = 1
"""Number to raise when a change of the code helps other images, or with other pairs."""

_ENOUGH_PAIRS, _ENOUGH_INLIERS = 2, 120
"""Verified pairs of an image, and their inliers together, after which nothing else is tried."""

_MAX_FOLLOWING = 4
"""Further partners of an image, those that share points with the ones that it matched."""

_MIN_GAIN = 1.5
"""A pair that was verified before must get so many times its inliers."""


@dataclass(frozen=True, slots=True)
class SecondChanceConfig:
    """Options of the second chance for images that are in no model, and of new pairs between models.

    Example:
        >>> sfm_lightglue.SecondChanceConfig(max_images=0).max_images
        0
    """

    max_images: int = 50
    """Largest number of images that are helped; 0 helps none. The time grows with it."""

    num_partners: int = 3
    """Number of registered images, the most similar ones, with which each attempt is made."""

    max_pairs_between: int = 8
    """Largest number of pairs that are asked for between two models, so that they can be merged; 0 asks for none."""

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
        results = reporting(helped, "retry", len(chosen), self.progress)
        for name, (found, texts) in zip(chosen, results, strict=True):
            pairs |= found
            tried[name] = texts
        num_left = len(names) - len(chosen)
        notes = (f"{num_left} images that are left over got no second chance: `second_chance.max_images`",)
        return AddedPairs(dict(sorted(pairs.items())), tried, notes if num_left > 0 else ())

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

    def _helped(
        self, name: str, partners: Sequence[str], registered: frozenset[str]
    ) -> tuple[dict[ImagePair, AddedPair], tuple[str, ...]]:
        """The pairs that attempts found for an image, and what was tried."""
        found: dict[ImagePair, AddedPair] = {}
        tried = []
        for attempt in ATTEMPTS if partners else ():
            if not self.hard.can_try(attempt):
                tried.append(f"{attempt.text} (not installed)")
                continue
            tried.append(attempt.text)
            succeeded = self._matched(name, partners, attempt, found)
            if succeeded:
                votes: dict[str, int] = {}
                for partner in succeeded:
                    for other, num in self.shared(partner).items():
                        votes[other] = votes.get(other, 0) + num
                others = sorted(votes.keys() & registered - set(partners), key=lambda one: (-votes[one], one))
                allowed = [one for one in others if self.plan.allows(ImagePair.from_names(name, one))]
                self._matched(name, allowed[:_MAX_FOLLOWING], attempt, found)
            num_inliers = sum(geometry.num_inliers for _, geometry in found.values())
            if len(found) >= _ENOUGH_PAIRS and num_inliers >= _ENOUGH_INLIERS:
                break
        return found, tuple(tried)

    def _matched(
        self, name: str, partners: Sequence[str], attempt: Attempt, found: dict[ImagePair, AddedPair]
    ) -> list[str]:
        """Make an attempt with several images; better pairs than before are added to those that were found."""
        succeeded = []
        for partner in partners:
            added = self.hard.match(name, partner, attempt)
            if added is None:
                continue
            pair = ImagePair.from_names(name, partner)
            before = found[pair][1].num_inliers if pair in found else _MIN_GAIN * self.verified.get(pair, 0)
            if added[1].num_inliers > before:
                found[pair] = added
                succeeded.append(partner)
        return succeeded


def _other(pair: ImagePair, name: str) -> str:
    return pair.name1 if pair.name0 == name else pair.name0
