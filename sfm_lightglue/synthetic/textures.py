"""Procedural textures with detail at all scales and no repetition, and filtered lookup.

All sizes are in metres, so that a texture has the same content at every resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array, Int32Array, UInt8Array

Color = tuple[int, int, int]

_SHIFT = 4
"""Fractional bits of coordinates in the drawing functions of cv2."""

_REMAP_COLUMNS = 4096
"""Number of lookups per row: cv2.remap accepts fewer than 32768 columns."""


@dataclass(frozen=True, slots=True)
class Material:
    """Appearance of a surface.

    Args:
        base: main colour (red, green, blue).
        marks: colours of the marks on it.
        stones_per_m2: irregular stones of a mosaic that covers the surface; 0 for no mosaic.
        pebbles_per_m2: rounded blobs of 1 to 12 cm.
        polygons_per_m2: polygons of 5 to 60 cm.
        strokes_per_m2: scratches and brush strokes.
        words_per_m2: short random words.
        contrast: amplitude of the noise in grey values.
    """

    base: Color
    marks: tuple[Color, ...]
    stones_per_m2: float = 0.0
    pebbles_per_m2: float = 0.0
    polygons_per_m2: float = 0.0
    strokes_per_m2: float = 0.0
    words_per_m2: float = 0.0
    contrast: float = 40.0


@dataclass(frozen=True, eq=False)
class MipTexture:
    """A texture with an image pyramid, so that a lookup averages over its footprint.

    Args:
        levels: uint8 [H, W, 3], each half as large as the previous one.
        size_m: (width, height) of the patch.
        wraps: whether the left and right border are the same line.
    """

    levels: tuple[UInt8Array, ...]
    size_m: tuple[float, float]
    wraps: bool

    @classmethod
    def from_image(cls, image: UInt8Array, size_m: tuple[float, float], wraps: bool) -> MipTexture:
        """A texture from its finest level, uint8 [H, W, 3]."""
        levels = [image]
        while min(levels[-1].shape[:2]) > 4:
            height, width = levels[-1].shape[:2]
            half = cv2.resize(levels[-1], ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
            levels.append(half.astype(np.uint8, copy=False))
        return cls(tuple(levels), size_m, wraps)

    def sample(self, probes: Sequence[Float32Array], footprint_m: Float32Array) -> Float32Array:
        """Mean of trilinear lookups.

        Args:
            probes: coordinates (u, v) of each lookup, [2, N] in metres.
            footprint_m: [N] width of the area to average over, in metres.

        Returns:
            [N, 3] in 0..255.
        """
        texel_m = self.size_m[0] / self.levels[0].shape[1]
        level = np.log2(np.maximum(footprint_m / np.float32(texel_m), np.float32(1)))
        level = np.minimum(level, np.float32(len(self.levels) - 1))
        lower = level.astype(np.int32)
        colors = np.empty((len(footprint_m), 3), np.float32)
        for k in range(int(lower.min(initial=0)), int(lower.max(initial=-1)) + 1):
            chosen = np.flatnonzero(lower == k)
            if len(chosen) == 0:
                continue
            uv = np.concatenate([probe[:, chosen] for probe in probes], axis=1)
            fine = self._bilinear(k, uv)
            coarse = self._bilinear(min(k + 1, len(self.levels) - 1), uv)
            weight = np.tile(level[chosen] - np.float32(k), len(probes))[:, None]
            blended = fine + weight * (coarse - fine)
            colors[chosen] = blended.reshape(len(probes), -1, 3).mean(0)
        return colors

    def _bilinear(self, level: int, uv: Float32Array) -> Float32Array:
        image = self.levels[level]
        height, width = image.shape[:2]
        num_rows = -(-uv.shape[1] // _REMAP_COLUMNS)
        xy = np.zeros((2, num_rows * min(_REMAP_COLUMNS, uv.shape[1])), np.float32)
        xy[0, : uv.shape[1]] = uv[0] * np.float32(width / self.size_m[0]) - np.float32(0.5)
        xy[1, : uv.shape[1]] = uv[1] * np.float32(height / self.size_m[1]) - np.float32(0.5)
        border = cv2.BORDER_WRAP if self.wraps else cv2.BORDER_REPLICATE
        x, y = xy.reshape(2, num_rows, -1)
        colors = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=border)
        return colors.reshape(-1, 3)[: uv.shape[1]].astype(np.float32)


def paint(material: Material, size_m: tuple[float, float], texels_per_m: float, rng: np.random.Generator) -> UInt8Array:
    """Paint a texture of a material.

    Args:
        material: appearance.
        size_m: (width, height) of the patch.
        texels_per_m: resolution.
        rng: source of random numbers.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    width, height = (max(8, round(length * texels_per_m)) for length in size_m)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = material.base
    _draw_polygons(canvas, material, texels_per_m, rng)
    _draw_stones(canvas, material, texels_per_m, rng)
    _draw_pebbles(canvas, material, texels_per_m, rng)
    _draw_strokes(canvas, material, texels_per_m, rng)
    _draw_words(canvas, material, texels_per_m, rng)
    noise = _noise((width, height), texels_per_m, rng)
    # tanh limits the noise softly, because clipped noise has flat spots. The product changes brightness in proportion.
    grain = (128 + 90 * np.tanh(noise * np.float32(material.contrast / 90))).astype(np.uint8)
    painted = cv2.multiply(canvas, cv2.merge([grain, grain, grain]), scale=2 / 255)
    return np.asarray(cv2.GaussianBlur(painted, (0, 0), 0.6), np.uint8)


