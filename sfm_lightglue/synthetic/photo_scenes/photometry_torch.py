"""Photometric effects on a batch of images in torch, on any device, without waiting for the device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sfm_lightglue.arrays import Float32Array
from sfm_lightglue.synthetic.photo_scenes.jpeg_in_torch import jpeg_compressed
from sfm_lightglue.synthetic.photo_scenes.photometry import (
    EXPOSURE_RANGE,
    GREY_LEVELS,
    MIN_BRIGHTNESS,
    GaussianBlur,
    MotionBlur,
    Photometry,
    ToneCurve,
)
from sfm_lightglue.synthetic.photo_scenes.photometry_opencv import mirrored_sheet
from sfm_lightglue.synthetic.photo_scenes.resampling import gaussian_kernel, on_device
from sfm_lightglue.synthetic.photo_scenes.textures import normal_field


def with_effects(images: Sequence[Tensor], effects: Sequence[Photometry]) -> Tensor:
    """Images uint8 [H, W, 3] of equal size with all effects: uint8 [B, H, W, 3]."""
    batch = torch.stack(list(images)).permute(0, 3, 1, 2)  # [B, 3, H, W]
    height, width = batch.shape[2:]
    gains = on_device(np.stack([effect.gains for effect in effects]), batch.device)[:, None]
    shaded = _rounded(batch * F.interpolate(gains, (height, width), mode="bilinear", align_corners=False))
    tables = tone_tables([effect.tone for effect in effects], shaded.mean((1, 2, 3), dtype=torch.float64))
    toned = tables.gather(2, shaded.long().flatten(2)).view(shaded.shape)
    noisy = _rounded(_blurred(toned, [effect.blur for effect in effects]) + _grain(effects, batch)[:, None])
    return _compressed(noisy, [effect.jpeg_quality for effect in effects]).to(torch.uint8).permute(0, 2, 3, 1)


def tone_tables(tones: Sequence[ToneCurve], brightness: Tensor) -> Tensor:
    """Grey levels float32 [B, 3, 256], integers, that tone curves make of images with mean grey levels [B]."""
    plain = np.array([[tone.gamma, tone.aim, tone.exposure, tone.contrast, tone.black, *tone.cast] for tone in tones])
    numbers = on_device(plain, brightness.device)[:, :, None, None]  # [B, 8, 1, 1]
    gamma, aim, exposure, contrast, black = numbers[:, :5].unbind(1)  # [B, 1, 1] each
    mean = brightness.clamp(min=MIN_BRIGHTNESS)[:, None, None] / 255
    gain = (aim / mean**gamma).clamp(*EXPOSURE_RANGE) * exposure
    levels = on_device(GREY_LEVELS, brightness.device) ** gamma * gain * numbers[:, 5:, :, 0]
    levels = (levels - 0.5) * contrast + 0.5 + black
    return (levels * 255).clamp_(0, 255).floor_().float()


def _blurred(images: Tensor, blurs: Sequence[GaussianBlur | MotionBlur]) -> Tensor:
    """Each image [B, 3, H, W] with its blur; those with kernels of equal size are blurred together."""
    groups: dict[tuple[bool, int], list[int]] = defaultdict(list)
    for idx, blur in enumerate(blurs):
        is_motion = isinstance(blur, MotionBlur)
        groups[is_motion, len(blur.kernel) if isinstance(blur, MotionBlur) else blur.side_px].append(idx)
    results = torch.empty_like(images)
    for (is_motion, side), members in groups.items():
        kernels = on_device(np.stack([_kernel(blurs[idx]) for idx in members]), images.device)
        reach = side // 2
        rows = on_device(np.array(members), images.device)
        padded = F.pad(images.index_select(0, rows), (reach, reach, reach, reach), mode="reflect")
        filters = [kernels] if is_motion else [kernels[:, None], kernels[..., None]]
        for weights in filters:
            padded = _filtered(padded, weights)
        results.index_copy_(0, rows, _rounded(padded))
    return results


def _kernel(blur: GaussianBlur | MotionBlur) -> Float32Array:
    """The kernel [K, K] of a motion blur; [K] of a Gaussian, which is separable."""
    if isinstance(blur, MotionBlur):
        return blur.kernel
    return gaussian_kernel(blur.sigma_px, blur.side_px)


def _filtered(images: Tensor, kernels: Tensor) -> Tensor:
    """Correlation of images [B, C, H, W] with one kernel each [B, h, w], without padding."""
    num_images, num_channels = images.shape[:2]
    weights = kernels.repeat_interleave(num_channels, dim=0)[:, None]
    joined = F.conv2d(images.flatten(0, 1)[None], weights, groups=len(weights))[0]
    return joined.view(num_images, num_channels, *joined.shape[1:])


def _grain(effects: Sequence[Photometry], batch: Tensor) -> Tensor:
    """Noise [B, H, W]; that of an image does not depend on the others."""
    height, width = batch.shape[2:]
    shape = height // 2 + 1, width // 2 + 1
    sheets = [normal_field(effect.noise_seed, shape, effect.noise_sigma, batch.device) for effect in effects]
    return mirrored_sheet(torch.stack(sheets), height, width)


def _compressed(images: Tensor, qualities: Sequence[int | None]) -> Tensor:
    compressed = {idx: quality for idx, quality in enumerate(qualities) if quality is not None}
    if len(compressed) == 0:
        return images
    rows = on_device(np.array(list(compressed)), images.device)
    return images.index_copy_(0, rows, jpeg_compressed(images.index_select(0, rows), list(compressed.values())))


def _rounded(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255)
