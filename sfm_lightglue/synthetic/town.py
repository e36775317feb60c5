"""A town of different houses, photographed on a walk through its streets: scenes of any number of images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, UInt8Array
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.synthetic.files import TRUTH_FILE, exif_of_camera, write_photo, write_truth
from sfm_lightglue.synthetic.rays import Rays
from sfm_lightglue.synthetic.render import SyntheticScene, check_size, exif_camera, pixel_rays
from sfm_lightglue.synthetic.solids import Solid, exposed_image, lit_texture
from sfm_lightglue.synthetic.textures import MipTexture
from sfm_lightglue.synthetic.tiled_view import ShapeIndex, render_view
from sfm_lightglue.synthetic.town_houses import town_solids
from sfm_lightglue.synthetic.town_walk import walk_through_town
from sfm_lightglue.types import Camera

ResultT = TypeVar("ResultT")

FOCAL_35MM_MM = 28
_NEAREST_VIEW_M = 11.0
"""Distance at which texels are as large as pixels; textures of nearer surfaces are magnified."""

_NUM_TEXTURES = 320
"""Textures that are kept in memory: those of some streets."""

_SAMPLES = (30, 20)
"""Columns and rows of the grid of pixels by which overlaps are measured."""

_MAX_ZOOM = 4.0
"""A point that is this much nearer to one camera than to the other does not count as seen by both."""

_MAX_DEPTH_ERROR = 0.01


class _Textures(Sequence[Sequence[MipTexture]]):
    """Textures that are painted when they are looked up; those used last are kept. Safe to use from several threads."""

    def __init__(self, solids: Sequence[Solid], seed: int) -> None:
        self._solids, self._seed = solids, seed
        self._kept: LruCache[tuple[int, int], MipTexture] = LruCache(_NUM_TEXTURES)
        self._locks = [Lock() for _ in solids]

    def __len__(self) -> int:
        return len(self._solids)

    def __getitem__(self, idx: int) -> _PatchTextures:  # type: ignore[override]
        return _PatchTextures(self, idx)

    def of(self, idx: int, patch: int) -> MipTexture:
        """The texture of a patch of a solid."""
        with self._locks[idx]:
            texture = self._kept.get((idx, patch))
            if texture is None:
                texture = lit_texture(self._solids, idx, patch, self._seed)
                self._kept.put((idx, patch), texture)
            return texture


@dataclass(frozen=True, slots=True)
class _PatchTextures(Sequence[MipTexture]):
    """The textures of one solid."""

    textures: _Textures
    idx: int

    def __len__(self) -> int:
        return 6

    def __getitem__(self, patch: int) -> MipTexture:  # type: ignore[override]
        return self.textures.of(self.idx, patch)


class Town:
    """Views of a town along a walk, each rendered when it is asked for.

    The first images are the same for any number of images.

    Args:
        num_images: at least 2. 100 images are about 170 m of way, and 300 images about 500 m with several loops.
        size: (width, height) in pixels, at least 64 each.
        seed: of houses, walk and exposure. The same seed gives the same bytes on one machine with one version of numpy
            and OpenCV, for any number of threads.

    Raises:
        ValueError: if `num_images` or `size` is too small.
    """

    def __init__(self, num_images: int, size: tuple[int, int] = (960, 640), seed: int = 0) -> None:
        check_size("render_town", num_images, size)
        self.camera: Camera = exif_camera(size, FOCAL_35MM_MM)
        poses = walk_through_town(num_images, seed)
        self.cam_from_world_from_name = {f"walk_{idx:05d}.jpg": pose for idx, pose in enumerate(poses)}
        self._seed = seed
        solids = town_solids(self.camera.params[0] / _NEAREST_VIEW_M, seed)
        self.index = ShapeIndex([solid.shape for solid in solids])
        self._textures = _Textures(solids, seed)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, sorted; this is the order of the walk."""
        return tuple(self.cam_from_world_from_name)

    def render(self, name: str) -> tuple[UInt8Array, Float32Array]:
        """Image [H, W, 3] uint8 RGB, and depth [H, W] float32 in metres, 0 for sky, as of `SyntheticScene`."""
        image, depth = render_view(self.index, self._textures, self.camera, self.cam_from_world_from_name[name])
        return exposed_image(image, self._seed, self.names.index(name)), depth

    def sampled_points(self, name: str) -> tuple[Float32Array, Float32Array]:
        """Points [3, N] of the surface that an image sees, at a grid of its pixels, and their depths [N]."""
        columns, rows = _SAMPLES
        width, height = self.camera.size
        x, y = np.meshgrid((np.arange(columns) + 0.5) * width / columns, (np.arange(rows) + 0.5) * height / rows)
        rays = pixel_rays(self.camera, self.cam_from_world_from_name[name], x.ravel(), y.ravel())
        depth = self.index.cast(rays)
        solid = np.flatnonzero(np.isfinite(depth)).astype(np.int32)
        return rays.take(solid).at(depth[solid]), depth[solid]

    def sees(self, name: str, points: Float32Array, depths: Float32Array) -> BoolArray:
        """Which points [3, N] of surfaces an image sees: within its borders, not occluded, and at about their scale.

        Args:
            name: of the image.
            points: in the world.
            depths: [N] of the points in the images that they are from.
        """
        pose = self.cam_from_world_from_name[name]
        in_camera = (pose @ points.T).T
        z = in_camera[2]
        focal, cx, cy = self.camera.params
        scale = np.maximum(z, 1e-3) / depths
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = focal * in_camera[0] / z + cx, focal * in_camera[1] / z + cy
        seen: BoolArray = (z > 0.1) & (x >= 0) & (y >= 0) & (x < self.camera.width) & (y < self.camera.height)
        seen &= (scale < _MAX_ZOOM) & (scale > 1 / _MAX_ZOOM)
        rows = np.flatnonzero(seen)
        if len(rows) > 0:
            origin = pose.center.astype(np.float32)[:, None]
            reached = self.index.cast(Rays(origin, points[:, rows] - origin))
            seen[rows] = reached > 1 - _MAX_DEPTH_ERROR
        return seen


