"""Hierarchical structure from motion by pycolmap: parts of a scene are mapped apart and merged."""

from __future__ import annotations

from dataclasses import dataclass

import pycolmap

from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.incremental import (
    MAPPER_VERSION,
    IncrementalMapper,
    MappingConfig,
    adjust_robustly,
    largest_first,
    mapper_options,
)
from sfm_lightglue.mapping.mapper_errors import mapper_errors
from sfm_lightglue.mapping.mapper_run import register_left_out
from sfm_lightglue.store.atomic_file import store_errors

HIERARCHICAL_VERSION = f"hierarchical-1-{MAPPER_VERSION}"
"""Part of a model's key. Raise the number when this file would build another model from the same database."""


@dataclass(frozen=True, slots=True)
class HierarchicalMappingConfig(MappingConfig):
    """Options of the hierarchical mapper: those of the incremental one, and the size of the parts."""

    max_part_size: int = 200
    """Largest number of images of a part."""

    part_overlap: int = 40
    """Number of images that a part gets from its neighbour; the parts are merged by them."""

    def __post_init__(self) -> None:
        MappingConfig.__post_init__(self)
        if not 3 <= self.part_overlap < self.max_part_size:
            raise ConfigError(
                "`mapping.part_overlap` must be at least 3 and less than `mapping.max_part_size`, got"
                f" {self.part_overlap} and {self.max_part_size}"
            )


class HierarchicalMapper:
    """A `Mapper` that maps overlapping parts of a scene at the same time and merges them, by pycolmap.

    Images that it leaves out are registered one after the other. Scenes that fit into one part, scenes of which it
    builds no model, and those for which a first pair of images is given, are mapped by the incremental mapper. The
    models are adjusted once more with a robust loss.

    Args:
        config: thresholds.
    """

    def __init__(self, config: HierarchicalMappingConfig | None = None) -> None:
        self.config = config or HierarchicalMappingConfig()

    @property
    def version(self) -> str:
        """Version of this file, of the incremental mapper and of pycolmap."""
        return HIERARCHICAL_VERSION

    def map(self, task: MappingTask) -> list[pycolmap.Reconstruction]:
        """Build models of a scene, the one with most images first."""
        if task.initial_pair is not None or task.num_images <= self.config.max_part_size:
            return IncrementalMapper(self.config).map(task)
        task.progress("map", 0, task.num_images)
        folder = task.work / "hierarchical"
        with store_errors(folder):
            folder.mkdir(parents=True)
        options = self._options(task)
        with mapper_errors(folder), quiet_log():
            models = list(pycolmap.hierarchical_mapping(task.database, folder, folder, options).values())
        if not models:
            return IncrementalMapper(self.config).map(task)
        models = register_left_out(sorted(models, key=largest_first), task, folder, options.incremental_options)
        if self.config.robust_loss_px > 0:
            for model in models:
                adjust_robustly(model, self.config.robust_loss_px, options.incremental_options)
        task.progress("map", task.num_images, task.num_images)
        return sorted(models, key=largest_first)

    def _options(self, task: MappingTask) -> pycolmap.HierarchicalPipelineOptions:
        options = pycolmap.HierarchicalPipelineOptions()
        options.num_threads = options.num_workers = task.num_threads
        options.incremental_options = mapper_options(
            self.config, task.num_images, task.constant_camera_ids, task.num_threads, task.seed
        )
        options.clustering_options.leaf_max_num_images = self.config.max_part_size
        options.clustering_options.image_overlap = self.config.part_overlap
        return options
