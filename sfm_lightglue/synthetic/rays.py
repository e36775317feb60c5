"""Rays, and the base class of shapes that they can hit.

Arrays of vectors are [3, N] (one row per axis) in float32, metres; [3, 1] is one vector that all rays share. Matrix
products over N are not used, because rounding in BLAS may depend on the number of threads, and the same scene must
give the same bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float32Array, Float64Array, Int32Array
from sfm_lightglue.geometry.transforms import Rigid3


@dataclass(frozen=True, eq=False)
class Rays:
    """Rays origin + t * direction with t > 0; directions need not have unit length.

    Args:
        origins: [3, N] or [3, 1].
        directions: [3, N] or [3, 1].
    """

    origins: Float32Array
    directions: Float32Array

    def __len__(self) -> int:
        return max(len(self.origins[0]), len(self.directions[0]))

    @cached_property
    def squared_lengths(self) -> Float32Array:
        """Squared norms of the directions [N] or [1]."""
        return dot(self.directions, self.directions)

    def take(self, indices: Int32Array) -> Rays:
        """The rays with these indices."""
        return Rays(_take(self.origins, indices), _take(self.directions, indices))

    def at(self, t: Float32Array) -> Float32Array:
        """Points [3, N] at the parameters t [N]."""
        return self.origins + self.directions * t


@dataclass(frozen=True, eq=False)
class Shape(ABC):
    """A solid in its local frame, whose origin is the centre of its bounding sphere.

    Flat or curved rectangular patches cover the surface. Their coordinates (u, v) are metres, u to the right and v
    downwards, when seen from outside with the local z axis upwards.
    """

    world_from_local: Rigid3

    @property
    @abstractmethod
    def bounding_radius_m(self) -> float:
        """Radius of the bounding sphere; infinite if all rays must be tested."""

    @property
    @abstractmethod
    def patch_sizes_m(self) -> tuple[tuple[float, float], ...]:
        """(width, height) of every patch."""

    @abstractmethod
    def hit(self, rays: Rays) -> Float32Array:
        """First t >= 0 inside the solid for local rays [N]; infinite where the ray misses it."""

    @abstractmethod
    def patch_of(self, points: Float32Array) -> Int32Array:
        """Index [N] of the patch of local surface points [3, N]."""

    @abstractmethod
    def uv(self, patch: int, points: Float32Array) -> Float32Array:
        """Patch coordinates (u, v) [2, N] in metres of local points [3, N] near the surface."""

    @abstractmethod
    def points(self, patch: int, uv: Float32Array) -> Float32Array:
        """Local surface points [3, N] at patch coordinates [2, N]: the inverse of `uv`."""

    @abstractmethod
    def normals(self, patch: int, points: Float32Array) -> Float32Array:
        """Outward unit normals in the local frame: [3, N], or [3, 1] if all are equal."""

    def wraps(self, patch: int) -> bool:
        """Whether the left and right border of the patch are the same line."""
        return False

    @cached_property
    def _local_from_world(self) -> Rigid3:
        return self.world_from_local.inverse()

    def to_local(self, rays: Rays) -> Rays:
        """World rays in the local frame of the shape."""
        local_from_world = self._local_from_world
        return Rays(
            rotate(local_from_world.R, rays.origins) + column(local_from_world.t),
            rotate(local_from_world.R, rays.directions),
        )

    def near(self, rays: Rays) -> Int32Array:
        """Indices of the world rays that may hit the bounding sphere."""
        if np.isinf(self.bounding_radius_m):
            return np.arange(len(rays), dtype=np.int32)
        squared_radius = np.float32(self.bounding_radius_m * 1.01) ** 2
        to_center = column(self.world_from_local.t) - rays.origins
        along = dot(to_center, rays.directions)
        squared_distances = dot(to_center, to_center)
        offset = squared_distances - along * along / rays.squared_lengths
        near = (offset <= squared_radius) & ((along > 0) | (squared_distances <= squared_radius))
        return np.flatnonzero(near).astype(np.int32)


def cast(shapes: Sequence[Shape], rays: Rays) -> tuple[Float32Array, Int32Array]:
    """The first surface along each ray.

    Args:
        shapes: all shapes of the scene.
        rays: in world coordinates.

    Returns:
        t [N] and the index of the shape [N]; infinite and -1 where no shape is hit.
    """
    t = np.full(len(rays), np.inf, np.float32)
    shape_idx = np.full(len(rays), -1, np.int32)
    for idx, shape in enumerate(shapes):
        near = shape.near(rays)
        if len(near) == 0:
            continue
        t_shape = shape.hit(shape.to_local(rays.take(near)))
        closer = t_shape < t[near]
        t[near[closer]] = t_shape[closer]
        shape_idx[near[closer]] = idx
    return t, shape_idx


def rotate(R: Float64Array, vectors: Float32Array) -> Float32Array:
    """Product of R [3, 3] and vectors [3, N], without BLAS."""
    R32 = R.astype(np.float32)
    return np.stack([dot(row, vectors) for row in R32])


def dot(a: Float32Array, b: Float32Array) -> Float32Array:
    """Dot products along the first axis."""
    product: Float32Array = a[0] * b[0]
    for k in range(1, len(a)):
        product = product + a[k] * b[k]
    return product


def column(vector: Sequence[float] | AnyArray) -> Float32Array:
    """A vector [3] as [3, 1]."""
    return np.asarray(vector, np.float32)[:, None]


def _take(vectors: Float32Array, indices: Int32Array) -> Float32Array:
    return vectors if vectors.shape[1] == 1 else vectors[:, indices]
