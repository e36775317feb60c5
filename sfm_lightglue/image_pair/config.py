"""All options of matching two images in one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sfm_lightglue.config import config_from_mapping
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.registry.components import check_device, check_seed, config_from_tables, default_choice
from sfm_lightglue.registry.fitting_weights import with_fitting_weights
from sfm_lightglue.registry.registry import Choice
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.guided_config import GuidedConfig


@dataclass(frozen=True, slots=True)
class MatchConfig:
    """How two images are matched, and their relative pose estimated."""

    extractor: Choice = field(default_factory=lambda: default_choice("extractor"))
    """The local features."""

    matcher: Choice = field(default_factory=lambda: default_choice("matcher"))
    """What matches them. A LightGlue without weights gets the weights that fit the extractor."""

    two_view: TwoViewConfig = field(default_factory=TwoViewConfig)
    """Thresholds of two-view geometry."""

    guided: GuidedConfig | None = None
    """Options of a second matching of all keypoints along the epipolar lines of the first pose; None for none. In a
    file, true is this matching with default options, and a table has its options."""

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
        """From nested mappings, as a TOML file holds them.

        There are tables `extractor`, `matcher`, `two_view` and `guided`, and values; `guided` may also be a boolean.

        Raises:
            ConfigError: for an unknown table or option (the nearest one is named), or a bad value.
        """
        others = {key: value for key, value in values.items() if key != "guided"}
        return replace(config_from_tables(cls, others), guided=_guided(values.get("guided", False)))


def _guided(value: Any) -> GuidedConfig | None:
    if isinstance(value, Mapping):
        return config_from_mapping(GuidedConfig, value, "guided")
    if not isinstance(value, bool):
        raise ConfigError(f"`guided`: expected true, false or a table, got {value!r}")
    return GuidedConfig() if value else None
