"""Scenes described by a COLMAP model: our scenes, ETH3D's, and those of the Image Matching Challenge since 2023."""

from __future__ import annotations

from pathlib import Path

from datasets.scene_truth import image_root_of, scene_name
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.types import Camera

MODEL_PLACES = (".", "sparse/0", "sparse", "sfm")
"""Where a scene's model may be; the last one is the Image Matching Challenge's, since 2023. Not
`reconstruction/sparse/0`: that is what we computed, and no truth."""

ETH3D_FOLDERS = ("dslr_calibration_undistorted", "dslr_calibration_jpg", "rig_calibration_undistorted")
"""Calibrations of an ETH3D scene, the first that is there counts: the undistorted photos of the camera, the photos as
they were taken, the undistorted frames of the rig."""


def has_colmap_model(path: Path) -> bool:
    """Whether a COLMAP model is at a path, or where a scene folder has it."""
    return any(_is_model(path / place) for place in MODEL_PLACES)


def read_colmap_truth(path: Path) -> SceneTruth:
    """The cameras of a COLMAP model, binary or text; they are in our conventions already.

    Args:
        path: the model, or a scene folder with `sparse/0`, `sparse` or `sfm`. The photos are taken to lie in a
            folder `images` there, or at most two folders above; names may begin with `images/` too.

    Raises:
        DataError: where there is no model, it is damaged, or it has no image with a pose.
    """
    folder = next((path / place for place in MODEL_PLACES if _is_model(path / place)), path)
    # A scene is named by the folder that holds `images`, not by the 0 of `sparse/0`.
    above = (path, *path.resolve().parents[:2])
    root = next((parent for parent in above if (parent / "images").is_dir()), path)
    truth = _read(folder, scene_name(root), image_root_of(root))
    first = truth.names[0]
    if not (truth.image_root / first).is_file() and (root / first).is_file():
        return SceneTruth(truth.name, root, truth.cam_from_world_from_name, truth.camera_from_name)
    return truth


def read_eth3d(path: Path) -> SceneTruth:
    """A scene of the ETH3D benchmark, whose unit is the metre.

    Its calibrations are COLMAP models in text with COLMAP's conventions; names such as
    `dslr_images_undistorted/DSC_0286.JPG` are below the scene's folder `images`.

    Args:
        path: the scene, with `dslr_calibration_undistorted/` and `images/`.

    Raises:
        DataError: where there is no such calibration, or it is damaged.

    Source: Schöps et al., A Multi-View Stereo Benchmark with High-Resolution Images and Multi-Camera Videos,
    2017, and the format's description on the benchmark's site.
    """
    folder = next((path / name for name in ETH3D_FOLDERS if _is_model(path / name)), None)
    if folder is None:
        raise DataError(f"{path}: no scene of ETH3D (none of {', '.join(ETH3D_FOLDERS)} holds a calibration)")
    truth = _read(folder, scene_name(path), path / "images")
    return SceneTruth(truth.name, truth.image_root, truth.cam_from_world_from_name, truth.camera_from_name, True)


def is_eth3d(path: Path) -> bool:
    """Whether a folder is a scene of ETH3D."""
    return any(_is_model(path / name) for name in ETH3D_FOLDERS)


def _read(folder: Path, name: str, image_root: Path) -> SceneTruth:
    model = read_model(folder)
    poses = poses_of_model(model)
    if not poses:
        raise DataError(f"{folder}: the model has no image with a pose")
    cameras = {}
    for image_id in model.reg_image_ids():
        image = model.images[image_id]
        camera = model.cameras[image.camera_id]
        cameras[image.name] = Camera(camera.model_name, camera.width, camera.height, tuple(camera.params))
    return SceneTruth(name, image_root, poses, cameras)


def _is_model(folder: Path) -> bool:
    # `images` may be a folder of photos beside it, so `cameras` tells.
    return any((folder / f"cameras{suffix}").is_file() for suffix in (".bin", ".txt"))
