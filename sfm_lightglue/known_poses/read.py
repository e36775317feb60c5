"""Read a file of known poses, whatever its format, and give the images of a scene their cameras and poses."""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from sfm_lightglue.colmap.database_reader import camera_from_pycolmap
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import DataError
from sfm_lightglue.input_file import open_regular_file
from sfm_lightglue.known_poses.base import KnownImage, read_json
from sfm_lightglue.known_poses.bundler import HEAD, read_bundler
from sfm_lightglue.known_poses.opensfm import is_opensfm, read_opensfm
from sfm_lightglue.known_poses.transforms_json import is_transforms, read_transforms
from sfm_lightglue.messages import shortened, shown_path
from sfm_lightglue.scene.listed_names import ListedNames
from sfm_lightglue.types import Camera, Scene, SceneImage, SkippedImage

_FORMATS = (
    "transforms.json of nerfstudio, bundle.out of Bundler, reconstruction.json of OpenSfM, or the folder of a COLMAP"
    " model"
)
_FILES = ("transforms.json", "bundle.out", "reconstruction.json")
"""What is looked for in a folder that has no COLMAP model."""


def read_known_images(path: Path) -> list[KnownImage]:
    """The images of a file of poses, or of the folder of a COLMAP model.

    Args:
        path: a file, a folder that has such a file, or the folder of a COLMAP model.

    Raises:
        DataError: if it cannot be read, or has another format.
    """
    if path.is_dir():
        inside = next((path / name for name in _FILES if (path / name).is_file()), None)
        return _of_model(path) if inside is None else read_known_images(inside)
    try:
        with open_regular_file(path) as file:
            begin = file.read(len(HEAD))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{shown_path(path)}: cannot be read ({reason})") from error
    if begin == HEAD:
        return read_bundler(path)
    if path.suffix.lower() != ".json":
        raise DataError(f"{shown_path(path)}: expected {_FORMATS}")
    values = read_json(path)
    if is_transforms(values):
        return read_transforms(values, path)
    if is_opensfm(values):
        return read_opensfm(values, path)
    raise DataError(f"{shown_path(path)}: no poses in it; expected {_FORMATS}")


def _of_model(folder: Path) -> list[KnownImage]:
    model = read_model(folder)
    camera_id_from_name = {image.name: image.camera_id for image in model.images.values()}
    found = []
    for name, pose in poses_of_model(model).items():
        camera_id = camera_id_from_name[name]
        camera = replace(camera_from_pycolmap(model.cameras[camera_id]), source="given")
        found.append(KnownImage(name, pose, partial(_same, camera), int(camera_id)))
    return found


def _same(camera: Camera, size: tuple[int, int]) -> Camera:
    """The camera of a model, which states its size."""
    return camera


def with_known_poses(scene: Scene, path: Path, is_part: bool = False) -> Scene:
    """The images of a scene that have a known pose, with the cameras and poses of a file.

    Positions of the images are left out: the frame of the model is that of the poses.

    Args:
        scene: the images.
        path: as in `read_known_images`.
        is_part: whether the user chose some of the images, so that others may have poses too.

    Raises:
        DataError: if the file cannot be used, an image of it is missing, or a camera does not fit its image.
    """
    known = read_known_images(path)
    if not known:
        raise DataError(f"{shown_path(path)}: no image has a pose")
    known_from_name = _matched(scene, known, path, is_part)
    idx_from_key: dict[tuple[Hashable, Camera], int] = {}
    images: list[SceneImage] = []
    for image in scene.images:
        found = known_from_name.get(image.name)
        if found is None:
            continue
        camera = found.camera(image.camera.size)
        if camera.size != image.camera.size:
            raise DataError(
                f"{shown_path(path)}: image {image.name!r}: its camera has {camera.width} x {camera.height} pixels, the"
                f" image {image.camera.width} x {image.camera.height}; give the images of the file, neither resized nor"
                " turned"
            )
        camera_idx = idx_from_key.setdefault((found.camera_key, camera), len(idx_from_key))
        placed = replace(image, gps_position=None, xyz_m=None, cam_from_world=found.cam_from_world)
        images.append(replace(placed, camera=camera, camera_idx=camera_idx))
    without = tuple(
        SkippedImage(image.name, f"no pose in {shown_path(path.name)}")
        for image in scene.images
        if image.name not in known_from_name
    )
    skipped = tuple(sorted((*scene.skipped, *without), key=lambda one: one.name))
    return Scene(scene.root, tuple(images), skipped)


def _matched(scene: Scene, known: Sequence[KnownImage], path: Path, is_part: bool) -> dict[str, KnownImage]:
    """The images of the file by the names in the scene."""
    every = (*scene.names, *(one.name for one in scene.skipped))
    names = ListedNames.from_names(every, scene.root)
    spelt = [unicodedata.normalize("NFC", one.name.replace("\\", "/")) for one in known]
    most = max(len(PurePosixPath(one).parts) for one in spelt)
    # The file may name the images from another folder; then the same number of leading folders is left out for all.
    tried = [[_found(names, text, number) for text in spelt] for number in range(most)]
    best = max(tried, key=lambda found: sum(name is not None for name in found))
    missing = [text for text, name in zip(spelt, best, strict=True) if name is None]
    if len(missing) == len(known) or (missing and not is_part):
        raise DataError(
            f"{shown_path(path)}: {len(missing)} of its {len(known)} images are not in {shown_path(scene.root)}:"
            f" {shortened(missing)}; {names.explain(missing[:1])}"
        )
    found: dict[str, KnownImage] = {}
    for one, name in zip(known, best, strict=True):
        if name is not None and found.setdefault(name, one) is not one:
            raise DataError(f"{shown_path(path)}: {found[name].name!r} and {one.name!r} are the same image, {name}")
    return found


def _found(names: ListedNames, text: str, num_left_out: int) -> str | None:
    """The image of a spelling; one without a suffix, as Blender writes it, may stand for a file with one."""
    parts = PurePosixPath(text).parts
    if num_left_out >= len(parts):
        return None
    rest = "/".join(parts[num_left_out:]) if num_left_out else text
    direct = names.find(rest)
    if direct is not None or PurePosixPath(rest).suffix:
        return direct
    with_suffix = [one for suffix in (".png", ".jpg", ".jpeg") if (one := names.find(f"{rest}{suffix}")) is not None]
    return with_suffix[0] if len(with_suffix) == 1 else None
