"""Content of the synthetic scene: a small ruin in a hollow, and its lighting.

The lighting does not depend on the camera, so it is computed once per surface and multiplied into the textures.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import cv2
import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array, Int32Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.rays import Rays, Shape, cast, column, dot, rotate
from sfm_lightglue.synthetic.shapes import Box, Cylinder, Relief, Sphere
from sfm_lightglue.synthetic.textures import Material, MipTexture, paint

_SUN_DIRECTION = (-0.48, -0.52, 0.72)
_SUN_RADIUS = 0.035
"""Radius of the sun at distance 1; it gives shadows soft borders without aliasing."""
_NUM_SUN_RAYS, _NUM_SKY_RAYS = 6, 12
_SUN_COLOR, _SKY_COLOR = (0.66, 0.62, 0.55), (0.36, 0.39, 0.44)

_SAND = Material((186, 164, 128), ((120, 100, 76), (206, 188, 156), (150, 132, 108), (96, 88, 80)), 0, 90, 2, 5, 0, 28)
_MASONRY = Material((190, 170, 140), ((226, 214, 190), (120, 96, 76), (152, 78, 58)), 26, 0, 0, 8, 0.6, 34)
_SLATE = Material((128, 136, 146), ((200, 206, 210), (70, 78, 92), (164, 128, 96)), 34, 0, 0, 8, 1, 32)
_MARBLE = Material((214, 208, 198), ((150, 140, 132), (104, 110, 120), (186, 158, 130)), 9, 25, 0, 30, 1, 34)
_TERRACOTTA = Material((178, 98, 66), ((222, 178, 130), (112, 56, 42), (238, 220, 190)), 0, 60, 12, 14, 2, 36)
_TEAL = Material((62, 124, 128), ((230, 214, 170), (28, 66, 78), (206, 120, 70)), 0, 16, 22, 14, 7, 30)
_OCHRE = Material((206, 158, 70), ((110, 60, 34), (244, 228, 186), (70, 92, 96)), 0, 16, 22, 14, 7, 30)
_PLUM = Material((126, 72, 92), ((232, 196, 180), (60, 36, 58), (196, 170, 90)), 0, 16, 22, 14, 7, 30)
_WOOD = Material((150, 112, 74), ((96, 66, 42), (196, 160, 112), (226, 214, 190)), 0, 10, 10, 50, 5, 38)
_MOSS = Material((112, 128, 82), ((70, 86, 54), (166, 170, 118), (196, 184, 150)), 14, 90, 0, 10, 0, 34)


Point = tuple[float, float, float]

GROUND = Relief(
    Rigid3.identity(),
    radius_m=8.0,
    bowl_per_m=0.014,
    waves=((0.07, 0.9, 0.5, 0.3), (0.05, -0.7, 1.1, 2.0), (0.015, 2.1, 1.3, 4.0), (0.01, -1.2, 2.3, 1.0)),
)


@dataclass(frozen=True, eq=False)
class World:
    """Shapes with their lit textures.

    Args:
        shapes: the solids.
        textures: one texture per patch, by shape.
    """

    shapes: Sequence[Shape]
    textures: Sequence[Sequence[MipTexture]]

    def cast(self, rays: Rays) -> tuple[Float32Array, Int32Array]:
        """The first surface along each ray; see `rays.cast`."""
        return cast(self.shapes, rays)


def build_world(texels_per_m: float, seed: int, executor: Executor) -> World:
    """Make the shapes and their textures with lighting.

    Args:
        texels_per_m: resolution of the textures; a little higher than that of the images.
        seed: of the textures.
        executor: runs the painting of the patches; the result does not depend on it.
    """
    furniture = _furniture()
    shapes = tuple(shape for shape, _ in furniture)

    def patch_texture(shape_idx: int, patch: int) -> MipTexture:
        shape, material = furniture[shape_idx]
        size_m = shape.patch_sizes_m[patch]
        rng = np.random.default_rng([seed, shape_idx, patch])
        albedo = paint(material, size_m, texels_per_m, rng)
        light = _light(shapes, shape_idx, patch, texels_per_m)
        fine_light = cv2.resize(light, albedo.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        lit = cv2.multiply(albedo, fine_light, dtype=cv2.CV_8U)
        return MipTexture.from_image(np.asarray(lit, np.uint8), size_m, shape.wraps(patch))

    futures = [
        [executor.submit(patch_texture, idx, patch) for patch in range(len(shape.patch_sizes_m))]
        for idx, shape in enumerate(shapes)
    ]
    return World(shapes, tuple(tuple(future.result() for future in row) for row in futures))


def sky(directions: Float32Array) -> Float32Array:
    """Colours [N, 3] of rays [3, N] that hit no shape; a smooth gradient, so that no keypoint is at infinity."""
    elevation = directions[2] / np.sqrt(dot(directions, directions))
    blend = np.clip(elevation * 2 + 0.1, 0, 1)[:, None] ** np.float32(0.7)
    horizon, zenith = column((222, 220, 212)).T, column((120, 160, 205)).T
    colors: Float32Array = horizon + blend * (zenith - horizon)
    return colors


def _furniture() -> list[tuple[Shape, Material]]:
    """The solids; z is up, the cameras are on the side of -y, and heights are above the ground below."""
    return [
        (GROUND, _SAND),
        (_box((-0.6, 2.6, 1.2), (2.5, 0.22, 1.35), yaw=6, tilt=-4), _MASONRY),
        (_box((3.1, 1.3, 0.95), (0.2, 1.6, 1.1), yaw=-24, tilt=3), _SLATE),
        (_box((-3.3, 0.9, 0.65), (0.2, 1.25, 0.85), yaw=28), _MASONRY),
        (_box((0.0, 0.1, 0.35), (0.85, 0.85, 0.5), yaw=27), _MARBLE),
        (_sphere((0.0, 0.1, 1.4), 0.56), _TERRACOTTA),
        (_box((1.5, -0.7, 0.38), (0.38, 0.38, 0.42), yaw=-18), _TEAL),
        (_box((1.56, -0.66, 1.05), (0.24, 0.27, 0.25), yaw=31), _OCHRE),
        (_box((-1.5, -0.9, 0.26), (0.5, 0.3, 0.34), yaw=40, tilt=7), _PLUM),
        (_box((-2.3, -0.1, 0.5), (0.16, 0.42, 0.6), yaw=-50, tilt=-12), _OCHRE),
        (_cylinder((-1.35, 1.2, 1.1), 0.26, 1.2), _MARBLE),
        (_cylinder((1.25, 1.35, 0.85), 0.28, 0.95), _SLATE),
        (_cylinder((2.1, 0.45, 0.5), 0.24, 0.6), _TERRACOTTA),
        (_cylinder((0.35, -1.75, 0.2), 0.24, 0.75, yaw=64, tilt=90), _WOOD),
        (_sphere((-2.6, -1.7, -0.1), 0.62), _MOSS),
        (_sphere((2.7, -1.5, 0.26), 0.36), _TEAL),
    ]


def _pose(position_m: Point, yaw_deg: float = 0.0, tilt_deg: float = 0.0) -> Rigid3:
    """`world_from_local` with rotation about x, then about z; the height is above the ground below the position."""
    x, y, height = position_m
    ground = GROUND.height(np.array([x], np.float32), np.array([y], np.float32))[0].item()
    yaw = Rigid3.from_rotvec(np.radians([0, 0, yaw_deg]), np.array([x, y, ground + height]))
    return yaw @ Rigid3.from_rotvec(np.radians([tilt_deg, 0, 0]), np.zeros(3))


def _box(position_m: Point, half_size_m: Point, yaw: float = 0.0, tilt: float = 0.0) -> Box:
    return Box(_pose(position_m, yaw, tilt), half_size_m)


def _cylinder(
    position_m: Point, radius_m: float, half_height_m: float, yaw: float = 0.0, tilt: float = 0.0
) -> Cylinder:
    return Cylinder(_pose(position_m, yaw, tilt), radius_m, half_height_m)


def _sphere(position_m: Point, radius_m: float) -> Sphere:
    return Sphere(_pose(position_m), radius_m)


def _light(shapes: tuple[Shape, ...], shape_idx: int, patch: int, texels_per_m: float) -> Float32Array:
    """Factors [H, W, 3] for the colours of a patch: sun with cast shadows, and light from the visible sky."""
    sun = _irradiance(shapes, shape_idx, patch, min(18.0, texels_per_m / 4), _sun_rays())
    sky = _irradiance(shapes, shape_idx, patch, min(7.0, texels_per_m / 8), _sky_rays())
    sky = np.asarray(cv2.resize(sky, sun.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    reflected = np.float32(0.35)
    light = sun[..., None] * column(_SUN_COLOR)[:, 0] + (sky[..., None] + reflected) * column(_SKY_COLOR)[:, 0]
    return np.asarray(cv2.GaussianBlur(light, (0, 0), 0.8), np.float32)


def _irradiance(
    shapes: tuple[Shape, ...], shape_idx: int, patch: int, samples_per_m: float, directions: Float64Array
) -> Float32Array:
    """Irradiance [H, W] of a patch from distant sources with directions [K, 3]; 1 on open, level ground."""
    shape = shapes[shape_idx]
    size_m = shape.patch_sizes_m[patch]
    width, height = (max(4, round(length * samples_per_m)) for length in size_m)
    u = (np.arange(width, dtype=np.float32) + np.float32(0.5)) * np.float32(size_m[0] / width)
    v = (np.arange(height, dtype=np.float32) + np.float32(0.5)) * np.float32(size_m[1] / height)
    points = shape.points(patch, np.stack(np.meshgrid(u, v)).reshape(2, -1))
    normals = rotate(shape.world_from_local.R, shape.normals(patch, points))
    points = rotate(shape.world_from_local.R, points) + column(shape.world_from_local.t)
    origins = points + np.float32(0.004) * normals
    # The ground casts no shadow: it has no overhangs, and all light comes from above.
    casters = tuple(other for other in shapes if not isinstance(other, Relief))
    directions32 = directions.T.astype(np.float32)  # [3, K]
    cosines = np.broadcast_to(dot(directions32[:, :, None], normals[:, None, :]), (len(directions), origins.shape[1]))
    light_idx, point_idx = np.nonzero(cosines > 0)
    t, _ = cast(casters, Rays(origins[:, point_idx], directions32[:, light_idx]))
    received = np.bincount(point_idx, cosines[light_idx, point_idx] * np.isinf(t), minlength=origins.shape[1])
    irradiance: Float32Array = (received / directions[:, 2].sum()).astype(np.float32)
    return irradiance.reshape(height, width)


def _sun_rays() -> Float64Array:
    """Unit directions [N, 3] to points spread over the disc of the sun."""
    sun = np.asarray(_SUN_DIRECTION) / np.linalg.norm(_SUN_DIRECTION)
    right = np.cross(sun, (0, 0, 1.0))
    angles, radii = _spiral(_NUM_SUN_RAYS)
    offsets = np.outer(np.cos(angles) * radii, right) + np.outer(np.sin(angles) * radii, np.cross(sun, right))
    directions: Float64Array = sun + _SUN_RADIUS * offsets
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions


def _sky_rays() -> Float64Array:
    """Unit directions [N, 3] spread over the upper half sphere."""
    angles, radii = _spiral(_NUM_SKY_RAYS)
    radii = 0.95 * radii
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii, np.sqrt(1 - radii**2)], 1)


def _spiral(count: int) -> tuple[Float64Array, Float64Array]:
    """Angles and radii of points spread evenly over the unit disc (Vogel's spiral)."""
    steps = np.arange(count) + 0.5
    return steps * np.pi * (3 - np.sqrt(5)), np.sqrt(steps / count)
