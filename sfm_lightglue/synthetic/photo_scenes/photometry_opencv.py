"""Photometric effects on one image on the CPU, by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.arrays import AnyArray, UInt8Array
from sfm_lightglue.synthetic.photo_scenes.photometry import (
    EXPOSURE_RANGE,
    GREY_LEVELS,
    MIN_BRIGHTNESS,
    GaussianBlur,
    MotionBlur,
    Photometry,
    ToneCurve,
)
from sfm_lightglue.synthetic.photo_scenes.resampling import added, multiplied
from sfm_lightglue.synthetic.photo_scenes.textures import normal_field


def with_effects(image: Tensor, effects: Photometry) -> Tensor:
    """An image uint8 [H, W, 3] with all effects."""
    height, width = image.shape[:2]
    gains = cv2.resize(effects.gains, (width, height), interpolation=cv2.INTER_LINEAR)
    shaded: AnyArray = multiplied(image, torch.from_numpy(gains)).numpy()
    brightness = float(np.mean(cv2.mean(shaded)[:3]))
    toned = cv2.LUT(shaded, tone_table(effects.tone, brightness)[:, None])
    blurred = torch.from_numpy(_blurred(toned, effects.blur))
    noisy = added(blurred, _grain(effects, height, width))
    return noisy if effects.jpeg_quality is None else torch.from_numpy(compressed(noisy.numpy(), effects.jpeg_quality))


def tone_table(tone: ToneCurve, brightness: float) -> UInt8Array:
    """The grey levels uint8 [256, 3] that a tone curve makes of an image of a mean `brightness` in grey levels."""
    mean = max(brightness, MIN_BRIGHTNESS) / 255
    exposure = np.clip(tone.aim / mean**tone.gamma, *EXPOSURE_RANGE) * tone.exposure
    levels = GREY_LEVELS[:, None] ** tone.gamma * exposure * np.array(tone.cast)
    levels = (levels - 0.5) * tone.contrast + 0.5 + tone.black
    return np.asarray(np.clip(levels * 255, 0, 255), np.uint8)


def compressed(image: UInt8Array, quality: int) -> UInt8Array:
    """An RGB image after JPEG compression."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB), np.uint8)


def _blurred(image: AnyArray, blur: GaussianBlur | MotionBlur) -> AnyArray:
    if isinstance(blur, MotionBlur):
        return np.asarray(cv2.filter2D(image, -1, blur.kernel))
    return np.asarray(cv2.GaussianBlur(image, (blur.side_px, blur.side_px), blur.sigma_px))


def _grain(effects: Photometry, height: int, width: int) -> Tensor:
    """Noise [H, W]: a quarter of it, mirrored."""
    sheet = normal_field(effects.noise_seed, (height // 2 + 1, width // 2 + 1), effects.noise_sigma)
    return mirrored_sheet(sheet[None], height, width)[0].contiguous()


def mirrored_sheet(sheets: Tensor, height: int, width: int) -> Tensor:
    """Fields [B, H, W] of which each quarter is a mirrored copy of sheets [B, H // 2 + 1, W // 2 + 1]."""
    upper = torch.cat([sheets, sheets.flip(1, 2)], dim=1)
    return torch.cat([upper, upper.flip(1)], dim=2)[:, :height, :width]
