"""Descriptions of textured surfaces: textures, light, base class, planes. The renderer is in `rendering`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.photo_scenes.resampling import halved

_MIN_SIDE_TO_HALVE = 16


@dataclass(frozen=True, eq=False)
class Texture:
    """Colours of a surface, with an image pyramid against aliasing.

    Args:
        levels: uint8 [H, W, 3] RGB on one device, each about half as wide and high as the previous one.
        texels_per_m: of the first level.
        alpha: uint8 [H, W] of the first level, holes are below 128; None is solid.
    """

    levels: tuple[Tensor, ...]
    texels_per_m: float
    alpha: Tensor | None = None

    @classmethod
    def from_pixels(cls, pixels: Tensor, width_m: float, alpha: Tensor | None = None) -> Texture:
        """A texture from an image [H, W, 3] that is `width_m` metres wide on the surface."""
        levels = [pixels]
        while min(levels[-1].shape[:2]) >= _MIN_SIDE_TO_HALVE:
            levels.append(halved(levels[-1]))
        return cls(tuple(levels), pixels.shape[1] / width_m, alpha)

    @property
    def size_m(self) -> tuple[float, float]:
        """(width, height) of the image on the surface in metres."""
        height, width = self.levels[0].shape[:2]
        return width / self.texels_per_m, height / self.texels_per_m


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """Sun and ambient light; a surface that faces the sun has brightness `ambient + sun`.

    Args:
        direction: unit vector [3] in world coordinates towards the sun.
        sun: strength of the sun.
        ambient: strength of the ambient light.
    """

    direction: Float64Array
    sun: float
    ambient: float


@dataclass(frozen=True, eq=False)
class Surface:
    """A textured surface; (u, v) are metres on it, u to the right and v down when seen from outside."""

    world_from_local: Rigid3
    texture: Texture


@dataclass(frozen=True, eq=False)
class Plane(Surface):
    """A rectangle from the local origin to (size_m, 0): x is u, y is v, z points away from the viewer.

    Args:
        size_m: (width, height).
        offset_m: (u, v) of the texture at the local origin; textures repeat beyond their border.
        two_sided: whether the back is visible too.
    """

    size_m: tuple[float, float]
    offset_m: tuple[float, float] = (0.0, 0.0)
    two_sided: bool = False

    def corners(self) -> Float64Array:
        """The four corners [4, 3] in order around the rectangle."""
        width, height = self.size_m
        return np.array([[0, 0, 0], [width, 0, 0], [width, height, 0], [0, height, 0]], np.float64)
