"""JPEG compression and decompression of a batch of images in torch, without the lossless part of the format.

Source: ITU-T T.81, annexes A and K; JFIF 1.02 for the colours; libjpeg for the sampling of the chroma channels
(jcsample.c `h2v2_downsample`, jdsample.c `h2v2_fancy_upsample`) and the scaling of the tables (jcparam.c).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sfm_lightglue.arrays import Float32Array
from sfm_lightglue.synthetic.photo_scenes.resampling import on_device

# fmt: off
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
    51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121,
    120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99,
    99, 99, 99, 99, *(99,) * 32,
)
# fmt: on
_TABLES = np.array([_LUMA, _CHROMA])
"""Steps of the quantisation [2, 64] at quality 50."""

_CENTRE = 128.0


def jpeg_compressed(images: Tensor, qualities: Sequence[int]) -> Tensor:
    """RGB images after JPEG compression with chroma at half the resolution (4:2:0).

    Args:
        images: float32 [B, 3, H, W] integers in 0 to 255.
        qualities: of each image, 1 to 100.

    Returns:
        float32 [B, 3, H, W] integers in 0 to 255.
    """
    height, width = images.shape[2:]
    steps = on_device(np.stack([quantisation_steps(quality) for quality in qualities]), images.device)
    red, green, blue = images.unbind(1)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue).round_()
    chroma = torch.stack(
        [
            (-0.168735892 * red - 0.331264108 * green + 0.5 * blue).add_(_CENTRE).round_(),
            (0.5 * red - 0.418687589 * green - 0.081312411 * blue).add_(_CENTRE).round_(),
        ],
        dim=1,
    )
    luma = _quantised(luma[:, None], steps[:, :1])[:, 0]
    chroma = _upsampled(_quantised(_downsampled(chroma), steps[:, 1:]))[..., :height, :width] - _CENTRE
    blueness, redness = chroma.unbind(1)
    colours = [
        luma + (1.402 * redness).round_(),
        luma + (-0.344136286 * blueness - 0.714136286 * redness).round_(),
        luma + (1.772 * blueness).round_(),
    ]
    return torch.stack(colours, dim=1).clamp_(0, 255)


def quantisation_steps(quality: int) -> Float32Array:
    """Steps float32 [2, 64] of the quantisation of luma and chroma, in the order of rows."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.asarray(np.clip((_TABLES * percent + 50) // 100, 1, 255), np.float32)


@lru_cache(maxsize=4)
def _cosines(device: torch.device) -> Tensor:
    """The orthonormal transform [64, 64] of blocks of 8 x 8 values in the order of rows."""
    k, n = np.mgrid[:8, :8]
    rows = np.cos(np.pi * (2 * n + 1) * k / 16) * np.where(k == 0, np.sqrt(1 / 8), 0.5)
    return on_device(np.kron(rows, rows).astype(np.float32), device)


def _quantised(planes: Tensor, steps: Tensor) -> Tensor:
    """Planes [B, C, H, W] after the quantisation of their blocks with steps [B, 1, 64]: integers in 0 to 255."""
    height, width = planes.shape[2:]
    padded = F.pad(planes, (0, -width % 8, 0, -height % 8), mode="replicate")
    shape = *planes.shape[:2], padded.shape[2] // 8, padded.shape[3] // 8
    blocks = padded.view(*shape[:3], 8, shape[3], 8).transpose(3, 4).reshape(*shape, 64) - _CENTRE
    cosines, steps = _cosines(planes.device), steps[:, :, None, None]
    levels = (blocks @ cosines.T).div_(steps)
    # Halves are rounded away from zero as in libjpeg; they are frequent, so errors of float32 must not decide.
    coefficients = (levels.abs() + 0.5001).floor_().copysign_(levels).mul_(steps)
    values = (coefficients @ cosines).add_(_CENTRE).round_().clamp_(0, 255)
    merged = values.view(*shape, 8, 8).transpose(3, 4).reshape(padded.shape)
    return merged[..., :height, :width]


def _downsampled(planes: Tensor) -> Tensor:
    """Planes [B, C, H, W] of half the size, rounded up; halves are rounded down and up in turn along a row."""
    height, width = planes.shape[2:]
    padded = F.pad(planes, (0, width % 2, 0, height % 2), mode="replicate")
    sums = padded[..., ::2, ::2] + padded[..., 1::2, ::2] + padded[..., ::2, 1::2] + padded[..., 1::2, 1::2]
    bias = 1.0 + torch.arange(sums.shape[3], device=planes.device) % 2
    return (sums + bias).mul_(0.25).floor_()


def _upsampled(planes: Tensor) -> Tensor:
    """Planes [B, C, 2 H, 2 W]: 3/4 of the nearer and 1/4 of the farther pixel along both axes."""
    padded = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    near = 3 * padded[..., 1:-1, :]
    sums = torch.stack([near + padded[..., :-2, :], near + padded[..., 2:, :]], dim=3).flatten(2, 3)
    near = 3 * sums[..., 1:-1]
    left, right = near + sums[..., :-2] + 8, near + sums[..., 2:] + 7
    return torch.stack([left, right], dim=4).flatten(3, 4).mul_(1 / 16).floor_()
