"""Conversion of images to arrays with channels first, and detection of pairs of images."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image as PilImage

from sfm_lightglue.images.image import Image

Array = np.ndarray[Any, Any]
ImageLike = Any
"""A PIL image, an array or a tensor [H, W], [C, H, W] or [H, W, C]; in the pipeline also a path or a URL."""

CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"
_EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


def is_image(value: Any) -> bool:
    """Whether a value is one image."""
    return isinstance(value, PilImage.Image) or (
        isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim in (2, 3) and 0 not in value.shape
    )


def as_pairs(images: Any, is_one: Callable[[Any], bool] = is_image) -> tuple[list[tuple[ImageLike, ImageLike]], bool]:
    """List of pairs from one pair or several.

    Args:
        images: two images, or a sequence of such pairs; also an array [2, ...] or [B, 2, ...] of images.
        is_one: returns whether a value is one image.

    Returns:
        The pairs, and whether `images` was one pair.

    Raises:
        ValueError: if `images` are not pairs of images.
    """
    if isinstance(images, (np.ndarray, torch.Tensor)):
        images = [list(each) if each.ndim == 4 else each for each in images] if images.ndim in (4, 5) else []
    if isinstance(images, Sequence) and not isinstance(images, str) and len(images) > 0:
        if len(images) == 2 and all(is_one(image) for image in images):
            return [(images[0], images[1])], True
        if all(_is_pair(pair, is_one) for pair in images):
            return [(pair[0], pair[1]) for pair in images], False
    raise ValueError(
        "images: expected a pair of images or a list of such pairs; an image is a PIL image, or an array or tensor"
        " [H, W], [C, H, W] or [H, W, C]"
    )


def channels_first(image: ImageLike, input_data_format: str | None = None) -> Array:
    """An image as array [C, H, W] with one or three channels, uint8 or float32; an alpha channel is removed.

    Args:
        image: a PIL image, an array or a tensor.
        input_data_format: "channels_first" or "channels_last" of arrays and tensors; None detects it.

    Raises:
        ValueError: on shapes that are not those of an image, and if the axis of the channels is ambiguous.
    """
    pixels = _pil_pixels(image) if isinstance(image, PilImage.Image) else _as_array(image)
    if pixels.ndim == 2:
        pixels = pixels[None]
    elif isinstance(image, PilImage.Image) or _channel_axis(pixels.shape, input_data_format) == 2:
        pixels = np.moveaxis(pixels, 2, 0)
    if pixels.shape[0] not in (1, 3, 4):
        raise ValueError(f"images: expected 1, 3 or 4 channels, got shape {list(pixels.shape)} with channels first")
    pixels = pixels[:3]
    dtype = np.uint8 if pixels.dtype == np.uint8 else np.float32
    return np.require(pixels, dtype, ["C", "W"])  # torch requires writable arrays


def image_size(image: ImageLike, input_data_format: str | None = None) -> tuple[int, int]:
    """(height, width) of an image."""
    if isinstance(image, PilImage.Image):
        return image.height, image.width
    shape = tuple(image.shape)
    if len(shape) == 2:
        return shape[0], shape[1]
    return (shape[0], shape[1]) if _channel_axis(shape, input_data_format) == 2 else (shape[1], shape[2])


def _is_pair(value: Any, is_one: Callable[[Any], bool]) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2 and all(map(is_one, value))


def _channel_axis(shape: tuple[int, ...], input_data_format: str | None) -> int:
    if input_data_format is not None:
        name = str(getattr(input_data_format, "value", input_data_format))
        if name not in (CHANNELS_FIRST, CHANNELS_LAST):
            raise ValueError(f"input_data_format: expected {CHANNELS_FIRST!r} or {CHANNELS_LAST!r}, got {name!r}")
        return 0 if name == CHANNELS_FIRST else 2
    could_be = [axis for axis in (0, 2) if shape[axis] in (1, 3, 4)]
    if len(could_be) != 1:
        reason = "both axes" if could_be else "neither axis"
        raise ValueError(f"images: {reason} of shape {list(shape)} can be that of the channels; give input_data_format")
    return could_be[0]


def _as_array(image: Any) -> Array:
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        return np.asarray((image.float() if image.is_floating_point() else image).numpy())
    return np.asarray(image)


def _pil_pixels(image: PilImage.Image) -> Array:
    """Pixels [H, W] or [H, W, 3] uint8; values of 16-bit and float images are scaled as in `Image`."""
    if image.mode not in _EIGHT_BIT_MODES:
        buffer = io.BytesIO()
        image.save(buffer, "TIFF")
        return Image("image", buffer.getvalue()).grey()
    return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
