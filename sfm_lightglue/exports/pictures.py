"""The images of an export: copied in their stored pixels, or undistorted.

COLMAP's models, and ours, are in stored pixels. Other programs may turn an image by its EXIF orientation when they
read it, and then the pose would not fit. So images of an export have no EXIF orientation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from sfm_lightglue.arrays import Float32Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.progress import Progress
from sfm_lightglue.exports.lens import lens_of
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.writing import encode_image, warp, without_orientation
from sfm_lightglue.messages import shown_path
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.types import Camera

_JPEG, _WRITTEN = (".jpg", ".jpeg"), (".jpg", ".jpeg", ".png")

_ROWS = 256
"""Rows of an image that are warped at once, which limits the memory."""


def picture_names(names: Sequence[str]) -> dict[str, str]:
    """The names of the images in an export: files that are neither JPEG nor PNG become PNG, with .png added.

    Raises:
        DataError: if two images would get the same name.
    """
    renamed = {name: name if PurePosixPath(name).suffix.lower() in _WRITTEN else f"{name}.png" for name in names}
    taken: dict[str, str] = {}
    for name, new in renamed.items():
        if new in taken:
            raise DataError(f"images {taken[new]} and {name} would both be written as {new}; rename one of them")
        taken[new] = name
    return renamed


def require_inside(names: Sequence[str]) -> None:
    """Refuse names of images that lead out of the folder of an export.

    Raises:
        DataError: naming the first such image.
    """
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts or os.path.isabs(name):
            raise DataError(f"image {name!r}: its name leads out of the folder of the images; rename it in the model")


def copy_images(folder: Path, target: Path, name_from_name: dict[str, str], progress: Progress) -> None:
    """Copy images in their stored pixels, without EXIF orientation.

    Args:
        folder: of the images.
        target: folder of the copies.
        name_from_name: new names.
        progress: called with the stage "images".

    Raises:
        DataError: if an image is missing or cannot be decoded.
        OSError: if a copy cannot be written.
    """
    _write_all(lambda name: stored_picture(folder, name), target, name_from_name, progress)


def stored_picture(folder: Path, name: str) -> bytes:
    """The file of an image in its stored pixels, without EXIF orientation: JPEG as it is, PNG else.

    Raises:
        DataError: if the image is missing or cannot be decoded.
    """
    image = _read(folder, name)
    suffix = PurePosixPath(name).suffix.lower()
    if isinstance(image.data, bytes) and suffix in _WRITTEN and image.quarter_turns == 0:
        return image.data
    if isinstance(image.data, bytes) and suffix in _JPEG:
        return without_orientation(image.data)
    return encode_image(image.rgb(), ".png")


def undistort_images(
    folder: Path,
    target: Path,
    name_from_name: dict[str, str],
    camera_from_name: dict[str, tuple[Camera, Camera]],
    progress: Progress,
) -> None:
    """Write images without distortion.

    Args:
        folder: of the images.
        target: folder of the new images.
        name_from_name: new names.
        camera_from_name: camera of each image before and after.
        progress: called with the stage "images".

    Raises:
        DataError: if an image is missing, cannot be decoded, or has another size than its camera.
        OSError: if an image cannot be written.
    """

    def undistorted(name: str) -> bytes:
        return undistorted_picture(folder, name, name_from_name[name], camera_from_name[name])

    _write_all(undistorted, target, name_from_name, progress)


def undistorted_picture(folder: Path, name: str, new_name: str, cameras: tuple[Camera, Camera]) -> bytes:
    """The file of an image without distortion.

    Args:
        folder: of the images.
        name: of the image.
        new_name: its ending tells the format.
        cameras: of the image before and after.

    Raises:
        DataError: if the image is missing, cannot be decoded, or has another size than its camera.
    """
    image, (before, after) = _read(folder, name), cameras
    if image.size != before.size:
        raise DataError(
            f"{shown_path(folder / name)}: has {image.size[0]} x {image.size[1]} pixels, its camera in the model"
            f" {before.width} x {before.height}; give the images that the model was made from by `images`"
        )
    is_same = (before.size, lens_of(before)) == (after.size, lens_of(after))
    is_jpeg = PurePosixPath(name).suffix.lower() in _JPEG
    if is_same and is_jpeg and isinstance(image.data, bytes):
        return without_orientation(image.data)  # encoded again, it would lose detail
    rgb = image.rgb() if is_same else warp(image.rgb(), source_pixels(before, after))
    return encode_image(rgb, PurePosixPath(new_name).suffix)


def source_pixels(before: Camera, after: Camera) -> Float32Array:
    """The pixel of an image that belongs to each pixel of the undistorted one.

    Args:
        before: camera of the image.
        after: of the undistorted image.

    Returns:
        [H, W, 2] pixels (x, y) of the image in COLMAP's convention, with the size of `after`; outside of the image
        where it does not show the pixel.
    """
    native, plane = as_pycolmap(before), as_pycolmap(after)
    found = np.empty((after.height, after.width, 2), np.float32)
    for start in range(0, after.height, _ROWS):
        rows = np.arange(start, min(start + _ROWS, after.height))
        y, x = np.meshgrid(rows + 0.5, np.arange(after.width) + 0.5, indexing="ij")
        rays = plane.cam_from_img(np.stack([x.ravel(), y.ravel()], axis=1))
        pixels = native.img_from_cam(np.column_stack([rays, np.ones(len(rays))]))
        found[rows] = np.where(np.isfinite(pixels), pixels, -1e6).reshape(len(rows), after.width, 2)
    return found


def _read(folder: Path, name: str) -> Image:
    path = folder / name
    if not path.is_file():
        raise DataError(
            f"{shown_path(path)}: no such image; give the folder that the names of the model's images are relative to"
            " by `images`"
        )
    return Image.read(path, str(path))


def _write_all(
    content: Callable[[str], bytes], target: Path, name_from_name: dict[str, str], progress: Progress
) -> None:
    require_inside(list(name_from_name))
    progress("images", 0, len(name_from_name))
    for number, (name, new) in enumerate(sorted(name_from_name.items()), start=1):
        data = content(name)
        path = target / new
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        progress("images", number, len(name_from_name))