def _noise(size: tuple[int, int], texels_per_m: float, rng: np.random.Generator) -> Float32Array:
    """Sum [H, W] of octaves of noise, from one to two metres down to four texels, with about unit variance."""
    width, height = size
    coarsest = max(1, round(math.log2(texels_per_m)))
    total = np.zeros((1, 1), np.float32)
    squares = 0.0
    for octave in range(coarsest, 0, -1):
        shape = -(-height // 2**octave), -(-width // 2**octave)
        amplitude = np.float32(2.0 ** (0.3 * octave))
        total = np.asarray(cv2.resize(total, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
        total += amplitude * rng.standard_normal(shape, dtype=np.float32)
        squares += float(amplitude) ** 2
    finest = cv2.resize(total, size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(finest, np.float32) * np.float32(1.4 / math.sqrt(squares))


def _draw_stones(canvas: UInt8Array, material: Material, texels_per_m: float, rng: np.random.Generator) -> None:
    """A Voronoi mosaic of stones in different shades, with dark joints between them."""
    height, width = canvas.shape[:2]
    if material.stones_per_m2 == 0:
        return
    count = max(4, round(material.stones_per_m2 * width * height / texels_per_m**2))
    seeds = np.full((height, width), 255, np.uint8)
    seeds[rng.integers(0, height, count), rng.integers(0, width, count)] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
    shades = rng.normal(1.0, 0.16, (count + 1, 1)) + rng.normal(0.0, 0.03, (count + 1, 3))
    shaded = canvas * shades.astype(np.float32)[labels]
    indices = labels.astype(np.uint16)  # cv2.dilate does not accept int32
    joints = cv2.dilate(indices, np.ones((3, 3), np.uint8)) != cv2.erode(indices, np.ones((3, 3), np.uint8))
    joint_px = max(0.5, 0.007 * texels_per_m)
    depth = cv2.GaussianBlur(joints.astype(np.float32), (0, 0), joint_px)
    shaded *= (1 - np.minimum(0.5, 0.8 * depth * joint_px))[..., None]
    np.clip(shaded, 0, 255, out=shaded)
    canvas[:] = shaded.astype(np.uint8)


def _draw_pebbles(canvas: UInt8Array, material: Material, texels_per_m: float, rng: np.random.Generator) -> None:
    """Ellipses with a brighter upper left part, many small and few large ones."""
    count = _count(canvas, material.pebbles_per_m2, texels_per_m, rng)
    radii = np.minimum(0.007 * (1 - rng.random(count)) ** -0.7, 0.07) * texels_per_m
    centers = rng.random((count, 2)) * canvas.shape[1::-1]
    axes = radii[:, None] * np.stack([np.ones(count), rng.uniform(0.5, 1.0, count)], 1)
    angles = rng.uniform(0, 180, count)
    colors = np.asarray(_colors(material, count, rng)).reshape(count, 3)
    drawn = radii >= 1
    shrinks, gains = np.array([[1.0], [0.78], [0.4]]), np.array([[0.6], [1.0], [1.15]])
    layers = (
        _fixed(centers[drawn, None] - (1 - shrinks) * radii[drawn, None, None] * 0.35).tolist(),
        _fixed(axes[drawn, None] * shrinks).tolist(),
        np.minimum(colors[drawn, None] * gains, 255.0).tolist(),
        angles[drawn].tolist(),
        np.where(radii[drawn] < 4, 2, 3).tolist(),
    )
    for center, axis, color, angle, num_layers in zip(*layers, strict=True):
        for k in range(num_layers):
            cv2.ellipse(canvas, center[k], axis[k], angle, 0, 360, color[k], cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _draw_polygons(canvas: UInt8Array, material: Material, texels_per_m: float, rng: np.random.Generator) -> None:
    """Irregular polygons of three to seven corners."""
    count = _count(canvas, material.polygons_per_m2, texels_per_m, rng)
    radii = np.minimum(0.04 * (1 - rng.random(count)) ** -0.8, 0.35) * texels_per_m
    order = np.argsort(-radii, kind="stable")
    colors = _colors(material, count, rng)
    for idx in order:
        corners = int(rng.integers(3, 8))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        lengths = radii[idx] * rng.uniform(0.5, 1.0, corners)
        offsets = np.stack([np.cos(angles), np.sin(angles)], 1) * lengths[:, None]
        points = rng.random(2) * canvas.shape[1::-1] + offsets
        cv2.fillPoly(canvas, [_fixed(points)], colors[idx], cv2.LINE_AA, _SHIFT)


def _draw_strokes(canvas: UInt8Array, material: Material, texels_per_m: float, rng: np.random.Generator) -> None:
    """Curved lines of 5 to 50 cm."""
    count = _count(canvas, material.strokes_per_m2, texels_per_m, rng)
    for color in _colors(material, count, rng):
        headings = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.5, 6))
        step = rng.uniform(0.01, 0.08) * texels_per_m
        path = rng.random(2) * canvas.shape[1::-1] + step * np.cumsum(
            np.stack([np.cos(headings), np.sin(headings)], 1), 0
        )
        thickness = max(1, round(rng.uniform(0.004, 0.02) * texels_per_m))
        cv2.polylines(canvas, [_fixed(path)], False, color, thickness, cv2.LINE_AA, _SHIFT)


def _draw_words(canvas: UInt8Array, material: Material, texels_per_m: float, rng: np.random.Generator) -> None:
    """Words of random letters and digits, 4 to 20 cm high."""
    alphabet = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghkmnpqrstuvwxyz23456789&?"
    fonts = (cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX)
    count = _count(canvas, material.words_per_m2, texels_per_m, rng)
    for color in _colors(material, count, rng):
        letters = rng.integers(0, len(alphabet), int(rng.integers(2, 7)))
        scale = 0.04 * 5 ** rng.random() * texels_per_m / 22  # capital letters are 22 pixels high at scale 1
        x, y = (rng.random(2) * canvas.shape[1::-1] * (0.85, 1.0)).round().astype(int).tolist()
        thickness = max(1, round(2.2 * scale))
        word = "".join(alphabet[letter] for letter in letters)
        cv2.putText(canvas, word, (x, y), fonts[rng.integers(3)], scale, color, thickness, cv2.LINE_AA)


def _count(canvas: UInt8Array, per_m2: float, texels_per_m: float, rng: np.random.Generator) -> int:
    return int(rng.poisson(per_m2 * canvas.shape[0] * canvas.shape[1] / texels_per_m**2))


def _colors(material: Material, count: int, rng: np.random.Generator) -> list[tuple[float, ...]]:
    """Random variations of the colours of the marks."""
    chosen = np.asarray(material.marks, np.float64)[rng.integers(0, len(material.marks), count)]
    varied = chosen * rng.normal(1.0, 0.15, (count, 1)) + rng.normal(0, 6, (count, 3))
    return [tuple(color) for color in np.clip(varied, 0, 255).tolist()]


def _fixed(values: Float64Array) -> Int32Array:
    """Pixels in the fixed-point format of the drawing functions of cv2."""
    fixed: Int32Array = np.rint(values * 2**_SHIFT).astype(np.int32)
    return fixed
