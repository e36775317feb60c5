"""Textures in numpy and OpenCV: what `Photos` of the library must give from the same random numbers."""

from __future__ import annotations

import cv2
import numpy as np


class ReferencePhotos:
    """Textures of photographs uint8 [H, W, 3] as images."""

    def __init__(self, photos: list[np.ndarray], rng: np.random.Generator) -> None:
        self.photos = photos
        self.rng = rng
        self.next = 0

    def photo(self) -> np.ndarray:
        self.next += 1
        return self.photos[(self.next - 1) % len(self.photos)]

    def crop(self, low: float, high: float) -> np.ndarray:
        photo = self.photo()
        height, width = (
            min(round(side * self.rng.uniform(low, high) / 16), side // 16) * 16 for side in photo.shape[:2]
        )
        y = int(self.rng.integers(0, photo.shape[0] - height + 1))
        x = int(self.rng.integers(0, photo.shape[1] - width + 1))
        part = photo[y : y + height, x : x + width]
        return np.ascontiguousarray(part[:, ::-1] if self.rng.random() < 0.5 else part)

    def wall(self) -> np.ndarray:
        kind = self.rng.random()
        if kind < 0.3:
            return self.detailed(self.tiled())
        return self.detailed(self.mosaic() if kind < 0.42 else self.crop(0.7, 1.0))

    def plain(self) -> np.ndarray:
        return self.crop(0.4, 0.9)

    def bare(self) -> np.ndarray:
        pixels = self.crop(0.4, 0.9)
        height, width = pixels.shape[:2]
        mean = pixels.reshape(-1, 3).mean(0)
        colour = np.clip(mean * self.rng.uniform(0.5, 1.6), 15, 240)
        pattern = (pixels - mean) * np.exp(self.rng.uniform(np.log(0.02), np.log(0.3)))
        sigma, stretch = self.rng.uniform(1, 10), int(self.rng.choice([1, 2, 8, 24]))
        sheet = self.rng.normal(0, sigma, (height, max(2, width // stretch))).astype(np.float32)
        grain = cv2.resize(sheet, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.clip(colour + pattern + grain[..., None], 0, 255).astype(np.uint8)

    def ground(self) -> np.ndarray:
        base, over = (cv2.resize(self.crop(0.4, 1.0), (512, 512), interpolation=cv2.INTER_LINEAR) for _ in range(2))
        share = self.rng.uniform(0, 0.4)
        pixels = cv2.addWeighted(base, 1 - share, cv2.flip(over, int(self.rng.integers(-1, 2))), share, 0)
        mirrored = np.concatenate([pixels, pixels[:, ::-1]], axis=1) if self.rng.random() < 0.5 else pixels
        return np.rot90(mirrored, int(self.rng.integers(4)))

    def panorama(self) -> np.ndarray:
        parts = [cv2.resize(self.photo(), (512, 384), interpolation=cv2.INTER_AREA) for _ in range(4)]
        return np.concatenate(parts, axis=1)

    def tiled(self) -> np.ndarray:
        rng = self.rng
        tile = scaled(self.crop(0.15, 0.45), 0.8, cv2.INTER_AREA)
        other = cv2.resize(self.crop(0.2, 0.5), tile.shape[1::-1], interpolation=cv2.INTER_AREA)
        height, width = (side + 3 for side in tile.shape[:2])
        rows, columns = (int(np.clip(720 // side, 2, 7)) for side in (height, width))
        wall = np.empty((rows * height, columns * width, 3), np.uint8)
        wall[:] = tile.reshape(-1, 3).mean(0).astype(np.uint8)
        odd_share, both_ways = rng.choice([0.0, 0.1, 0.25]), rng.random() < 0.3
        for row in range(rows):
            for column in range(columns):
                odd = rng.random() < odd_share
                shown = cv2.convertScaleAbs(other if odd else tile, alpha=rng.uniform(0.85, 1.1))
                shown = shown[:, ::-1] if both_ways and column % 2 else shown
                y, x = row * height, column * width
                wall[y : y + tile.shape[0], x : x + tile.shape[1]] = shown
        factors = 1 + 0.3 * smooth_noise(rng, wall.shape[:2], 5)
        return cv2.multiply(wall, cv2.merge([factors] * 3), dtype=cv2.CV_8U)

    def mosaic(self) -> np.ndarray:
        parts = [cv2.resize(self.crop(0.4, 1.0), (270, 270), interpolation=cv2.INTER_AREA) for _ in range(6)]
        return np.concatenate([np.concatenate(parts[start : start + 3], axis=1) for start in (0, 3)])

    def detailed(self, pixels: np.ndarray) -> np.ndarray:
        factor = float(np.clip(1100 / max(pixels.shape[:2]), 1.0, 1.7))
        size = tuple(round(side * factor / 16) * 16 for side in pixels.shape[1::-1])
        large = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
        if self.rng.random() < 0.4:
            return large
        fine = scaled(cv2.cvtColor(self.crop(0.5, 1.0), cv2.COLOR_RGB2GRAY), 0.7, cv2.INTER_AREA).astype(np.float32)
        fine = (fine - cv2.GaussianBlur(fine, (0, 0), 3)) * np.float32(self.rng.uniform(0.1, 0.35))
        repeats = [-(-side // part) for side, part in zip(large.shape[:2], fine.shape, strict=True)]
        tiled = np.ascontiguousarray(np.tile(fine, repeats)[: large.shape[0], : large.shape[1]])
        return cv2.add(large, cv2.merge([tiled] * 3), dtype=cv2.CV_8U)


def scaled(image: np.ndarray, factor: float, how: int) -> np.ndarray:
    height, width = image.shape[:2]
    return cv2.resize(image, (round(width * factor), round(height * factor)), interpolation=how)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> np.ndarray:
    height, width = shape[:2]
    longer = max(height, width)
    grid = rng.uniform(-1, 1, (max(2, cells * height // longer), max(2, cells * width // longer)))
    return np.clip(cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC), -1, 1)


def blob_mask(rng: np.random.Generator, shape: tuple[int, ...], cells: int, share: float) -> np.ndarray:
    hills = smooth_noise(rng, shape, cells)
    return np.where(hills > np.quantile(hills[::4, ::4], 1 - share), 255, 0).astype(np.uint8)


def fence_mask(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape[:2], np.uint8)
    pitch = int(rng.integers(40, 140))
    bar = max(4, int(pitch * rng.uniform(0.15, 0.5)))
    for x in range(0, shape[1], pitch):
        mask[:, x : x + bar] = 255
    if rng.random() < 0.6:
        pitch = int(pitch * rng.uniform(1, 3))
        for y in range(0, shape[0], pitch):
            mask[y : y + bar] = 255
    return mask


def disc_mask(side: int) -> np.ndarray:
    offsets = np.arange(side) - (side - 1) / 2
    return np.where(np.hypot(offsets[:, None], offsets) <= side / 2, 255, 0).astype(np.uint8)
