"""`estimate_relative_pose`: two photos in, one result out, with everything at its default."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sfm_lightglue.cameras import make_camera
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.geometry import AnyArray
from sfm_lightglue.image_pair import as_image, is_same_camera, match_images
from sfm_lightglue.images import Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.pair_pose import RelativePose
from sfm_lightglue.reconstruct_config import ReconstructConfig
from sfm_lightglue.registry import EXTRACTORS, MATCHERS
from sfm_lightglue.scene import CameraConfig
from sfm_lightglue.two_view import TwoViewConfig
from sfm_lightglue.types import Camera, UInt8Array


class PilPicture(Protocol):
    """A Pillow image, or what behaves like one."""

    def convert(self, mode: str) -> Any:
        """The same picture in another mode, such as RGB."""


AnyImage = Path | str | Image | UInt8Array | PilPicture
"""A file, our `Image`, pixels [H, W] or [H, W, 3] (RGB) of uint8, or a Pillow image."""


def estimate_relative_pose(
    image0: AnyImage,
    image1: AnyImage,
    camera0: Camera | AnyArray | None = None,
    camera1: Camera | AnyArray | None = None,
    *,
    extractor: Extractor | str | None = None,
    matcher: Matcher | str | None = None,
    config: TwoViewConfig | None = None,
    seed: int = 0,
    device: str = "auto",
) -> RelativePose:
    """Where the second photo was taken as seen from the first, and how sure that is.

    The focal length is that of the camera, else of the EXIF data (of files alone: pixels and Pillow images bring
    none), else estimated from the matches where they show it, else guessed: `RelativePose.focal_sources` tells.

    Args:
        image0: a file, an `Image`, pixels [H, W] or [H, W, 3] (RGB) of uint8, or a Pillow image.
        image1: the same.
        camera0: known intrinsics, or K [3, 3] without distortion, in COLMAP's pixels (the centre of the first pixel
            is at 0.5). Given for one image alone, it holds for the other too if that is of the same size and the
            same EXIF camera.
        camera1: the same.
        extractor: by its name or as an object; the default is that of `reconstruct`.
        matcher: likewise.
        config: thresholds, and the estimator.
        seed: of the random samples.
        device: of networks chosen by name.

    Raises:
        DataError: where an image cannot be read.
        ConfigError: for unknown names, or cameras that do not fit the images.
        WeightsError: where a network's weights are missing.
    """
    images = _as_image(image0), _as_image(image1)
    cameras = [_camera(camera, image) for camera, image in zip((camera0, camera1), images, strict=True)]
    if images[0].size == images[1].size and is_same_camera(*images):
        cameras = [cameras[0] or cameras[1], cameras[1] or cameras[0]]
    used = cameras[0] or CameraConfig(), cameras[1] or CameraConfig()
    found_extractor, found_matcher = _components(extractor, matcher, device)
    return match_images(*images, found_extractor, found_matcher, used, config, seed).relative_pose


def _as_image(image: AnyImage) -> Image:
    if isinstance(image, Path | str | Image | np.ndarray):
        return as_image(image)
    if hasattr(image, "convert"):
        return Image.from_array(np.asarray(image.convert("RGB")), "Pillow image")
    raise TypeError(f"image: expected a path, an Image, an array or a Pillow image, got {type(image).__name__}")


def _camera(camera: Camera | AnyArray | None, image: Image) -> Camera | None:
    if camera is None or isinstance(camera, Camera):
        return camera
    K = np.asarray(camera, dtype=np.float64)
    if K.shape != (3, 3) or not np.allclose(K[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]], [0, 0, 0, 0, 1]):
        raise ConfigError(f"{image.name}: camera: expected a Camera, or K [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
    return make_camera("PINHOLE", image.size, (K[0, 0], K[1, 1], K[0, 2], K[1, 2]))


def _components(
    extractor: Extractor | str | None, matcher: Matcher | str | None, device: str
) -> tuple[Extractor, Matcher]:
    extractor_name = extractor if extractor is None or isinstance(extractor, str) else extractor.identity.name
    if not (matcher is None or isinstance(matcher, str)):
        if extractor is None or isinstance(extractor, str):
            return _build(extractor_name, "nearest", device)[0], matcher
        return extractor, matcher
    built = _build(extractor_name, matcher, device)
    return built[0] if extractor is None or isinstance(extractor, str) else extractor, built[1]


@lru_cache(maxsize=4)
def _build(extractor: str | None, matcher: str | None, device: str) -> tuple[Extractor, Matcher]:
    """Components by their names, kept: a network reads its weights once, not for every pair."""
    names = {"extractor": extractor, "matcher": matcher}
    values: dict[str, Any] = {table: {"name": name} for table, name in names.items() if name is not None}
    choices = ReconstructConfig.from_mapping(values | {"device": device})
    return (
        EXTRACTORS.build(choices.extractor, choices.device),
        MATCHERS.build(choices.matcher, choices.device),
    )
