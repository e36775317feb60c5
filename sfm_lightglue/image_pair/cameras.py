"""The cameras of two images, and whether one camera took both."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.images.image import MIN_SIDE_PX, Image
from sfm_lightglue.scene.camera_assignment import CameraConfig, camera_of_image
from sfm_lightglue.types import Camera

_KNOWLEDGE = {"guessed": 0, "estimated": 1, "exif": 1, "given": 2}
"""How well a focal length is known, by its source; a larger number is better."""


def share_known_camera(
    cameras: tuple[Camera, Camera], stated: tuple[Camera | CameraConfig | None, Camera | CameraConfig | None]
) -> tuple[Camera, Camera]:
    """Give two images that one camera took the intrinsics that are known better.

    Args:
        cameras: of the images.
        stated: what the caller states about each camera; None for nothing. A stated model is never replaced by
            another model.

    Returns:
        Both cameras; unchanged if they differ in size, or are known equally well.
    """
    rank0, rank1 = (_knowledge(camera, one) for camera, one in zip(cameras, stated, strict=True))
    if cameras[0].size != cameras[1].size or rank0 == rank1:
        return cameras
    known, other = (cameras[0], stated[1]) if rank0 > rank1 else (cameras[1], stated[0])
    if isinstance(other, CameraConfig) and other.model.upper() != known.model:
        return cameras
    return known, known


def _knowledge(camera: Camera, stated: Camera | CameraConfig | None) -> int:
    return _KNOWLEDGE["given"] if isinstance(stated, Camera) else _KNOWLEDGE[camera.source]


@dataclass(frozen=True, slots=True)
class StatedCameras:
    """What a user states about the cameras of two images.

    Args:
        models: COLMAP's names, or None.
        params: in COLMAP's order and pixels, or None.
        same_camera: whether one camera took both images; None leaves it to `is_same_camera`.
    """

    models: tuple[str | None, str | None] = (None, None)
    params: tuple[tuple[float, ...] | None, tuple[float, ...] | None] = (None, None)
    same_camera: bool | None = None

    @property
    def configs(self) -> tuple[CameraConfig, CameraConfig]:
        """Both cameras; a model that is stated for one image only is used for both."""
        model0, model1 = self.models
        default = CameraConfig().model
        return (
            CameraConfig(model=model0 or model1 or default, params=self.params[0] or ()),
            CameraConfig(model=model1 or model0 or default, params=self.params[1] or ()),
        )


def is_same_camera(image0: Image, image1: Image, stated: bool | None = None) -> bool:
    """Whether one camera with one focal length took two images of one size, turned or not.

    If nothing is stated, it did exactly if both images have EXIF data with the same camera, lens and focal length.
    Images without EXIF data, and pixels in memory, count as taken by two cameras.

    Args:
        image0: the first image.
        image1: the second image.
        stated: what the user states; None for nothing.

    Raises:
        ConfigError: if one camera is stated for images of different sizes.
    """
    if stated and not have_one_size(image0, image1):
        (width0, height0), (width1, height1) = image0.size, image1.size
        raise ConfigError(
            f"{image0.name}, {image1.name}: have {width0} x {height0} and {width1} x {height1} pixels, so they do not"
            " share their intrinsics; leave out `same_camera=True`"
        )
    if stated is not None:
        return stated
    is_same_id = bool(image0.exif.camera_id) and image0.exif.camera_id == image1.exif.camera_id
    return is_same_id and have_one_size(image0, image1)


def have_one_size(image0: Image, image1: Image) -> bool:
    """Whether two images have the same size in pixels, turned or not."""
    return sorted(image0.size) == sorted(image1.size)


def camera_for(image: Image, camera: CameraConfig | Camera | None) -> Camera:
    """The camera of an image: the given one, or one made from its description.

    Raises:
        DataError: if the image cannot be read, or is too small.
        ConfigError: if the intrinsics are not those of a camera, or of a camera of another size.
    """
    if min(image.size) < MIN_SIDE_PX:
        raise DataError(f"{image.name}: only {image.size[0]} x {image.size[1]} pixels")
    if camera is None or isinstance(camera, CameraConfig):
        return camera_of_image(image, camera or CameraConfig())
    if camera.size != image.size:
        raise ConfigError(
            f"{image.name}: has {image.size[0]} x {image.size[1]} pixels, its camera {camera.width} x {camera.height}"
        )
    return camera
