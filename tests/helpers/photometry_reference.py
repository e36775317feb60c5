"""Photometric effects in numpy and OpenCV: what `draw_photometry` and `photographed` must give up to the noise."""

from __future__ import annotations

import cv2
import numpy as np

from tests.helpers.texture_reference import smooth_noise


def lit_and_blurred(image: np.ndarray, rng: np.random.Generator, hardness: float) -> tuple[np.ndarray, float]:
    """An image uint8 [H, W, 3] with light, tone curves and blur; and the standard deviation of its noise."""
    night = rng.random() < 0.3 * hardness
    gains = light_field(rng, image.shape[:2], hardness, night)
    shaded = cv2.multiply(image, cv2.merge([gains] * 3), dtype=cv2.CV_8U)
    brightness = max(float(np.mean(cv2.mean(shaded)[:3])), 2.0) / 255
    toned = cv2.LUT(shaded, tone_curves(rng, hardness, night, brightness))
    return blurred(toned, rng, hardness), rng.uniform(0.5, 4 + (12 if night else 6) * hardness)


def light_field(rng: np.random.Generator, shape: tuple[int, ...], hardness: float, night: bool) -> np.ndarray:
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
        shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(0.4, 3))
        logarithm = logarithm - shadow * rng.uniform(0.3, 1.2)
    if night:
        logarithm = logarithm - rng.uniform(0.3, 1.0)
        y, x = np.mgrid[: small[0], : small[1]]
        for _ in range(int(rng.integers(0, 4))):
            at, reach = rng.uniform(0, 1, 2) * small, rng.uniform(0.1, 0.4) * max(small)
            logarithm = logarithm + rng.uniform(0.4, 1.3) * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / reach**2)
    return cv2.resize(np.exp(logarithm).astype(np.float32), shape[1::-1], interpolation=cv2.INTER_LINEAR)


def tone_curves(rng: np.random.Generator, hardness: float, night: bool, brightness: float) -> np.ndarray:
    gamma = np.exp(rng.normal(0, 0.35 * hardness) + (0.35 if night else 0.0))
    aim = 0.2 if night else 0.42
    exposure = np.clip(aim / brightness**gamma, 0.4, 6) * np.exp(rng.normal(0, 0.35 * hardness))
    contrast = np.exp(rng.normal(0, 0.25 * hardness))
    cast = np.exp(rng.normal(0, 0.12 * hardness, 3))
    if night:
        cast = cast * ((1.15, 0.95, 0.7) if rng.random() < 0.6 else (0.75, 0.9, 1.15))
    black = rng.uniform(0, 0.08) * hardness
    curves = (np.arange(256)[:, None] / 255) ** gamma * exposure * cast
    curves = (curves - 0.5) * contrast + 0.5 + black
    return np.clip(curves * 255, 0, 255).astype(np.uint8).reshape(256, 1, 3)


def blurred(image: np.ndarray, rng: np.random.Generator, hardness: float) -> np.ndarray:
    kind = rng.random()
    if kind < 0.18 * hardness:
        length = rng.uniform(3, 4 + 9 * hardness)
        side = int(np.ceil(length)) | 1
        angle = rng.uniform(0, np.pi)
        kernel = np.zeros((side, side), np.float32)
        reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        ends = [tuple(((side // 2 + sign * reach) * 16).round().astype(int).tolist()) for sign in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_8, 4)
        return cv2.filter2D(image, -1, kernel / kernel.sum())
    if kind < 0.36 * hardness:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 1 + 1.6 * hardness))
    return cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.6))
