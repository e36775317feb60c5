"""Curved surfaces of the renderer in numpy and OpenCV, and the conversion of surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from sfm_lightglue.synthetic.photo_scenes import curved, surfaces
from sfm_lightglue.synthetic.photo_scenes.posed_camera import MIN_DEPTH_M, Box, PosedCamera
from tests.helpers.render_reference import Light, Plane, Surface, Texture, lit, pixel_form, sampled


def reference_of(surface: surfaces.Surface) -> Surface:
    """The same surface for the reference renderer."""
    levels = tuple(level.cpu().numpy() for level in surface.texture.levels)
    alpha = None if surface.texture.alpha is None else surface.texture.alpha.cpu().numpy()
    pose, texture = surface.world_from_local, Texture(levels, surface.texture.texels_per_m, alpha)
    if isinstance(surface, surfaces.Plane):
        return Plane(pose, texture, surface.size_m, surface.offset_m, surface.two_sided)
    if isinstance(surface, curved.Round):
        return Round(pose, texture, surface.radius_m, surface.height_m, surface.inside)
    assert isinstance(surface, curved.Relief)
    return Relief(pose, texture, surface.size_m, surface.heights_m.cpu().numpy())


_EDGE_COSINE = np.float32(0.05)
"""Lower limit of the cosine between ray and normal, which limits the footprint of a pixel."""


@dataclass(frozen=True, eq=False)
class Round(Surface):
    """A cylinder about the local z axis, or a sphere about the local origin.

    Args:
        radius_m: of the cylinder or sphere.
        height_m: of the cylinder, which is centred at the origin; None makes a sphere.
        inside: whether the inner side is visible instead of the outer side.
    """

    radius_m: float
    height_m: float | None = None
    inside: bool = False

    def corners(self) -> np.ndarray:
        """The corners [8, 3] of the bounding box."""
        r, h = self.radius_m, self.radius_m if self.height_m is None else self.height_m / 2
        return np.array([[x, y, z] for x in (-r, r) for y in (-r, r) for z in (-h, h)], np.float64)

    def depths(self, camera: PosedCamera, box: Box) -> np.ndarray:
        """Depths as the smaller root, or from inside the larger root, of a quadratic equation."""
        origin, directions = self._rays(camera, box)
        num_axes = 3 if self.height_m is None else 2
        a, b = np.zeros_like(directions[0]), np.zeros_like(directions[0])
        for axis in range(num_axes):
            a += directions[axis] * directions[axis]
            b += directions[axis] * np.float32(origin[axis])
        c = np.float32(float(origin[:num_axes] @ origin[:num_axes]) - self.radius_m**2)
        discriminant = b * b - a * c
        root = np.sqrt(np.maximum(discriminant, 0))
        nearer_root = root - b if self.inside else -root - b
        depths = np.asarray(nearer_root / np.maximum(a, np.float32(1e-12)), np.float32)
        met = (discriminant > 0) & (depths > MIN_DEPTH_M)
        if self.height_m is not None:
            met &= np.abs(directions[2] * depths + np.float32(origin[2])) <= np.float32(self.height_m / 2)
        depths[~met] = np.inf
        return depths

    def paint(self, camera: PosedCamera, box: Box, depths: np.ndarray, light: Light) -> np.ndarray:
        """Colours with angle and height (for a sphere, latitude) as texture coordinates."""
        origin, directions = self._rays(camera, box)
        depths = np.where(np.isfinite(depths), depths, np.float32(1.0))
        points = [directions[axis] * depths + np.float32(origin[axis]) for axis in range(3)]
        sign = np.float32(-1.0 if self.inside else 1.0)
        radius = np.float32(self.radius_m)
        u = np.arctan2(points[1], points[0]) * (radius * sign)
        if self.height_m is None:
            v = np.arccos(np.clip(points[2] / radius, -1, 1)) * radius
            normals = [point * (sign / radius) for point in points]
        else:
            v = np.float32(self.height_m / 2) - points[2]
            normals = [point * (sign / radius) for point in points[:2]]
        cosines = -sum((n * d for n, d in zip(normals, directions, strict=False)), np.zeros_like(depths))
        focal = np.float32(camera.focal_px / self.texture.texels_per_m)
        footprints = np.asarray(depths / (focal * np.sqrt(np.maximum(cosines, _EDGE_COSINE))), np.float32)
        to_sun = self.world_from_local.R.T @ light.direction
        facing = sum((n * np.float32(s) for n, s in zip(normals, to_sun, strict=False)), np.zeros_like(depths))
        gains = np.float32(light.ambient) + np.float32(light.sun) * np.maximum(facing, 0)
        return lit(sampled(self.texture, u, v, footprints), gains)

    def _rays(self, camera: PosedCamera, box: Box) -> tuple[np.ndarray, list[np.ndarray]]:
        return local_rays(self, camera, box)


def local_rays(surface: Surface, camera: PosedCamera, box: Box) -> tuple[np.ndarray, list[np.ndarray]]:
    """Camera centre [3] and ray directions [h, w] per axis, in the local frame of a surface.

    Directions are scaled so that the parameter along a ray is the depth.
    """
    local_from_cam = surface.cam_from_local(camera).inverse()
    return local_from_cam.t, [pixel_form(camera, box, local_from_cam.R[axis]) for axis in range(3)]


@dataclass(frozen=True, eq=False)
class Relief(Surface):
    """A rectangle like `Plane`, with hills towards the viewer.

    Args:
        size_m: (width, height).
        heights_m: [H, W] float32 heights above the plane, not negative; bilinear interpolation over the rectangle.
    """

    size_m: tuple[float, float]
    heights_m: np.ndarray

    def corners(self) -> np.ndarray:
        """The corners [8, 3] of the bounding box."""
        width, height = self.size_m
        return np.array([[x, y, z] for x in (0, width) for y in (0, height) for z in (0, -self._highest)], np.float64)

    @cached_property
    def _highest(self) -> float:
        return float(self.heights_m.max())

    def depths(self, camera: PosedCamera, box: Box) -> np.ndarray:
        """Depths by marching along every 4th ray to the first crossing, then the secant method for all rays."""
        origin, directions = local_rays(self, camera, box)
        shape = directions[0].shape
        if origin[2] > -self._highest:
            return np.full(shape, np.inf, np.float32)
        coarse = self._march(origin, [direction[::_STRIDE, ::_STRIDE] for direction in directions])
        size = coarse.shape[1] * _STRIDE, coarse.shape[0] * _STRIDE
        depths = np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_NEAREST), np.float32)
        depths = np.ascontiguousarray(depths[: shape[0], : shape[1]])
        slope = np.maximum(directions[2], np.float32(1e-3))
        before = self._below(origin, directions, depths)
        last, depths = depths, depths - np.clip(before / slope, -0.2 * depths, 0.2 * depths)
        for _ in range(_NUM_SECANTS):
            now = self._below(origin, directions, depths)
            change = now - before
            step = now * (depths - last) / np.where(np.abs(change) > 1e-7, change, np.float32(np.inf))
            limit = np.float32(0.2) * depths
            last, before, depths = depths, now, depths - np.clip(step, -limit, limit)
        residual = np.abs(self._below(origin, directions, depths))
        u, v = (directions[axis] * depths + np.float32(origin[axis]) for axis in (0, 1))
        met = (residual < 1e-3 * depths) & (depths > MIN_DEPTH_M) & (directions[2] > 1e-3)
        met &= (u >= 0) & (v >= 0) & (u <= self.size_m[0]) & (v <= self.size_m[1])
        depths[~met] = np.inf
        return depths

    def paint(self, camera: PosedCamera, box: Box, depths: np.ndarray, light: Light) -> np.ndarray:
        """Colours as for a plane, with shading by the slope of the hills."""
        origin, directions = local_rays(self, camera, box)
        depths = np.where(np.isfinite(depths), depths, np.float32(1.0))
        u, v = (directions[axis] * depths + np.float32(origin[axis]) for axis in (0, 1))
        focal = np.float32(camera.focal_px / self.texture.texels_per_m)
        footprints = np.asarray(depths / (focal * np.sqrt(np.maximum(directions[2], _EDGE_COSINE))), np.float32)
        to_sun = self.world_from_local.R.T @ light.direction
        slope_v, slope_u = np.gradient(self.heights_m)
        slope_u, slope_v = slope_u * self._cells[0], slope_v * self._cells[1]
        facing = -(slope_u * to_sun[0] + slope_v * to_sun[1] + to_sun[2]) / np.sqrt(1 + slope_u**2 + slope_v**2)
        gain_map = (light.ambient + light.sun * np.maximum(facing, 0)).astype(np.float32)
        return lit(sampled(self.texture, u, v, footprints), self._lookup(gain_map, u, v))

    @property
    def _cells(self) -> tuple[float, float]:
        """Samples of the heights per metre along u and v."""
        rows, columns = self.heights_m.shape
        return columns / self.size_m[0], rows / self.size_m[1]

    def _lookup(self, values: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        map_x, map_y = u * np.float32(self._cells[0]) - 0.5, v * np.float32(self._cells[1]) - 0.5
        looked_up = cv2.remap(values, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(looked_up, np.float32)

    def _below(self, origin: np.ndarray, directions: list[np.ndarray], depths: np.ndarray) -> np.ndarray:
        """Distances in metres [h, w] of the rays at `depths` below the surface; negative above it."""
        u, v, w = (directions[axis] * depths + np.float32(origin[axis]) for axis in range(3))
        below: np.ndarray = w + self._lookup(self.heights_m, u, v)
        return below

    def _march(self, origin: np.ndarray, directions: list[np.ndarray]) -> np.ndarray:
        slope = np.maximum(directions[2], np.float32(1e-3))
        start = np.float32(-self._highest - origin[2]) / slope
        end = np.float32(-origin[2]) / slope
        depths: np.ndarray = end.astype(np.float32)
        has_crossed = np.zeros(depths.shape, np.bool_)
        for share in np.linspace(0, 1, _NUM_STEPS, dtype=np.float32):
            here = start + (end - start) * share
            below = self._below(origin, directions, here) >= 0
            np.copyto(depths, here, where=below & ~has_crossed)
            has_crossed |= below
        return depths


_STRIDE = 4
_NUM_STEPS = 24
_NUM_SECANTS = 4