def render_town(
    num_images: int = 30,
    size: tuple[int, int] = (960, 640),
    seed: int = 0,
    progress: Progress = silent,
) -> SyntheticScene:
    """Render a walk through the streets of a town of different houses, with loops; see `Town` for the arguments.

    All images and depths are in memory, 4 MB an image of 960 x 640. `write_town` needs only a few at a time.
    """
    town = Town(num_images, size, seed)
    views = dict(zip(town.names, _for_each(town.names, town.render, 0, "render", progress), strict=True))
    centers = np.array([pose.center for pose in town.cam_from_world_from_name.values()])
    extent_m = max(float(np.linalg.norm(centers - center, axis=1).max()) for center in centers)
    images = {name: image for name, (image, _) in views.items()}
    depths = {name: depth for name, (_, depth) in views.items()}
    return SyntheticScene(images, depths, town.camera, dict(town.cam_from_world_from_name), extent_m)


def write_town(town: Town, root: Path, num_threads: int = 0, progress: Progress = silent) -> None:
    """Write a town as `write_scene` does, image by image. Images that are there already are kept.

    Args:
        town: the town.
        root: folder, as of `write_scene`.
        num_threads: images that are rendered at the same time, 0 for one per core.
        progress: called after every image, with stage "render".

    Raises:
        StoreError: if the folder is not writable or the disk is full.
    """
    exif = exif_of_camera(town.camera)
    (root / TRUTH_FILE).unlink(missing_ok=True)

    def write(name: str) -> None:
        if not (root / "images" / name).is_file():
            write_photo(town.render(name)[0], root, name, exif)

    for _ in _for_each(town.names, write, num_threads, "render", progress):
        pass
    write_truth(dict.fromkeys(town.names, town.camera), town.cam_from_world_from_name, root)


def town_overlaps(town: Town, num_threads: int = 0, progress: Progress = silent) -> Float32Array:
    """Overlaps of all images of a town.

    A point that one image sees counts as seen by another one if it is within its borders, nothing is before it, and
    its distances from both cameras differ by a factor of less than 4.

    Args:
        town: the town.
        num_threads: images that are compared with all others at the same time, 0 for one per core.
        progress: called after every image, with stage "overlap".

    Returns:
        [N, N] fraction of the surface seen in image i, by area in the image, that image j sees; 1 on the diagonal.
    """
    sampled = [town.sampled_points(name) for name in town.names]
    image_idx = np.repeat(np.arange(len(sampled)), [points.shape[1] for points, _ in sampled])
    points = np.concatenate([points for points, _ in sampled], axis=1)
    depths = np.concatenate([depths for _, depths in sampled])
    totals = np.maximum(np.bincount(image_idx, minlength=len(sampled)), 1)

    def column(name: str) -> Float32Array:
        seen = np.bincount(image_idx, town.sees(name, points, depths), len(sampled))
        return (seen / totals).astype(np.float32)

    overlaps = np.stack(list(_for_each(town.names, column, num_threads, "overlap", progress)), axis=1)
    np.fill_diagonal(overlaps, 1.0)
    return overlaps


def _for_each(
    names: Sequence[str], function: Callable[[str], ResultT], num_threads: int, stage: str, progress: Progress
) -> Iterator[ResultT]:
    """Results of a function for each name, in their order."""
    results = ordered_map(function, names, num_threads or min(os.cpu_count() or 1, 8))
    for num_done, result in enumerate(results, start=1):
        progress(stage, num_done, len(names))
        yield result
