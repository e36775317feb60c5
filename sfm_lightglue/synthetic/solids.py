"""Solids with painted faces, from which a world is made; the lighting depends only on the direction of a face."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import cv2
import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.rays import Shape, rotate
from sfm_lightglue.synthetic.render import SyntheticScene
from sfm_lightglue.synthetic.shapes import Box
from sfm_lightglue.synthetic.textures import Material, MipTexture, paint
from sfm_lightglue.synthetic.world import World

Point = tuple[float, float, float]
Painter = Callable[[tuple[float, float], np.random.Generator], UInt8Array]
"""Paints a patch of a size (width, height) in metres."""

_SUN_DIRECTION = (-0.48, -0.52, 0.72)
_PLAIN = np.full((8, 8, 3), 120, np.uint8)


@dataclass(frozen=True, eq=False)
class Solid:
    """A shape and what is painted on its patches.

    Args:
        shape: the solid.
        painters: by patch; other patches are plain grey.
    """

    shape: Shape
    painters: Mapping[int, Painter]


@dataclass(frozen=True, slots=True)
class Enclosure:
    """Four walls around the origin, seen from inside: sides 0 to 3 are -y, +x, +y, -x.

    Args:
        width: along x, in metres.
        depth: along y, in metres.
    """

    width: float
    depth: float

    def length(self, side: int) -> float:
        """Length of a wall in metres."""
        return self.width if side % 2 == 0 else self.depth

    def yaw_deg(self, side: int) -> float:
        """Angle around the vertical that turns a box so that its face 2 (local -y) is seen from inside."""
        return 180.0 + 90.0 * side

    def place(self, side: int, along: float, before: float, height: float) -> Point:
        """A point `along` metres to the right of the middle of a wall, and `before` metres before it."""
        yaw = np.radians(self.yaw_deg(side))
        y = (self.depth if side % 2 == 0 else self.width) / 2 - before
        return float(np.cos(yaw) * along - np.sin(yaw) * y), float(np.sin(yaw) * along + np.cos(yaw) * y), height


def painted(shape: Shape, material: Material, texels_per_m: float, patches: Sequence[int] | None = None) -> Solid:
    """A solid with one material on the given patches, on all by default."""

    def painter(size_m: tuple[float, float], rng: np.random.Generator) -> UInt8Array:
        return paint(material, size_m, texels_per_m, rng)

    chosen = range(len(shape.patch_sizes_m)) if patches is None else patches
    return Solid(shape, dict.fromkeys(chosen, painter))


def box(center: Point, half_size_m: Point, yaw_deg: float = 0.0, tilt_deg: float = 0.0) -> Box:
    """A box that is turned around its x axis, then around the vertical."""
    yaw = Rigid3.from_rotvec(np.radians([0, 0, yaw_deg]), np.array(center))
    return Box(yaw @ Rigid3.from_rotvec(np.radians([tilt_deg, 0, 0]), np.zeros(3)), half_size_m)


def solid_world(solids: Sequence[Solid], seed: int, executor: Executor) -> World:
    """Paint and light all solids.

    Args:
        solids: the content.
        seed: each patch is painted with random numbers from this seed, the index of its solid and its own.
        executor: runs the painting; the result does not depend on it.
    """
    futures = [
        [executor.submit(lit_texture, solids, idx, patch, seed) for patch in range(len(solid.shape.patch_sizes_m))]
        for idx, solid in enumerate(solids)
    ]
    shapes = tuple(solid.shape for solid in solids)
    return World(shapes, tuple(tuple(future.result() for future in row) for row in futures))


def lit_texture(solids: Sequence[Solid], idx: int, patch: int, seed: int) -> MipTexture:
    """The texture of one patch of a solid, with its lighting; the arguments are as in `solid_world`."""
    shape = solids[idx].shape
    size_m = shape.patch_sizes_m[patch]
    painter = solids[idx].painters.get(patch)
    image = _PLAIN if painter is None else painter(size_m, np.random.default_rng([seed, idx, patch]))
    lit = cv2.multiply(image, _light(shape, patch, image.shape[:2]), dtype=cv2.CV_8U)
    return MipTexture.from_image(np.asarray(lit, np.uint8), size_m, shape.wraps(patch))


def with_exposure(scene: SyntheticScene, seed: int, noise_sigma: float = 2.0) -> SyntheticScene:
    """The scene with another exposure, gamma and noise in each image.

    Args:
        scene: the scene; depths and poses stay as they are.
        seed: of the changes.
        noise_sigma: standard deviation of the noise in grey values.
    """
    return replace(scene, images=exposed(scene.images, seed, noise_sigma))


def exposed(images: Mapping[str, UInt8Array], seed: int, noise_sigma: float = 2.0) -> dict[str, UInt8Array]:
    """Images [H, W, 3] by name with another exposure, gamma and noise in each; see `with_exposure`."""
    return {name: exposed_image(image, seed, idx, noise_sigma) for idx, (name, image) in enumerate(images.items())}


def exposed_image(image: UInt8Array, seed: int, idx: int, noise_sigma: float = 2.0) -> UInt8Array:
    """The image [H, W, 3] of an index with another exposure, gamma and noise; see `with_exposure`."""
    rng = np.random.default_rng([seed, 1 << 21, idx])
    gain, gamma = rng.uniform(0.88, 1.12), rng.uniform(0.9, 1.1)
    table = 255 * np.clip(gain * np.linspace(0, 1, 256) ** gamma, 0, 1)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise_sigma)
    return np.clip(np.round(table.astype(np.float32)[image] + noise), 0, 255).astype(np.uint8)


def _light(shape: Shape, patch: int, size: tuple[int, int]) -> np.ndarray:
    """Factors [H, W, 3] of a patch with H x W texels: light from the sun and the sky, without shadows."""
    height, width = size
    size_m = shape.patch_sizes_m[patch]
    grid = np.stack(np.meshgrid((np.arange(16) + 0.5) * size_m[0] / 16, (np.arange(16) + 0.5) * size_m[1] / 16))
    points = shape.points(patch, grid.reshape(2, -1).astype(np.float32))
    normals = rotate(shape.world_from_local.R, shape.normals(patch, points))
    sun = np.asarray(_SUN_DIRECTION, np.float32)[:, None]
    factor = 0.62 + 0.33 * np.maximum((sun * normals).sum(0), 0) + 0.1 * normals[2]
    coarse = np.broadcast_to(factor, points.shape[1:]).reshape(16, 16).astype(np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.repeat(fine[..., None], 3, 2)
