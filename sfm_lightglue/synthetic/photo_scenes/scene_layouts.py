"""Scene layouts: streets, rooms, objects on a table, sheets with holes, hills, walls.

World frame: z up, metres. A layout also defines from where its views are taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.photo_scenes.curved import Relief, Round
from sfm_lightglue.synthetic.photo_scenes.surfaces import Plane, Surface, Texture
from sfm_lightglue.synthetic.photo_scenes.textures import Photos, blob_mask, disc_mask, fence_mask, smooth_noise

Point = tuple[float, float, float]

_ABOVE_GROUND = (-np.inf, -np.inf, 0.5)


@dataclass(frozen=True, eq=False)
class SceneLayout:
    """Surfaces, and the distribution of cameras.

    Args:
        surfaces: in any order.
        target: point [3] near which the cameras look.
        distance_m: mean distance of the cameras from the target.
        azimuth_rad: mean direction from the target to the cameras, from the x axis.
        elevation_rad: mean angle of this direction above the horizon.
        spread_rad: largest angle between this direction and that to a camera.
        wander_m: standard deviation of the point at which a camera looks.
        low: smallest coordinates [3] of a camera, such as above the ground or within the room.
        high: largest coordinates [3] of a camera.
    """

    surfaces: tuple[Surface, ...]
    target: Float64Array
    distance_m: float
    azimuth_rad: float
    elevation_rad: float
    spread_rad: float
    wander_m: float
    low: Point = (-np.inf, -np.inf, -np.inf)
    high: Point = (np.inf, np.inf, np.inf)


@dataclass(slots=True)
class _Builder:
    photos: Photos
    rng: np.random.Generator
    surfaces: list[Surface] = field(default_factory=list)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def upright(
        self,
        foot: Point,
        yaw_rad: float,
        size: tuple[float, float],
        texture: Texture,
        tilt_rad: float = 0.0,
        two_sided: bool = False,
    ) -> None:
        """A wall whose lower edge is centred at `foot`; with yaw 0 it faces negative y."""
        x = np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0])
        into = np.array([-np.sin(yaw_rad) * np.cos(tilt_rad), np.cos(yaw_rad) * np.cos(tilt_rad), np.sin(tilt_rad)])
        down = np.cross(into, x)
        corner = np.asarray(foot) - x * size[0] / 2 - down * size[1]
        offset = (self.between(0, texture.size_m[0]), 0.0) if texture.alpha is None else (0.0, 0.0)
        self.surfaces.append(Plane(Rigid3(np.stack([x, down, into], 1), corner), texture, size, offset, two_sided))

    def level(
        self, center: Point, yaw_rad: float, size: tuple[float, float], texture: Texture, down: bool = False
    ) -> None:
        """A floor seen from above, or a ceiling seen from below."""
        x = np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0])
        into = np.array([0, 0, 1.0 if down else -1.0])
        y = np.cross(into, x)
        corner = np.asarray(center) - x * size[0] / 2 - y * size[1] / 2
        self.surfaces.append(Plane(Rigid3(np.stack([x, y, into], 1), corner), texture, size))

    def box(self, foot: Point, yaw_rad: float, size: Point, sides: Texture, top: Texture) -> None:
        """A box of (width, depth, height) whose bottom is centred at `foot`."""
        width, depth, height = size
        for k in range(4):
            across, reach = (width, depth) if k % 2 == 0 else (depth, width)
            yaw = yaw_rad + k * np.pi / 2
            face = (foot[0] + np.sin(yaw) * reach / 2, foot[1] - np.cos(yaw) * reach / 2, foot[2])
            self.upright(face, yaw, (across, height), sides)
        self.level((foot[0], foot[1], foot[2] + height), yaw_rad, (width, depth), top)

    def cylinder(self, foot: Point, radius: float, height: float, texture: Texture) -> None:
        """A column with a lid."""
        middle = np.array([foot[0], foot[1], foot[2] + height / 2])
        pose = Rigid3.from_rotvec(np.array([0, 0, self.between(0, 6)]), middle)
        self.surfaces.append(Round(pose, texture, radius, height))
        pixels = self.photos.crop(0.4, 0.9)
        side = min(*pixels.shape[:2], 256)
        lid = Texture.from_pixels(pixels[:side, :side].contiguous(), 2 * radius, disc_mask(side, self.photos.device))
        self.level((foot[0], foot[1], foot[2] + height), 0.0, (2 * radius, 2 * radius), lid)

    def sphere(self, center: Point, radius: float, texture: Texture) -> None:
        """A sphere."""
        pose = Rigid3.from_rotvec(self.rng.normal(size=3), np.array(center))
        self.surfaces.append(Round(pose, texture, radius))

    def backdrop(self, radius: float) -> None:
        """Distant photographs on a cylinder around the scene."""
        # With an integer number of repetitions, the texture has no seam.
        texture = self.photos.panorama(2 * np.pi * radius / int(self.rng.integers(2, 4)))
        height = texture.size_m[1]
        pose = Rigid3.from_rotvec(np.array([0, 0, self.between(0, 6)]), np.array([0, 0, height * 0.42]))
        self.surfaces.append(Round(pose, texture, radius, height, inside=True))

    def cover(self, width_m: float, bare_share: float) -> Texture:
        """A part of a photograph or, with probability `bare_share`, a texture with little contrast."""
        return self.photos.bare(width_m) if self.rng.random() < bare_share else self.photos.plain(width_m)

    def object(self, foot: Point, size: float, bare_share: float = 0.1) -> None:
        """A random box, column or sphere."""
        kind, wide = self.rng.random(), self.between(0.5, 1.2) * size
        if kind < 0.6:
            sides, top = self.cover(size * self.between(0.8, 2), bare_share), self.cover(size, bare_share)
            self.box(
                foot,
                self.between(0, 6),
                (wide, self.between(0.4, 1) * size, self.between(0.4, 1.6) * size),
                sides,
                top,
            )
        elif kind < 0.85:
            radius = wide / 2.5
            texture = self.cover(2 * np.pi * radius / int(self.rng.integers(1, 3)), bare_share)
            self.cylinder(foot, radius, self.between(0.6, 2) * size, texture)
        else:
            radius = wide / 2
            texture = self.photos.plain(2 * np.pi * radius / 2)
            self.sphere((foot[0], foot[1], foot[2] + radius * 0.9), radius, texture)


def street(photos: Photos, rng: np.random.Generator) -> SceneLayout:
    """Walls of houses on a ground, objects in front of them, often occluded by a fence or leaves."""
    b = _Builder(photos, rng)
    b.level((0, 0, 0), b.between(0, 6), (90, 90), photos.ground(b.between(3, 8)))
    width = b.between(8, 16)
    yaw = b.between(-0.5, 0.5)
    b.upright((0, 6, 0), yaw, (width, b.between(6, 12)), photos.wall(width * b.between(0.5, 1)))
    for side in (-1, 1):
        if rng.random() < 0.6:
            turn, across = yaw - side * b.between(0.3, 1.7), b.between(6, 12)
            edge = np.array([np.cos(yaw), np.sin(yaw)]) * side * (width / 2 + b.between(0, 1.5))
            foot = edge + np.array([np.cos(turn), np.sin(turn)]) * side * across / 2 + (0, 6)
            b.upright((foot[0], foot[1], 0), turn, (across, b.between(5, 10)), photos.wall(across))
    for _ in range(int(rng.integers(1, 5))):
        b.object((b.between(-5, 5), b.between(0, 4), 0), b.between(0.7, 2.5))
    if rng.random() < 0.5:
        _screen(b, (b.between(-3, 3), b.between(-2.5, 0), 0), (b.between(3, 8), b.between(1, 3.5)))
    b.backdrop(b.between(40, 80))
    target = np.array([b.between(-2, 2), 4.5, b.between(1.5, 3)])
    return SceneLayout(
        tuple(b.surfaces),
        target,
        b.between(7, 11),
        -np.pi / 2 + b.between(-0.4, 0.4),
        b.between(-0.1, 0.35),
        0.9,
        2.0,
        _ABOVE_GROUND,
    )


def _screen(b: _Builder, foot: Point, size: tuple[float, float]) -> None:
    pixels = b.photos.crop(0.5, 1.0)
    if b.rng.random() < 0.5:  # leaves
        alpha = blob_mask(b.rng, pixels.shape, int(b.rng.integers(6, 20)), 0.5, b.photos.device)
    else:
        alpha = fence_mask(b.rng, pixels.shape, b.photos.device)
    height = size[0] * pixels.shape[0] / pixels.shape[1]
    texture = Texture.from_pixels(pixels, size[0], alpha)
    b.upright(foot, b.between(-0.4, 0.4), (size[0], min(size[1], height)), texture, two_sided=True)


def room(photos: Photos, rng: np.random.Generator) -> SceneLayout:
    """The inside of a room with posters on the walls, furniture and objects on it; walls and floor are often bare."""
    b = _Builder(photos, rng)
    width, depth, height = b.between(4, 9), b.between(4, 9), b.between(2.4, 3.5)
    bare_share = float(rng.choice([0.0, 0.4, 0.7]))
    floor = photos.bare(b.between(1, 3)) if rng.random() < bare_share else photos.ground(b.between(1.5, 4))
    b.level((0, 0, 0), 0, (width, depth), floor)
    b.level((0, 0, height), 0, (width, depth), b.cover(b.between(3, 8), bare_share), down=True)
    for k in range(4):
        across, reach = (width, depth) if k % 2 == 0 else (depth, width)
        _wall_with_posters(b, k * np.pi / 2, (across, height), reach, bare_share)
    for _ in range(int(rng.integers(3, 9))):
        away = b.between(0, 2 * np.pi)
        position = np.array([np.cos(away) * width, np.sin(away) * depth]) * b.between(0.2, 0.38)
        if rng.random() < 0.5:
            b.object((position[0], position[1], 0), b.between(0.4, 1.2), bare_share / 2)
        else:
            _furniture(b, (position[0], position[1], 0), bare_share)
    azimuth = b.between(0, 2 * np.pi)
    target = np.array([-np.cos(azimuth) * width * 0.3, -np.sin(azimuth) * depth * 0.3, b.between(0.6, 1.4)])
    high = width / 2 - 0.4, depth / 2 - 0.4, height - 0.3
    low = -high[0], -high[1], 0.4
    return SceneLayout(
        tuple(b.surfaces),
        target,
        min(width, depth) * b.between(0.4, 0.65),
        azimuth,
        b.between(-0.05, 0.4),
        0.8,
        1.0,
        low,
        high,
    )


def _wall_with_posters(b: _Builder, yaw: float, size: tuple[float, float], reach: float, bare_share: float) -> None:
    """A wall of a room, of (width, height), at half the distance `reach` from its middle."""
    along, into = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    foot, across = into * reach / 2, size[0]
    is_papered = b.rng.random() < 0.6 * (1 - bare_share)
    texture = b.photos.wall(across * b.between(0.5, 1)) if is_papered else b.cover(b.between(3, 8), bare_share)
    b.upright((foot[0], foot[1], 0), yaw, size, texture)
    for _ in range(int(b.rng.integers(0, 5))):
        width = b.between(0.3, 1.5)
        position = into * (reach / 2 - b.between(0.02, 0.3)) + along * b.between(-0.4, 0.4) * across
        center = (position[0], position[1], b.between(0.5, 1.5))
        b.upright(center, yaw, (width, b.between(0.3, 1.0)), b.photos.plain(width))


def _furniture(b: _Builder, foot: Point, bare_share: float) -> None:
    """A chest or a table with small objects on it."""
    size = b.between(0.6, 1.8), b.between(0.5, 1.0), b.between(0.4, 1.0)
    yaw = b.between(0, 2 * np.pi)
    b.box(foot, yaw, size, b.cover(size[0], bare_share), b.cover(size[0], bare_share))
    along, into = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    for _ in range(int(b.rng.integers(0, 5))):
        position = along * b.between(-0.4, 0.4) * size[0] + into * b.between(-0.35, 0.35) * size[1]
        b.object((foot[0] + position[0], foot[1] + position[1], size[2]), b.between(0.1, 0.4), bare_share / 4)


def table(photos: Photos, rng: np.random.Generator) -> SceneLayout:
    """Many objects on a ground, seen from all sides."""
    b = _Builder(photos, rng)
    b.level((0, 0, 0), b.between(0, 6), (60, 60), photos.ground(b.between(2, 6)))
    for _ in range(int(rng.integers(4, 10))):
        b.object((b.between(-3, 3), b.between(-3, 3), 0), b.between(0.6, 1.8))
    b.backdrop(b.between(20, 50))
    azimuth = b.between(0, 2 * np.pi)
    return SceneLayout(
        tuple(b.surfaces),
        np.array([0, 0, 0.5]),
        b.between(5, 8),
        azimuth,
        b.between(0.15, 1.0),
        0.9,
        1.2,
        _ABOVE_GROUND,
    )


def layers(photos: Photos, rng: np.random.Generator) -> SceneLayout:
    """Tilted sheets with holes, one in front of the other."""
    b = _Builder(photos, rng)
    num_sheets = int(rng.integers(1, 5))
    for k in range(num_sheets + 1):
        size = (b.between(9, 14), b.between(7, 11)) if k == 0 else (b.between(2, 7), b.between(2, 6))
        pixels, alpha = photos.wall_pixels(), None
        if k > 0:
            alpha = blob_mask(rng, pixels.shape, int(rng.integers(2, 7)), b.between(0.4, 0.8), photos.device)
        position = (
            b.between(-3, 3) * (k > 0),
            -b.between(1.0, 4.5) * (k > 0),
            -size[1] / 2 + b.between(-1.5, 1.5) * (k > 0),
        )
        texture = Texture.from_pixels(pixels, size[0], alpha)
        b.upright(position, b.between(-0.6, 0.6), size, texture, tilt_rad=b.between(-0.5, 0.5), two_sided=True)
    b.backdrop(b.between(15, 60))
    return SceneLayout(tuple(b.surfaces), np.zeros(3), b.between(6, 10), -np.pi / 2, b.between(-0.3, 0.3), 1.0, 2.0)


def hills(photos: Photos, rng: np.random.Generator) -> SceneLayout:
    """A landscape with hills and some objects, or a wall with relief."""
    b = _Builder(photos, rng)
    size = b.between(14, 22)
    heights = _heights(b)  # on the CPU
    texture = photos.wall(size * b.between(0.4, 1))
    lying = rng.random() < 0.6
    R = np.array([[1, 0, 0], [0, -1, 0], [0, 0, -1.0]]) if lying else np.array([[1, 0, 0], [0, 0, 1], [0, -1.0, 0]])
    corner = -R @ np.array([size / 2, size / 2, 0])
    b.surfaces.append(Relief(Rigid3(R, corner), texture, (size, size), heights.to(photos.device)))
    if lying:
        for _ in range(int(rng.integers(0, 5))):
            b.object((b.between(-3, 3), b.between(-3, 3), 0.3), b.between(1.0, 2.5))
    b.backdrop(b.between(30, 80))
    low = (-np.inf, -np.inf, float(heights.max()) + 0.5) if lying else (-np.inf, -np.inf, -np.inf)
    elevation = b.between(0.5, 1.4) if lying else b.between(-0.2, 0.5)
    return SceneLayout(
        tuple(b.surfaces), np.array([0, -0.5, 0.5]), b.between(7, 12), -np.pi / 2, elevation, 0.9, 3.0, low
    )


def _heights(b: _Builder) -> Tensor:
    """Heights float32 [192, 192] of hills in metres."""
    shape = (192, 192)
    heights = (smooth_noise(b.rng, shape, 4) + 1) * b.between(0.2, 0.8)
    return heights + (smooth_noise(b.rng, shape, 14) + 1) * b.between(0.05, 0.3)


def wall(photos: Photos, rng: np.random.Generator) -> SceneLayout:
    """One facade, nearly flat, seen from very different directions."""
    b = _Builder(photos, rng)
    width, height = b.between(9, 14), b.between(7, 10)
    b.upright((0, 0, -height / 2), 0, (width, height), photos.wall(width))
    for _ in range(int(rng.integers(0, 5))):
        size = (b.between(0.8, 2), b.between(0.3, 1.5), b.between(0.5, 2))
        b.box((b.between(-4, 4), -size[1] / 2, b.between(-3, 2)), 0, size, photos.plain(size[0]), photos.plain(size[0]))
    if rng.random() < 0.3:
        pose = Rigid3(np.eye(3), np.array([b.between(-4, 4), b.between(-0.2, 0.5), 0]))
        radius = b.between(0.8, 1.8)
        b.surfaces.append(Round(pose, photos.wall(np.pi * radius), radius, height))
    b.backdrop(b.between(15, 60))
    return SceneLayout(tuple(b.surfaces), np.zeros(3), b.between(6, 9), -np.pi / 2, b.between(-0.2, 0.3), 1.1, 1.5)


SCENE_LAYOUTS = (street, room, table, layers, hills, wall)
"""All kinds; `ViewConfig.layout_shares` has their probabilities."""
