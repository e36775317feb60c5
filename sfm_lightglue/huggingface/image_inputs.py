"""Conversion of images to tensors with channels first, and detection of pairs of images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PilImage
from torch import Tensor

from sfm_lightglue.images.image import Image

Array = np.ndarray[Any, Any]
ImageLike = Any
"""A PIL image, an array or a tensor [H, W], [C, H, W] or [H, W, C], a path, or an address."""

CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"
_EIGHT_BIT_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
_GREY_MODES = {"1", "L", "LA", "La"}
_SIXTEEN_TO_EIGHT_BIT = 257
"""65535 / 255."""


def is_image(value: Any) -> bool:
    """Whether a value is one image: pixels, a path or an address."""
    return isinstance(value, (str, Path, PilImage.Image)) or (
        isinstance(value, (np.ndarray, Tensor)) and value.ndim in (2, 3) and 0 not in value.shape
    )


def as_pairs(images: Any) -> tuple[list[tuple[ImageLike, ImageLike]], bool]:
    """List of pairs from one pair or several.

    Args:
        images: two images, or a sequence of such pairs; also an array [2, ...] or [B, 2, ...] of images.

    Returns:
        The pairs, and whether `images` was one pair.

    Raises:
        ValueError: if `images` are not pairs of images.
    """
    if isinstance(images, (np.ndarray, Tensor)):
        images = [list(each) if each.ndim == 4 else each for each in images] if images.ndim in (4, 5) else []
    if isinstance(images, Sequence) and not isinstance(images, str) and len(images) > 0:
        if len(images) == 2 and all(is_image(image) for image in images):
            return [(images[0], images[1])], True
        if all(_is_pair(pair) for pair in images):
            return [(pair[0], pair[1]) for pair in images], False
    raise ValueError(
        "images: expected a pair of images or a list of such pairs; an image is a path, an address, a PIL image, or an"
        " array or tensor [H, W], [C, H, W] or [H, W, C]"
    )


def as_single_images(images: Any) -> list[ImageLike]:
    """List of images from one image, a list, a list of lists, or an array [N, ...] of images.

    Raises:
        ValueError: if `images` are no images.
    """
    if isinstance(images, (np.ndarray, Tensor)) and images.ndim == 4:
        images = list(images)
    if is_image(images):
        return [images]
    if isinstance(images, Sequence) and len(images) > 0:
        return [one for each in images for one in as_single_images(each)]
    raise ValueError(
        "images: expected an image or a list of images; an image is a path, an address, a PIL image, or an array or"
        " tensor [H, W], [C, H, W] or [H, W, C]"
    )


def as_pixels(image: ImageLike, input_data_format: str | None = None, on_white: bool = False) -> Tensor:
    """An image as tensor [C, H, W] with one or three channels, uint8 or float32 with the range of uint8 or [0, 1].

    Args:
        image: a PIL image, an array or a tensor, whose device is kept. Booleans become 0 and 255, and values of 16
            bit are scaled to 0..255.
        input_data_format: "channels_first" or "channels_last" of arrays and tensors; None detects it.
        on_white: transparent images are blended onto white; False drops their transparency.

    Raises:
        ValueError: on shapes and types that are not those of an image, if the axis of the channels is ambiguous, and
            if values are not finite or out of range.
    """
    is_pil = isinstance(image, PilImage.Image)
    pixels = torch.from_numpy(_pil_pixels(image, on_white)) if is_pil else _as_tensor(image)
    if pixels.ndim == 2:
        pixels = pixels[None]
    elif is_pil or _channel_axis(tuple(pixels.shape), input_data_format) == 2:
        pixels = pixels.permute(2, 0, 1)
    if pixels.shape[0] not in (1, 3, 4):
        raise ValueError(f"images: expected 1, 3 or 4 channels, got shape {list(pixels.shape)} with channels first")
    pixels = _eight_bit(pixels)
    if pixels.shape[0] == 4:
        pixels = _on_white(pixels) if on_white else pixels[:3]
    return pixels.contiguous()


def channels_first(image: ImageLike, input_data_format: str | None = None) -> Array:
    """`as_pixels` as array."""
    return as_pixels(image, input_data_format).cpu().numpy()


def image_size(image: ImageLike, input_data_format: str | None = None) -> tuple[int, int]:
    """(height, width) of an image."""
    if isinstance(image, PilImage.Image):
        return image.height, image.width
    shape = tuple(image.shape)
    if len(shape) == 2:
        return shape[0], shape[1]
    return (shape[0], shape[1]) if _channel_axis(shape, input_data_format) == 2 else (shape[1], shape[2])


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2 and all(map(is_image, value))


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


def _as_tensor(image: Any) -> Tensor:
    if isinstance(image, Tensor):
        return image.detach()
    array = np.asarray(image)
    if array.dtype.kind not in "buif":
        raise ValueError(f"images: expected numbers, got an array of {array.dtype}")
    if array.dtype.kind == "f" and array.dtype.itemsize not in (2, 4, 8):
        array = array.astype(np.float32)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements=["C", "W"]))  # torch requires writable arrays


def _eight_bit(pixels: Tensor) -> Tensor:
    """Pixels of any type as uint8, or as float32 if that would round them."""
    if pixels.dtype == torch.uint8:
        return pixels
    if pixels.dtype == torch.bool:
        return pixels.to(torch.uint8) * 255
    if pixels.is_complex():
        raise ValueError(f"images: expected real numbers, got {pixels.dtype}")
    values = pixels.float() if pixels.is_floating_point() else pixels.to(torch.int64)
    least, most = values.amin().item(), values.amax().item()
    if pixels.is_floating_point():
        if not bool(torch.isfinite(values).all()):
            raise ValueError("images: values must be finite, got NaN or infinity")
        return values
    if pixels.dtype == torch.uint16 and (most > 255 or most == 0):
        return values.float() / _SIXTEEN_TO_EIGHT_BIT
    if pixels.dtype != torch.uint16 and least >= 0 and most <= 255:
        return values.to(torch.uint8)
    raise ValueError(
        f"images: values of {pixels.dtype} from {least} to {most} have no known range; give uint8 with 0..255, uint16"
        " with 0..65535, or floats in [0, 1] with do_rescale=False"
    )


def _on_white(pixels: Tensor) -> Tensor:
    """[3, H, W] from [4, H, W] with the opacity last, as Pillow rounds it."""
    is_byte = pixels.dtype == torch.uint8
    white = 255.0 if is_byte or float(pixels.amax()) > 1 else 1.0
    values = pixels.double()
    alpha = values[3:] / white
    blended = alpha * values[:3] + (1 - alpha) * white
    return blended.round().to(torch.uint8) if is_byte else blended.float()


def _pil_pixels(image: PilImage.Image, on_white: bool) -> Array:
    """Pixels [H, W] or [H, W, 3] uint8; values of 16-bit and float images are scaled as in `Image`."""
    if image.mode not in _EIGHT_BIT_MODES:
        buffer = io.BytesIO()
        image.save(buffer, "TIFF")
        return np.array(Image("image", buffer.getvalue()).grey())
    if on_white and ("A" in image.getbands() or "transparency" in image.info):
        white = PilImage.new("RGBA", image.size, (255, 255, 255, 255))
        return np.array(PilImage.alpha_composite(white, image.convert("RGBA")).convert("RGB"))
    return np.array(image.convert("L" if image.mode in _GREY_MODES else "RGB"))
