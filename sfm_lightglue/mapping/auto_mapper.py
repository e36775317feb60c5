"""The mapper that fits a scene: by its size, and by what is known about its cameras."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pycolmap

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.mapping.base import Mapper, MappingTask
from sfm_lightglue.mapping.global_mapper import GLOBAL_VERSION, GlobalMapper, GlobalMappingConfig
from sfm_lightglue.mapping.hierarchical_mapper import (
    HIERARCHICAL_VERSION,
    HierarchicalMapper,
    HierarchicalMappingConfig,
)
from sfm_lightglue.mapping.incremental import IncrementalMapper, MappingConfig
from sfm_lightglue.mapping.mapper_errors import opened_database

logger = logging.getLogger(__name__)

ConfigT = TypeVar("ConfigT", bound=MappingConfig)

_MIN_KNOWN = 0.9
"""Smallest fraction of the images with a known focal length from which the global mapper is chosen."""


@dataclass(frozen=True, slots=True)
class AutoMappingConfig(MappingConfig):
    """Options of all mappers, and the sizes of scenes from which others than the incremental one are chosen."""

    max_incremental: int = 1000
    """Largest number of images that are mapped one after the other, if the focal lengths are known; larger scenes are
    mapped globally."""

    max_incremental_uncalibrated: int = 2000
    """The same if the focal lengths are not known: global mapping needs them, so larger scenes are mapped in parts."""

    def __post_init__(self) -> None:
        MappingConfig.__post_init__(self)
        if self.max_incremental < 0 or self.max_incremental_uncalibrated < 0:
            raise ConfigError(
                "`mapping.max_incremental` and `mapping.max_incremental_uncalibrated` must not be negative"
            )


class AutoMapper:
    """A `Mapper` that leaves the work to the incremental, the global or the hierarchical one.

    Args:
        config: thresholds of the mappers and limits of the choice.
    """

    def __init__(self, config: AutoMappingConfig | None = None) -> None:
        self.config = config or AutoMappingConfig()

    @property
    def version(self) -> str:
        """Versions of the mappers; that of the incremental one is part of each."""
        return f"auto-1-{GLOBAL_VERSION}-{HIERARCHICAL_VERSION}"

    def map(self, task: MappingTask) -> list[pycolmap.Reconstruction]:
        """Build models of a scene, the one with most images first."""
        name, build = self._choice(task)
        logger.debug("%d images are mapped by `mapping.name` %s", task.num_images, name)
        return build().map(task)

    def _choice(self, task: MappingTask) -> tuple[str, Callable[[], Mapper]]:
        config = self.config
        limits = config.max_incremental, config.max_incremental_uncalibrated
        if task.num_images > min(limits):
            is_known = known_focal_share(task.database, task.constant_camera_ids) >= _MIN_KNOWN
            if is_known and task.num_images > config.max_incremental:
                return "global", lambda: GlobalMapper(_like(config, GlobalMappingConfig))
            if not is_known and task.num_images > config.max_incremental_uncalibrated:
                return "hierarchical", lambda: HierarchicalMapper(_like(config, HierarchicalMappingConfig))
        return "incremental", lambda: IncrementalMapper(config)


def _like(config: MappingConfig, config_type: type[ConfigT]) -> ConfigT:
    """A configuration of another mapper with the same values of `MappingConfig`."""
    return config_type(**{field.name: getattr(config, field.name) for field in dataclasses.fields(MappingConfig)})


def known_focal_share(database: Path, constant_camera_ids: frozenset[int]) -> float:
    """Fraction of the images of a database whose focal length is known: given, or from EXIF data.

    Args:
        database: of the scene.
        constant_camera_ids: cameras with given intrinsics.
    """
    with opened_database(database) as opened:
        known = {camera.camera_id for camera in opened.read_all_cameras() if camera.has_prior_focal_length}
        camera_ids = [image.camera_id for image in opened.read_all_images()]
    return sum(camera_id in known | constant_camera_ids for camera_id in camera_ids) / max(len(camera_ids), 1)
