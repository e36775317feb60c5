"""`estimate_relative_pose`: two photos in, one result out, with everything at its default."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sfm_lightglue.arrays import AnyArray, UInt8Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.image_pair.cameras import is_same_camera
from sfm_lightglue.image_pair.matching import as_image, match_images
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.registry.fitting_weights import with_fitting_weights
from sfm_lightglue.registry.registry import Choice
from sfm_lightglue.scene.camera_assignment import CameraConfig
from sfm_lightglue.scene.cameras import make_camera
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.relative_pose import RelativePose
from sfm_lightglue.types import Camera


class PilPicture(Protocol):
    """A Pillow image, or what behaves like one."""

    def convert(self, mode: str) -> Any:
        """The same picture in another mode, such as RGB."""


@runtime_checkable
class ColmapCamera(Protocol):
    """A `pycolmap.Camera`, or what behaves like one."""

    model_name: str
    """COLMAP's name of the model."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    params: Any
    """A sequence of numbers in COLMAP's order."""


AnyImage = Path | str | Image | UInt8Array | PilPicture
"""A file, our `Image`, pixels [H, W] or [H, W, 3] (RGB) of uint8, or a Pillow image."""

AnyCamera = Camera | ColmapCamera | AnyArray
"""Our `Camera`, a `pycolmap.Camera`, or K [3, 3] without distortion."""


def estimate_relative_pose(
    image0: AnyImage,
    image1: AnyImage,
    camera0: AnyCamera | None = None,
    camera1: AnyCamera | None = None,
    *,
    extractor: Extractor | str | None = None,
    matcher: Matcher | str | None = None,
    config: TwoViewConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    same_camera: bool | None = None,
) -> RelativePose:
    """Where the second photo was taken as seen from the first, and how sure that is.

    The focal length is that of the camera, else of the EXIF data (of files alone: pixels and Pillow images bring
    none), else estimated from the matches where they show it, else guessed: `RelativePose.focal_sources` tells. Matches
    show one unknown focal length, not two: where both are unknown, only that of images which share a camera.

    Args:
        image0: a file, an `Image`, pixels [H, W] or [H, W, 3] (RGB) of uint8, or a Pillow image.
        image1: the same.
        camera0: known intrinsics: a `Camera`, a `pycolmap.Camera`, or K [3, 3] without distortion, in COLMAP's pixels
            (the centre of the first pixel is at 0.5). Given for one image alone, it holds for the other too if that is
            of the same size and camera.
        camera1: the same.
        extractor: by its name or as an object; the default is that of `reconstruct`.
        matcher: likewise.
        config: thresholds, and the estimator.
        seed: of the random samples.
        device: of networks chosen by name.
        same_camera: whether one camera with one focal length took both images; None means that it did exactly where
            both have EXIF data that name the same camera, lens and focal length: so never for pixels.

    Raises:
        DataError: where an image cannot be read.
        ConfigError: for unknown names, or cameras that do not fit the images; where images of different sizes are
            said to share a camera.
        WeightsError: where a network's weights are missing.
        TypeError: for what is neither an image nor a camera.
    """
    images = _as_image(image0), _as_image(image1)
    cameras = [_camera(camera, image) for camera, image in zip((camera0, camera1), images, strict=True)]
    if is_same_camera(*images, same_camera) and images[0].size == images[1].size:
        cameras = [cameras[0] or cameras[1], cameras[1] or cameras[0]]
    used = cameras[0] or CameraConfig(), cameras[1] or CameraConfig()
    found_extractor, found_matcher = _components(extractor, matcher, device)
    result = match_images(*images, found_extractor, found_matcher, used, config, seed, same_camera=same_camera)
    return result.relative_pose


def _as_image(image: AnyImage) -> Image:
    if isinstance(image, Path | str | Image | np.ndarray):
        return as_image(image)
    if hasattr(image, "convert"):
        return Image.from_array(np.asarray(image.convert("RGB")), "Pillow image")
    raise TypeError(f"image: expected a path, an Image, an array or a Pillow image, got {type(image).__name__}")


def _camera(camera: AnyCamera | None, image: Image) -> Camera | None:
    if camera is None or isinstance(camera, Camera):
        return camera
    if isinstance(camera, ColmapCamera):
        try:
            return make_camera(camera.model_name, (camera.width, camera.height), tuple(camera.params))
        except ConfigError as error:
            raise ConfigError(f"{image.name}: {error}") from error
    try:
        K = np.asarray(camera, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{image.name}: camera: expected a sfm_lightglue.types.Camera, a pycolmap.Camera, or K [3, 3],"
            f" got {type(camera).__name__}"
        ) from error
    if K.shape != (3, 3) or not np.allclose(K[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]], [0, 0, 0, 0, 1]):
        raise ConfigError(f"{image.name}: camera: expected a Camera, or K [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
    return make_camera("PINHOLE", image.size, (K[0, 0], K[1, 1], K[0, 2], K[1, 2]))


def _components(
    extractor: Extractor | str | None, matcher: Matcher | str | None, device: str
) -> tuple[Extractor, Matcher]:
    """Those that are given, and what is missing by its name."""
    defaults = ReconstructConfig(device=device)  # refuses a device that is none
    if extractor is None or isinstance(extractor, str):
        extractor_name = extractor or defaults.extractor.name
        found_extractor = _built_extractor(extractor_name, device)
    else:
        extractor_name, found_extractor = extractor.identity.name, extractor
    if matcher is None or isinstance(matcher, str):
        return found_extractor, _built_matcher(matcher or defaults.matcher.name, extractor_name, device)
    return found_extractor, matcher


# Kept: a network reads its weights once, not for every pair.


@lru_cache(maxsize=4)
def _built_extractor(name: str, device: str) -> Extractor:
    return EXTRACTORS.build(EXTRACTORS.choose(name), device)


@lru_cache(maxsize=4)
def _built_matcher(name: str, extractor_name: str, device: str) -> Matcher:
    # The extractor may be one that no registry knows: its name alone decides.
    return MATCHERS.build(with_fitting_weights(MATCHERS.choose(name), Choice(extractor_name, None)), device)
