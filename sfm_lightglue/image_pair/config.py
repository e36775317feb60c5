"""All options of matching two images in one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sfm_lightglue.registry.components import check_device, check_seed, config_from_tables, default_choice
from sfm_lightglue.registry.fitting_weights import with_fitting_weights
from sfm_lightglue.registry.registry import Choice
from sfm_lightglue.two_view.config import TwoViewConfig


@dataclass(frozen=True, slots=True)
class MatchConfig:
    """How two images are matched, and their relative pose estimated."""

    extractor: Choice = field(default_factory=lambda: default_choice("extractor"))
    """The local features."""

    matcher: Choice = field(default_factory=lambda: default_choice("matcher"))
    """What matches them. A LightGlue without weights gets the weights that fit the extractor."""

    two_view: TwoViewConfig = field(default_factory=TwoViewConfig)
    """Thresholds of two-view geometry."""

    seed: int = 0
    """Of everything random."""

    device: str = "auto"
    """Where networks run: "cpu", "cuda", "cuda:1", or "auto" for CUDA if there is any."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "matcher", with_fitting_weights(self.matcher, self.extractor))
        check_device(self.device)
        check_seed(self.seed)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> MatchConfig:
        """From nested mappings, as a TOML file holds them: tables `extractor`, `matcher`, `two_view`, and values.

        Raises:
            ConfigError: for an unknown table or option (the nearest one is named), or a bad value.
        """
        return config_from_tables(cls, values)
