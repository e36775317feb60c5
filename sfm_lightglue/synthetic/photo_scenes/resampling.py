"""Resizing, blurring and arithmetic of 8-bit images as tensors: OpenCV on the CPU, the same in torch on a GPU.

On the CPU, tensors and arrays share their memory, so nothing is copied. The functions whose names begin with `torch_`
work on every device and agree with OpenCV within rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sfm_lightglue.arrays import AnyArray, Float32Array

How = Literal["area", "linear", "cubic"]
"""Interpolation: mean over the area of a pixel, between 2 x 2 pixels, or between 4 x 4 pixels."""

_FLAGS = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
_MODES = {"linear": "bilinear", "cubic": "bicubic"}

_ROTATIONS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}

_RED, _GREEN, _BLUE, _GREY_BITS = 9798, 19235, 3735, 15
"""Weights of the channels for grey, times 2^15: 0.299, 0.587, 0.114 (ITU-R BT.601), as in OpenCV."""


def resized(image: Tensor, size: tuple[int, int], how: How) -> Tensor:
    """An image of another size.

    Args:
        image: uint8 or float32, [H, W] or [H, W, C].
        size: (width, height) in pixels.
        how: interpolation; "area" is meant for smaller sizes.

    Returns:
        The same type and device; uint8 is rounded and clipped.
    """
    if image.is_cuda:
        return torch_resized(image, size, how)
    return _tensor(cv2.resize(_array(image), size, interpolation=_FLAGS[how]))


def halved(image: Tensor) -> Tensor:
    """The next level of an image pyramid: [H // 2, W // 2] or [H // 2, W // 2, C], means over areas."""
    return resized(image, (image.shape[1] // 2, image.shape[0] // 2), "area")


def gaussian_blurred(image: Tensor, sigma_px: float) -> Tensor:
    """A float32 image [H, W], smoothed by a Gaussian of `sigma_px`; mirrored at the border."""
    if image.is_cuda:
        return torch_gaussian_blurred(image, sigma_px)
    return _tensor(cv2.GaussianBlur(_array(image), (0, 0), sigma_px))


def multiplied(image: Tensor, factors: Tensor | float) -> Tensor:
    """A uint8 image [H, W, C] times factors that are not negative: float32 [H, W], or one number."""
    if image.is_cuda:
        return torch_multiplied(image, factors)
    if isinstance(factors, Tensor):
        return _by_channel(cv2.multiply, image, factors)
    return _tensor(cv2.convertScaleAbs(_array(image), alpha=factors))


def added(image: Tensor, offsets: Tensor) -> Tensor:
    """A uint8 image [H, W, C] plus float32 [H, W] grey levels."""
    return torch_added(image, offsets) if image.is_cuda else _by_channel(cv2.add, image, offsets)


def blended(image0: Tensor, image1: Tensor, share1: float) -> Tensor:
    """A weighted mean of two uint8 images of equal shape; `share1` is the weight of the second one."""
    if image0.is_cuda:
        return torch_blended(image0, image1, share1)
    return _tensor(cv2.addWeighted(_array(image0), 1 - share1, _array(image1), share1, 0))


def mirrored(image: Tensor, axes: tuple[int, ...]) -> Tensor:
    """An image [H, W, ...] mirrored along axes: 0 exchanges top and bottom, 1 left and right."""
    if image.is_cuda or not axes:
        return image.flip(axes)
    return _tensor(cv2.flip(_array(image), -1 if len(axes) == 2 else axes[0]))


def turned(image: Tensor, quarter_turns: int) -> Tensor:
    """An image [H, W, ...] turned counter-clockwise by 90 degrees, 0 to 3 times."""
    if image.is_cuda or quarter_turns == 0:
        return image.rot90(quarter_turns).contiguous()
    return _tensor(cv2.rotate(_array(image), _ROTATIONS[quarter_turns]))


def grey(image: Tensor) -> Tensor:
    """Grey levels uint8 [..., H, W] of RGB images uint8 [..., H, W, 3], bit by bit as by OpenCV's `cvtColor`."""
    if image.is_cuda or image.ndim != 3:
        return torch_grey(image)
    return _tensor(cv2.cvtColor(_array(image), cv2.COLOR_RGB2GRAY))


def on_device(array: AnyArray, device: torch.device | str) -> Tensor:
    """A tensor of an array, without waiting for the work of the device; the array may be changed afterwards."""
    return torch.from_numpy(array).to(device, non_blocking=True)


def to_uint8(values: Tensor) -> Tensor:
    """Values rounded to the nearest integer (halves to even) and clipped to 0..255. The float tensor is overwritten."""
    return values.round_().clamp_(0, 255).to(torch.uint8)


def torch_resized(image: Tensor, size: tuple[int, int], how: How) -> Tensor:
    """`resized` in torch; OpenCV's pixel centres, weights and borders."""
    height, width = image.shape[:2]
    values = image.float().reshape(height, width, -1)
    if how == "area" and (height, width) == (2 * size[1], 2 * size[0]):
        means = F.avg_pool2d(values.permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0)
        values = (means + 0.5).floor_() if image.dtype == torch.uint8 else means  # OpenCV rounds halves up here
    elif how == "area":
        is_smaller = size[0] <= width and size[1] <= height
        rows = _area_weights(height, size[1], is_smaller, image.device)
        columns = _area_weights(width, size[0], is_smaller, image.device)
        values = (rows @ values.reshape(height, -1)).reshape(size[1], width, -1).transpose(1, 2)  # [h, C, W]
        values = (values @ columns.T).transpose(1, 2)  # [h, w, C]
    else:
        channels_first = values.permute(2, 0, 1)[None]
        values = F.interpolate(channels_first, size[::-1], mode=_MODES[how], align_corners=False)[0].permute(1, 2, 0)
    values = values.reshape(size[1], size[0], *image.shape[2:])
    return to_uint8(values.contiguous()) if image.dtype == torch.uint8 else values.contiguous()


@lru_cache(maxsize=512)
def _area_weights(num_in: int, num_out: int, is_smaller: bool, device: torch.device) -> Tensor:
    """Weights [num_out, num_in] of the pixels of a line; the sum of each row is 1.

    Args:
        num_in: number of pixels.
        num_out: number of pixels of the result.
        is_smaller: whether the result is not larger along both axes. If it is larger, OpenCV interpolates between the
            two pixels that a pixel of the result overlaps.
        device: of the weights.
    """
    inverse = num_out / num_in
    scale = 1 / inverse  # rounded twice as in OpenCV, because of the floor below
    source = torch.arange(num_in, dtype=torch.float64, device=device)
    target = torch.arange(num_out, dtype=torch.float64, device=device)[:, None]
    if is_smaller:
        low, high = target * scale, (target + 1) * scale
        overlap = (torch.minimum(high, source + 1) - torch.maximum(low, source)).clamp_(min=0)
        return (overlap / scale).float()
    first = (target * scale).floor()
    share = ((target + 1) - (first + 1) * inverse).float()
    share = torch.where(share <= 0, 0.0, share - share.floor())
    second = (first + 1).clamp(max=num_in - 1)
    return ((source == first) * (1 - share) + (source == second) * share).float()


def torch_gaussian_blurred(image: Tensor, sigma_px: float) -> Tensor:
    """`gaussian_blurred` in torch."""
    kernel = on_device(gaussian_kernel(sigma_px, round(8 * sigma_px + 1) | 1), image.device)
    reach = len(kernel) // 2
    padded = F.pad(image[None, None], (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])[0, 0]


def gaussian_kernel(sigma_px: float, side_px: int) -> Float32Array:
    """A Gaussian [side_px], as OpenCV has it; the sum is 1."""
    return np.ascontiguousarray(cv2.getGaussianKernel(side_px, sigma_px, cv2.CV_32F)[:, 0], np.float32)


def torch_multiplied(image: Tensor, factors: Tensor | float) -> Tensor:
    """`multiplied` in torch."""
    return to_uint8(image.float() * (factors[..., None] if isinstance(factors, Tensor) else factors))


def torch_added(image: Tensor, offsets: Tensor) -> Tensor:
    """`added` in torch."""
    return to_uint8(image.float() + offsets[..., None])


def torch_blended(image0: Tensor, image1: Tensor, share1: float) -> Tensor:
    """`blended` in torch."""
    return to_uint8(torch.lerp(image0.float(), image1.float(), share1))


def torch_grey(image: Tensor) -> Tensor:
    """`grey` in torch, with integers."""
    red, green, blue = image.int().unbind(-1)
    total = red * _RED + green * _GREEN + blue * _BLUE + (1 << (_GREY_BITS - 1))
    return (total >> _GREY_BITS).to(torch.uint8)


def _by_channel(operation: Callable[..., AnyArray], image: Tensor, values: Tensor) -> Tensor:
    """An operation of OpenCV on each channel of an image [H, W, C] and the same values [H, W]."""
    array = _array(values)
    return _tensor(cv2.merge([operation(channel, array, dtype=cv2.CV_8U) for channel in cv2.split(_array(image))]))


def _array(image: Tensor) -> AnyArray:
    array: AnyArray = image.numpy()
    return array


def _tensor(array: AnyArray) -> Tensor:
    return torch.from_numpy(array)
