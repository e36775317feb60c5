"""What every matcher is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sfm_lightglue.identity import Identity
from sfm_lightglue.types import Features, Matches


class Matcher(Protocol):
    """Finds correspondences. Safe to call from several threads."""

    @property
    def identity(self) -> Identity:
        """Name, configuration and weights: part of the store's keys."""

    @property
    def batch_size(self) -> int:
        """How many pairs it is best given at a time."""

    def match(self, features0: Features, features1: Features) -> Matches:
        """Matches of one pair, in the order of the first image's features.

        Raises:
            ConfigError: where the descriptors are not of the kind that the matcher knows.
        """

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of several pairs: the same as of each pair alone, perhaps sooner."""
