"""Read scenes with a COLMAP model: own scenes, ETH3D, and the Image Matching Challenge since 2023."""

from __future__ import annotations

from pathlib import Path

from datasets.scene_truth import image_root_of, scene_name
from sfm_lightglue.colmap.model import model_folder_at, read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.types import Camera

TRUTH_PATHS = (".", "sparse/0", "sparse", "sfm")
"""Paths of a true model in a scene folder; the last is that of the Image Matching Challenge since 2023. Unlike
`colmap.model.MODEL_PATHS`, they leave out `reconstruction/sparse/0`: a model that this library computed is no truth."""

ETH3D_FOLDERS = ("dslr_calibration_undistorted", "dslr_calibration_jpg", "rig_calibration_undistorted")
"""Calibrations of an ETH3D scene, in order of preference: undistorted images of the camera, its original images,
undistorted frames of the rig."""

_REQUIRED_FILES = ("cameras",)
"""Files by which a model is recognised; `read_model` reports the others if they are missing."""


def has_colmap_model(path: Path) -> bool:
    """Whether a path is a COLMAP model, or a scene folder with a true one."""
    return model_folder_at(path, TRUTH_PATHS, _REQUIRED_FILES) is not None


def read_colmap_truth(path: Path) -> SceneTruth:
    """Read the cameras of a COLMAP model, binary or text; COLMAP's conventions are those of this library.

    Args:
        path: the model, or a scene folder with `sparse/0`, `sparse` or `sfm`. The images are in a folder `images`
            there, or at most two folders above; their names may begin with `images/`.

    Raises:
        DataError: if there is no model, it is damaged, or it has no image with a pose.
    """
    folder = model_folder_at(path, TRUTH_PATHS, _REQUIRED_FILES) or path
    # The scene has the name of the folder that contains `images`, not the name "0" of `sparse/0`.
    above = (path, *path.resolve().parents[:2])
    root = next((parent for parent in above if (parent / "images").is_dir()), path)
    truth = _read(folder, scene_name(root), image_root_of(root))
    first = truth.names[0]
    if not (truth.image_root / first).is_file() and (root / first).is_file():
        return SceneTruth(truth.name, root, truth.cam_from_world_from_name, truth.camera_from_name)
    return truth


def read_eth3d(path: Path) -> SceneTruth:
    """Read a scene of the ETH3D benchmark, whose unit is the metre.

    Its calibrations are COLMAP models in text format. Image names such as `dslr_images_undistorted/DSC_0286.JPG` are
    relative to the scene's folder `images`.

    Args:
        path: the scene, with `dslr_calibration_undistorted/` and `images/`.

    Raises:
        DataError: if there is no such calibration, or it is damaged.

    Source: Schöps et al., A Multi-View Stereo Benchmark with High-Resolution Images and Multi-Camera Videos,
    2017, and the description of the format on the benchmark's site.
    """
    folder = model_folder_at(path, ETH3D_FOLDERS, _REQUIRED_FILES)
    if folder is None:
        raise DataError(f"{path}: not a scene of ETH3D (none of {', '.join(ETH3D_FOLDERS)} contains a calibration)")
    truth = _read(folder, scene_name(path), path / "images")
    return SceneTruth(truth.name, truth.image_root, truth.cam_from_world_from_name, truth.camera_from_name, True)


def is_eth3d(path: Path) -> bool:
    """Whether a folder is a scene of ETH3D."""
    return model_folder_at(path, ETH3D_FOLDERS, _REQUIRED_FILES) is not None


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
