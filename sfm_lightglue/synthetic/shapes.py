"""Analytic solids: a relief, boxes, cylinders, spheres."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sfm_lightglue.arrays import Float32Array, Int32Array
from sfm_lightglue.synthetic.rays import Rays, Shape, column, dot


@dataclass(frozen=True, eq=False)
class Box(Shape):
    """A box; patches 0 to 5 face -x, +x, -y, +y, -z, +z."""

    half_size_m: tuple[float, float, float]

    @cached_property
    def bounding_radius_m(self) -> float:
        """Half the diagonal."""
        return float(np.linalg.norm(self.half_size_m))

    @cached_property
    def _frames(self) -> tuple[tuple[Float32Array, Float32Array, Float32Array], ...]:
        """Axes (right, down, outward) of every face, each [3]."""
        frames = []
        for face in range(6):
            outward = np.zeros(3, np.float32)
            outward[face // 2] = 1 if face % 2 else -1
            up = np.array([0, 1, 0] if face >= 4 else [0, 0, 1], np.float32)
            frames.append((np.cross(-outward, up), -up, outward))
        return tuple(frames)

    @cached_property
    def patch_sizes_m(self) -> tuple[tuple[float, float], ...]:
        """Sizes of the six faces."""
        half = np.asarray(self.half_size_m)
        return tuple((float(2 * abs(right) @ half), float(2 * abs(down) @ half)) for right, down, _ in self._frames)

    def hit(self, rays: Rays) -> Float32Array:
        """Intersection by the slab method."""
        enter = np.zeros(len(rays), np.float32)
        leave = np.full(len(rays), np.inf, np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            for half, origin, direction in zip(self.half_size_m, rays.origins, rays.directions, strict=True):
                enter_slab, leave_slab = _slab(np.float32(half), origin, direction)
                enter, leave = np.maximum(enter, enter_slab), np.minimum(leave, leave_slab)
        return np.where(enter <= leave, enter, np.float32(np.inf))

    def patch_of(self, points: Float32Array) -> Int32Array:
        """The face whose plane is nearest, relative to the size of the box."""
        relative = points / column(self.half_size_m)
        axis = np.abs(relative).argmax(0)
        side = np.take_along_axis(relative, axis[None], 0)[0] > 0
        faces: Int32Array = (2 * axis + side).astype(np.int32)
        return faces

    def uv(self, patch: int, points: Float32Array) -> Float32Array:
        """Distances from the upper left corner of the face."""
        right, down, _ = self._frames[patch]
        width, height = self.patch_sizes_m[patch]
        return np.stack([dot(right, points) + np.float32(width / 2), dot(down, points) + np.float32(height / 2)])

    def points(self, patch: int, uv: Float32Array) -> Float32Array:
        """Points on the plane of the face."""
        right, down, outward = self._frames[patch]
        width, height = self.patch_sizes_m[patch]
        x, y = uv[0] - np.float32(width / 2), uv[1] - np.float32(height / 2)
        points: Float32Array = right[:, None] * x + down[:, None] * y
        return points + outward[:, None] * column(self.half_size_m)

    def normals(self, patch: int, points: Float32Array) -> Float32Array:
        """The normal of the face: [3, 1]."""
        return self._frames[patch][2][:, None]


@dataclass(frozen=True, eq=False)
class Cylinder(Shape):
    """A cylinder around local z; patch 0 is the side with its seam towards +y, 1 the top, 2 the bottom."""

    radius_m: float
    half_height_m: float

    @property
    def bounding_radius_m(self) -> float:
        """Distance from the centre to a rim."""
        return float(np.hypot(self.radius_m, self.half_height_m))

    @property
    def patch_sizes_m(self) -> tuple[tuple[float, float], ...]:
        """Sizes of the unrolled side and of the squares around both caps."""
        cap = (2 * self.radius_m, 2 * self.radius_m)
        return (2 * np.pi * self.radius_m, 2 * self.half_height_m), cap, cap

    def wraps(self, patch: int) -> bool:
        """True for the side."""
        return patch == 0

    def hit(self, rays: Rays) -> Float32Array:
        """Intersection with the infinite cylinder, clipped by the slab between the caps."""
        with np.errstate(divide="ignore", invalid="ignore"):
            enter, leave = _ball(self.radius_m, rays.origins[:2], rays.directions[:2])
            enter_slab, leave_slab = _slab(np.float32(self.half_height_m), rays.origins[2], rays.directions[2])
            enter = np.maximum(np.maximum(enter, enter_slab), np.float32(0))
            return np.where(enter <= np.minimum(leave, leave_slab), enter, np.float32(np.inf))

    def patch_of(self, points: Float32Array) -> Int32Array:
        """A cap if the relative height is larger than the relative radius, else the side."""
        rho = np.sqrt(points[0] ** 2 + points[1] ** 2) / np.float32(self.radius_m)
        height = points[2] / np.float32(self.half_height_m)
        return np.where(np.abs(height) < rho, 0, np.where(height > 0, 1, 2)).astype(np.int32)

    def uv(self, patch: int, points: Float32Array) -> Float32Array:
        """On the side, arc length from the seam and distance from the upper rim; else offsets on a cap."""
        x, y, z = points
        radius = np.float32(self.radius_m)
        if patch == 0:
            angle = np.arctan2(x, -y) + np.float32(np.pi)
            return np.stack([radius * angle, np.float32(self.half_height_m) - z])
        return np.stack([radius + x, radius - y if patch == 1 else radius + y])

    def points(self, patch: int, uv: Float32Array) -> Float32Array:
        """Points on the side or in the plane of a cap."""
        radius, half_height = np.float32(self.radius_m), np.float32(self.half_height_m)
        if patch == 0:
            angle = uv[0] / radius - np.float32(np.pi)
            return np.stack([radius * np.sin(angle), -radius * np.cos(angle), half_height - uv[1]])
        side = np.float32(1 if patch == 1 else -1)
        return np.stack([uv[0] - radius, side * (radius - uv[1]), np.full_like(uv[0], side * half_height)])

    def normals(self, patch: int, points: Float32Array) -> Float32Array:
        """Radial on the side, axial on the caps."""
        if patch == 0:
            return _unit(np.stack([points[0], points[1], np.zeros_like(points[0])]))
        return np.array([[0], [0], [1 if patch == 1 else -1]], np.float32)


@dataclass(frozen=True, eq=False)
class Sphere(Shape):
    """A sphere with one patch: Lambert's equal-area map around its top, singular only at its bottom."""

    radius_m: float

    @property
    def bounding_radius_m(self) -> float:
        """The radius."""
        return self.radius_m

    @property
    def patch_sizes_m(self) -> tuple[tuple[float, float], ...]:
        """Size of the map, a disc of twice the radius."""
        return ((4 * self.radius_m, 4 * self.radius_m),)

    def hit(self, rays: Rays) -> Float32Array:
        """Intersection, computed from the point of the ray that is nearest to the centre."""
        with np.errstate(invalid="ignore"):
            enter, leave = _ball(self.radius_m, rays.origins, rays.directions)
            enter = np.maximum(enter, np.float32(0))
            return np.where(enter <= leave, enter, np.float32(np.inf))

    def patch_of(self, points: Float32Array) -> Int32Array:
        """Patch 0 everywhere."""
        return np.zeros(points.shape[1], np.int32)

    def uv(self, patch: int, points: Float32Array) -> Float32Array:
        """The equal-area map; finite also at the bottom."""
        x, y, z = _unit(points)
        stretch = np.sqrt(2 / np.maximum(1 + z, np.float32(1e-6)))
        radius = np.float32(self.radius_m)
        return np.stack([radius * (2 + stretch * x), radius * (2 - stretch * y)])

    def points(self, patch: int, uv: Float32Array) -> Float32Array:
        """The inverse map; outside of the disc, the bottom of the sphere."""
        radius = np.float32(self.radius_m)
        x, y = uv[0] / radius - 2, 2 - uv[1] / radius
        squared = np.minimum(x * x + y * y, np.float32(4))
        shrink = np.sqrt(1 - squared / 4)
        return radius * np.stack([x * shrink, y * shrink, 1 - squared / 2])

    def normals(self, patch: int, points: Float32Array) -> Float32Array:
        """Radial."""
        return _unit(points)


