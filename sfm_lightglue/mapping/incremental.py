"""Incremental structure from motion by pycolmap, with progress and in a defined order of models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.progress import Progress, silent

MAPPER_VERSION = f"2-pycolmap-{pycolmap.__version__}"
"""Part of a model's key: another version of COLMAP builds another model."""


@dataclass(frozen=True, slots=True)
class MappingConfig:
    """Options of the incremental mapping."""

    min_model_size: int = 3
    """Smallest number of images of a model that is worth keeping; two photos alone make a model all the same."""

    max_reprojection_error_px: float = 2.0
    """Observations with a larger error are dropped."""

    min_triangulation_angle_deg: float = 1.5
    """Points seen under a smaller angle are dropped: their depth is not known."""

    refine_principal_point: bool = False
    """Refine the principal point of unknown cameras too; needs many photos from many sides."""

    robust_loss_px: float = 0.5
    """Errors beyond it count less than by their squares in a last bundle adjustment (soft L1): coarse keypoints are
    placed less exactly than fine ones, and COLMAP's global adjustments, by squares, listen to the worst. 0: none."""

    def __post_init__(self) -> None:
        if self.min_model_size < 2:
            raise ConfigError(f"mapping: min_model_size must be at least 2, got {self.min_model_size}")
        if self.max_reprojection_error_px <= 0 or self.min_triangulation_angle_deg <= 0:
            raise ConfigError("mapping: max_reprojection_error_px and min_triangulation_angle_deg must be positive")
        if self.robust_loss_px < 0:
            raise ConfigError(f"mapping: robust_loss_px must not be negative, got {self.robust_loss_px}")


def map_incrementally(
    database_path: Path,
    work: Path,
    num_images: int,
    config: MappingConfig,
    constant_camera_ids: frozenset[int] = frozenset(),
    num_threads: int = 1,
    seed: int = 0,
    progress: Progress = silent,
) -> list[pycolmap.Reconstruction]:
    """Build models from a database.

    Where less than half of the images find their way into one model, a second attempt is made with relaxed
    thresholds, and the better one counts. Its models are adjusted once more, by a robust loss.

    Args:
        database_path: with images, keypoints and verified two-view geometries.
        work: an existing folder for files on the way.
        num_images: for the progress.
        config: thresholds.
        constant_camera_ids: cameras whose intrinsics are not refined.
        num_threads: with 1, two runs with the same seed give the same bytes.
        seed: of the random samples.
        progress: told of each registered image.

    Returns:
        The models, the one with most images first, without colours; none where no pair of images can start one.
    """
    attempts: list[_Attempt] = []
    for relaxed in (False, True):
        options = _options(config, num_images, constant_camera_ids, num_threads, seed)
        if relaxed:
            _relax(options)
        models = _run(database_path, work / f"mapping-{len(attempts)}", num_images, options, progress)
        attempts.append(_Attempt(sorted(models, key=_largest_first), options))
        if attempts[-1].num_registered >= num_images / 2:
            break
    best = max(attempts, key=lambda attempt: attempt.num_registered)
    if config.robust_loss_px > 0:
        for model in best.models:
            _adjust_robustly(model, config.robust_loss_px, best.options)
    return best.models


@dataclass(frozen=True, slots=True)
class _Attempt:
    models: list[pycolmap.Reconstruction]
    """The one with most images first."""
    options: pycolmap.IncrementalPipelineOptions

    @property
    def num_registered(self) -> int:
        return int(self.models[0].num_reg_images()) if self.models else 0


_FUNCTION_TOLERANCE = 1e-6
"""Relative change of the cost at which the last adjustment ends; without a limit it takes ten times as long, and the
camera centres agree to a thousandth of their error."""


