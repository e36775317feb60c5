"""Scenes with known cameras: COLMAP models, and `cameras.json` or `truth.json` in OpenCV's pixels."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry import Float64Array, Rigid3
from sfm_lightglue.images import PHOTO_SUFFIXES
from sfm_lightglue.mapping.model import read_model
from sfm_lightglue.mapping.poses import poses_of_model
from sfm_lightglue.types import Camera

CAMERAS_FILE, TRUTH_FILE = "cameras.json", "truth.json"

METRIC_SCENES = frozenset({"fountain_p11", "tum_fr2_desk"})
"""Scenes of the shared data whose world unit is known to be the metre."""

_MODEL_PLACES = (".", "sparse/0", "sparse")
"""Where a scene's model may be. Not `reconstruction/sparse/0`: that is what we computed, and no truth."""


@dataclass(frozen=True, slots=True)
class SceneTruth:
    """Photos and what is known of their cameras.

    Args:
        name: for tables.
        image_root: the folder below which the images' names are.
        cam_from_world_from_name: poses in the unit of the world; empty where nothing is known.
        camera_from_name: intrinsics of the same images, in COLMAP's pixel convention.
        is_metric: whether the unit of the world is known to be the metre.

    Raises:
        ValueError: where poses and cameras are not those of the same images.
    """

    name: str
    image_root: Path
    cam_from_world_from_name: Mapping[str, Rigid3] = field(default_factory=dict)
    camera_from_name: Mapping[str, Camera] = field(default_factory=dict)
    is_metric: bool = False

    def __post_init__(self) -> None:
        if self.cam_from_world_from_name.keys() != self.camera_from_name.keys():
            raise ValueError(f"SceneTruth {self.name}: poses and cameras are of different images")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images with truth, sorted."""
        return tuple(sorted(self.cam_from_world_from_name))

    @property
    def centers(self) -> Float64Array:
        """Camera centres [N, 3] in the unit of the world, in the order of `names`."""
        return np.array([self.cam_from_world_from_name[name].center for name in self.names]).reshape(-1, 3)

    @property
    def extent(self) -> float:
        """Largest distance of two camera centres in the unit of the world, 0 where there is none."""
        centers = self.centers
        return float(np.linalg.norm(centers[:, None] - centers[None], axis=2).max(initial=0.0))

    def only(self, names: Collection[str]) -> SceneTruth:
        """The truth of some of the images; names without truth are passed over."""
        kept = [name for name in self.names if name in set(names)]
        return SceneTruth(
            self.name,
            self.image_root,
            {name: self.cam_from_world_from_name[name] for name in kept},
            {name: self.camera_from_name[name] for name in kept},
            self.is_metric,
        )


def read_scene(path: Path) -> SceneTruth:
    """Read a scene, whatever describes its cameras.

    Args:
        path: a folder with `cameras.json` or `truth.json`, such a file itself, a COLMAP model or a folder
            with one in `sparse/0` or `sparse`, or a folder of photos without truth; the first that fits.

    Raises:
        DataError: where it is none of these, or damaged.
    """
    path = Path(path)
    if path.is_file():
        return read_cameras_json(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    for name in (CAMERAS_FILE, TRUTH_FILE):
        if (path / name).is_file():
            return read_cameras_json(path / name)
    if any((path / place / f"cameras{suffix}").is_file() for place in _MODEL_PLACES for suffix in (".bin", ".txt")):
        return read_colmap_truth(path)
    return read_image_folder(path)


def read_image_folder(path: Path) -> SceneTruth:
    """A folder of photos, of whose cameras nothing is known.

    Args:
        path: holds the photos, or a sub-folder `images` with them.

    Raises:
        DataError: where there is no photo.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    image_root = _image_root(path)
    if not any(file.suffix.lower() in PHOTO_SUFFIXES for file in image_root.rglob("*")):
        raise DataError(f"{path}: neither {CAMERAS_FILE}, {TRUTH_FILE}, a COLMAP model nor photos are here")
    return SceneTruth(_scene_name(path), image_root)


def read_colmap_truth(path: Path) -> SceneTruth:
    """The cameras of a COLMAP model, binary or text.

    Args:
        path: the model, or a scene folder with `sparse/0` or `sparse`. The photos are taken to lie in a
            folder `images` there, or at most two folders above.

    Raises:
        DataError: where there is no model, it is damaged, or it has no image with a pose.
    """
    folder = next((path / place for place in _MODEL_PLACES if _is_model(path / place)), path)
    model = read_model(folder)
    poses = poses_of_model(model)
    if not poses:
        raise DataError(f"{folder}: the model has no image with a pose")
    cameras = {}
    for image_id in model.reg_image_ids():
        image = model.images[image_id]
        camera = model.cameras[image.camera_id]
        cameras[image.name] = Camera(camera.model_name, camera.width, camera.height, tuple(camera.params))
    # A scene is named by the folder that holds `images`, not by the 0 of `sparse/0`.
    above = (path, *path.resolve().parents[:2])
    root = next((parent for parent in above if (parent / "images").is_dir()), path)
    return SceneTruth(_scene_name(root), _image_root(root), poses, cameras)


