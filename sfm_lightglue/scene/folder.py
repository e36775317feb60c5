"""A folder of images -> `Scene`: names, sizes, and cameras from EXIF data or from the user's parameters."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.images.formats import PHOTO_SUFFIXES
from sfm_lightglue.images.image import MIN_SIDE_PX, Image
from sfm_lightglue.images.panorama import PANORAMA_REASONS
from sfm_lightglue.messages import shortened
from sfm_lightglue.scene.camera_assignment import CameraConfig, Photo, assign_cameras
from sfm_lightglue.store.output_folder import is_results_folder
from sfm_lightglue.types import Scene, SkippedImage

logger = logging.getLogger(__name__)

_UNREADABLE_SUFFIXES = frozenset({".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"})


def load_scene(
    root: Path,
    cameras: CameraConfig | None = None,
    ignore: Iterable[Path] = (),
    num_threads: int = 1,
    as_it_is: bool = False,
) -> Scene:
    """Find the images of a scene and assign a camera to each.

    Args:
        root: a folder of images, also in sub-folders. If it has a sub-folder `images`, only that one is read.
        cameras: how images share cameras.
        ignore: folders to leave out, such as the output folder.
        num_threads: number of files that are read at the same time.
        as_it_is: read all of `root` even if it has a sub-folder `images`, as COLMAP does.

    Returns:
        The images, sorted by name. Unreadable images and panoramas are in `skipped` and logged as warnings.

    Raises:
        DataError: if the folder does not exist, or has no readable image, or only panoramas.
        ConfigError: if the given cameras do not fit the images.
    """
    cameras = cameras or CameraConfig()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder" if not root.exists() else f"{root}: not a folder")
    folder = root / "images" if (root / "images").is_dir() and not as_it_is else root
    paths = _find_photos(folder, {path.resolve() for path in ignore})
    read = list(ordered_map(lambda path: _read_photo(path, folder), paths, num_threads))
    photos = [photo for photo in read if isinstance(photo, Photo)]
    skipped = tuple(photo for photo in read if isinstance(photo, SkippedImage))
    _warn_of(skipped)
    if not photos:
        raise DataError(_why_no_photo(folder, skipped))
    return Scene(folder, assign_cameras(photos, cameras), skipped)


def _warn_of(skipped: tuple[SkippedImage, ...]) -> None:
    names_from_reason: dict[str, list[str]] = {}
    for photo in skipped:
        if photo.reason in PANORAMA_REASONS.values():  # usually a whole folder, so one warning names all
            names_from_reason.setdefault(photo.reason, []).append(photo.name)
        else:
            logger.warning("left out %s: %s", photo.name, photo.reason)
    for reason, names in names_from_reason.items():
        logger.warning("left out %s: %s", shortened(names), reason)


def _why_no_photo(folder: Path, skipped: tuple[SkippedImage, ...]) -> str:
    panoramas = Counter(photo.reason for photo in skipped if photo.reason in PANORAMA_REASONS.values())
    if not panoramas:
        tried = f", {len(skipped)} could not be read" if skipped else ""
        return f"{folder}: no photo found{tried}; JPEG, PNG, TIFF, WebP and BMP files are read, also from sub-folders"
    ((reason, number),) = panoramas.most_common(1)
    which = f"{number} of {len(skipped)} photos are each" if len(skipped) > 1 else "the only photo is"
    return f"{folder}: no photo left that can be used; {which} {reason}"


def _find_photos(folder: Path, ignore: set[Path]) -> list[Path]:
    paths = []
    visited: set[Path] = set()
    for directory, subdirectories, files in os.walk(folder, followlinks=True):
        here = Path(directory)
        if here.resolve() in visited:  # a circular link
            subdirectories.clear()
            continue
        visited.add(here.resolve())
        subdirectories[:] = [
            name
            for name in subdirectories
            if not name.startswith(".") and (here / name).resolve() not in ignore and not is_results_folder(here / name)
        ]
        paths += [
            here / name
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in PHOTO_SUFFIXES | _UNREADABLE_SUFFIXES
        ]
    return sorted(paths, key=lambda path: path.relative_to(folder).as_posix())


def _read_photo(path: Path, folder: Path) -> Photo | SkippedImage:
    name = path.relative_to(folder).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        return SkippedImage(ascii(name), "its name is not valid Unicode and cannot be stored in databases; rename it")
    if path.suffix.lower() in _UNREADABLE_SUFFIXES:
        return SkippedImage(name, f"{path.suffix} files cannot be read; convert them to JPEG or PNG")
    try:
        image = Image.read(path, name)
        photo = Photo(name, path, image.size, image.exif, image.digest)
    except DataError as error:
        return SkippedImage(name, str(error).removeprefix(f"{name}: ").removeprefix(f"{path}: "))
    if min(photo.size) < MIN_SIDE_PX:
        return SkippedImage(name, f"only {photo.size[0]} x {photo.size[1]} pixels")
    if photo.exif.panorama:
        return SkippedImage(name, PANORAMA_REASONS[photo.exif.panorama])
    return photo
