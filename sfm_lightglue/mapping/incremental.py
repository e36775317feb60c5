"""Incremental structure from motion by pycolmap, with progress and a defined order of models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pycolmap

from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.progress import silent
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.mapper_errors import opened_database
from sfm_lightglue.mapping.mapper_run import groups_of_left_over, run_mapper
from sfm_lightglue.mapping.relaxation import FIRST_RELAXATION, NO_MODEL_RELAXATIONS, Relaxation
from sfm_lightglue.types import ImagePair

MAPPER_VERSION = f"6-pycolmap-{pycolmap.__version__}"
"""Part of a model's key. Raise the first number when this file would build another model from the same database."""


@dataclass(frozen=True, slots=True)
class MappingConfig:
    """Options of the incremental mapper."""

    min_model_size: int = 3
    """Smallest number of images of a model that is kept. A scene of two images still gives a model."""

    max_reprojection_error_px: float = 2.0
    """Observations with a larger reprojection error are removed."""

    min_triangulation_angle_deg: float = 1.5
    """Points with a smaller triangulation angle are removed: their depth is uncertain."""

    refine_principal_point: bool = False
    """Refine the principal point of cameras with unknown intrinsics too; needs many images from many directions."""

    robust_loss_px: float = 0.5
    """Scale of the soft L1 loss of a last bundle adjustment; larger errors have less influence. COLMAP's global bundle
    adjustment uses a squared loss, so outliers dominate it. 0 skips the last adjustment."""

    def __post_init__(self) -> None:
        if self.min_model_size < 2:
            raise ConfigError(f"`mapping.min_model_size` must be at least 2, got {self.min_model_size}")
        if self.max_reprojection_error_px <= 0 or self.min_triangulation_angle_deg <= 0:
            raise ConfigError(
                "`mapping.max_reprojection_error_px` and `mapping.min_triangulation_angle_deg` must be positive"
            )
        if self.robust_loss_px < 0:
            raise ConfigError(f"`mapping.robust_loss_px` must not be negative, got {self.robust_loss_px}")


class IncrementalMapper:
    """A `Mapper` that registers one image after the other, by pycolmap's incremental mapping.

    If less than half of the images are registered in one model, a second attempt with relaxed thresholds follows,
    and the attempt whose largest model has more images is kept. While there is no model, thresholds are relaxed
    further, which is told. Groups of connected images that no model has, such as another scene in the same folder, get
    the second attempt too. The models are adjusted once more with a robust loss.

    Args:
        config: thresholds.

    Source: Schönberger and Frahm, Structure-from-Motion Revisited, 2016.
    """

    def __init__(self, config: MappingConfig | None = None) -> None:
        self.config = config or MappingConfig()

    @property
    def version(self) -> str:
        """Version of this file and of pycolmap."""
        return MAPPER_VERSION

    def map(self, task: MappingTask) -> list[pycolmap.Reconstruction]:
        """Build models of a scene, the one with most images first."""
        best = _Attempt([], _options(self.config, task, None), "", is_relaxed=False)
        for number, relaxation in enumerate((None, FIRST_RELAXATION, *NO_MODEL_RELAXATIONS)):
            if best.num_registered >= task.num_images / 2 or (number > 1 and best.models):
                break
            options = _options(self.config, task, relaxation)
            models = run_mapper(task, f"mapping-{number}", options)
            description = relaxation.description if relaxation is not None else ""
            attempt = _Attempt(sorted(models, key=largest_first), options, description, relaxation is not None)
            best = max(best, attempt, key=lambda each: each.num_registered)
        if best.description and best.models:
            task.notes.append(f"a model was built with relaxed thresholds only ({best.description}): check it")
        attempts = [best, *self._left_over(task, best)]
        if self.config.robust_loss_px > 0:
            for attempt in attempts:
                for model in attempt.models:
                    adjust_robustly(model, self.config.robust_loss_px, attempt.options)
        return sorted((model for attempt in attempts for model in attempt.models), key=largest_first)

    def _left_over(self, task: MappingTask, best: _Attempt) -> list[_Attempt]:
        """Further models, with relaxed thresholds, of groups of images that no model of the best attempt has."""
        if not best.models or best.is_relaxed or task.initial_pair is not None:
            return []
        attempts = []
        for number, names in enumerate(groups_of_left_over(task.database, best.models, _MIN_LEFT_OVER)):
            part = replace(task, num_images=len(names), progress=silent)
            options = _options(self.config, part, FIRST_RELAXATION)
            options.image_names, options.min_model_size = names, min(_MIN_LEFT_OVER, len(names))
            models = run_mapper(part, f"mapping-left-over-{number}", options)
            options.image_names = []
            attempts.append(_Attempt(models, options, "", is_relaxed=True))
        return attempts


