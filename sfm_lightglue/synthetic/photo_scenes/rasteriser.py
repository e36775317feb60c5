"""The renderer: which surface each pixel shows, by a z-buffer over tiles; then depths and colours of what is visible.

In each round, one surface per tile is evaluated in all tiles that still have one. So the number of operations depends
on the number of surfaces in a tile, not on the number of views or scenes. Values are selected by bits and minima:
on a CPU, comparisons and `where` are ten times slower in torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.synthetic.photo_scenes.placement import (
    NO_SURFACE,
    SKY_INVERSE_DEPTH,
    PlacedViews,
    Placement,
    place,
)
from sfm_lightglue.synthetic.photo_scenes.posed_camera import PosedCamera
from sfm_lightglue.synthetic.photo_scenes.surface_table import SurfaceTable
from sfm_lightglue.synthetic.photo_scenes.surfaces import Light
from sfm_lightglue.synthetic.photo_scenes.texel_atlas import MAX_LEVELS, TexelAtlas
from sfm_lightglue.synthetic.photo_scenes.texel_sheet import TexelSheet
from sfm_lightglue.synthetic.photo_scenes.tile_surfaces import Look, TileSurfaces
from sfm_lightglue.synthetic.photo_scenes.tiles import (
    CYLINDER,
    FULL_PLANE,
    MASKED_PLANE,
    PLANE,
    RELIEF,
    SPHERE,
    Entries,
    Group,
    TileGrid,
    find_entries,
    grouped,
    placed_of,
)

_CPU_CHUNK, _CUDA_CHUNK = 256, 16384
"""Tiles that are evaluated at once: few on a CPU, whose cache is small."""

_SLOT_BITS = 8
_EXPONENT_BITS, _EXPONENT_BIAS = 23, 127

_NO_LIGHT = Light(np.zeros(3), 0.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A view to be rendered.

    Args:
        scene: index of its scene.
        camera: of the image.
        light: on all surfaces.
        sky: uint8 [12, 16, 3] RGB, enlarged behind the surfaces.
    """

    scene: int
    camera: PosedCamera
    light: Light
    sky: UInt8Array


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What the pixels of a view show.

    Args:
        depth: [H, W] float32 metres, 0 where no surface is visible.
        surface_idx: [H, W] uint8 index in the scene, 255 where no surface is visible.
    """

    depth: Tensor
    surface_idx: Tensor


class Rasteriser:
    """Renders views of some scenes.

    Args:
        table: surfaces of the scenes.
        side: of a tile in pixels, a multiple of 4; small tiles suit small images.
    """

    def __init__(self, table: SurfaceTable, side: int = 32) -> None:
        self._table = table
        self._side = side
        self._surfaces = TileSurfaces(table, side)
        self._chunk = (_CUDA_CHUNK if table.device.type == "cuda" else _CPU_CHUNK) * 32**2 // side**2

    def trace(self, scenes: Sequence[int], cameras: Sequence[PosedCamera]) -> list[Trace]:
        """Depths, rounded to 2^-15 of them, and surfaces of views.

        Args:
            scenes: index of the scene of each view.
            cameras: of the views.
        """
        batch = self._visible(PlacedViews.of(scenes, cameras, [_NO_LIGHT] * len(cameras)))
        depth = _masked_depth(_inverse_of(batch.keys).reciprocal_())
        slots = (~batch.keys & NO_SURFACE).to(torch.uint8)
        traces = zip(_images(depth, batch.grid), _images(slots, batch.grid), strict=True)
        return [Trace(depth, slots) for depth, slots in traces]

    def render(self, shots: Sequence[Shot]) -> list[tuple[Tensor, Trace]]:
        """Images uint8 [H, W, 3] RGB, exact depths and surfaces of views."""
        views = PlacedViews.of(*zip(*((shot.scene, shot.camera, shot.light) for shot in shots), strict=True))
        batch = self._visible(views)
        kind = TexelAtlas if self._table.device.type == "cuda" else TexelSheet
        texels = kind.of(self._table.textures, _skies(shots).to(self._table.device))
        depth, colours = torch.empty(batch.keys.shape, device=self._table.device), []
        for chunk, groups in grouped(batch.seen(self._chunk), self._chunk, across_kinds=True):
            first = chunk * self._chunk
            last = min(first + self._chunk, len(batch.grid))
            colours.append(self._coloured(batch, groups, texels, depth[first:last], first))
        images = _images(torch.cat(colours), batch.grid)
        slots = _images((~batch.keys & NO_SURFACE).to(torch.uint8), batch.grid)
        depths = _images(_masked_depth(depth), batch.grid)
        return [(image, Trace(depth, slot)) for image, depth, slot in zip(images, depths, slots, strict=True)]

    def _visible(self, views: PlacedViews) -> _Batch:
        placement = place(self._table, views)
        grid = TileGrid.of(views.sizes, self._side, self._table.device)
        entries = find_entries(placement, grid)
        keys = torch.zeros(len(grid), self._side, self._side, dtype=torch.int32, device=self._table.device)
        batch = _Batch(grid, placement, entries, keys)
        for _, groups in grouped(entries, self._chunk, across_kinds=False):
            for group in groups:
                self._test(batch, group)
        return batch

    def _test(self, batch: _Batch, group: Group) -> None:
        """Update the keys: inverse depth, whose lowest bits are replaced by the complement of the index of the surface.

        Positive floats have the order of their bits. Negative ones are negative as integers, so they never replace
        anything.
        """
        entries = group.entries
        bits = self._inverse(batch, group).contiguous().view(torch.int32)
        slots = (NO_SURFACE - entries.slots).int()[:, None, None]
        key = bits.bitwise_and_(-(1 << _SLOT_BITS)).bitwise_or_(slots)
        batch.keys.index_copy_(0, entries.tiles, torch.maximum(batch.keys.index_select(0, entries.tiles), key))

    def _inverse(self, batch: _Batch, group: Group) -> Tensor:
        entries, kind = group.entries, group.kind
        placed = placed_of(batch.placement, kind)
        corners = batch.grid.corners[entries.tiles]
        if kind in (SPHERE, CYLINDER):
            return self._surfaces.round_inverse(placed, entries.rows, corners, kind == SPHERE)
        if kind == RELIEF:
            return self._surfaces.relief_inverse(placed, entries.rows, corners)
        return self._surfaces.plane_inverse(placed, entries.rows, corners, kind == FULL_PLANE, kind == MASKED_PLANE)

    def _look(self, batch: _Batch, group: Group) -> Look:
        entries, kind = group.entries, group.kind
        placed = placed_of(batch.placement, kind)
        corners = batch.grid.corners[entries.tiles]
        if kind in (FULL_PLANE, PLANE, MASKED_PLANE):
            return self._surfaces.plane_look(placed, entries.rows, corners)
        if kind == RELIEF:
            near = _inverse_of(batch.keys.index_select(0, entries.tiles)).reciprocal_()
            return self._surfaces.relief_look(placed, entries.rows, corners, near)
        depth = self._inverse(batch, group).reciprocal_()
        return self._surfaces.round_look(placed, entries.rows, corners, depth, kind == SPHERE)

    def _coloured(
        self, batch: _Batch, groups: list[Group], texels: TexelAtlas | TexelSheet, depths: Tensor, first: int
    ) -> Tensor:
        """Colours uint8 [n, s, s, 3] of a chunk of tiles, which begins with tile `first`; fills in the depths."""
        x, y, gains = torch.empty_like(depths), torch.empty_like(depths), torch.empty_like(depths)
        levels = torch.empty(depths.shape, dtype=torch.int32, device=depths.device)
        for group in groups:
            entries = group.entries
            look = self._look(batch, group)
            rows = placed_of(batch.placement, group.kind).textures[entries.rows]
            level = _levels(look.footprint).add_((rows * MAX_LEVELS).int()[:, None, None])
            values = (look.depth, look.x, look.y, look.gain.expand(look.x.shape), level)
            targets = entries.tiles - first
            is_other = None if group.is_first else _is_other(batch.keys, entries)
            for buffer, value in zip((depths, x, y, gains, levels), values, strict=True):
                _write(buffer, value, targets, is_other)
        flat = (buffer.flatten(1) for buffer in (x, y, levels, gains))
        return texels.lit_colours(*flat).view(*depths.shape, 3)


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Views in tiles.

    Args:
        grid: the tiles.
        placement: surfaces in the views.
        entries: surfaces that may be visible.
        keys: [T, s, s] int32, see `Rasteriser._test`.
    """

    grid: TileGrid
    placement: Placement
    entries: Entries
    keys: Tensor

    def seen(self, tiles_per_chunk: int) -> Entries:
        """The entries that are visible at a pixel, and those that are alone in their tile."""
        tiles = self.entries.tiles
        is_seen = torch.bincount(tiles, minlength=len(self.grid))[tiles] == 1
        for rows in torch.split((~is_seen).nonzero()[:, 0], tiles_per_chunk):
            is_seen[rows] = _is_other(self.keys, self.entries.part(rows)).flatten(1).amax(1) == 0
        return self.entries.part(is_seen)


