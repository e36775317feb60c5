"""Refine the keypoints of a model, and adjust the model by their precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.incremental import adjustment_like, filter_like
from sfm_lightglue.mapping.short_tracks import remove_short_tracks
from sfm_lightglue.refinement.adjustment import adjust_by_precision
from sfm_lightglue.refinement.config import RefinementConfig
from sfm_lightglue.refinement.expected import add_found
from sfm_lightglue.refinement.tracks import RefinementReport, refine_tracks

if TYPE_CHECKING:
    import pycolmap

_MAX_FOUND_ERROR_PX = 1.0
"""Largest reprojection error in pixels of an observation that no keypoint of the extractor gave."""


def refine_model(
    model: pycolmap.Reconstruction,
    path_from_name: Mapping[str, Path],
    config: RefinementConfig,
    mapper_config: Any,
    task: MappingTask,
    executor: Executor = SERIAL,
    progress: Progress = silent,
    min_views: int = 2,
    allows: Callable[[str, Float64Array], BoolArray] | None = None,
) -> RefinementReport:
    """Move the keypoints of a model to sub-pixel precision, and adjust poses and points with it.

    Models of rigs with several sensors are adjusted without the precision of the keypoints. What is found in further
    images is not added: see `complete_tracks`.

    Args:
        model: changed in place.
        path_from_name: files of the images.
        config: options of the refinement.
        mapper_config: of the mapper, for the limits beyond which observations and points are removed.
        task: that was mapped, for the constant cameras, the known poses and the number of threads.
        executor: for the images.
        progress: called with the stage "refine".
        min_views: points that are left with fewer observations are removed; more than 2 for a densified model.
        allows: as for `refine_tracks`.
    """
    num_steps = 1  # the adjustment

    def advance(stage: str, num_done: int, num_total: int) -> None:
        nonlocal num_steps
        num_steps = num_total + 1
        progress(stage, num_done, num_steps)

    report = refine_tracks(model, path_from_name, config, executor, advance, allows=allows)
    principal_point = bool(getattr(mapper_config, "refine_principal_point", False))
    fixed = sorted(model.reg_image_ids()) if task.known_poses else ()
    constant, num_threads = task.constant_camera_ids, task.num_threads
    seen = report.observations
    if adjust_by_precision(model, report.sigmas_px, constant, num_threads, principal_point, fixed, seen=seen):
        filter_like(mapper_config, task)(model)
    else:
        adjustment_like(mapper_config, task)(model)
    if remove_short_tracks(model, min_views) > 0:
        model.update_point_3d_errors()
    progress("refine", num_steps, num_steps)
    return report


def complete_tracks(model: pycolmap.Reconstruction, report: RefinementReport) -> int:
    """Add what a refinement found in further images, if it fits the adjusted model; returns how many observations.

    Judge a model before this: these observations had no part in its adjustment.
    """
    num_added = add_found(model, report.found, _MAX_FOUND_ERROR_PX)
    if num_added > 0:
        model.update_point_3d_errors()
    return num_added
