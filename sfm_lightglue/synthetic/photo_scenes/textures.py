"""Textures made from photographs: crops, tiled windows, mosaics, ground, bare walls; and masks with holes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from sfm_lightglue.arrays import Float32Array, UInt8Array
from sfm_lightglue.images.image import Image
from sfm_lightglue.synthetic.photo_scenes.surfaces import Texture

_TILE_GAP_PX = 3


@lru_cache(maxsize=2**16)
def family(path: Path) -> str:
    """Name of the photograph of which a file is a part: `x` for both `x.jpg` and its crop `x_c0.jpg`."""
    return re.sub(r"_c\d+$", "", path.stem)


def draw_photos(paths: Sequence[Path], num_photos: int, rng: np.random.Generator) -> list[Path]:
    """Draw different files, those of rare kinds with higher probability.

    The kind is the part of the name before the first digit, as in `facade_0001.jpg`. The probability that the first
    file is of a kind is proportional to the square root of its number of photographs. So a large kind does not
    dominate the others.

    Args:
        paths: at least one; parts of one photograph (`family`) count as one photograph of their kind.
        num_photos: at most this many files.
        rng: source of random numbers.
    """
    kinds = [re.match(r"\D*", path.stem)[0] for path in paths]  # type: ignore[index]  # it always matches
    num_files = Counter(kinds)
    num_families = Counter(kind for kind, _ in {(kind, family(path)) for kind, path in zip(kinds, paths, strict=True)})
    shares = np.array([num_families[kind] ** 0.5 / num_files[kind] for kind in kinds])
    rows = rng.choice(len(paths), min(num_photos, len(paths)), replace=False, p=shares / shares.sum())
    return [paths[row] for row in rows]


class Photos:
    """Photographs of one scene, decoded at first use, and textures made of them.

    Args:
        paths: at least one.
        rng: source of random numbers.
    """

    def __init__(self, paths: Sequence[Path], rng: np.random.Generator) -> None:
        self._paths = paths
        self._rng = rng
        self._decoded: dict[int, UInt8Array] = {}
        self._next = 0

    def photo(self) -> UInt8Array:
        """The next photograph [H, W, 3]; after the last one, the first."""
        idx = self._next % len(self._paths)
        self._next += 1
        if idx not in self._decoded:
            self._decoded[idx] = Image.read(self._paths[idx]).rgb()
        return self._decoded[idx]

    def crop(self, low: float, high: float) -> UInt8Array:
        """A random crop, whose sides are `low` to `high` of those of the photograph; mirrored in half of the calls."""
        photo = self.photo()
        sides = [max(24, int(side * self._rng.uniform(low, high))) for side in photo.shape[:2]]
        height, width = (min(side, limit) for side, limit in zip(sides, photo.shape[:2], strict=True))
        y, x = (
            int(self._rng.integers(0, limit - side + 1))
            for side, limit in zip((height, width), photo.shape[:2], strict=True)
        )
        part = photo[y : y + height, x : x + width]
        return np.ascontiguousarray(part[:, ::-1] if self._rng.random() < 0.5 else part)

    def wall(self, width_m: float) -> Texture:
        """A photograph, a tiled or a mosaic wall, with added fine detail."""
        kind = self._rng.random()
        if kind < 0.3:
            pixels = self.tiled()
        elif kind < 0.42:
            pixels = self.mosaic()
        else:
            pixels = self.crop(0.7, 1.0)
        return Texture.from_pixels(self._detailed(pixels), width_m)

    def plain(self, width_m: float) -> Texture:
        """A crop of a photograph."""
        return Texture.from_pixels(self.crop(0.4, 0.9), width_m)

    def bare(self, width_m: float) -> Texture:
        """A surface such as paint, carpet or wood: a photograph with low contrast, and grain that may be stretched."""
        pixels = self.crop(0.4, 0.9)
        height, width = pixels.shape[:2]
        colour = np.clip(pixels.reshape(-1, 3).mean(0) * self._rng.uniform(0.5, 1.6), 15, 240)
        faint = np.exp(self._rng.uniform(np.log(0.02), np.log(0.3)))
        pattern = (pixels - pixels.reshape(-1, 3).mean(0)) * faint
        sheet = self._rng.normal(
            0, self._rng.uniform(1, 10), (height, max(2, width // int(self._rng.choice([1, 2, 8, 24]))))
        )
        grain = cv2.resize(sheet.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        return Texture.from_pixels(np.clip(colour + pattern + grain[..., None], 0, 255).astype(np.uint8), width_m)

    def ground(self, width_m: float) -> Texture:
        """A rotated crop of a photograph blended with another one, for repetition."""
        base, over = (cv2.resize(self.crop(0.4, 1.0), (512, 512), interpolation=cv2.INTER_LINEAR) for _ in range(2))
        share = self._rng.uniform(0, 0.4)
        pixels = cv2.addWeighted(base, 1 - share, cv2.flip(over, int(self._rng.integers(-1, 2))), share, 0)
        mirrored = np.concatenate([pixels, pixels[:, ::-1]], axis=1) if self._rng.random() < 0.5 else pixels
        return Texture.from_pixels(
            np.ascontiguousarray(np.rot90(mirrored, int(self._rng.integers(4))), np.uint8), width_m
        )

    def panorama(self, width_m: float) -> Texture:
        """Several photographs side by side, for a cylinder around the scene."""
        parts = [cv2.resize(self.photo(), (512, 384), interpolation=cv2.INTER_AREA) for _ in range(4)]
        return Texture.from_pixels(np.concatenate(parts, axis=1).astype(np.uint8), width_m)

    def tiled(self) -> UInt8Array:
        """One crop, such as a window, repeated as tiles; a few tiles differ, and the brightness varies."""
        rng = self._rng
        tile = cv2.resize(self.crop(0.15, 0.45), None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
        other = cv2.resize(self.crop(0.2, 0.5), tile.shape[1::-1], interpolation=cv2.INTER_AREA)
        height, width = (side + _TILE_GAP_PX for side in tile.shape[:2])
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
        return _multiplied(wall, 1 + 0.3 * smooth_noise(rng, wall.shape[:2], 5))

    def mosaic(self) -> UInt8Array:
        """Six photographs side by side in two rows."""
        parts = [cv2.resize(self.crop(0.4, 1.0), (270, 270), interpolation=cv2.INTER_AREA) for _ in range(6)]
        rows = [np.concatenate(parts[start : start + 3], axis=1) for start in (0, 3)]
        return np.concatenate(rows, axis=0).astype(np.uint8)

    def _detailed(self, pixels: UInt8Array) -> UInt8Array:
        """An enlarged image with added fine structure, so that close views are not blurred."""
        factor = float(np.clip(1100 / max(pixels.shape[:2]), 1.0, 1.7))
        large = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        if self._rng.random() < 0.4:
            return np.asarray(large, np.uint8)
        fine = cv2.cvtColor(self.crop(0.5, 1.0), cv2.COLOR_RGB2GRAY)
        fine = cv2.resize(fine, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA).astype(np.float32)
        fine = fine - np.asarray(cv2.GaussianBlur(fine, (0, 0), 3), np.float32)
        repeats = [-(-side // part) for side, part in zip(large.shape[:2], fine.shape, strict=True)]
        tiled = np.tile(fine * np.float32(self._rng.uniform(0.1, 0.35)), repeats)
        tiled = np.ascontiguousarray(tiled[: large.shape[0], : large.shape[1]])
        return np.asarray(cv2.add(large, cv2.merge([tiled] * 3), dtype=cv2.CV_8U), np.uint8)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> Float32Array:
    """Smooth random values [H, W] in [-1, 1], with about `cells` hills along the longer side."""
    height, width = shape[:2]
    longer = max(height, width)
    grid = rng.uniform(-1, 1, (max(2, cells * height // longer), max(2, cells * width // longer)))
    hills = cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(hills, -1, 1).astype(np.float32)


def blob_mask(rng: np.random.Generator, shape: tuple[int, ...], cells: int, share: float) -> UInt8Array:
    """Mask of islands that cover about a fraction `share`: like leaves for large `cells`, torn sheets for small."""
    hills = smooth_noise(rng, shape, cells)
    return np.where(hills > np.quantile(hills[::4, ::4], 1 - share), 255, 0).astype(np.uint8)


def fence_mask(rng: np.random.Generator, shape: tuple[int, ...]) -> UInt8Array:
    """Mask of vertical bars, sometimes with horizontal rails."""
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


def disc_mask(side: int) -> UInt8Array:
    """Mask of a disc that fills a square."""
    offsets = np.arange(side) - (side - 1) / 2
    return np.where(np.hypot(offsets[:, None], offsets) <= side / 2, 255, 0).astype(np.uint8)


def _multiplied(pixels: UInt8Array, factors: Float32Array) -> UInt8Array:
    return np.asarray(cv2.multiply(pixels, cv2.merge([factors.astype(np.float32)] * 3), dtype=cv2.CV_8U), np.uint8)
