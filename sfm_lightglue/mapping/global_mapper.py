"""Global structure from motion by pycolmap: all rotations, then all positions at once."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pycolmap

from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.completion import completed_models, mapper_folder
from sfm_lightglue.mapping.incremental import (
    MAPPER_VERSION,
    IncrementalMapper,
    MappingConfig,
    mapper_options,
)
from sfm_lightglue.mapping.mapper_errors import mapper_errors, opened_database
from sfm_lightglue.mapping.snapshots import tell_that_nothing_grows
from sfm_lightglue.mapping.waiting import run_polled
from sfm_lightglue.store.atomic_file import store_errors

GLOBAL_VERSION = f"global-1-{MAPPER_VERSION}"
"""Part of a model's key. Raise the number when this file would build another model from the same database."""

_MODEL_UPDATE = pycolmap.GlobalPipelineCallback.MODEL_UPDATE_CALLBACK.value


@dataclass(frozen=True, slots=True)
class GlobalMappingConfig(MappingConfig):
    """Options of the global mapper: those of the incremental one."""


class GlobalMapper:
    """A `Mapper` that determines all rotations, then all positions at once, by pycolmap's global mapping.

    It needs good focal lengths: those that are not known are estimated from the fundamental matrices first. Images that
    it leaves out are registered one after the other. Where it builds no model, and where a first pair of images is
    given, the incremental mapper builds the models. They are adjusted once more with a robust loss.

    Args:
        config: thresholds.

    Source: Pan et al., Global Structure-from-Motion Revisited, 2024.
    """

    def __init__(self, config: GlobalMappingConfig | None = None) -> None:
        self.config = config or GlobalMappingConfig()

    @property
    def version(self) -> str:
        """Version of this file, of the incremental mapper and of pycolmap."""
        return GLOBAL_VERSION

    def map(self, task: MappingTask) -> list[pycolmap.Reconstruction]:
        """Build models of a scene, the one with most images first."""
        if task.initial_pair is not None:
            return IncrementalMapper(self.config).map(task)
        tell_that_nothing_grows(task.growth, "global")
        folder = mapper_folder(task, "global")
        models = self._mapped(task, folder)
        options = mapper_options(self.config, task.num_images, task.constant_camera_ids, task.num_threads, task.seed)
        return completed_models(models, task, self.config, folder, options, lambda model: _restore_cameras(model, task))

    def _mapped(self, task: MappingTask, folder: Path) -> list[pycolmap.Reconstruction]:
        copy = folder / "calibrated.db"  # its focal lengths and two-view geometries change
        with store_errors(copy):
            shutil.copyfile(task.database, copy)
        steps, manager = _Steps(task), pycolmap.ReconstructionManager()
        with mapper_errors(folder):
            run_polled(lambda: self._run(task, copy, manager, steps), steps.report)
        with store_errors(copy):
            copy.unlink()
        return [manager.get(idx) for idx in range(manager.size())]

    def _run(self, task: MappingTask, copy: Path, manager: pycolmap.ReconstructionManager, steps: _Steps) -> None:
        if _unknown_focal_lengths(copy, task.constant_camera_ids):
            calibration = pycolmap.ViewGraphCalibrationOptions()
            _seed(calibration, task)
            pycolmap.calibrate_view_graph(copy, calibration)
        with opened_database(copy) as database:
            pipeline = pycolmap.GlobalPipeline(self._options(task, copy), database, manager)
            pipeline.add_callback(_MODEL_UPDATE, steps.add)
            pipeline.run()

    def _options(self, task: MappingTask, database: Path) -> pycolmap.GlobalPipelineOptions:
        options = pycolmap.GlobalPipelineOptions()
        options.min_model_size = min(self.config.min_model_size, task.num_images)
        mapper = options.mapper
        for seeded in (options, mapper, mapper.rotation_averaging, mapper.global_positioning, mapper.retriangulation):
            _seed(seeded, task)
        adjustment = mapper.bundle_adjustment
        for refining in (mapper, mapper.rotation_averaging, mapper.global_positioning, adjustment):
            refining.refine_sensor_from_rig = False  # rigs are given
        adjustment.refine_principal_point = self.config.refine_principal_point
        if not _refined_camera_ids(database, task.constant_camera_ids):
            adjustment.refine_focal_length = adjustment.refine_extra_params = False
            adjustment.refine_principal_point = False
        adjustment.ceres.use_gpu = mapper.global_positioning.use_gpu = False
        adjustment.ceres.solver_options.num_threads = task.num_threads
        return options


class _Steps:
    """Reports the steps of the mapper as numbers of images: each one as half of what remains."""

    def __init__(self, task: MappingTask) -> None:
        self._task = task
        self._num_done = self._num_reported = 0

    def add(self) -> None:
        """Count a step, in the thread of the mapper."""
        self._num_done += (self._task.num_images - self._num_done) // 2

    def report(self) -> None:
        """Report new steps."""
        if self._num_done > self._num_reported:
            self._num_reported = self._num_done
            self._task.progress("map", self._num_reported, self._task.num_images)


def _seed(options: Any, task: MappingTask) -> None:
    for name, value in (("random_seed", task.seed), ("num_threads", task.num_threads)):
        if hasattr(options, name):
            setattr(options, name, value)


def _refined_camera_ids(database: Path, constant: frozenset[int]) -> list[int]:
    with opened_database(database) as opened:
        return [camera.camera_id for camera in opened.read_all_cameras() if camera.camera_id not in constant]


def _unknown_focal_lengths(database: Path, constant: frozenset[int]) -> bool:
    with opened_database(database) as opened:
        cameras = [camera for camera in opened.read_all_cameras() if camera.camera_id not in constant]
        return any(not camera.has_prior_focal_length for camera in cameras)


def _restore_cameras(model: pycolmap.Reconstruction, task: MappingTask) -> None:
    """Give constant cameras their intrinsics again; the global mapper refines those of all cameras, or of none."""
    with opened_database(task.database) as opened:
        for camera_id in sorted(task.constant_camera_ids & set(model.cameras)):
            model.cameras[camera_id].params = list(opened.read_camera(camera_id).params)
