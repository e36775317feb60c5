"""A folder of images -> `Scene`: names, sizes, and cameras from EXIF data or from the user's parameters."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.images.panorama import PANORAMA_REASONS
from sfm_lightglue.messages import shortened
from sfm_lightglue.scene.camera_assignment import CameraConfig, Photo, assign_cameras
from sfm_lightglue.scene.listed_names import ListedNames, read_image_list
from sfm_lightglue.scene.masks import masks_of_photos, warn_of_masks
from sfm_lightglue.scene.photo import is_video, read_photo
from sfm_lightglue.scene.positions import read_positions
from sfm_lightglue.scene.walk import FoundFiles, find_files, name_below
from sfm_lightglue.types import Scene, SkippedImage

logger = logging.getLogger(__name__)


def load_scene(
    root: Path,
    cameras: CameraConfig | None = None,
    ignore: Iterable[Path] = (),
    num_threads: int = 1,
    as_it_is: bool = False,
    masks: Path | None = None,
    progress: Progress = silent,
    image_list: Path | None = None,
    positions: Path | None = None,
) -> Scene:
    """Find the images of a scene and assign a camera to each.

    Args:
        root: a folder of images, also in sub-folders. If it has a sub-folder `images`, only that one is read.
        cameras: how images share cameras.
        ignore: folders to leave out, such as the output folder.
        num_threads: number of files that are read at the same time.
        as_it_is: read all of `root` even if it has a sub-folder `images`, as COLMAP does.
        masks: folder of the masks; None looks for folders named "masks".
        progress: called with the stage "scan" after each file.
        image_list: text file with the names of the images to use, one a line; None uses all.
        positions: table of the positions of the images; None uses those of the EXIF data.

    Returns:
        The images, sorted by name. Unreadable images and panoramas are in `skipped` and logged as warnings.

    Raises:
        DataError: if the folder does not exist, or has no readable image, or only panoramas, or a list cannot be used.
        ConfigError: if the given cameras or masks do not fit the images.
    """
    cameras = cameras or CameraConfig()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder" if not root.exists() else f"{root}: not a folder")
    folder = root / "images" if (root / "images").is_dir() and not as_it_is else root
    found = find_files(folder, [*ignore, *([masks] if masks is not None else [])])
    paths, mask_from_name = masks_of_photos(found, masks)
    name_from_path = {path: _unicode_name(name_below(path, folder)) for path in paths}
    given = None
    if positions is not None or image_list is not None:
        names = ListedNames.from_names((*(photo.name for photo in found.skipped), *name_from_path.values()), folder)
        given = read_positions(positions, names) if positions is not None else None
        if image_list is not None:
            listed = read_image_list(image_list, names)
            paths = [path for path in paths if name_from_path[path] in listed]
            found.skipped = [photo for photo in found.skipped if photo.name in listed]

    def read(path: Path) -> Photo | SkippedImage | None:
        return read_photo(path, name_from_path[path], mask_from_name.get(name_below(path, folder)))

    photos, unreadable = _read_all(read, paths, num_threads, progress)
    skipped = tuple(sorted([*found.skipped, *unreadable], key=lambda photo: photo.name))
    _warn_of(skipped)
    if found.thumbnails:
        logger.warning("left out folders of thumbnails: %s", shortened(found.thumbnails))
    if not photos:
        raise DataError(_why_no_photo(found, skipped))
    warn_of_masks(photos)
    images = assign_cameras(photos, cameras)
    return Scene(folder, images if given is None else given.applied_to(images), skipped)


def _read_all(
    read: Callable[[Path], Photo | SkippedImage | None], paths: Sequence[Path], num_threads: int, progress: Progress
) -> tuple[list[Photo], list[SkippedImage]]:
    """The photos, and the reasons of files that are none but look like one."""
    all_read = []
    progress("scan", 0, len(paths))
    for one in ordered_map(read, paths, num_threads):
        all_read.append(one)
        progress("scan", len(all_read), len(paths))
    photos = [photo for photo in all_read if isinstance(photo, Photo)]
    return photos, [photo for photo in all_read if isinstance(photo, SkippedImage)]


def _unicode_name(name: str) -> str:
    """The name of an image in Unicode, also if Python reads the names of files as ASCII (LC_ALL=C, PYTHONUTF8=0)."""
    try:
        return os.fsencode(name).decode("utf-8")
    except UnicodeError:  # not a name in UTF-8 at all
        return name


def _warn_of(skipped: tuple[SkippedImage, ...]) -> None:
    names_from_reason: dict[str, list[str]] = {}
    for photo in skipped:  # the same reason often holds for a whole folder, so one warning names all
        names_from_reason.setdefault(photo.reason, []).append(photo.name)
    for reason, names in names_from_reason.items():
        logger.warning("left out %s: %s", shortened(names), reason)


def _why_no_photo(found: FoundFiles, skipped: tuple[SkippedImage, ...]) -> str:
    panoramas = Counter(photo.reason for photo in skipped if photo.reason in PANORAMA_REASONS.values())
    if panoramas:
        ((reason, number),) = panoramas.most_common(1)
        which = f"{number} of {len(skipped)} photos are each" if len(skipped) > 1 else "the only photo is"
        return f"{found.folder}: no photo left that can be used; {which} {reason}"
    tried = f", {len(skipped)} could not be read" if skipped else ""
    reasons = sorted({photo.reason for photo in skipped})
    if len(skipped) > 1 and len(reasons) == 1:
        tried += f" ({reasons[0]})"
    hint = "; videos are given by the paths of their files" if any(is_video(path) for path in found.paths) else ""
    if found.thumbnails:
        hint += f"; folders of thumbnails are left out ({shortened(found.thumbnails)})"
    return (
        f"{found.folder}: no photo found{tried}; JPEG, PNG, TIFF, WebP, BMP, JPEG 2000, AVIF, PPM and HEIC files are"
        f" read, also from sub-folders{hint}"
    )
