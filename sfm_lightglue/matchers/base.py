"""The protocol of matchers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sfm_lightglue.identity import Identity
from sfm_lightglue.types import Features, Matches


class Matcher(Protocol):
    """Finds correspondences. Safe to call from several threads."""

    @property
    def identity(self) -> Identity:
        """Name, configuration and weights; part of the keys of the store."""

    @property
    def batch_size(self) -> int:
        """Number of pairs per call of `match_batch` that is fastest."""

    def match(self, features0: Features, features1: Features) -> Matches:
        """Matches of one pair, in the order of the first image's features.

        Raises:
            ConfigError: the matcher does not support these descriptors.
        """

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of several pairs: equal to those of `match` for each pair, possibly faster."""


class PreparedMatcher(Matcher, Protocol):
    """A `Matcher` that loads something at its first pair. Others need not have this method."""

    def prepare(self) -> None:
        """Load it now.

        Raises:
            SfmError: it cannot be loaded; the first pair raises the same.
        """