def _inverse_of(keys: Tensor) -> Tensor:
    """Inverse depths float32 of keys, in the middle of those with the same key."""
    middle = 1 << (_SLOT_BITS - 1)
    return (keys | middle).bitwise_and_(-middle).view(torch.float32)


def _is_other(keys: Tensor, entries: Entries) -> Tensor:
    """-1 at the pixels that do not show the surface of an entry, otherwise 0; int32 [n, s, s]."""
    shown = keys.index_select(0, entries.tiles).bitwise_and_(NO_SURFACE)
    difference = shown.bitwise_xor_((NO_SURFACE - entries.slots).int()[:, None, None])
    return difference.neg_().bitwise_right_shift_(31)


def _write(buffer: Tensor, values: Tensor, tiles: Tensor, is_other: Tensor | None) -> None:
    """Set the values of tiles, except at pixels of other surfaces."""
    if is_other is not None:
        old, bits = buffer.index_select(0, tiles).view(torch.int32), values.contiguous().view(torch.int32)
        values = (old ^ bits).bitwise_and_(is_other).bitwise_xor_(bits).view(buffer.dtype)
    buffer.index_copy_(0, tiles, values)


def _levels(footprint: Tensor) -> Tensor:
    """Levels int32 that fit: the next level is used from footprints of 2^(level + 0.5) texels.

    The exponent of twice the square of the footprint is twice the level, or one more. The argument is overwritten.
    """
    exponent = footprint.view(torch.int32).bitwise_right_shift_(_EXPONENT_BITS).sub_(_EXPONENT_BIAS)
    return exponent.bitwise_right_shift_(1).clamp_(0, MAX_LEVELS - 1)


def _masked_depth(depth: Tensor) -> Tensor:
    """Depths with 0 for the sky; overwritten."""
    return depth.mul_(depth < 0.5 / SKY_INVERSE_DEPTH)


def _skies(shots: Sequence[Shot]) -> Tensor:
    """Skies [V, h, w, 3] with one more row or column at every border, equal to the next one."""
    skies = np.stack([shot.sky for shot in shots])
    return torch.from_numpy(np.pad(skies, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge"))


def _images(tiles: Tensor, grid: TileGrid) -> list[Tensor]:
    """Values [T, s, s, ...] of tiles -> [H, W, ...] of each view."""
    images = []
    for view, (width, height) in enumerate(grid.sizes.tolist()):
        across, down = grid.shapes[view].tolist()
        part = tiles[grid.starts[view] : grid.starts[view + 1]]
        part = part.view(down, across, *tiles.shape[1:]).transpose(1, 2)
        images.append(
            part.reshape(down * grid.side, across * grid.side, *tiles.shape[3:])[:height, :width].contiguous()
        )
    return images
