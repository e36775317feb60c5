"""Descriptions of curved surfaces: cylinders from outside or inside, spheres, reliefs over a plane."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.synthetic.photo_scenes.surfaces import Surface


@dataclass(frozen=True, eq=False)
class Round(Surface):
    """A cylinder about the local z axis, or a sphere about the local origin.

    The texture coordinates are angle and height, for a sphere angle and latitude.

    Args:
        radius_m: of the cylinder or sphere.
        height_m: of the cylinder, which is centred at the origin; None makes a sphere.
        inside: whether the inner side is visible instead of the outer side.
    """

    radius_m: float
    height_m: float | None = None
    inside: bool = False

    def corners(self) -> Float64Array:
        """The corners [8, 3] of the bounding box."""
        r, h = self.radius_m, self.radius_m if self.height_m is None else self.height_m / 2
        return np.array([[x, y, z] for x in (-r, r) for y in (-r, r) for z in (-h, h)], np.float64)


@dataclass(frozen=True, eq=False)
class Relief(Surface):
    """A rectangle like `Plane`, with hills towards the viewer; seen from points that are higher than all hills.

    Args:
        size_m: (width, height).
        heights_m: [H, W] float32 heights above the plane on the device of the texture, not negative; bilinear
            interpolation over the rectangle.
    """

    size_m: tuple[float, float]
    heights_m: Tensor

    def corners(self) -> Float64Array:
        """The corners [8, 3] of the bounding box."""
        width, height = self.size_m
        return np.array([[x, y, z] for x in (0, width) for y in (0, height) for z in (0, -self.highest_m)], np.float64)

    @cached_property
    def highest_m(self) -> float:
        """The largest height."""
        return float(self.heights_m.max())
