"""Views of a world of very many shapes: each tile of an image looks only at the shapes that it can see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, Int32Array, UInt8Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.rays import Rays, Shape
from sfm_lightglue.synthetic.render import NUM_PROBES, averaged, borders, pixel_rays, trace
from sfm_lightglue.synthetic.textures import MipTexture
from sfm_lightglue.synthetic.world import World
from sfm_lightglue.types import Camera

_TILE_PX = 160
_SHAPES_PER_CHECK = 3
"""Rays that are at their first surface are left out each time after so many shapes."""


class ShapeIndex:
    """The bounding spheres of shapes, to find those within a cone.

    Args:
        shapes: of the world.
    """

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self.shapes = shapes
        self._centers = np.array([shape.world_from_local.t for shape in shapes]).reshape(-1, 3)
        self._radii = np.array([shape.bounding_radius_m for shape in shapes])

    def within(self, rays: Rays) -> tuple[Int32Array, Float32Array]:
        """The shapes that rays [N] from one origin may hit.

        Returns:
            Indices [S] of the shapes, the nearest first, and their smallest distances [S] from the origin.
        """
        directions = rays.directions.T.astype(np.float64)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        axis = directions.mean(0)
        axis /= np.linalg.norm(axis)
        spread = np.arccos(np.clip((directions @ axis).min(), -1, 1))
        offsets = self._centers - rays.origins[:, 0]
        distances = np.linalg.norm(offsets, axis=1)
        radii = 1.01 * self._radii
        with np.errstate(divide="ignore", invalid="ignore"):
            angles = np.arccos(np.clip(offsets @ axis / distances, -1, 1))
            angles -= np.arcsin(np.clip(radii / distances, 0, 1))
        near = np.flatnonzero((distances <= radii) | (angles <= spread + 1e-3))
        near = near[np.argsort(distances[near] - radii[near], kind="stable")]
        return near.astype(np.int32), (distances[near] - radii[near]).astype(np.float32)

    def cast(self, rays: Rays) -> Float32Array:
        """The parameter [N] of the first surface along rays from one origin; infinite where there is none."""
        near, min_distances = self.within(rays)
        return NearWorld([self.shapes[idx] for idx in near], (), min_distances).cast(rays)[0]


@dataclass(frozen=True, eq=False)
class NearWorld(World):
    """Shapes from the nearest to the farthest, as seen from the origin of all rays.

    Args:
        min_distances: [S] lower bounds of the distances of the shapes from that origin, ascending.
    """

    min_distances: Float32Array

    def cast(self, rays: Rays) -> tuple[Float32Array, Int32Array]:
        """As of `World`. Rays that have hit a surface are not tested with shapes behind it."""
        t = np.full(len(rays), np.inf, np.float32)
        shape_idx = np.full(len(rays), -1, np.int32)
        lengths = np.sqrt(rays.squared_lengths)
        rows = np.arange(len(rays), dtype=np.int32)
        tested = rays
        for idx, shape in enumerate(self.shapes):
            if idx % _SHAPES_PER_CHECK == 0:
                is_open = t[rows] * lengths[rows] > self.min_distances[idx]
                if not is_open.all():
                    rows = rows[is_open]
                    tested = rays.take(rows)
            if len(rows) == 0:
                break
            near = shape.near(tested)
            if len(near) == 0:
                continue
            t_shape = shape.hit(shape.to_local(tested.take(near)))
            closer = t_shape < t[rows[near]]
            t[rows[near[closer]]] = t_shape[closer]
            shape_idx[rows[near[closer]]] = idx
        return t, shape_idx


@dataclass(frozen=True, eq=False)
class _Tile:
    """A rectangle of an image."""

    rows: slice
    columns: slice

    def grid(self) -> tuple[Float64Array, Float64Array]:
        """Centres x, y [N] of its pixels."""
        x, y = np.meshgrid(
            np.arange(self.columns.start, self.columns.stop) + 0.5, np.arange(self.rows.start, self.rows.stop) + 0.5
        )
        return x.ravel(), y.ravel()


def render_view(
    index: ShapeIndex, textures: Sequence[Sequence[MipTexture]], camera: Camera, cam_from_world: Rigid3
) -> tuple[UInt8Array, Float32Array]:
    """Image [H, W, 3] uint8 and depth [H, W] float32 of one camera; the same as of the renderer of small worlds.

    Args:
        index: the shapes.
        textures: one texture per patch, by shape; only those that are seen are looked up.
        camera: "SIMPLE_PINHOLE".
        cam_from_world: its pose.
    """
    width, height = camera.size
    colors = np.empty((height, width, 3), np.float32)
    depth = np.empty((height, width), np.float32)
    label = np.empty((height, width), np.int32)
    worlds = []
    for tile in _tiles(width, height):
        rays = pixel_rays(camera, cam_from_world, *tile.grid())
        near, min_distances = index.within(rays)
        world = NearWorld([index.shapes[idx] for idx in near], [textures[idx] for idx in near], min_distances)
        worlds.append((tile, world))
        tile_colors, tile_depth, tile_label = trace(world, rays, 1 / camera.params[0], NUM_PROBES)
        shape = depth[tile.rows, tile.columns].shape
        colors[tile.rows, tile.columns] = tile_colors.reshape(*shape, 3)
        depth[tile.rows, tile.columns] = tile_depth.reshape(shape)
        label[tile.rows, tile.columns] = _in_world(tile_label, near).reshape(shape)
    border = borders(label)
    for tile, world in worlds:
        _average_borders(colors, border, tile, world, camera, cam_from_world)
    image = np.clip(np.round(colors), 0, 255).astype(np.uint8)
    return image, np.where(np.isfinite(depth), depth, np.float32(0))


def _tiles(width: int, height: int) -> Iterator[_Tile]:
    for top in range(0, height, _TILE_PX):
        for left in range(0, width, _TILE_PX):
            yield _Tile(slice(top, min(top + _TILE_PX, height)), slice(left, min(left + _TILE_PX, width)))


def _in_world(label: Int32Array, near: Int32Array) -> Int32Array:
    """Labels of `trace` of some shapes as labels of all shapes."""
    if len(near) == 0:
        return label
    return np.where(label >= 0, 8 * near[label // 8] + label % 8, label).astype(np.int32)


def _average_borders(
    colors: Float32Array, border: BoolArray, tile: _Tile, world: World, camera: Camera, cam_from_world: Rigid3
) -> None:
    """Average the pixels at borders between surfaces, in place."""
    chosen = np.flatnonzero(border[tile.rows, tile.columns])
    if len(chosen) > 0:
        x, y = (axis[chosen] for axis in tile.grid())
        part = colors[tile.rows, tile.columns].reshape(-1, 3)
        part[chosen] = averaged(world, camera, cam_from_world, x, y)
        colors[tile.rows, tile.columns] = part.reshape(colors[tile.rows, tile.columns].shape)