_MIN_LEFT_OVER = 5
"""Fewest connected images of a group that no model has, and of its models."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    models: list[pycolmap.Reconstruction]
    """The one with most images first."""
    options: pycolmap.IncrementalPipelineOptions
    description: str
    """Of the relaxed thresholds, for users; "" if they need not know."""
    is_relaxed: bool

    @property
    def num_registered(self) -> int:
        return int(self.models[0].num_reg_images()) if self.models else 0


def _options(
    config: MappingConfig, task: MappingTask, relaxation: Relaxation | None
) -> pycolmap.IncrementalPipelineOptions:
    options = mapper_options(config, task.num_images, task.constant_camera_ids, task.num_threads, task.seed)
    if relaxation is not None:
        relaxation.apply(options)
    if task.initial_pair is not None:
        options.init_image_id1, options.init_image_id2 = _image_ids(task.database, task.initial_pair)
        options.init_num_trials = 1  # each would try the same pair
        options.multiple_models = False  # each further model would start from the same pair
    return options


_FUNCTION_TOLERANCE = 1e-6
"""Relative change of the cost at which the last adjustment stops. Without it the adjustment takes ten times as long and
moves the camera centres by a thousandth of their error."""

_PASSING_TOLERANCE = 1e-4
"""The same for an adjustment after which another one follows."""


_MERGED_LOSS_PX = 8.0
"""Scale of the loss of the first adjustment of a merged model."""

_GLOBAL_GROWTH = 1.2
"""A model is adjusted as a whole whenever its images or points have grown by this factor; COLMAP's default is 1.1."""

_MAPPING_TOLERANCE = 1e-5
"""Relative change of the cost at which adjustments within the mapping stop; COLMAP sets no such limit. On 41 aerial
photos mapping takes four fifths of the time, with the same points, and no camera moves by 2e-6 of the extent."""

_MAX_GLOBAL_REFINEMENTS = 2
"""Repetitions of each of these adjustments, with filtering between them; COLMAP's default is 5. With both values,
mapping takes about two thirds of the time, and the last robust adjustment leads to the same poses."""


def adjust_robustly(
    model: pycolmap.Reconstruction,
    loss_px: float,
    mapped: pycolmap.IncrementalPipelineOptions,
    fix_poses: bool = False,
    tolerance: float = _FUNCTION_TOLERANCE,
) -> None:
    """Adjust a whole model with a robust loss, then remove observations and points beyond the limits of the mapping.

    Ceres keeps the best solution that it found, so a model whose adjustment does not converge does not get worse.

    Args:
        model: changed in place.
        loss_px: scale of the soft L1 loss.
        mapped: options of the mapping that built the model.
        fix_poses: adjust points and intrinsics only.
        tolerance: relative change of the cost at which the adjustment stops.
    """
    _solve(model, loss_px, mapped, fix_poses, tolerance)
    _filter(model, mapped)


def _solve(
    model: pycolmap.Reconstruction,
    loss_px: float,
    mapped: pycolmap.IncrementalPipelineOptions,
    fix_poses: bool,
    tolerance: float = _FUNCTION_TOLERANCE,
) -> None:
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = mapped.ba_refine_focal_length
    options.refine_principal_point = mapped.ba_refine_principal_point
    options.refine_extra_params = mapped.ba_refine_extra_params
    options.refine_sensor_from_rig = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.loss_function_scale = loss_px
    options.ceres.solver_options.num_threads = mapped.num_threads
    options.ceres.solver_options.function_tolerance = tolerance
    adjusted = pycolmap.BundleAdjustmentConfig()
    for image_id in sorted(model.reg_image_ids()):
        adjusted.add_image(image_id)
    for camera_id in sorted(set(mapped.constant_cameras) & set(model.cameras)):
        adjusted.set_constant_cam_intrinsics(camera_id)
    if fix_poses:
        for frame_id in sorted(model.reg_frame_ids()):
            adjusted.set_constant_rig_from_world_pose(frame_id)
    else:
        adjusted.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    with quiet_log():
        pycolmap.create_default_bundle_adjuster(options, adjusted, model).solve()


