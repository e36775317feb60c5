"""Photometric augmentation of images: lighting, shadows, exposure, blur, noise, JPEG compression."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from sfm_lightglue.arrays import Float32Array
from sfm_lightglue.synthetic.photo_scenes import photometry_opencv, photometry_torch
from sfm_lightglue.synthetic.photo_scenes.photometry import GaussianBlur, MotionBlur, Photometry, ToneCurve
from sfm_lightglue.synthetic.photo_scenes.surfaces import Light
from sfm_lightglue.synthetic.photo_scenes.textures import random_seed, smooth_noise

_GAINS_SCALE = 8
"""Number of pixels of the image along one pixel of the field of its gains."""


def random_light(rng: np.random.Generator) -> Light:
    """Random light, from diffuse light only to strong sun at any elevation."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 1.4)
    direction = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    sun = float(rng.uniform(0, 0.9))
    return Light(direction, sun, 1.0 - 0.6 * sun)


def photographed(images: Sequence[Tensor], effects: Sequence[Photometry]) -> list[Tensor]:
    """Images with the effects of lighting, lens, sensor and file.

    Args:
        images: uint8 [H, W, 3] RGB, all on one device; on a GPU, those of equal size are processed together.
        effects: one for each image.

    Returns:
        uint8 [H, W, 3] each, on the device of the images.
    """
    if len(images) == 0 or not images[0].is_cuda:
        return [photometry_opencv.with_effects(*pair) for pair in zip(images, effects, strict=True)]
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for idx, image in enumerate(images):
        groups[tuple(image.shape)].append(idx)
    results: dict[int, Tensor] = {}
    for members in groups.values():
        batch = photometry_torch.with_effects([images[idx] for idx in members], [effects[idx] for idx in members])
        results.update(zip(members, batch.unbind(), strict=True))
    return [results[idx] for idx in range(len(images))]


def draw_photometry(rng: np.random.Generator, hardness: float, size: tuple[int, int]) -> Photometry:
    """Draw all effects on one image.

    Args:
        rng: source of random numbers.
        hardness: strength of all effects, from 0 (almost none) to 1.
        size: (width, height) of the image in pixels.
    """
    night = rng.random() < 0.3 * hardness
    gains = _gains(rng, size, hardness, night)
    tone = _tone(rng, hardness, night)
    blur = _blur(rng, hardness)
    noise_sigma = float(rng.uniform(0.5, 4 + (12 if night else 6) * hardness))
    noise_seed = random_seed(rng)
    has_compression = rng.random() < 0.8
    quality = int(rng.integers(95 - int(60 * hardness), 97)) if has_compression else None
    return Photometry(gains, tone, blur, noise_sigma, noise_seed, quality)


def _gains(rng: np.random.Generator, size: tuple[int, int], hardness: float, night: bool) -> Float32Array:
    """Factors [h, w] for brightness gradients, shadows with soft edges, and lamps at night."""
    small = max(2, size[1] // _GAINS_SCALE), max(2, size[0] // _GAINS_SCALE)
    logarithm = 0.5 * hardness * rng.uniform(0, 1) * smooth_noise(rng, small, int(rng.integers(2, 5))).numpy()
    if rng.random() < 0.5 * hardness:
        logarithm = logarithm - _shadows(rng, small) * rng.uniform(0.3, 1.2)
    if night:
        logarithm = logarithm - rng.uniform(0.3, 1.0)
        y, x = np.mgrid[: small[0], : small[1]]
        for _ in range(int(rng.integers(0, 4))):
            at, reach = rng.uniform(0, 1, 2) * small, rng.uniform(0.1, 0.4) * max(small)
            distances = ((y - at[0]) ** 2 + (x - at[1]) ** 2) / reach**2
            logarithm = logarithm + rng.uniform(0.4, 1.3) * np.exp(-distances)
    return np.asarray(np.exp(logarithm), np.float32)


def _shadows(rng: np.random.Generator, shape: tuple[int, int]) -> Float32Array:
    """One to three polygons with soft edges, from 0 (light) to 1 (shadow)."""
    shadow = np.zeros(shape, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        center, reach = rng.uniform(0, 1, 2) * shape[::-1], rng.uniform(0.15, 0.6) * max(shape)
        angles = np.sort(rng.uniform(0, 2 * np.pi, 5))
        corners = center + np.stack([np.cos(angles), np.sin(angles)], 1) * reach * rng.uniform(0.5, 1, (5, 1))
        cv2.fillPoly(shadow, [corners.round().astype(np.int32)], 1.0)
    return np.asarray(cv2.GaussianBlur(shadow, (0, 0), rng.uniform(0.4, 3)), np.float32)


def _tone(rng: np.random.Generator, hardness: float, night: bool) -> ToneCurve:
    gamma = float(np.exp(rng.normal(0, 0.35 * hardness) + (0.35 if night else 0.0)))
    exposure = float(np.exp(rng.normal(0, 0.35 * hardness)))
    contrast = float(np.exp(rng.normal(0, 0.25 * hardness)))
    cast = np.exp(rng.normal(0, 0.12 * hardness, 3))
    if night:
        cast = cast * ((1.15, 0.95, 0.7) if rng.random() < 0.6 else (0.75, 0.9, 1.15))
    red, green, blue = cast.tolist()
    black = float(rng.uniform(0, 0.08) * hardness)
    return ToneCurve(gamma, 0.2 if night else 0.42, exposure, contrast, (red, green, blue), black)


def _blur(rng: np.random.Generator, hardness: float) -> GaussianBlur | MotionBlur:
    """Slight blur of the lens; sometimes defocus or motion blur instead."""
    kind = rng.random()
    if kind < 0.18 * hardness:
        return _motion(rng, hardness)
    if kind < 0.36 * hardness:
        sigma = float(rng.uniform(0.8, 1 + 1.6 * hardness))
        return GaussianBlur(sigma, round(6 * sigma + 1) | 1)
    return GaussianBlur(float(rng.uniform(0.3, 0.6)), 3)


def _motion(rng: np.random.Generator, hardness: float) -> MotionBlur:
    """A straight path in any direction."""
    length = rng.uniform(3, 4 + 9 * hardness)
    side = int(np.ceil(length)) | 1
    angle = rng.uniform(0, np.pi)
    kernel = np.zeros((side, side), np.float32)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    ends = [tuple(((side // 2 + sign * reach) * 16).round().astype(int).tolist()) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_8, 4)
    return MotionBlur(kernel / kernel.sum())
