"""Photometric augmentation of images: lighting, shadows, exposure, blur, noise, JPEG compression."""

from __future__ import annotations

import cv2
import numpy as np

from sfm_lightglue.arrays import Float32Array, UInt8Array
from sfm_lightglue.synthetic.photo_scenes.surfaces import Light
from sfm_lightglue.synthetic.photo_scenes.textures import smooth_noise

_GREY_LEVELS = np.arange(256, dtype=np.float64) / 255


def random_light(rng: np.random.Generator) -> Light:
    """Random light, from diffuse light only to strong sun at any elevation."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 1.4)
    direction = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    sun = float(rng.uniform(0, 0.9))
    return Light(direction, sun, 1.0 - 0.6 * sun)


def augmented(image: UInt8Array, rng: np.random.Generator, hardness: float) -> UInt8Array:
    """An image with the effects of lighting, lens, sensor and file.

    Args:
        image: uint8 [H, W, 3] RGB.
        rng: source of random numbers.
        hardness: strength of all effects, from 0 (almost none) to 1.

    Returns:
        uint8 [H, W, 3].
    """
    night = rng.random() < 0.3 * hardness
    gains = _light_field(rng, image.shape[:2], hardness, night)
    shaded = cv2.multiply(image, cv2.merge([gains] * 3), dtype=cv2.CV_8U)
    brightness = max(float(np.mean(cv2.mean(shaded)[:3])), 2.0) / 255
    toned = cv2.LUT(np.asarray(shaded, np.uint8), _tone_curves(rng, hardness, night, brightness))
    blurred = _blurred(np.asarray(toned, np.uint8), rng, hardness)
    noisy = _noisy(blurred, rng, rng.uniform(0.5, 4 + (12 if night else 6) * hardness))
    if rng.random() < 0.8:
        quality = int(rng.integers(95 - int(60 * hardness), 97))
        encoded = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        noisy = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    return noisy


def _light_field(rng: np.random.Generator, shape: tuple[int, ...], hardness: float, night: bool) -> Float32Array:
    """Factors [H, W] for brightness gradients, shadows with soft edges, and lamps at night."""
    small = max(2, shape[0] // 8), max(2, shape[1] // 8)
    logarithm = 0.5 * hardness * rng.uniform(0, 1) * smooth_noise(rng, small, int(rng.integers(2, 5)))
    if rng.random() < 0.5 * hardness:
        num_shadows = int(rng.integers(1, 4))
        shadow = np.zeros(small, np.float32)
        for _ in range(num_shadows):
            center, reach = rng.uniform(0, 1, 2) * small[::-1], rng.uniform(0.15, 0.6) * max(small)
            angles = np.sort(rng.uniform(0, 2 * np.pi, 5))
            corners = center + np.stack([np.cos(angles), np.sin(angles)], 1) * reach * rng.uniform(0.5, 1, (5, 1))
            cv2.fillPoly(shadow, [corners.round().astype(np.int32)], 1.0)
        shadow = np.asarray(cv2.GaussianBlur(shadow, (0, 0), rng.uniform(0.4, 3)), np.float32)
        logarithm = logarithm - shadow * rng.uniform(0.3, 1.2)
    if night:
        logarithm = logarithm - rng.uniform(0.3, 1.0)
        y, x = np.mgrid[: small[0], : small[1]]
        for _ in range(int(rng.integers(0, 4))):
            at, reach = rng.uniform(0, 1, 2) * small, rng.uniform(0.1, 0.4) * max(small)
            distances = ((y - at[0]) ** 2 + (x - at[1]) ** 2) / reach**2
            logarithm = logarithm + rng.uniform(0.4, 1.3) * np.exp(-distances)
    gains = cv2.resize(np.exp(logarithm).astype(np.float32), shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(gains, np.float32)


def _tone_curves(rng: np.random.Generator, hardness: float, night: bool, brightness: float) -> UInt8Array:
    """Lookup table [256, 1, 3] of gamma, exposure, contrast and colour cast, with clipping.

    The exposure is a noisy automatic one, computed from `brightness`, the mean of the image in 0 to 1.
    """
    gamma = np.exp(rng.normal(0, 0.35 * hardness) + (0.35 if night else 0.0))
    aim = 0.2 if night else 0.42
    exposure = np.clip(aim / brightness**gamma, 0.4, 6) * np.exp(rng.normal(0, 0.35 * hardness))
    contrast = np.exp(rng.normal(0, 0.25 * hardness))
    cast = np.exp(rng.normal(0, 0.12 * hardness, 3))
    if night:
        cast = cast * ((1.15, 0.95, 0.7) if rng.random() < 0.6 else (0.75, 0.9, 1.15))
    black = rng.uniform(0, 0.08) * hardness
    curves = _GREY_LEVELS[:, None] ** gamma * exposure * cast
    curves = (curves - 0.5) * contrast + 0.5 + black
    return np.asarray(np.clip(curves * 255, 0, 255), np.uint8).reshape(256, 1, 3)


def _blurred(image: UInt8Array, rng: np.random.Generator, hardness: float) -> UInt8Array:
    """Slight blur of the lens; sometimes defocus or motion blur instead."""
    kind = rng.random()
    if kind < 0.18 * hardness:
        length = rng.uniform(3, 4 + 9 * hardness)
        side = int(np.ceil(length)) | 1
        angle = rng.uniform(0, np.pi)
        kernel = np.zeros((side, side), np.float32)
        reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        ends = [tuple(((side // 2 + sign * reach) * 16).round().astype(int).tolist()) for sign in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_8, 4)
        return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)
    if kind < 0.36 * hardness:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 1 + 1.6 * hardness)), np.uint8)
    return np.asarray(cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.6)), np.uint8)


def _noisy(image: UInt8Array, rng: np.random.Generator, sigma: float) -> UInt8Array:
    """Add Gaussian noise of `sigma` grey levels, equal in all channels, from a quarter of the image mirrored."""
    height, width = image.shape[:2]
    sheet = rng.normal(0, sigma, (height // 2 + 1, width // 2 + 1)).astype(np.float32)
    grain = np.concatenate([sheet, sheet[::-1, ::-1]], axis=0)
    grain = np.concatenate([grain, grain[::-1]], axis=1)[:height, :width]
    return np.asarray(cv2.add(image, cv2.merge([grain] * 3), dtype=cv2.CV_8U), np.uint8)
