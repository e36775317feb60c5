"""Scenes described by `.camera` files, one a photo: Strecha's fountain, Herz-Jesu and castle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.cameras_json import camera_from_opencv
from datasets.scene_truth import photo_from_stem, scene_name
from datasets.text import finite_numbers, read_text
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.types import Camera

SUFFIX = ".camera"

_NUM_NUMBERS = 26

_IMAGE_FOLDERS = ("images", "urd", ".")
_CAMERA_FOLDERS = (".", "images", "cameras", "gt_dense_cameras", "gt")


def find_camera_files(path: Path) -> tuple[Path, ...]:
    """The `.camera` files of a scene folder: in it, or in one that is named for cameras.

    They are looked for in `cameras`, `gt_dense_cameras`, `gt`, `images` and `NAME_cameras` too.
    """
    folders = [path / name for name in _CAMERA_FOLDERS] + sorted(path.glob("*_cameras"))
    return next((tuple(found) for folder in folders if (found := sorted(folder.glob(f"*{SUFFIX}")))), ())


def read_strecha(path: Path) -> SceneTruth:
    """The cameras of a scene with `.camera` files, whose unit is the metre.

    Args:
        path: a folder where `find_camera_files` finds them. The photo of `0000.png.camera` is `0000.png`, or
            another picture of that stem, in `images`, `urd`, `NAME_images`, the folder itself, or beside the file.

    Raises:
        DataError: where there is none, one is damaged, or its photo is missing.
    """
    files = find_camera_files(path)
    if not files:
        raise DataError(f"{path}: no {SUFFIX} file here")
    folders = [path / name for name in _IMAGE_FOLDERS] + sorted(path.glob("*_images")) + [files[0].parent]
    photos = photo_from_stem(folders)
    poses, cameras, roots = {}, {}, set()
    for file in files:
        photo = photos.get(Path(file.name.removesuffix(SUFFIX)).stem)
        if photo is None:
            raise DataError(f"{file}: its photo is missing (looked for in {', '.join(map(str, folders))})")
        roots.add(photo.parent)
        poses[photo.name], cameras[photo.name] = read_camera_file(file)
    if len(roots) > 1:
        raise DataError(f"{path}: the photos are in several folders ({', '.join(map(str, sorted(roots)))})")
    return SceneTruth(scene_name(path), roots.pop(), poses, cameras, is_metric=True)


def read_camera_file(path: Path) -> tuple[Rigid3, Camera]:
    """One `.camera` file: K (9), radial distortion (3), R (9), c (3), width and height.

    R is world_from_cam and c the centre of the camera: a point projects by K [Rᵀ | -Rᵀ c]. K is taken to have
    OpenCV's pixel convention, which its authors do not state.

    Raises:
        DataError: where it is not such a file, or has a distortion (the published photos have none, and what
            the three numbers would mean is not documented).

    Source: Strecha et al., On Benchmarking Camera Calibration and Multi-View Stereo for High Resolution Imagery,
    2008, and the format's description beside the data.
    """
    values = finite_numbers(str(path), read_text(path).split(), _NUM_NUMBERS, "K, distortion, R, centre, size")
    K, distortion, R, center = values[:9].reshape(3, 3), values[9:12], values[12:21].reshape(3, 3), values[21:24]
    if distortion.any():
        raise DataError(f"{path}: a radial distortion {distortion.tolist()} is not supported")
    width, height = (int(value) for value in values[24:])
    try:
        return Rigid3(R.T, -R.T @ center), camera_from_opencv(K, np.zeros(0), (width, height))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
