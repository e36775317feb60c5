"""Masks of the images of a scene, by COLMAP's rule: the mask of `a/b.jpg` is `masks/a/b.jpg.png`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.images.image import Image
from sfm_lightglue.messages import shortened, shown_path
from sfm_lightglue.scene.camera_assignment import Photo
from sfm_lightglue.scene.walk import FoundFiles, find_files, name_below

logger = logging.getLogger(__name__)

MASK_RULE = "the mask of a/b.jpg is a/b.jpg.png (or a/b.png) in the folder of the masks, and black means no features"

_NUM_LOOKED_AT = 8
_GREY_TOLERANCE, _TWO_LEVELS_SHARE = 16, 0.98
"""An image has two grey levels if that share of its pixels differs from the darkest or the brightest one by no more:
masks that were stored as JPEG have soft edges."""


@dataclass(frozen=True)
class MaskFolder:
    """A folder of masks.

    Args:
        path: the folder.
        prefix: of the names of the images that it belongs to: "" or a sub-folder of the scene with a slash.
        files: its files, at any depth.
    """

    path: Path
    prefix: str
    files: tuple[Path, ...] = field(repr=False)

    def mask_of(self, name: str) -> Path | None:
        """The mask of an image by its name; None if there is none."""
        if not name.startswith(self.prefix):
            return None
        own = name.removeprefix(self.prefix)
        for wanted in (f"{own}.png", PurePosixPath(own).with_suffix(".png").as_posix()):
            found = self._path_from_name.get(wanted) or self._path_from_folded_name.get(wanted.casefold())
            if found is not None:
                return found
        return None

    @cached_property
    def _path_from_name(self) -> dict[str, Path]:
        return {name_below(path, self.path): path for path in self.files}

    @cached_property
    def _path_from_folded_name(self) -> dict[str, Path]:
        """Suffixes in upper case; names that differ in nothing else have no meaning here."""
        num_from_folded_name = Counter(map(str.casefold, self._path_from_name))
        folded = ((name.casefold(), path) for name, path in self._path_from_name.items())
        return {name: path for name, path in folded if num_from_folded_name[name] == 1}


def masks_of_photos(found: FoundFiles, stated: Path | None) -> tuple[list[Path], dict[str, Path]]:
    """Tell photographs and masks apart.

    Args:
        found: the files of the image folder.
        stated: the folder of the masks that the user names; None looks for folders named "masks".

    Returns:
        The files that can be photographs, sorted by name, and the mask of each one that has one, by name.

    Raises:
        ConfigError: if the stated folder does not exist, or has no mask of any of the files.
    """
    photos = list(found.paths)
    folders = []
    for folder in _candidates(found):
        if any(folder.mask_of(_name(path, found)) for path in found.paths):
            folders.append(folder)
        elif _look_like_masks(folder.files):
            if stated is None:
                logger.warning(
                    "left out the folder %s: its images look like masks, but none has the name of a mask: %s; `masks`"
                    " states another folder",
                    shown_path(folder.path),
                    MASK_RULE,
                )
        elif folder.path in found.mask_folders:
            photos += folder.files
    if stated is not None:
        folders = [_stated_folder(stated, found)]
        own = set(folders[0].files)
    else:
        own = set()
    masks: dict[str, Path] = {}
    for folder in folders:  # the folder that is nearest to an image comes last
        for path in photos:
            mask = folder.mask_of(_name(path, found))
            if mask is not None and mask != path:
                masks[_name(path, found)] = mask
    used = set(masks.values()) & own  # masks beside their images
    photos = [path for path in photos if path not in used]
    if stated is not None and not masks:
        raise ConfigError(f"`masks` {shown_path(stated)}: no file in it is the mask of a photo; {MASK_RULE}")
    names = {_name(path, found) for path in photos}
    photos.sort(key=lambda path: _name(path, found))
    return photos, {name: path for name, path in masks.items() if name in names}


def warn_of_masks(photos: Sequence[Photo]) -> None:
    """Warn of images without a mask where others have one, and of masks whose orientation is not certain."""
    turned = [photo.name for photo in photos if photo.mask is not None and _is_ambiguous(photo)]
    if turned:
        logger.warning(
            "masks of %d photos that their EXIF data turn are taken as the photos are stored, not upright, because both"
            " have the same aspect: %s",
            len(turned),
            shortened(turned),
        )
    without = [photo.name for photo in photos if photo.mask is None]
    if 0 < len(without) < len(photos):
        logger.warning("%d photos have no mask, so all of their pixels are used: %s", len(without), shortened(without))


def _is_ambiguous(photo: Photo) -> bool:
    """Whether the stored and the upright image have the same aspect, but another orientation."""
    turns, (width, height) = photo.exif.quarter_turns, photo.size
    return turns == 2 or (turns % 2 == 1 and abs(width - height) <= 1)


def _candidates(found: FoundFiles) -> list[MaskFolder]:
    """Folders named "masks", the one that is nearest to its images last."""
    folders = []
    for path, files in found.mask_folders.items():
        parent = path.parent.relative_to(found.folder).as_posix()
        folders.append(MaskFolder(path, "" if parent == "." else f"{parent}/", tuple(files)))
    if found.folder.name.casefold() == "images":
        folders += [MaskFolder(path, "", tuple(find_files(path).paths)) for path in _beside(found.folder)]
    return sorted(folders, key=lambda folder: len(folder.prefix))


def _beside(folder: Path) -> list[Path]:
    try:
        return sorted(
            path for path in folder.parent.iterdir() if path.name.casefold() in {"mask", "masks"} and path.is_dir()
        )
    except OSError:  # the folder that is above the images need not be readable
        return []


def _stated_folder(path: Path, found: FoundFiles) -> MaskFolder:
    if not path.is_dir():
        raise ConfigError(f"`masks` {shown_path(path)}: no such folder")
    try:
        return MaskFolder(path, "", tuple(find_files(path, mask_folders=False).paths))
    except DataError as error:
        raise ConfigError(f"`masks` {error}") from error


def _name(path: Path, found: FoundFiles) -> str:
    return name_below(path, found.folder)


def _look_like_masks(files: Iterable[Path]) -> bool:
    """Whether all images among the first files have one or two grey levels; False if there is no image."""
    found = []
    for path in files:
        try:
            found.append(_has_two_levels(Image.read(path).grey()))
        except DataError:  # no image; those that can be read decide
            continue
        if not found[-1] or len(found) == _NUM_LOOKED_AT:
            break
    return len(found) > 0 and all(found)


def _has_two_levels(grey: UInt8Array) -> bool:
    distance = np.minimum(grey - grey.min(), grey.max() - grey)
    return bool((distance <= _GREY_TOLERANCE).mean() >= _TWO_LEVELS_SHARE)
