"""What is known of the cameras of two photos, and whether one camera took both."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.images.image import MIN_SIDE_PX, Image
from sfm_lightglue.scene.camera_assignment import CameraConfig, camera_of_image
from sfm_lightglue.types import Camera


def share_known_camera(cameras: tuple[Camera, Camera], is_same: bool) -> tuple[Camera, Camera]:
    """What is known of the one camera of both photos, though only one of them tells it."""
    camera0, camera1 = cameras
    if not is_same or camera0.size != camera1.size or (camera0.source == "guessed") == (camera1.source == "guessed"):
        return cameras
    known = camera1 if camera0.source == "guessed" else camera0
    return known, known


@dataclass(frozen=True, slots=True)
class StatedCameras:
    """What a user says of the cameras of two photos, in words.

    Args:
        models: COLMAP's names, or None.
        params: in COLMAP's order and pixels, or None.
        same_camera: whether one camera took both; None leaves it to `is_same_camera`.
    """

    models: tuple[str | None, str | None] = (None, None)
    params: tuple[tuple[float, ...] | None, tuple[float, ...] | None] = (None, None)
    same_camera: bool | None = None

    def of(self, image0: Image, image1: Image) -> tuple[CameraConfig, CameraConfig]:
        """What is said of one photo only holds for the other too, if that is of the same size and camera.

        Raises:
            ConfigError: where one camera is said to have taken photos of different sizes.
        """
        is_same = is_same_camera(image0, image1, self.same_camera) and image0.size == image1.size

        def side(one: int, other: int) -> CameraConfig:
            shared = self.params[other] if is_same and not self.models[one] else None
            model = self.models[one] or self.models[other] or CameraConfig().model
            return CameraConfig(model=model, params=self.params[one] or shared or ())

        return side(0, 1), side(1, 0)


def is_same_camera(image0: Image, image1: Image, stated: bool | None = None) -> bool:
    """Whether one camera with one focal length took two photos of one size, turned or not.

    Without a statement it did where both have EXIF data that name the same camera, lens and focal length; photos
    without EXIF data, and pixels in memory, may be of any cameras.

    Args:
        image0: a photo.
        image1: the other.
        stated: what the user says; None where that is nothing.

    Raises:
        ConfigError: where it is stated of photos of different sizes.
    """
    if stated and not have_one_size(image0, image1):
        (width0, height0), (width1, height1) = image0.size, image1.size
        raise ConfigError(
            f"{image0.name}, {image1.name}: have {width0} x {height0} and {width1} x {height1} pixels, so they do not"
            " share their intrinsics; leave out same_camera (--same-camera)"
        )
    if stated is not None:
        return stated
    is_same_id = bool(image0.exif.camera_id) and image0.exif.camera_id == image1.exif.camera_id
    return is_same_id and have_one_size(image0, image1)


def have_one_size(image0: Image, image1: Image) -> bool:
    """Whether two images have the same size in pixels, turned or not."""
    return sorted(image0.size) == sorted(image1.size)


def camera_for(image: Image, camera: CameraConfig | Camera) -> Camera:
    """The camera of a photo: the one that is given, or one by its description.

    Raises:
        DataError: where the photo cannot be read, or is too small.
        ConfigError: where the intrinsics do not make a camera, or one of another size.
    """
    if min(image.size) < MIN_SIDE_PX:
        raise DataError(f"{image.name}: only {image.size[0]} x {image.size[1]} pixels")
    if isinstance(camera, CameraConfig):
        return camera_of_image(image, camera)
    if camera.size != image.size:
        raise ConfigError(
            f"{image.name}: has {image.size[0]} x {image.size[1]} pixels, its camera {camera.width} x {camera.height}"
        )
    return camera
