"""Which images share a camera, and the intrinsics of each camera."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.images.exif import Exif
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.panorama import PANORAMA_REASONS
from sfm_lightglue.messages import shortened
from sfm_lightglue.scene.cameras import default_camera, is_fisheye_model, make_camera, turned_camera
from sfm_lightglue.scene.focal_lengths import ZoomedFocalLengths
from sfm_lightglue.types import Camera, SceneImage

logger = logging.getLogger(__name__)

CameraMode = Literal["auto", "single", "per-folder", "per-image"]


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """How images share cameras, and the intrinsics if they are known."""

    mode: CameraMode = "auto"
    """auto: images with the same EXIF camera, lens, serial numbers, focal length, 35 mm focal length and digital zoom
    share one camera; two bodies of one model are two cameras, because focal length and distortion differ between them;
    cropped images share one with images that were cropped from the same size to the same size; images without EXIF data
    share one if all such images of their folder have one size. single: all images share one camera. per-folder: one
    camera for each folder. per-image: one camera for each image."""

    model: str = "SIMPLE_RADIAL"
    """COLMAP's name of the camera model."""

    params: tuple[float, ...] = ()
    """Known intrinsics in COLMAP's order and pixel convention; empty if they are not known."""

    refine: bool = False
    """Refine known intrinsics during mapping. Unknown intrinsics are always refined."""

    def __post_init__(self) -> None:
        if self.mode not in {"auto", "single", "per-folder", "per-image"}:
            raise ConfigError(f"`cameras.mode` {self.mode!r}: expected auto, single, per-folder or per-image")


