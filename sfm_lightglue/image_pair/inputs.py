"""What the functions for two images accept: images, cameras and components in several forms."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sfm_lightglue.arrays import AnyArray, UInt8Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.image_pair.config import MatchConfig
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.registry.fitting_weights import with_fitting_weights
from sfm_lightglue.registry.registry import Choice
from sfm_lightglue.scene.camera_assignment import CameraConfig
from sfm_lightglue.scene.cameras import make_camera
from sfm_lightglue.types import Camera


class PilPicture(Protocol):
    """A Pillow image, or an object that behaves like one."""

    def convert(self, mode: str) -> Any:
        """The same image in another mode, such as RGB."""


@runtime_checkable
class ColmapCamera(Protocol):
    """A `pycolmap.Camera`, or an object that behaves like one."""

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

AnyCamera = Camera | CameraConfig | ColmapCamera | AnyArray
"""Our `Camera`, a `CameraConfig`, a `pycolmap.Camera`, or K [3, 3] without distortion."""


def as_image(image: AnyImage) -> Image:
    """Anything that `match_images` accepts, as an `Image`.

    Raises:
        DataError: if a file cannot be read.
        TypeError: if the value is not an image.
    """
    if isinstance(image, Image):
        return image
    if isinstance(image, Path | str):
        return Image.read(Path(image))
    if isinstance(image, np.ndarray):
        return Image.from_array(image)
    if hasattr(image, "convert"):
        return Image.from_array(np.asarray(image.convert("RGB")), "Pillow image")
    raise TypeError(f"image: expected a path, an Image, an array or a Pillow image, got {type(image).__name__}")


def as_camera(camera: AnyCamera | None, image: Image) -> Camera | CameraConfig | None:
    """Anything that `match_images` accepts as a camera, for one image; None if nothing is known.

    Args:
        camera: the camera.
        image: its image.

    Raises:
        ConfigError: if the values are not those of a camera.
        TypeError: if the value is not a camera.
    """
    if camera is None or isinstance(camera, Camera | CameraConfig):
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


def as_components(
    extractor: Extractor | str | None, matcher: Matcher | str | None, device: str
) -> tuple[Extractor, Matcher]:
    """Extractor and matcher, given as objects or by name.

    Args:
        extractor: None for the default.
        matcher: None for the default. A LightGlue by name gets the weights that fit the extractor.
        device: of networks that are given by name.

    Raises:
        ConfigError: for an unknown name or device, or if no weights fit the extractor.
        WeightsError: if the weights of a network are missing.
    """
    defaults = MatchConfig(device=device)
    if extractor is None or isinstance(extractor, str):
        extractor_name = extractor or defaults.extractor.name
        found_extractor = _extractor(extractor_name, device)
    else:
        extractor_name, found_extractor = extractor.identity.name, extractor
    if matcher is None or isinstance(matcher, str):
        return found_extractor, _matcher(matcher or defaults.matcher.name, extractor_name, device)
    return found_extractor, matcher


# Components by name are kept: a network then reads its weights once, not for every pair.


@lru_cache(maxsize=4)
def _extractor(name: str, device: str) -> Extractor:
    return EXTRACTORS.build(EXTRACTORS.choose(name), device)


@lru_cache(maxsize=4)
def _matcher(name: str, extractor_name: str, device: str) -> Matcher:
    # The extractor may be in no registry: only its name is used.
    return MATCHERS.build(with_fitting_weights(MATCHERS.choose(name), Choice(extractor_name, None)), device)
