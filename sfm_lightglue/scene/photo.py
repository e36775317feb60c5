"""Read one file of an image folder: whether it is a photograph, its size, EXIF data, digest and mask."""

from __future__ import annotations

from pathlib import Path

from sfm_lightglue.errors import DataError
from sfm_lightglue.images.formats import HEAD_BYTES, PHOTO_SUFFIXES, RAW_SUFFIXES, find_format
from sfm_lightglue.images.image import MIN_SIDE_PX, Image
from sfm_lightglue.images.mask import digest_of_mask
from sfm_lightglue.images.opening import CONVERT_REMEDY
from sfm_lightglue.images.panorama import PANORAMA_REASONS
from sfm_lightglue.input_file import open_regular_file
from sfm_lightglue.messages import shown_path
from sfm_lightglue.scene.camera_assignment import Photo
from sfm_lightglue.types import SkippedImage

_OTHER_IMAGE_SUFFIXES = frozenset({".exr", ".gif", ".hdr", ".jxl", ".psd"})
"""Suffixes of image files that are not read, but that are likely to be photographs: they are named."""

_FORMATS_OF_UNREADABLE = frozenset({None, "GIF", "RAW", "TIFF"})
"""What files with these suffixes, or with those of raw files, contain. Other content is a photo with a wrong name."""

_NEVER_PHOTO_SUFFIXES = frozenset({".cur", ".icns", ".ico", ".thm"})
"""Icons and the thumbnails that cameras write beside videos: their content can be a JPEG or PNG file."""

_COPY_SUFFIXES = (
    "_original",  # of ExifTool
    *("~", ".bak", ".old", ".orig", ".swp"),
    *(".crdownload", ".download", ".part", ".partial", ".tmp"),
)

_VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".mts", ".webm"})

_WEAK_FORMATS = frozenset({"BMP", "PPM"})
"""Formats whose first bytes can also begin a text."""


def is_video(path: Path) -> bool:
    """Whether a file has the suffix of a video."""
    return path.suffix.lower() in _VIDEO_SUFFIXES


def read_photo(path: Path, name: str, mask: Path | None = None) -> Photo | SkippedImage | None:
    """Read a file if it is a photograph.

    Args:
        path: of a regular file.
        name: in the scene.
        mask: file of its mask.

    Returns:
        The photograph; the reason why it is left out; None if the file does not look like a photograph.
    """
    suffix = path.suffix.lower()
    has_usual_suffix = suffix in PHOTO_SUFFIXES | RAW_SUFFIXES | _OTHER_IMAGE_SUFFIXES
    if suffix in _NEVER_PHOTO_SUFFIXES:
        return None
    try:
        if not has_usual_suffix and not _is_photo_by_content(path):
            return None
        try:
            name.encode()
        except UnicodeEncodeError:
            reason = "its name is not valid Unicode and cannot be stored in databases; rename it"
            return SkippedImage(ascii(name), reason)
        is_named_unreadable = suffix in RAW_SUFFIXES | _OTHER_IMAGE_SUFFIXES
        if is_named_unreadable and find_format(_head(path)) in _FORMATS_OF_UNREADABLE:
            return SkippedImage(name, f"{path.suffix} {CONVERT_REMEDY}")
        if not has_usual_suffix and path.name.lower().endswith(_COPY_SUFFIXES):
            return SkippedImage(name, "a backup copy or an unfinished download by its name; rename it to use it")
        return _read(path, name, mask)
    except DataError as error:
        return SkippedImage(name, _reason(error, path, name))


def _read(path: Path, name: str, mask: Path | None) -> Photo | SkippedImage:
    image = Image.read(path, name)
    size, exif = image.size, image.exif
    if min(size) < MIN_SIDE_PX:
        return SkippedImage(name, f"only {size[0]} x {size[1]} pixels")
    if exif.panorama:
        return SkippedImage(name, PANORAMA_REASONS[exif.panorama])
    if mask is None:
        return Photo(name, path, size, exif, image.digest)
    try:
        mask_digest = digest_of_mask(mask, size, exif.quarter_turns)
    except DataError as error:
        return SkippedImage(name, f"its mask cannot be used: {error}")
    return Photo(name, path, size, exif, image.digest, mask, mask_digest)


def _is_photo_by_content(path: Path) -> bool:
    """Whether a file without the suffix of a photograph is one.

    Raises:
        DataError: if the file cannot be read.
    """
    kind = find_format(_head(path))
    if kind in _WEAK_FORMATS:
        try:
            Image.read(path).grey()
        except DataError:  # a text
            return False
    return kind not in {None, "GIF"}


def _head(path: Path) -> bytes:
    try:
        with open_regular_file(path) as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{shown_path(path)}: cannot be read ({error.strerror or error})") from error


def _reason(error: DataError, path: Path, name: str) -> str:
    return str(error).removeprefix(f"{name}: ").removeprefix(f"{shown_path(path)}: ").removeprefix(f"{path}: ")
