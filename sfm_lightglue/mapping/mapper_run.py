"""Calls of pycolmap's incremental mapping: with progress, from snapshots, and from models of other mappers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.execution.progress import silent
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.mapper_errors import mapper_errors, opened_database
from sfm_lightglue.mapping.snapshots import Snapshots
from sfm_lightglue.store.atomic_file import store_errors

_STARTED = pycolmap.IncrementalPipelineCallback.INITIAL_IMAGE_PAIR_REG_CALLBACK.value
_ADDED = pycolmap.IncrementalPipelineCallback.NEXT_IMAGE_REG_CALLBACK.value

_NUM_RELAXATIONS = 4
"""So often COLMAP halves a limit of the initial pair while images are left: first that of the inliers, then that of the
angle, in turn."""


def run_mapper(
    task: MappingTask, name: str, options: pycolmap.IncrementalPipelineOptions
) -> list[pycolmap.Reconstruction]:
    """Run the mapper. If there are snapshots of an earlier run, it goes on from them, then with all other images.

    Args:
        task: to be mapped.
        name: of the run; its folder in the work folder must not exist.
        options: of the mapper; those of the snapshots are set.
    """
    own_folder = task.snapshots / name if task.snapshots is not None else None
    snapshots = Snapshots.of_run(own_folder, task.num_images, is_watched=task.growth is not None)
    snapshots = snapshots or Snapshots.for_viewer(task.growth, task.num_images)
    run = MapperRun(task, task.work / name, options, snapshots)
    task.progress("map", 0, task.num_images)
    with store_errors(run.folder):
        run.folder.mkdir(parents=True)
    if snapshots is None:
        return run.models()
    snapshots.start()
    options.snapshot_path, options.snapshot_frames_freq = snapshots.current, snapshots.interval
    models: list[pycolmap.Reconstruction] = []
    for path in snapshots.found():
        models += run.models(path)
        snapshots.next_model()
    names = unregistered_names(task.database, models)
    if not models:
        return run.models()
    if len(names) >= options.min_model_size and task.initial_pair is None:
        models += run.further_models(models)
    return models


class MapperRun:
    """Calls of pycolmap's incremental mapping, and the number of images that they have registered so far.

    Args:
        task: to be mapped.
        folder: for the files of the mapper; it must exist before the first call.
        options: of the mapper.
        snapshots: of the run, None for none.
    """

    def __init__(
        self,
        task: MappingTask,
        folder: Path,
        options: pycolmap.IncrementalPipelineOptions,
        snapshots: Snapshots | None,
    ) -> None:
        self.folder = folder
        self._task, self._options, self._snapshots = task, options, snapshots
        self._has_multiple = options.multiple_models
        self._num_registered = self._num_given = 0

    def models(self, start: Path | None = None) -> list[pycolmap.Reconstruction]:
        """The models of a call; one that goes on from the model in a folder builds no others."""
        self._num_given = 0
        if start is not None:
            with quiet_log():
                self._num_given = pycolmap.Reconstruction(start).num_reg_images()
        self._options.multiple_models = self._has_multiple and start is None
        with mapper_errors(self.folder), quiet_log():
            models = pycolmap.incremental_mapping(
                self._task.database,
                self.folder,  # of the images, which are not read here
                self.folder,
                self._options,
                start or "",
                initial_image_pair_callback=self._started,
                next_image_callback=self._added,
            )
        return list(models.values())

    def further_models(self, models: Sequence[pycolmap.Reconstruction]) -> list[pycolmap.Reconstruction]:
        """The models that a call builds after these ones. They may have some of the same images, by which they merge.

        COLMAP builds no further models after one that it goes on from, so the steps of such a call are taken here.
        """
        self._options.multiple_models = self._has_multiple
        manager = pycolmap.ReconstructionManager()
        with mapper_errors(self.folder), opened_database(self._task.database) as database:
            pipeline = pycolmap.IncrementalPipeline(self._options, database, manager)
            pipeline.add_callback(_STARTED, self._started)
            pipeline.add_callback(_ADDED, self._added)
            mapper = pycolmap.IncrementalMapper(pipeline.database_cache)
            for model in models:  # counts their images
                manager.add()  # counts the model: only the first one may be smaller than the smallest size
                mapper.begin_reconstruction(pycolmap.Reconstruction(model))
                mapper.end_reconstruction(False)
            limits = self._options.get_mapper()
            pipeline.reconstruct(mapper, limits, False)
            for number in range(_NUM_RELAXATIONS):
                if mapper.num_total_reg_images() == pipeline.database_cache.num_images():
                    break
                if number % 2 == 0:
                    limits.init_min_num_inliers //= 2
                else:
                    limits.init_min_tri_angle /= 2
                mapper.reset_initialization_stats()
                pipeline.reconstruct(mapper, limits, False)
        return [manager.get(idx) for idx in range(len(models), manager.size())]

    def _started(self) -> None:
        """A model was started from a pair of images, or from a snapshot: then its images are counted."""
        if self._snapshots is not None:
            self._snapshots.next_model()
        self._registered(self._num_given or 2)
        self._num_given = 0

    def _added(self) -> None:
        if self._snapshots is not None:
            self._snapshots.prune()
        self._registered(1)

    def _registered(self, count: int) -> None:
        # A second model starts again at two: each image is counted once.
        self._num_registered = min(self._num_registered + count, self._task.num_images)
        self._task.progress("map", self._num_registered, self._task.num_images)


def register_left_out(
    models: Sequence[pycolmap.Reconstruction],
    task: MappingTask,
    folder: Path,
    options: pycolmap.IncrementalPipelineOptions,
    excluded: Collection[str] = (),
) -> list[pycolmap.Reconstruction]:
    """Register the images that no model has in the largest one, where their matches suffice.

    Args:
        models: the one with most images first.
        task: that was mapped.
        folder: an existing folder for intermediate files.
        options: of the incremental mapper.
        excluded: names of images that are not registered.

    Returns:
        The models, with the first one replaced if it has more images then.
    """
    names = [name for name in unregistered_names(task.database, models) if name not in excluded]
    if not models or not names:
        return list(models)
    registered = {models[0].images[image_id].name for image_id in models[0].reg_image_ids()}
    if not registered <= _names_with_pairs(task.database, registered | {*names}, options.min_num_matches):
        return list(models)  # COLMAP goes on from models only whose images all have pairs
    start = folder / "start"
    with store_errors(start):
        start.mkdir()
    with mapper_errors(folder), quiet_log():
        models[0].write_binary(start)
    options.image_names = sorted([*names, *registered])
    extended = MapperRun(replace(task, progress=silent), folder, options, None).models(start)
    options.image_names = []
    best = max([models[0], *extended], key=lambda model: int(model.num_reg_images()))
    return [best, *models[1:]]


def _names_with_pairs(database: Path, names: Collection[str], min_inliers: int) -> set[str]:
    """The images that have a verified pair with enough inliers among some images."""
    wanted = {*names}
    pairs = [{*pair} for *pair, number in _verified_pairs(database) if number >= min_inliers]
    return {name for pair in pairs if pair <= wanted for name in pair}


def _verified_pairs(database: Path) -> list[tuple[str, str, int]]:
    """The names of the images of each verified pair, and its number of inliers."""
    with opened_database(database) as opened:
        name_from_id = {image.image_id: image.name for image in opened.read_all_images()}
        found = zip(*opened.read_two_view_geometry_num_inliers(), strict=True)
    ids = [(*pycolmap.pair_id_to_image_pair(pair_id), int(number)) for pair_id, number in found]
    return [(name_from_id[id0], name_from_id[id1], number) for id0, id1, number in ids]


def unregistered_names(database: Path, models: Sequence[pycolmap.Reconstruction]) -> list[str]:
    """Names of the images of a database that no model has, sorted."""
    registered = {model.images[image_id].name for model in models for image_id in model.reg_image_ids()}
    with opened_database(database) as opened:
        return sorted({image.name for image in opened.read_all_images()} - registered)


def groups_of_left_over(database: Path, models: Sequence[pycolmap.Reconstruction], min_images: int) -> list[list[str]]:
    """Images that no model has, in groups that their verified pairs connect; larger groups first.

    Args:
        database: with the verified pairs.
        models: of these images.
        min_images: smaller groups are left out.

    Returns:
        Sorted names of each group.
    """
    names = unregistered_names(database, models)
    row_from_name = {name: row for row, name in enumerate(names)}
    links = [
        (row_from_name[name0], row_from_name[name1])
        for name0, name1, _ in _verified_pairs(database)
        if name0 in row_from_name and name1 in row_from_name
    ]
    rows, columns = np.array(links, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), (len(names), len(names)))
    _, group_of_row = connected_components(graph, directed=False)
    groups: dict[int, list[str]] = {}
    for name, group in zip(names, group_of_row.tolist(), strict=True):
        groups.setdefault(group, []).append(name)
    large = [group for group in groups.values() if len(group) >= min_images]
    return sorted(large, key=lambda group: (-len(group), group))
