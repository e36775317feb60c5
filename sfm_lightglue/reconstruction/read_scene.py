"""The images of a job: the one place where the options of a configuration reach the reader of folders."""

from __future__ import annotations

import logging
from pathlib import Path

from sfm_lightglue.execution.progress import Progress
from sfm_lightglue.known_poses.read import with_known_poses
from sfm_lightglue.messages import shortened, shown_path
from sfm_lightglue.reconstruction.config import DatabaseConfig, ReconstructConfig
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.types import Scene

logger = logging.getLogger(__name__)


def read_scene(
    folder: Path, output: Path, config: DatabaseConfig, num_workers: int, progress: Progress, as_it_is: bool = False
) -> Scene:
    """The images of a folder, with cameras, masks, positions, poses and the list of images of a configuration.

    Args:
        folder: of the images.
        output: a folder that is no source of images.
        config: of the job.
        num_workers: files that are read at the same time.
        progress: called after each file.
        as_it_is: as in `load_scene`.

    Raises:
        DataError: as `load_scene` and `with_known_poses`.
        ConfigError: as `load_scene`.
    """
    scene = load_scene(
        folder,
        config.cameras,
        [output],
        num_workers,
        as_it_is=as_it_is,
        masks=config.mask_folder,
        progress=progress,
        image_list=config.image_list_file,
        positions=config.positions_file,
    )
    poses = config.poses_file if isinstance(config, ReconstructConfig) else None
    if poses is None:
        return scene
    posed = with_known_poses(scene, poses, is_part=config.image_list_file is not None)
    left_out = sorted(set(scene.names) - set(posed.names))
    if left_out:
        logger.warning("left out, because %s has no pose of them: %s", shown_path(poses), shortened(left_out))
    return posed
