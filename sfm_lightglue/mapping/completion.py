"""The last steps of the mappers that build a model of many images at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pycolmap

from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.incremental import IncrementalMapper, MappingConfig, adjust_robustly, largest_first
from sfm_lightglue.mapping.mapper_run import register_left_out
from sfm_lightglue.store.atomic_file import store_errors


def mapper_folder(task: MappingTask, name: str) -> Path:
    """Make the folder of a mapper in the work folder, and report that it begins.

    Args:
        task: to be mapped.
        name: of the mapper; its folder must not exist.

    Raises:
        StoreError: if the folder cannot be made.
    """
    task.progress("map", 0, task.num_images)
    folder = task.work / name
    with store_errors(folder):
        folder.mkdir(parents=True)
    return folder


def completed_models(
    models: Sequence[pycolmap.Reconstruction],
    task: MappingTask,
    config: MappingConfig,
    folder: Path,
    options: pycolmap.IncrementalPipelineOptions,
    restore: Callable[[pycolmap.Reconstruction], None] = lambda model: None,
) -> list[pycolmap.Reconstruction]:
    """Register the images that no model has, and adjust the models once more with a robust loss.

    Args:
        models: of the mapper; without any, the incremental mapper builds them.
        task: that was mapped.
        config: of the mapper.
        folder: of the mapper.
        options: of the incremental mapper.
        restore: called with each model before it is adjusted.

    Returns:
        The models, the one with most images first.
    """
    if not models:
        return IncrementalMapper(config).map(task)
    completed = register_left_out(sorted(models, key=largest_first), task, folder, options)
    for model in completed:
        restore(model)
        if config.robust_loss_px > 0:
            adjust_robustly(model, config.robust_loss_px, options)
    task.progress("map", task.num_images, task.num_images)
    return sorted(completed, key=largest_first)