@dataclass(frozen=True, eq=False)
class Relief(Shape):
    """A round piece of ground: z = bowl * (x² + y²) + Σ amplitude * sin(kx x + ky y + phase), one patch.

    Rays must start above it. The waves must be so flat that they do not occlude each other. A ray for which Newton's
    method does not converge misses.
    """

    radius_m: float
    bowl_per_m: float
    waves: tuple[tuple[float, float, float, float], ...]
    """(amplitude in metres, kx and ky in radians per metre, phase in radians)"""

    @property
    def bounding_radius_m(self) -> float:
        """Infinite, because most rays hit the ground."""
        return float("inf")

    @property
    def patch_sizes_m(self) -> tuple[tuple[float, float], ...]:
        """Size of the square around the ground."""
        return ((2 * self.radius_m, 2 * self.radius_m),)

    def height(self, x: Float32Array, y: Float32Array) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Height in metres and its derivatives along x and y, each [N]."""
        bowl = np.float32(self.bowl_per_m)
        z: Float32Array = bowl * (x * x + y * y)
        dx: Float32Array = 2 * bowl * x
        dy: Float32Array = 2 * bowl * y
        for amplitude, kx, ky, phase in self.waves:
            angle = np.float32(kx) * x + np.float32(ky) * y + np.float32(phase)
            slope = np.float32(amplitude) * np.cos(angle)
            z += np.float32(amplitude) * np.sin(angle)
            dx += np.float32(kx) * slope
            dy += np.float32(ky) * slope
        return z, dx, dy

    def hit(self, rays: Rays) -> Float32Array:
        """Intersection by Newton's method, which starts at the intersection with the bowl without waves."""
        with np.errstate(divide="ignore", invalid="ignore"):
            t = self._hit_bowl(rays)
            for _ in range(4):
                x, y, z = rays.at(t)
                height, dx, dy = self.height(x, y)
                error = height - z
                t = t + error / (rays.directions[2] - dx * rays.directions[0] - dy * rays.directions[1])
            # The error before the last step; the last step squares it.
            on_ground = (np.abs(error) < 1e-3) & (x * x + y * y < self.radius_m**2) & (t > 0)
        return np.where(on_ground, t, np.float32(np.inf))

    def _hit_bowl(self, rays: Rays) -> Float32Array:
        """The positive root of a t² + b t + c; c < 0 for rays from above."""
        bowl, (x, y, z), (dx, dy, dz) = np.float32(self.bowl_per_m), rays.origins, rays.directions
        a = bowl * (dx * dx + dy * dy)
        b = 2 * bowl * (x * dx + y * dy) - dz
        c = bowl * (x * x + y * y) - z
        root = np.sqrt(b * b - 4 * a * c)
        t: Float32Array = np.where(b > 0, -2 * c / (b + root), (root - b) / (2 * a))
        return t

    def patch_of(self, points: Float32Array) -> Int32Array:
        """Patch 0 everywhere."""
        return np.zeros(points.shape[1], np.int32)

    def uv(self, patch: int, points: Float32Array) -> Float32Array:
        """Coordinates seen from above, with +y upwards."""
        radius = np.float32(self.radius_m)
        return np.stack([radius + points[0], radius - points[1]])

    def points(self, patch: int, uv: Float32Array) -> Float32Array:
        """Points on the ground."""
        x, y = uv[0] - np.float32(self.radius_m), np.float32(self.radius_m) - uv[1]
        return np.stack([x, y, self.height(x, y)[0]])

    def normals(self, patch: int, points: Float32Array) -> Float32Array:
        """Normals from the derivatives of the height."""
        _, dx, dy = self.height(points[0], points[1])
        return _unit(np.stack([-dx, -dy, np.ones_like(dx)]))


def _unit(vectors: Float32Array) -> Float32Array:
    """Vectors [3, N] divided by their norms, which must not be 0."""
    norms: Float32Array = np.sqrt(dot(vectors, vectors))
    return np.divide(vectors, norms, dtype=np.float32)


def _slab(half: np.float32, origin: Float32Array, direction: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Parameters at which rays enter and leave |x| <= half, along one axis."""
    inverse = 1 / direction
    first, second = (-half - origin) * inverse, (half - origin) * inverse
    return np.minimum(first, second), np.maximum(first, second)


def _ball(radius: float, origins: Float32Array, directions: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Parameters at which rays enter and leave ‖x‖ <= radius in 2 or 3 dimensions; NaN where they miss it.

    Computed from the nearest point of the ray, because b² - ac would lose half of the digits in float32.
    """
    squared_lengths = dot(directions, directions)
    middle = -dot(origins, directions) / squared_lengths
    nearest = origins + directions * middle
    half = np.sqrt((np.float32(radius) ** 2 - dot(nearest, nearest)) / squared_lengths)
    return middle - half, middle + half
