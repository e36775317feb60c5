"""The parameters of light, lens, sensor and file for one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array

GREY_LEVELS: Float64Array = np.arange(256, dtype=np.float64) / 255
"""The grey levels of 8 bits in 0 to 1."""

MIN_BRIGHTNESS = 2.0
"""Darker images count as this bright, in grey levels, for the exposure."""

EXPOSURE_RANGE = (0.4, 6.0)
"""Smallest and largest factor of the automatic exposure."""


@dataclass(frozen=True, slots=True)
class ToneCurve:
    """Gamma, exposure, contrast and colour cast.

    Args:
        gamma: exponent of the grey levels in 0 to 1.
        aim: brightness in 0 to 1 that the automatic exposure aims at.
        exposure: factor by which it errs.
        contrast: factor of the differences from the middle grey.
        cast: factor of each channel (red, green, blue).
        black: grey level in 0 to 1 that is added to all.
    """

    gamma: float
    aim: float
    exposure: float
    contrast: float
    cast: tuple[float, float, float]
    black: float


@dataclass(frozen=True, slots=True)
class GaussianBlur:
    """A Gaussian of standard deviation `sigma_px` over `side_px` x `side_px` pixels."""

    sigma_px: float
    side_px: int


@dataclass(frozen=True, slots=True, eq=False)
class MotionBlur:
    """A kernel float32 [K, K] with odd K and sum 1, drawn along the path of a point."""

    kernel: Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class Photometry:
    """All effects on one image, in their order.

    Args:
        gains: float32 [h, w] factors of the brightness, interpolated linearly over the image.
        tone: after the gains.
        blur: of the lens, or by motion.
        noise_sigma: standard deviation of the noise in grey levels, which is equal in all channels.
        noise_seed: seed of the noise.
        jpeg_quality: of the compression; None leaves it out.
    """

    gains: Float32Array
    tone: ToneCurve
    blur: GaussianBlur | MotionBlur
    noise_sigma: float
    noise_seed: int
    jpeg_quality: int | None
