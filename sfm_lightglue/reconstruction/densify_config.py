"""Options of densifying a finished model, in one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.refinement.config import RefinementConfig
from sfm_lightglue.registry.components import (
    check_device,
    check_num_threads,
    config_from_tables,
    default_choice,
    tables_from_config,
)
from sfm_lightglue.registry.registry import Choice


@dataclass(frozen=True, slots=True)
class DensifyConfig:
    """What `densify` does, and how.

    Example:
        >>> config = sfm_lightglue.DensifyConfig.from_mapping({"density": {"level": "dense"}})
        >>> config.max_keypoints_dense
        16384
    """

    extractor: Choice = field(default_factory=lambda: default_choice("extractor"))
    """The local features of the points that are added."""

    mapping: Choice = field(default_factory=lambda: default_choice("mapping"))
    """The limits of reprojection errors and angles of the adjusted model; nothing is mapped."""

    density: DensityConfig = field(default_factory=DensityConfig)
    """How many points the model gets."""

    refine: RefinementConfig = field(default_factory=RefinementConfig)
    """Refinement of the keypoints to sub-pixel precision."""

    masks: str = ""
    """Folder of the masks of the images, as for `reconstruct`."""

    refine_intrinsics: bool = False
    """Whether the intrinsics are adjusted together with poses and points; else they stay as they are."""

    num_threads: int = 0
    """Images and pairs that are worked on at the same time, 0 for one per core. With 1, two runs give the same bytes.
    OpenCV and torch use threads of their own within one image or pair."""

    device: str = "auto"
    """Where networks run: "cpu", "cuda", "cuda:1", or "auto" for CUDA if there is any."""

    def __post_init__(self) -> None:
        check_num_threads(self.num_threads)
        check_device(self.device)
        if not isinstance(self.masks, str):
            raise ConfigError(f"`masks` {self.masks!r}: expected the path of a folder")
        if not self.density.is_on:
            raise ConfigError("`density.level` sparse adds no points: choose normal or dense")

    @property
    def mask_folder(self) -> Path | None:
        """`masks` as a path, None for a folder of the scene."""
        return Path(self.masks) if self.masks else None

    @property
    def max_keypoints_dense(self) -> int:
        """Largest number of keypoints per image."""
        return int(getattr(self.extractor.config, "max_keypoints_dense", 0)) * self.density.keypoints_factor

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> DensifyConfig:
        """From nested mappings, as a TOML file holds them: tables `extractor`, `mapping`, `density`, `refine`, values.

        Raises:
            ConfigError: for an unknown table or option (the nearest one is named), or a bad value.
        """
        return config_from_tables(cls, values)

    def as_mapping(self) -> dict[str, Any]:
        """Nested mappings of plain values: what `from_mapping` takes."""
        return tables_from_config(self)
