"""Points from known poses: verified matches are triangulated, and no pose is changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.completion import mapper_folder
from sfm_lightglue.mapping.incremental import MAPPER_VERSION, MappingConfig, adjust_robustly, mapper_options
from sfm_lightglue.mapping.mapper_errors import mapper_errors, opened_database

logger = logging.getLogger(__name__)

KNOWN_POSES_VERSION = f"known-poses-1-{MAPPER_VERSION}"
"""Part of a model's key. Raise the number when this file would build another model from the same database."""


@dataclass(frozen=True, slots=True)
class KnownPosesConfig(MappingConfig):
    """Options of the triangulation; `min_model_size` has no effect."""


class KnownPosesMapper:
    """A `Mapper` that takes the poses of the images as they are given, and triangulates their matches.

    Intrinsics that are not known are refined with the points. There is one model, which has the images with a known
    pose and a verified pair.

    Args:
        config: thresholds.
    """

    def __init__(self, config: KnownPosesConfig | None = None) -> None:
        self.config = config or KnownPosesConfig()

    @property
    def version(self) -> str:
        """Version of this file, of the limits and of pycolmap."""
        return KNOWN_POSES_VERSION

    def map(self, task: MappingTask) -> list[pycolmap.Reconstruction]:
        """Triangulate a scene. Another initial pair would give the same model, so there is none for it.

        Raises:
            ConfigError: if no pose is known.
        """
        if not task.known_poses:
            raise ConfigError("`mapping.name` known_poses needs the poses of the images; give them by `poses`")
        if task.initial_pair is not None:
            return []
        folder = mapper_folder(task, "known-poses")
        options = mapper_options(self.config, task.num_images, task.constant_camera_ids, task.num_threads, task.seed)
        is_to_refine = False
        with mapper_errors(folder):
            model = _posed_model(task.database, task.known_poses)
            if model.num_reg_images() < 2:
                return []
            is_to_refine = not set(model.cameras) <= set(task.constant_camera_ids)
            with quiet_log():
                model = pycolmap.triangulate_points(
                    model, task.database, folder, folder, clear_points=True, options=options, refine_intrinsics=False
                )
        _restore_poses(model, task.known_poses)
        if self.config.robust_loss_px > 0 or is_to_refine:
            loss_px = self.config.robust_loss_px or MappingConfig().robust_loss_px
            adjust_robustly(model, loss_px, options, fix_poses=True)
        task.progress("map", task.num_images, task.num_images)
        return [model]


def _posed_model(database: Path, known_poses: Mapping[str, Rigid3]) -> pycolmap.Reconstruction:
    """A model without points of the images that have a pose and a verified pair."""
    with opened_database(database) as opened, quiet_log():
        cache = pycolmap.DatabaseCache.create(opened, pycolmap.DatabaseCacheOptions())
    model = pycolmap.Reconstruction()
    model.load(cache)
    for _, image in sorted(model.images.items()):
        pose = known_poses.get(image.name)
        if pose is not None:
            _set_pose(image, pose)
            model.register_frame(image.frame_id)
    return model


def _set_pose(image: pycolmap.Image, pose: Rigid3) -> None:
    frame = image.frame
    assert frame is not None  # of a model that was loaded from a database
    frame.set_cam_from_world(image.camera_id, pycolmap.Rigid3d(np.column_stack([pose.R, pose.t])))


def _restore_poses(model: pycolmap.Reconstruction, known_poses: Mapping[str, Rigid3]) -> None:
    """Set the known poses again, to the last digit."""
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
        _set_pose(image, known_poses[image.name])
