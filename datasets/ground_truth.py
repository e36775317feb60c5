"""Read scenes with known cameras in any supported format."""

from __future__ import annotations

from pathlib import Path

from datasets.cameras_json import CAMERAS_FILE, TRUTH_FILE, camera_from_opencv, read_cameras_json
from datasets.colmap import has_colmap_model, is_eth3d, read_colmap_truth, read_eth3d
from datasets.imc import CALIBRATION_FILE, read_imc
from datasets.scene_truth import image_root_of, scene_name
from datasets.sequences import is_kitti, is_tum, read_kitti, read_tum
from datasets.strecha import find_camera_files, read_strecha
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.images.formats import PHOTO_SUFFIXES

__all__ = [
    "SceneTruth",
    "camera_from_opencv",
    "read_cameras_json",
    "read_colmap_truth",
    "read_image_folder",
    "read_scene",
]


def read_scene(path: Path) -> SceneTruth:
    """Read a scene; its format is detected.

    Args:
        path: one of these, in this order: a file or a folder with `cameras.json` or `truth.json`; a scene of ETH3D; a
            scene of the Image Matching Challenge of 2022; a sequence of TUM or KITTI; a COLMAP model, or a folder with
            one in `sparse/0`, `sparse` or `sfm`; a folder with Strecha's `.camera` files; a folder of images without
            ground truth.

    Raises:
        DataError: if the format is none of these, or the files are damaged.
    """
    path = Path(path)
    if path.is_file():
        return read_cameras_json(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    for name in (CAMERAS_FILE, TRUTH_FILE):
        if (path / name).is_file():
            return read_cameras_json(path / name)
    if is_eth3d(path):
        return read_eth3d(path)
    if (path / CALIBRATION_FILE).is_file():
        return read_imc(path)
    if is_tum(path):
        return read_tum(path)
    if is_kitti(path):
        return read_kitti(path)
    if has_colmap_model(path):
        return read_colmap_truth(path)
    if find_camera_files(path):
        return read_strecha(path)
    return read_image_folder(path)


def read_image_folder(path: Path) -> SceneTruth:
    """Read a folder of images without ground truth.

    Args:
        path: with the images, or with a folder `images`.

    Raises:
        DataError: if there is no image.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    image_root = image_root_of(path)
    if not any(file.suffix.lower() in PHOTO_SUFFIXES for file in image_root.rglob("*")):
        raise DataError(f"{path}: neither {CAMERAS_FILE}, {TRUTH_FILE}, a COLMAP model nor images found")
    return SceneTruth(scene_name(path), image_root)