def _adjust_robustly(
    model: pycolmap.Reconstruction, loss_px: float, mapped: pycolmap.IncrementalPipelineOptions
) -> None:
    """A bundle adjustment of everything by a robust loss; what is too far off then is dropped.

    Ceres leaves the best that it found, so that a model whose adjustment does not converge is no worse than before.

    Args:
        model: is changed.
        loss_px: where the loss bends from squares to lengths.
        mapped: the options of the mapping that the model is from.
    """
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = mapped.ba_refine_focal_length
    options.refine_principal_point = mapped.ba_refine_principal_point
    options.refine_extra_params = mapped.ba_refine_extra_params
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.loss_function_scale = loss_px
    options.ceres.solver_options.num_threads = mapped.num_threads
    options.ceres.solver_options.function_tolerance = _FUNCTION_TOLERANCE
    adjusted = pycolmap.BundleAdjustmentConfig()
    for image_id in sorted(model.reg_image_ids()):
        adjusted.add_image(image_id)
    for camera_id in sorted(set(mapped.constant_cameras) & set(model.cameras)):
        adjusted.set_constant_cam_intrinsics(camera_id)
    adjusted.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    with _quiet_log():
        pycolmap.create_default_bundle_adjuster(options, adjusted, model).solve()
        limits = mapped.mapper.filter_max_reproj_error, mapped.mapper.filter_min_tri_angle
        pycolmap.ObservationManager(model).filter_all_points3D(*limits)
    model.update_point_3d_errors()


def _options(
    config: MappingConfig, num_images: int, constant_camera_ids: frozenset[int], num_threads: int, seed: int
) -> pycolmap.IncrementalPipelineOptions:
    options = pycolmap.IncrementalPipelineOptions()
    options.min_model_size = min(config.min_model_size, num_images)
    options.num_threads = num_threads
    options.random_seed = seed
    options.extract_colors = False
    options.ba_refine_principal_point = config.refine_principal_point
    options.constant_cameras = set(constant_camera_ids)
    options.mapper.filter_max_reproj_error = config.max_reprojection_error_px
    options.mapper.filter_min_tri_angle = config.min_triangulation_angle_deg
    options.triangulation.min_angle = config.min_triangulation_angle_deg
    # A point that two images alone see is the least reliable; but two images have no others.
    options.triangulation.ignore_two_view_tracks = num_images > 2
    return options


def _relax(options: pycolmap.IncrementalPipelineOptions) -> None:
    """For walks straight ahead and narrow baselines, where COLMAP's defaults find no pair to begin with."""
    options.mapper.init_max_forward_motion = 1.0
    options.mapper.init_min_tri_angle = 4.0
    options.mapper.init_min_num_inliers = 50
    options.mapper.abs_pose_min_num_inliers = 20
    options.triangulation.ignore_two_view_tracks = False
    options.mapper.filter_min_tri_angle = min(1.0, options.mapper.filter_min_tri_angle)
    options.triangulation.min_angle = min(1.0, options.triangulation.min_angle)


def _run(
    database_path: Path,
    folder: Path,
    num_images: int,
    options: pycolmap.IncrementalPipelineOptions,
    progress: Progress,
) -> list[pycolmap.Reconstruction]:
    num_registered = 0

    def registered(count: int) -> None:
        nonlocal num_registered
        # A second model starts again at two: images are counted once.
        num_registered = min(num_registered + count, num_images)
        progress("map", num_registered, num_images)

    progress("map", 0, num_images)
    folder.mkdir(parents=True)
    with _quiet_log():
        models = pycolmap.incremental_mapping(
            database_path,
            folder,  # of the photos: nothing reads them here
            folder,
            options,
            initial_image_pair_callback=lambda: registered(2),
            next_image_callback=lambda: registered(1),
        )
    return list(models.values())


def _largest_first(model: pycolmap.Reconstruction) -> tuple[int, int, int]:
    return -model.num_reg_images(), -model.num_points3D(), min(model.reg_image_ids())


@contextlib.contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep COLMAP's log silent (what matters it raises), and put its level back afterwards."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.FATAL.value)
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before