def read_cameras_json(path: Path) -> SceneTruth:
    """The cameras of a `cameras.json` or `truth.json`.

    The file maps a name to {width, height, K [3][3], R [3][3], t [3], dist}: R and t are cam_from_world, K
    has OpenCV's pixel convention, where the centre of the first pixel is (0, 0), and dist is OpenCV's
    [k1 k2 p1 p2 k3 k4 k5 k6], of which trailing values may be left out.

    Args:
        path: the file; the photos lie beside it in a folder `images`, or in the same folder.

    Raises:
        DataError: where the file is missing or damaged, with the name of the image.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # no JSON, or no UTF-8
        raise DataError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{path}: expected a mapping from names of images to cameras")
    poses, cameras = {}, {}
    for name, entry in sorted(entries.items()):
        try:
            poses[name], cameras[name] = _pose(entry), _camera(entry)
        except KeyError as error:
            raise DataError(f"{path}: {name}: {error.args[0]} is missing") from error
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: {name}: {error}") from error
    scene = _scene_name(path.parent)
    is_metric = path.name == TRUTH_FILE or scene in METRIC_SCENES
    return SceneTruth(scene, _image_root(path.parent), poses, cameras, is_metric)


def camera_from_opencv(K: Float64Array, dist: Float64Array, size: tuple[int, int]) -> Camera:
    """The smallest of COLMAP's camera models that is exactly OpenCV's.

    Args:
        K: [3, 3] pixels, where the centre of the first pixel is (0, 0).
        dist: [0 to 8] k1 k2 p1 p2 k3 k4 k5 k6, of which trailing values may be left out.
        size: (width, height) in pixels.

    Raises:
        ValueError: where COLMAP has no such model, or the numbers are no camera.

    Source: OpenCV's documentation of calib3d; COLMAP's models.h.
    """
    (fx, skew, cx), (zero, fy, cy), last = K
    if skew != 0 or zero != 0 or tuple(last) != (0, 0, 1):
        raise ValueError(f"K must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {K.tolist()}")
    if fx <= 0 or fy <= 0:
        raise ValueError(f"focal lengths must be positive, got {fx} and {fy}")
    if dist.ndim != 1 or len(dist) > 8:
        raise ValueError(f"dist: expected at most 8 numbers, got shape {list(dist.shape)}")
    distortion = np.zeros(8)
    distortion[: len(dist)] = dist
    k1, k2, p1, p2 = distortion[:4]
    # COLMAP has the centre of the first pixel at (0.5, 0.5).
    principal = (cx + 0.5, cy + 0.5)
    if distortion[4:].any():
        return Camera("FULL_OPENCV", *size, (fx, fy, *principal, *distortion))
    if p1 != 0 or p2 != 0 or (fx != fy and (k1 != 0 or k2 != 0)):
        return Camera("OPENCV", *size, (fx, fy, *principal, k1, k2, p1, p2))
    if k2 != 0:
        return Camera("RADIAL", *size, (fx, *principal, k1, k2))
    if k1 != 0:
        return Camera("SIMPLE_RADIAL", *size, (fx, *principal, k1))
    if fx != fy:
        return Camera("PINHOLE", *size, (fx, fy, *principal))
    return Camera("SIMPLE_PINHOLE", *size, (fx, *principal))


def _pose(entry: Mapping[str, Any]) -> Rigid3:
    return Rigid3(_numbers(entry, "R", (3, 3)), _numbers(entry, "t", (3,)))


def _camera(entry: Mapping[str, Any]) -> Camera:
    size = entry["width"], entry["height"]
    if not all(isinstance(value, int) for value in size):
        raise ValueError(f"width and height must be whole numbers, got {size[0]!r} and {size[1]!r}")
    return camera_from_opencv(_numbers(entry, "K", (3, 3)), _numbers(entry, "dist", None), size)


def _numbers(entry: Mapping[str, Any], key: str, shape: tuple[int, ...] | None) -> Float64Array:
    if not isinstance(entry, Mapping):
        raise TypeError(f"expected a mapping, got {entry!r}")
    try:
        values = np.array(entry[key], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: expected numbers, got {entry[key]!r}") from error
    if (shape is not None and values.shape != shape) or not np.isfinite(values).all():
        raise ValueError(f"{key}: expected finite numbers {list(shape or [])}, got {entry[key]!r}")
    return values


def _is_model(folder: Path) -> bool:
    # `images` may be a folder of photos beside it, so `cameras` tells.
    return any((folder / f"cameras{suffix}").is_file() for suffix in (".bin", ".txt"))


def _image_root(path: Path) -> Path:
    return path / "images" if (path / "images").is_dir() else path


def _scene_name(path: Path) -> str:
    path = path.resolve()
    return path.parent.name if path.name == "images" else path.name
