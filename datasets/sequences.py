"""Read image sequences with a true trajectory: folders of TUM RGB-D and of KITTI's odometry."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from datasets.cameras_json import camera_from_opencv
from datasets.photo_size import photo_size
from datasets.scene_truth import photo_from_stem, scene_name
from datasets.text import finite_numbers, word_lines
from datasets.trajectory import read_kitti_poses, read_tum_trajectory
from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.trajectory import associate
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.types import Camera

TRUTH_FILE, LIST_FILE = "groundtruth.txt", "rgb.txt"

_TUM_CAMERAS = {
    "1": ((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "2": ((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "3": ((535.4, 539.2, 320.1, 247.6), ()),
}
"""fx fy cx cy and distortion of the colour cameras of freiburg1, 2 and 3, as published by the authors."""

_KITTI_CAMERAS = ("image_0", "image_2", "image_1", "image_3")
"""Image folders in order of preference."""


def is_tum(path: Path) -> bool:
    """Whether a folder has the layout of a sequence of TUM RGB-D."""
    return (path / TRUTH_FILE).is_file()


def is_kitti(path: Path) -> bool:
    """Whether a folder is a sequence of KITTI's odometry."""
    return (path / "calib.txt").is_file() and any((path / folder).is_dir() for folder in _KITTI_CAMERAS)


def read_tum(path: Path) -> SceneTruth:
    """Read a sequence with `groundtruth.txt` (see `read_tum_trajectory`), in metres.

    The pose of an image is the one nearest in time, at most 0.02 s away, as in TUM's tools; images without such a
    pose are left out. If the folder's name contains `freiburg1` or `fr1` (or 2, 3), the intrinsics are the published
    ones; otherwise they are not known.

    Args:
        path: the sequence, with `rgb.txt` (timestamp and file on a line), or with images in `rgb/`, `images/` or the
            folder itself whose names are their timestamps.

    Raises:
        DataError: if a file is damaged (with file and line), or no image has a pose.
    """
    trajectory = read_tum_trajectory(path / TRUTH_FILE)
    images = _tum_images(path)
    pairs = associate(np.array([stamp for stamp, _ in images]), trajectory.stamps_s)
    if not pairs:
        raise DataError(f"{path}: no image has a time stamp close to a pose of {TRUTH_FILE}")
    root = path if len({image.parent for _, image in images}) > 1 else images[0][1].parent
    poses = {
        images[index][1].relative_to(root).as_posix(): trajectory.world_from_cam[other].inverse()
        for index, other in pairs
    }
    return SceneTruth(scene_name(path), root, poses, _tum_cameras(path, root, poses), is_metric=True)


def read_kitti(path: Path) -> SceneTruth:
    """Read a sequence of KITTI's odometry, in metres.

    `calib.txt` has a line `P0:` to `P3:` of 12 numbers for each camera: P [3, 4] in OpenCV's pixels. The poses are
    those of the left grey camera; the last column of P gives the offset of a camera from it. The images are those of
    `image_0`, or of the first other camera that exists.

    Args:
        path: such as `sequences/00`; its poses are in `poses.txt` there, or in `../../poses/00.txt`.

    Raises:
        DataError: if there are no poses, a file is damaged (with file and line), or there is no image.
    """
    folder = next((path / name for name in _KITTI_CAMERAS if (path / name).is_dir()), None)
    if folder is None:
        raise DataError(f"{path}: no images found (none of {', '.join(_KITTI_CAMERAS)})")
    resolved = path.resolve()
    candidates = (path / "poses.txt", resolved.parents[1] / "poses" / f"{resolved.name}.txt")
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise DataError(f"{path}: no poses found (neither {candidates[0]} nor {candidates[1]})")
    P = _kitti_projection(path / "calib.txt", f"P{folder.name[-1]}:")
    cam_from_cam0 = Rigid3(np.eye(3), np.linalg.inv(P[:, :3]) @ P[:, 3])
    world_from_cam0 = read_kitti_poses(file).world_from_cam
    images = [(int(stem), image) for stem, image in sorted(photo_from_stem([folder]).items()) if stem.isdecimal()]
    known = [(number, image) for number, image in images if number < len(world_from_cam0)]
    if not known:
        raise DataError(f"{folder}: no image has a pose in {file}")
    try:
        camera = camera_from_opencv(P[:, :3], np.zeros(0), photo_size(known[0][1]))
    except ValueError as error:
        raise DataError(f"{path / 'calib.txt'}: {error}") from error
    poses = {image.name: cam_from_cam0 @ world_from_cam0[number].inverse() for number, image in known}
    return SceneTruth(f"kitti {resolved.name}", folder, poses, dict.fromkeys(poses, camera), is_metric=True)


def _tum_images(path: Path) -> list[tuple[float, Path]]:
    if (path / LIST_FILE).is_file():
        images = []
        for location, words in word_lines(path / LIST_FILE):
            if len(words) != 2:
                raise DataError(f"{location}: expected a timestamp and a file, got {len(words)} words")
            (stamp,) = finite_numbers(location, words[:1], 1, "timestamp")
            if (path / words[1]).is_file():  # possibly only a part of the sequence was downloaded
                images.append((float(stamp), path / words[1]))
    else:
        files = photo_from_stem([path / "rgb", path / "images", path])
        images = sorted((float(stem), file) for stem, file in files.items() if _STAMP.fullmatch(stem))
    if not images:
        raise DataError(f"{path}: no images found (none of {LIST_FILE} exists, or no file name is a time stamp)")
    return images


_STAMP = re.compile(r"\d+(\.\d+)?")


def _tum_cameras(path: Path, root: Path, names: dict[str, Rigid3]) -> dict[str, Camera]:
    number = re.search(r"(?:freiburg|fr)([123])", scene_name(path))
    if number is None:
        return {}
    (fx, fy, cx, cy), distortion = _TUM_CAMERAS[number[1]]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    camera = camera_from_opencv(K, np.array(distortion, dtype=np.float64), photo_size(root / next(iter(names))))
    return dict.fromkeys(names, camera)


def _kitti_projection(path: Path, key: str) -> Float64Array:
    for location, words in word_lines(path):
        if words[0] == key:
            return finite_numbers(location, words[1:], 12, "a projection [3, 4] by rows").reshape(3, 4)
    raise DataError(f"{path}: no line {key}")
