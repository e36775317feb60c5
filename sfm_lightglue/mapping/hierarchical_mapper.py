"""Hierarchical structure from motion by pycolmap: parts of a scene are mapped apart and merged."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.completion import completed_models, mapper_folder
from sfm_lightglue.mapping.incremental import (
    MAPPER_VERSION,
    IncrementalMapper,
    MappingConfig,
    mapper_options,
)
from sfm_lightglue.mapping.mapper_errors import mapper_errors
from sfm_lightglue.mapping.snapshots import tell_that_nothing_grows
from sfm_lightglue.mapping.waiting import run_polled
from sfm_lightglue.store.atomic_file import store_errors

HIERARCHICAL_VERSION = f"hierarchical-1-{MAPPER_VERSION}"
"""Part of a model's key. Raise the number when this file would build another model from the same database."""

_MIN_INTERVAL, _NUM_SNAPSHOTS = 5, 50
"""Fewest images between two snapshots of a part, and about the number of snapshots of a scene; they are progress."""


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
        tell_that_nothing_grows(task.growth, "hierarchical")
        folder = mapper_folder(task, "hierarchical")
        options = self._options(task)
        snapshots = _CountedSnapshots(task, folder / "snapshots", options.incremental_options)
        with mapper_errors(folder):
            found = run_polled(
                lambda: pycolmap.hierarchical_mapping(task.database, folder, folder, options), snapshots.report
            )
        snapshots.end()
        return completed_models(list(found.values()), task, self.config, folder, options.incremental_options)

    def _options(self, task: MappingTask) -> pycolmap.HierarchicalPipelineOptions:
        options = pycolmap.HierarchicalPipelineOptions()
        options.num_threads = options.num_workers = task.num_threads
        options.incremental_options = mapper_options(
            self.config, task.num_images, task.constant_camera_ids, task.num_threads, task.seed
        )
        options.clustering_options.leaf_max_num_images = self.config.max_part_size
        options.clustering_options.image_overlap = self.config.part_overlap
        return options


class _CountedSnapshots:
    """Reports the images that all parts have registered: COLMAP calls nobody, but writes snapshots.

    Args:
        task: to be mapped.
        folder: of the snapshots, in an existing folder.
        options: of the parts; the snapshots are added.
    """

    def __init__(self, task: MappingTask, folder: Path, options: pycolmap.IncrementalPipelineOptions) -> None:
        self._task, self._folder, self._options = task, folder, options
        self._names: set[str] = set()
        self._interval = max(_MIN_INTERVAL, task.num_images // _NUM_SNAPSHOTS)
        with store_errors(folder):
            folder.mkdir()
        options.snapshot_path, options.snapshot_frames_freq = folder, self._interval

    def report(self) -> None:
        """Count the snapshots, and remove all but the last ones, which may not be complete."""
        paths = sorted(self._folder.iterdir())
        names = {path.name for path in paths}
        for path in paths[: -2 * self._task.num_threads]:
            shutil.rmtree(path, ignore_errors=True)
        if names - self._names:
            self._names |= names
            # Images in the overlap of parts are counted twice, so that the end is told by the mapper only.
            num_done = min(len(self._names) * self._interval, self._task.num_images - 1)
            self._task.progress("map", num_done, self._task.num_images)

    def end(self) -> None:
        """Write no snapshots any more, and remove all."""
        self._options.snapshot_frames_freq = 0
        shutil.rmtree(self._folder, ignore_errors=True)
