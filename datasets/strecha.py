"""Read scenes with a `.camera` file per image: Strecha's fountain, Herz-Jesu and castle."""

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
    """The `.camera` files of a scene folder, sorted.

    The first folder with such files is used: the scene folder, `images`, `cameras`, `gt_dense_cameras`, `gt`,
    `NAME_cameras`.
    """
    folders = [path / name for name in _CAMERA_FOLDERS] + sorted(path.glob("*_cameras"))
    return next((tuple(files) for folder in folders if (files := sorted(folder.glob(f"*{SUFFIX}")))), ())


def read_strecha(path: Path) -> SceneTruth:
    """Read the cameras of a scene with `.camera` files, whose unit is the metre.

    Args:
        path: a scene folder, see `find_camera_files`. The image of `0000.png.camera` is `0000.png`, or another image
            with that stem, in `images`, `urd`, the scene folder, `NAME_images`, or beside the file.

    Raises:
        DataError: if there is no such file, one is damaged, or its image is missing.
    """
    files = find_camera_files(path)
    if not files:
        raise DataError(f"{path}: no {SUFFIX} file found")
    folders = [path / name for name in _IMAGE_FOLDERS] + sorted(path.glob("*_images")) + [files[0].parent]
    images = photo_from_stem(folders)
    poses, cameras, roots = {}, {}, set()
    for file in files:
        image = images.get(Path(file.name.removesuffix(SUFFIX)).stem)
        if image is None:
            raise DataError(f"{file}: its image is missing (searched: {', '.join(map(str, folders))})")
        roots.add(image.parent)
        poses[image.name], cameras[image.name] = read_camera_file(file)
    if len(roots) > 1:
        raise DataError(f"{path}: the images are in several folders ({', '.join(map(str, sorted(roots)))})")
    return SceneTruth(scene_name(path), roots.pop(), poses, cameras, is_metric=True)


def read_camera_file(path: Path) -> tuple[Rigid3, Camera]:
    """Read a `.camera` file: K (9), radial distortion (3), R (9), c (3), width and height.

    R is world_from_cam and c the centre of the camera: the projection is K [Rᵀ | -Rᵀ c]. The authors do not state the
    pixel convention of K; OpenCV's is assumed.

    Raises:
        DataError: if the file does not have this format, or has a distortion. The published images have none, and the
            meaning of the three numbers is not documented.

    Source: Strecha et al., On Benchmarking Camera Calibration and Multi-View Stereo for High Resolution Imagery,
    2008, and the description of the format published with the data.
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
