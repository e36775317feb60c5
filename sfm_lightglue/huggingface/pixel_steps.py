"""Steps of the preparation of one image; in both ways, the values are those of `transformers`."""

from __future__ import annotations

import logging
import platform

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as PilImage
from torch import Tensor

from sfm_lightglue.huggingface.processor_options import ProcessorOptions

_GREY = (0.2989, 0.5870, 0.1140)
"""Weights of red, green and blue (ITU-R BT.601), with the digits of torchvision and `transformers`."""
_TORCH_MODES = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
_BYTE = 1 / 255

_LOGGER = logging.getLogger(__name__)


def resized_by_pillow(pixels: Tensor, size: tuple[int, int], resample: int) -> Tensor:
    """Pixels [C, h, w] of uint8 or float32 in another size (height, width)."""
    height, width = size
    channels = [
        np.asarray(PilImage.fromarray(channel).resize((width, height), PilImage.Resampling(resample)))
        for channel in pixels.numpy()
    ]
    return torch.from_numpy(np.stack(channels))


def resized_by_torch(pixels: Tensor, size: tuple[int, int], resample: int) -> Tensor:
    """The same with torch on any device; as in torchvision, bytes are resampled as integers where torch can do so."""
    if tuple(pixels.shape[1:]) == size:
        return pixels
    mode = torch_mode(resample)
    smooth = {} if mode == "nearest-exact" else {"antialias": True, "align_corners": False}
    is_byte = pixels.dtype == torch.uint8
    if is_byte and (mode == "nearest-exact" or _resamples_bytes(pixels.device, mode)):
        return F.interpolate(pixels[None], size, mode=mode, **smooth)[0]
    resized = F.interpolate(pixels[None].float(), size, mode=mode, **smooth)[0]
    return resized.clamp(0, 255).round().to(torch.uint8) if is_byte else resized


def torch_mode(resample: int) -> str:
    """Name of a filter of Pillow in torch.

    Raises:
        ValueError: if torch does not have it.
    """
    if resample not in _TORCH_MODES:
        raise ValueError(
            f"resample: torch supports {sorted(_TORCH_MODES)}, got {resample}; use LightGlueImageProcessor or"
            " SuperPointImageProcessor, which resample with Pillow"
        )
    return _TORCH_MODES[resample]


def grey_bytes(pixels: Tensor) -> Tensor:
    """Grey pixels [3, h, w] of the type of the given ones, in three equal channels; values are cut, not rounded."""
    return pixels if _is_grey(pixels) else _grey(pixels).to(pixels.dtype).expand(3, -1, -1)


def as_model_input(pixels: Tensor, options: ProcessorOptions, exactly: bool = False) -> Tensor:
    """Input of the model [3, h, w] float32 from resized pixels [1 or 3, h, w].

    Args:
        pixels: uint8 or float32.
        options: what to do with the values.
        exactly: multiply by `rescale_factor` in float64, as the Pillow processors of `transformers`.

    Raises:
        ValueError: if floats are larger than 255, and would become values far above 1.
    """
    values = pixels.float()
    if options.do_rescale:
        _check_range(pixels, options.rescale_factor)
        values = (pixels.double() if exactly else values) * options.rescale_factor
        values = values.float()
    elif not pixels.is_floating_point() and not options.do_normalize:
        _LOGGER.warning("do_rescale=False: values up to 255 stay, but the detectors are made for values in [0, 1]")
    if options.do_grayscale and not _is_grey(values):
        values = _grey(values)
    values = values.expand(3, -1, -1)
    if options.do_normalize:
        mean, std = (each.to(values.device) for each in options.normalization(len(values)))
        values = (values - mean) / std
    return values


def _check_range(pixels: Tensor, factor: float) -> None:
    if not pixels.is_floating_point() or factor >= 0.1:
        return
    most = float(pixels.amax())
    if most <= 1.0:
        _LOGGER.warning("images already have values in [0, 1], and rescaling makes them black; give do_rescale=False")
    if most > 255.5 and abs(factor - _BYTE) < 1e-9:
        raise ValueError(f"images: floats up to {most:g} are no pixels of 8 bit; give a rescale_factor of 1 / maximum")


def _is_grey(pixels: Tensor) -> bool:
    return len(pixels) == 1 or bool((pixels == pixels[:1]).all())


def _grey(pixels: Tensor) -> Tensor:
    """[1, h, w] float32."""
    red, green, blue = pixels
    grey: Tensor = _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue
    return grey[None]


def _resamples_bytes(device: torch.device, mode: str) -> bool:
    if device.type != "cpu":
        return False
    is_fast = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") or platform.machine() in (
        "aarch64",
        "arm64",
    )
    return mode == "bicubic" or is_fast