def adjustment_like(config: Any, task: MappingTask, is_last: bool = True) -> Callable[[pycolmap.Reconstruction], None]:
    """An adjustment of whole models with the limits of a mapping. Known poses stay.

    Args:
        config: of the mapper; the defaults of `MappingConfig` are used for another type.
        task: that was mapped.
        is_last: False ends earlier, where another adjustment follows.
    """
    limits, options = _limits_like(config, task)
    loss_px = limits.robust_loss_px or MappingConfig().robust_loss_px
    tolerance = _FUNCTION_TOLERANCE if is_last else _PASSING_TOLERANCE
    return lambda model: adjust_robustly(model, loss_px, options, bool(task.known_poses), tolerance)


def adjustment_of_merged_like(config: Any, task: MappingTask) -> Callable[[pycolmap.Reconstruction], None]:
    """Like `adjustment_like`, for models of parts that were adjusted apart.

    A loss of a larger scale comes first: the errors between the parts are larger than those within them.

    Args:
        config: of the mapper; the defaults of `MappingConfig` are used for another type.
        task: that was mapped.
    """
    _, options = _limits_like(config, task)
    adjust = adjustment_like(config, task)

    def adjust_twice(model: pycolmap.Reconstruction) -> None:
        _solve(model, _MERGED_LOSS_PX, options, fix_poses=bool(task.known_poses))
        adjust(model)

    return adjust_twice


def filter_like(config: Any, task: MappingTask) -> Callable[[pycolmap.Reconstruction], None]:
    """Removes what is beyond the limits of a mapping from a whole model, like `adjustment_like` without adjusting.

    Args:
        config: of the mapper; the defaults of `MappingConfig` are used for another type.
        task: that was mapped.
    """
    _, options = _limits_like(config, task)
    return lambda model: _filter(model, options)


def options_like(config: Any, task: MappingTask) -> pycolmap.IncrementalPipelineOptions:
    """The options of a mapping that goes on from models, with relaxed thresholds.

    Args:
        config: of the mapper; the defaults of `MappingConfig` are used for another type.
        task: that was mapped.
    """
    return _limits_like(config, task)[1]


def _limits_like(config: Any, task: MappingTask) -> tuple[MappingConfig, pycolmap.IncrementalPipelineOptions]:
    """The limits of a mapping, and its options with relaxed thresholds."""
    limits = config if isinstance(config, MappingConfig) else MappingConfig()
    options = mapper_options(limits, task.num_images, task.constant_camera_ids, task.num_threads, task.seed)
    FIRST_RELAXATION.apply(options)  # else points of a model that was built with relaxed thresholds would be removed
    return limits, options


def _filter(model: pycolmap.Reconstruction, mapped: pycolmap.IncrementalPipelineOptions) -> None:
    limits = mapped.mapper.filter_max_reproj_error, mapped.mapper.filter_min_tri_angle
    with quiet_log():
        pycolmap.ObservationManager(model).filter_all_points3D(*limits)
    model.update_point_3d_errors()


def mapper_options(
    config: MappingConfig, num_images: int, constant_camera_ids: frozenset[int], num_threads: int, seed: int
) -> pycolmap.IncrementalPipelineOptions:
    """The options of pycolmap's incremental mapper."""
    options = pycolmap.IncrementalPipelineOptions()
    options.min_model_size = min(config.min_model_size, num_images)
    options.num_threads = num_threads
    options.random_seed = seed
    options.extract_colors = False
    options.ba_refine_principal_point = config.refine_principal_point
    options.ba_refine_sensor_from_rig = False  # rigs are given
    options.ba_global_frames_ratio = options.ba_global_points_ratio = _GLOBAL_GROWTH
    options.ba_global_max_refinements = _MAX_GLOBAL_REFINEMENTS
    options.ba_global_function_tolerance = options.ba_local_function_tolerance = _MAPPING_TOLERANCE
    options.constant_cameras = set(constant_camera_ids)
    options.mapper.filter_max_reproj_error = config.max_reprojection_error_px
    options.mapper.filter_min_tri_angle = config.min_triangulation_angle_deg
    options.triangulation.min_angle = config.min_triangulation_angle_deg
    # Points with two observations are the least reliable, but a scene of two images has no others.
    options.triangulation.ignore_two_view_tracks = num_images > 2
    return options


def _image_ids(database: Path, pair: ImagePair) -> tuple[int, int]:
    with opened_database(database) as opened:
        image_id_from_name = {image.name: image.image_id for image in opened.read_all_images()}
    return image_id_from_name[pair.name0], image_id_from_name[pair.name1]


def largest_first(model: pycolmap.Reconstruction) -> tuple[int, int, int]:
    """A key that sorts models by images, then by points."""
    return -model.num_reg_images(), -model.num_points3D(), min(model.reg_image_ids())
