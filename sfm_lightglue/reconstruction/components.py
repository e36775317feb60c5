"""The components that the jobs over a scene have in common."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.pairs.base import PairSelector
from sfm_lightglue.reconstruction.config import DatabaseConfig
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS, PAIR_SELECTORS


@dataclass(frozen=True, slots=True)
class Components:
    """The components of a configuration, ready for use."""

    extractor: Extractor
    matcher: Matcher
    pairs: PairSelector


def build_components(config: DatabaseConfig) -> Components:
    """Build extractor, matcher and pair selector.

    Raises:
        ConfigError: if an option cannot be used on this machine.
        WeightsError: if the weights of a network are missing.
    """
    return Components(
        EXTRACTORS.build(config.extractor, config.device),
        MATCHERS.build(config.matcher, config.device),
        PAIR_SELECTORS.build(config.pairs),
    )