@dataclass(frozen=True, slots=True)
class Photo:
    """A readable image without a camera."""

    name: str
    path: Path
    size: tuple[int, int]
    exif: Exif
    digest: str
    mask: Path | None = None
    mask_digest: str = ""

    @property
    def folder(self) -> str:
        """Path of its folder relative to the root, "" for the root."""
        return self.name.rpartition("/")[0]

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) in pixels of the upright image."""
        width, height = self.size
        return (height, width) if self.exif.quarter_turns % 2 else (width, height)

    @property
    def sides(self) -> tuple[int, int]:
        """(shorter, longer) side in pixels, the same for landscape and portrait images of one camera."""
        return min(self.size), max(self.size)


def assign_cameras(photos: list[Photo], config: CameraConfig) -> tuple[SceneImage, ...]:
    """Assign a camera to each image.

    Args:
        photos: the images in the order of the scene.
        config: how images share cameras, and the intrinsics if they are known.

    Raises:
        ConfigError: if the given cameras do not fit the images.
    """
    _warn_of_fisheye_lenses(photos, config)
    given = _given_cameras(photos, config)
    group_from_name = _group_by_camera(photos, config)
    focal_lengths = ZoomedFocalLengths(photo.exif for photo in photos)
    focal_from_group: dict[object, float] = {}
    magnification_from_group: dict[object, float] = {}
    for photo in photos:
        group, focal_px = group_from_name[photo.name], focal_lengths.focal_length_px(photo.exif)
        magnification_from_group.setdefault(group, photo.exif.magnification)
        if focal_px:
            focal_from_group.setdefault(group, focal_px)
    idx_from_key: dict[object, int] = {}
    images = []
    for photo in photos:
        group = group_from_name[photo.name]
        camera = given.get(photo.name) or default_camera(
            config.model, photo.size, focal_from_group.get(group), magnification_from_group[group]
        )
        # A COLMAP camera has one size: if software rotated the pixels by 90 degrees, the image gets another camera.
        key = (group, camera)
        camera_idx = idx_from_key.setdefault(key, len(idx_from_key))
        exif = photo.exif
        images.append(
            SceneImage(
                photo.name,
                photo.path,
                camera,
                camera_idx,
                photo.digest,
                exif.gps_position,
                exif.quarter_turns,
                photo.mask,
                photo.mask_digest,
                heading_deg=exif.view.heading_deg,
                height_above_ground_m=exif.view.height_above_ground_m,
            )
        )
    return tuple(images)


def _group_by_camera(photos: list[Photo], config: CameraConfig) -> dict[str, object]:
    if config.mode in {"single", "per-folder"}:
        _require_one_size(photos, config.mode)
    sizes_from_folder: dict[str, set[object]] = {}
    for photo in photos:
        if not photo.exif.camera_id:
            sizes_from_folder.setdefault(photo.folder, set()).add((photo.sides, photo.exif.cropped_from))

    def automatic(photo: Photo) -> object:
        if photo.exif.camera_id:
            return photo.exif.camera_id, photo.sides
        # Images of several sizes without EXIF data are assumed to come from several cameras.
        return photo.folder if len(sizes_from_folder[photo.folder]) == 1 else ("", photo.name)

    group: dict[str, Callable[[Photo], object]] = {
        "auto": automatic,
        "single": lambda photo: "",
        "per-folder": lambda photo: photo.folder,
        "per-image": lambda photo: photo.name,
    }
    return {photo.name: group[config.mode](photo) for photo in photos}


def _warn_of_fisheye_lenses(photos: list[Photo], config: CameraConfig) -> None:
    names = [photo.name for photo in photos if photo.exif.has_fisheye_lens]
    if names and not config.params and not is_fisheye_model(config.model):
        logger.warning(
            "%d photos have a fisheye lens by their EXIF data (%s), which the camera model %s does not describe: set"
            " `cameras.model` to OPENCV_FISHEYE, unless their distortion has been removed",
            len(names),
            shortened(names),
            config.model.upper(),
        )


def _require_one_size(photos: list[Photo], mode: CameraMode) -> None:
    examples_from_folder: dict[str, dict[tuple[int, int], Photo]] = {}
    for photo in photos:
        folder = photo.folder if mode == "per-folder" else ""
        examples_from_folder.setdefault(folder, {}).setdefault(photo.sides, photo)
    for examples in examples_from_folder.values():
        if len(examples) > 1:
            text = ", ".join(f"{photo.name} {photo.size[0]} x {photo.size[1]}" for photo in examples.values())
            raise ConfigError(f"`cameras.mode` {mode}: the images differ in size ({text}); try auto")


def _given_cameras(photos: list[Photo], config: CameraConfig) -> dict[str, Camera]:
    """The given intrinsics for each image that they fit, by name.

    Cameras store the pixels of the sensor and an EXIF orientation: then all stored sizes are equal, and the intrinsics
    apply to the stored images. Other software rotates the pixels: then the upright sizes are equal, and the intrinsics
    apply to the upright images. They are rotated to the stored pixels of each image.
    """
    if not config.params:
        return {}
    (stored_size, num_stored), *_ = Counter(photo.size for photo in photos).most_common(1)
    (upright_size, num_upright), *_ = Counter(photo.upright_size for photo in photos).most_common(1)
    if num_stored >= num_upright:
        camera = make_camera(config.model, stored_size, config.params)
        given = {photo.name: camera for photo in photos if photo.size == stored_size}
    else:
        camera = make_camera(config.model, upright_size, config.params)
        given = {
            photo.name: turned_camera(camera, -photo.exif.quarter_turns)
            for photo in photos
            if photo.upright_size == upright_size
        }
    if num_stored == num_upright and any(photo.exif.quarter_turns == 2 for photo in photos):
        logger.warning(
            "the camera parameters are used for the pixels as they are stored, also for photos that are upside down"
            " by their EXIF data; if software turned the pixels of some photos, reconstruct those with parameters of"
            " their own"
        )
    others = [photo.name for photo in photos if photo.name not in given]
    if others:
        logger.warning(
            "the camera parameters are used for photos of %d x %d pixels; %d of another size (%s, ...) get other"
            " cameras",
            *camera.size,
            len(others),
            others[0],
        )
    return given


def camera_of_image(image: Image, config: CameraConfig) -> Camera:
    """The camera of a single image: given by the user, else from EXIF data, else guessed.

    Args:
        image: the image as stored.
        config: camera model, and its parameters if they are known.

    Raises:
        ConfigError: if the given parameters do not fit the camera model or the image.
        DataError: if the header of the image cannot be read, or the image is a panorama.
    """
    if image.exif.panorama:
        raise DataError(f"{image.name}: {PANORAMA_REASONS[image.exif.panorama]}")
    if config.params:
        return make_camera(config.model, image.size, config.params)
    return default_camera(config.model, image.size, image.exif.focal_length_px, image.exif.magnification)
