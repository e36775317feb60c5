"""Textures made from photographs: crops, tiled windows, mosaics, ground, bare walls; and masks with holes.

Images are uint8 tensors [H, W, 3] RGB on the device of the photographs. All parameters are drawn on the CPU; only
fields of noise are drawn on the device.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePosixPath

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
from sfm_lightglue.synthetic.photo_scenes.resampling import (
    How,
    added,
    blended,
    gaussian_blurred,
    grey,
    mirrored,
    multiplied,
    on_device,
    resized,
    turned,
)
from sfm_lightglue.synthetic.photo_scenes.surfaces import Texture

_TILE_GAP_PX = 3
_SIDE_MULTIPLE = 16
_LARGE_SIDE_PX = 1100
_MAX_SIDE_PX = 1 << 14


@lru_cache(maxsize=2**16)
def family(name: str) -> str:
    """Name of the photograph of which a file is a part: `x` for both `x.jpg` and its crop `x_c0.jpg`."""
    return re.sub(r"_c\d+$", "", PurePosixPath(name).stem)


def draw_photos(names: Sequence[str], num_photos: int, rng: np.random.Generator) -> list[str]:
    """Draw different files, those of rare kinds with higher probability.

    The kind is the part of the name before the first digit, as in `facade_0001.jpg`. The probability that the first
    file is of a kind is proportional to the square root of its number of photographs. So a large kind does not
    dominate the others.

    Args:
        names: at least one file name; parts of one photograph (`family`) count as one photograph of their kind.
        num_photos: at most this many files.
        rng: source of random numbers.
    """
    shares = _shares(tuple(names))
    rows = rng.choice(len(names), min(num_photos, len(names)), replace=False, p=shares)
    return [names[row] for row in rows]


@lru_cache(maxsize=8)
def _shares(names: tuple[str, ...]) -> Float64Array:
    """Probabilities [N] with which the first file is drawn."""
    kinds = [re.match(r"\D*", PurePosixPath(name).stem)[0] for name in names]  # type: ignore[index]  # it always matches
    num_files = Counter(kinds)
    num_families = Counter(kind for kind, _ in {(kind, family(name)) for kind, name in zip(kinds, names, strict=True)})
    shares = np.array([num_families[kind] ** 0.5 / num_files[kind] for kind in kinds])
    return np.asarray(shares / shares.sum(), np.float64)


class Photos:
    """Photographs of one scene, and textures made of them.

    Args:
        library: of all photographs.
        names: those of the scene, at least one.
        rng: source of random numbers.
    """

    def __init__(self, library: PhotoLibrary, names: Sequence[str], rng: np.random.Generator) -> None:
        self._library = library
        self._names = names
        self._rng = rng
        self._next = 0

    @property
    def device(self) -> torch.device:
        """The device of the textures."""
        return self._library.device

    def photo(self) -> Tensor:
        """The next photograph [H, W, 3], which must not be changed; after the last one, the first."""
        self._next += 1
        return self._library.photo(self._names[(self._next - 1) % len(self._names)])

    def crop(self, low: float, high: float) -> Tensor:
        """A random crop, whose sides are `low` to `high` of those of the photograph; mirrored in half of the calls."""
        photo = self.photo()
        height, width = (_even_side(side * self._rng.uniform(low, high), side) for side in photo.shape[:2])
        y = int(self._rng.integers(0, photo.shape[0] - height + 1))
        x = int(self._rng.integers(0, photo.shape[1] - width + 1))
        part = photo[y : y + height, x : x + width]
        return mirrored(part, (1,)) if self._rng.random() < 0.5 else part.contiguous()

    def wall(self, width_m: float) -> Texture:
        """A photograph, a tiled or a mosaic wall, with added fine detail."""
        return Texture.from_pixels(self.wall_pixels(), width_m)

    def wall_pixels(self) -> Tensor:
        """The image of `wall`."""
        kind = self._rng.random()
        if kind < 0.3:
            return self._detailed(self.tiled())
        return self._detailed(self.mosaic() if kind < 0.42 else self.crop(0.7, 1.0))

    def plain(self, width_m: float) -> Texture:
        """A crop of a photograph."""
        return Texture.from_pixels(self.crop(0.4, 0.9), width_m)

    def bare(self, width_m: float) -> Texture:
        """A surface such as paint, carpet or wood: a photograph with low contrast, and grain that may be stretched."""
        values = self.crop(0.4, 0.9).float()
        height, width = values.shape[:2]
        mean = values.mean((0, 1))
        colour = (mean * self._rng.uniform(0.5, 1.6)).clamp_(15, 240)
        faint = float(np.exp(self._rng.uniform(np.log(0.02), np.log(0.3))))
        sigma = self._rng.uniform(1, 10)
        stretch = int(self._rng.choice([1, 2, 8, 24]))
        sheet = normal_field(random_seed(self._rng), (height, max(2, width // stretch)), sigma, self.device)
        grain = resized(sheet, (width, height), "linear")
        values.sub_(mean).mul_(faint).add_(colour).add_(grain[..., None])
        return Texture.from_pixels(values.clamp_(0, 255).to(torch.uint8), width_m)

    def ground(self, width_m: float) -> Texture:
        """A rotated crop of a photograph blended with another one, for repetition."""
        base, over = (resized(self.crop(0.4, 1.0), (512, 512), "linear") for _ in range(2))
        share = self._rng.uniform(0, 0.4)
        pixels = blended(base, mirrored(over, _MIRRORED_AXES[int(self._rng.integers(3))]), share)
        if self._rng.random() < 0.5:
            pixels = torch.cat([pixels, mirrored(pixels, (1,))], dim=1)
        return Texture.from_pixels(turned(pixels, int(self._rng.integers(4))), width_m)

    def panorama(self, width_m: float) -> Texture:
        """Several photographs side by side, for a cylinder around the scene."""
        parts = [resized(self.photo(), (512, 384), "area") for _ in range(4)]
        return Texture.from_pixels(torch.cat(parts, dim=1), width_m)

    def tiled(self) -> Tensor:
        """One crop, such as a window, repeated as tiles; a few tiles differ, and the brightness varies."""
        rng = self._rng
        tile = _scaled(self.crop(0.15, 0.45), 0.8, "area")
        other = resized(self.crop(0.2, 0.5), (tile.shape[1], tile.shape[0]), "area")
        height, width = (side + _TILE_GAP_PX for side in tile.shape[:2])
        rows, columns = (int(np.clip(720 // side, 2, 7)) for side in (height, width))
        wall = tile.float().mean((0, 1)).to(torch.uint8).repeat(rows * height, columns * width, 1)
        odd_share, both_ways = rng.choice([0.0, 0.1, 0.25]), rng.random() < 0.3
        for row in range(rows):
            for column in range(columns):
                shown = multiplied(other if rng.random() < odd_share else tile, rng.uniform(0.85, 1.1))
                shown = mirrored(shown, (1,)) if both_ways and column % 2 else shown
                y, x = row * height, column * width
                wall[y : y + tile.shape[0], x : x + tile.shape[1]] = shown
        return multiplied(wall, 1 + 0.3 * smooth_noise(rng, wall.shape, 5, self.device))

    def mosaic(self) -> Tensor:
        """Six photographs side by side in two rows."""
        parts = [resized(self.crop(0.4, 1.0), (270, 270), "area") for _ in range(6)]
        return torch.cat([torch.cat(parts[start : start + 3], dim=1) for start in (0, 3)])

    def _detailed(self, pixels: Tensor) -> Tensor:
        """An enlarged image with added fine structure, so that close views are not blurred."""
        height, width = pixels.shape[:2]
        factor = float(np.clip(_LARGE_SIDE_PX / max(height, width), 1.0, 1.7))
        size = _even_side(width * factor, _MAX_SIDE_PX), _even_side(height * factor, _MAX_SIDE_PX)
        large = resized(pixels, size, "cubic")
        if self._rng.random() < 0.4:
            return large
        fine = _scaled(grey(self.crop(0.5, 1.0)), 0.7, "area").float()
        fine = (fine - gaussian_blurred(fine, 3)) * self._rng.uniform(0.1, 0.35)
        repeats = [-(-side // part) for side, part in zip(large.shape[:2], fine.shape, strict=True)]
        return added(large, fine.repeat(*repeats)[: large.shape[0], : large.shape[1]].contiguous())


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], cells: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Smooth random values, with about `cells` hills along the longer side.

    Args:
        rng: source of random numbers.
        shape: (H, W, ...).
        cells: number of hills.
        device: of the values.

    Returns:
        float32 [H, W] in [-1, 1].
    """
    height, width = shape[:2]
    longer = max(height, width)
    grid = rng.uniform(-1, 1, (max(2, cells * height // longer), max(2, cells * width // longer)))
    hills = resized(on_device(grid.astype(np.float32), device), (width, height), "cubic")
    return hills.clamp_(-1, 1)


def normal_field(seed: int, shape: tuple[int, ...], sigma: float, device: torch.device | str = "cpu") -> Tensor:
    """Independent normal values float32 with standard deviation `sigma`, drawn on the device."""
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device).mul_(sigma)


def random_seed(rng: np.random.Generator) -> int:
    """A seed for `normal_field`."""
    return int(rng.integers(2**62))


def blob_mask(
    rng: np.random.Generator, shape: Sequence[int], cells: int, share: float, device: torch.device | str = "cpu"
) -> Tensor:
    """Mask of islands that cover about a fraction `share`: like leaves for large `cells`, torn sheets for small."""
    hills = smooth_noise(rng, shape, cells, device)
    return _mask(hills > torch.quantile(hills[::4, ::4], 1 - share))


def fence_mask(rng: np.random.Generator, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Mask of vertical bars, sometimes with horizontal rails."""
    pitch = int(rng.integers(40, 140))
    bar = max(4, int(pitch * rng.uniform(0.15, 0.5)))
    in_bar = np.arange(shape[1]) % pitch < bar
    in_rail = np.zeros(shape[0], np.bool_)
    if rng.random() < 0.6:
        pitch = int(pitch * rng.uniform(1, 3))
        in_rail = np.arange(shape[0]) % pitch < bar
    return _mask(on_device(in_rail, device)[:, None] | on_device(in_bar, device))


def disc_mask(side: int, device: torch.device | str = "cpu") -> Tensor:
    """Mask of a disc that fills a square."""
    offsets = torch.arange(side, device=device, dtype=torch.float64) - (side - 1) / 2
    return _mask(torch.hypot(offsets[:, None], offsets) <= side / 2)


_MIRRORED_AXES = ((0, 1), (0,), (1,))


def _mask(inside: Tensor) -> Tensor:
    """A uint8 tensor of 255 and 0."""
    return inside.to(torch.uint8) * 255


def _even_side(side: float, limit: int) -> int:
    """A side in pixels, rounded so that it can be halved often (odd sides are halved slowly), and at most `limit`."""
    number = min(round(side / _SIDE_MULTIPLE), limit // _SIDE_MULTIPLE)
    return min(max(number, 1) * _SIDE_MULTIPLE, limit)


def _scaled(image: Tensor, factor: float, how: How) -> Tensor:
    return resized(image, (round(image.shape[1] * factor), round(image.shape[0] * factor)), how)
