"""What an export would write, and how long its images take; nothing is written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from sfm_lightglue.exports.base import Exporter, ExportScene, Pictures
from sfm_lightglue.exports.pictures import picture_names, stored_picture, undistorted_picture
from sfm_lightglue.exports.run import checked_export
from sfm_lightglue.exports.undistort import undistorted_camera


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What an export would write.

    Args:
        output: the file or folder.
        is_folder: whether it is a folder.
        pictures: what happens to the images.
        num_images: registered images.
        num_points: 3D points.
        seconds: of the images, by one of them; 0 if none are written.
        images_mb: size of the images that are written, by one of them, in MB.
    """

    output: Path
    is_folder: bool
    pictures: Pictures
    num_images: int
    num_points: int
    seconds: float
    images_mb: float


def plan_export(
    scene: ExportScene,
    exporter: Exporter,
    format_name: str,
    output: Path,
    *,
    undistort: bool = False,
    overwrite: bool = False,
) -> ExportPlan:
    """Check an export, and make one of its images in memory; the arguments and errors are those of `write_export`."""
    pictures, is_folder = checked_export(scene, exporter, format_name, output, undistort, overwrite)
    seconds, num_bytes = 0.0, 0
    if pictures != "none" and scene.image_folder is not None:
        image = scene.images[len(scene.images) // 2]
        new_name = picture_names([image.name])[image.name]
        start = time.perf_counter()
        if pictures == "undistorted":
            cameras = (image.camera, undistorted_camera(image.camera))
            content = undistorted_picture(scene.image_folder, image.name, new_name, cameras)
        else:
            content = stored_picture(scene.image_folder, image.name)
        seconds = (time.perf_counter() - start) * len(scene.images)
        num_bytes = len(content) * len(scene.images)
    return ExportPlan(
        output, is_folder, pictures, len(scene.images), len(scene.points), seconds, round(num_bytes / 1e6, 2)
    )
