"""Tiles of the images of a batch, and which surfaces are evaluated in which tile.

All images are cut into square tiles, so that images of different sizes are in one batch. A tile at the right or lower
border may be partly outside of its image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.synthetic.photo_scenes.placement import NO_SURFACE, Placed, Placement

FULL_PLANE, PLANE, MASKED_PLANE, SPHERE, CYLINDER, RELIEF = range(6)
"""Kinds of entries. A full plane covers its tile."""

_MARGIN = 1e-4
"""Relative difference of inverse depth from which a surface is hidden. Larger than the rounding of the rasteriser."""


@dataclass(frozen=True, eq=False)
class TileGrid:
    """The tiles of all images of a batch; those of an image follow each other row by row.

    Args:
        side: of a tile in pixels.
        sizes: [V, 2] (width, height) of the images in pixels, on the CPU.
        shapes: [V, 2] numbers of tiles (along x, along y), on the CPU.
        starts: [V + 1] first tile of each image, on the CPU.
        views: [T] int64 image of each tile.
        corners: [T, 2] float64 (x, y), first pixel of each tile in its image.
    """

    side: int
    sizes: AnyArray
    shapes: AnyArray
    starts: AnyArray
    views: Tensor
    corners: Tensor

    @classmethod
    def of(cls, sizes: AnyArray, side: int, device: torch.device) -> TileGrid:
        """Tiles of images [V, 2] (width, height)."""
        shapes = -(-sizes // side)
        counts = shapes.prod(1)
        starts = np.concatenate([[0], np.cumsum(counts)])
        views = np.repeat(np.arange(len(sizes)), counts)
        local = np.arange(starts[-1]) - starts[views]
        across = shapes[views, 0]
        numbers = np.stack([views, local % across * side, local // across * side], 1).astype(np.float64)
        packed = torch.from_numpy(numbers).to(device)
        return cls(side, sizes, shapes, starts, packed[:, 0].long(), packed[:, 1:])

    def __len__(self) -> int:
        return int(self.starts[-1])


class Entries(NamedTuple):
    """Pairs of a tile and a surface.

    Args:
        tiles: [E] int64.
        kinds: [E] int64.
        rows: [E] int64 row in the placed surfaces of the kind.
        slots: [E] int64 index of the surface in its scene.
    """

    tiles: Tensor
    kinds: Tensor
    rows: Tensor
    slots: Tensor

    def part(self, which: Tensor) -> Entries:
        """Some entries, chosen by a mask [E] or indices."""
        return Entries(*(array[which] for array in self))


class Group(NamedTuple):
    """Entries of one kind in different tiles.

    Args:
        kind: of all entries.
        is_first: whether each is the first entry of its tile.
        entries: of the group.
    """

    kind: int
    is_first: bool
    entries: Entries


def find_entries(placement: Placement, grid: TileGrid) -> Entries:
    """The surfaces that may be visible in each tile; those behind planes that cover the tile are left out."""
    most = int(np.diff(grid.starts).max())
    local = torch.arange(most, device=grid.views.device)
    starts = torch.from_numpy(grid.starts).to(local.device)
    tiles = starts[:-1, None] + local  # [V, K]
    is_tile = tiles < starts[1:, None]
    tiles = torch.where(is_tile, tiles, 0)
    corners = grid.corners[tiles]  # [V, K, 2]
    planes = placement.planes
    least, largest = _limits(planes.column("edges"), corners[planes.views], grid.side)  # [I, K, 5]
    farthest, nearest = _limits(planes.column("inverse")[:, 0], corners[planes.views], grid.side)  # [I, K]
    is_masked = (planes.column("mask") >= 0)[:, None]
    is_in = is_tile[planes.views] & (largest >= 0).all(-1) & (nearest > 0)
    is_full = is_in & (least >= 0).all(-1) & ~is_masked
    cover = farthest.new_zeros(len(grid.starts) - 1, most)
    cover.scatter_reduce_(0, planes.views[:, None].expand(farthest.shape), farthest * is_full, "amax")
    found = [(is_in & (nearest * (1 + _MARGIN) >= cover[planes.views]), torch.where(is_full, FULL_PLANE, PLANE))]
    found[0] = found[0][0], torch.where(is_masked, MASKED_PLANE, found[0][1])
    others = (placement.spheres, placement.cylinders, placement.reliefs)
    for kind, placed in zip((SPHERE, CYLINDER, RELIEF), others, strict=True):
        first = corners[placed.views]
        box = placed.column("box")[:, None]
        is_in = (first < box[..., 2:]).all(-1) & (first + grid.side > box[..., :2]).all(-1) & is_tile[placed.views]
        is_in &= placed.column("nearest")[:, None] * (1 + _MARGIN) >= cover[placed.views]
        found.append((is_in, torch.full((), kind, device=is_in.device).expand(is_in.shape)))
    at = torch.cat([is_in for is_in, _ in found]).nonzero()
    kinds = torch.cat([kind for _, kind in found])[at[:, 0], at[:, 1]]
    every = [planes, *others]
    rows = torch.cat([torch.arange(len(placed), device=at.device) for placed in every])[at[:, 0]]
    views, slots = (torch.cat([getattr(placed, name) for placed in every])[at[:, 0]] for name in ("views", "slots"))
    return Entries(tiles[views, at[:, 1]], kinds, rows, slots)


def _limits(forms: Tensor, corners: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest values [I, K, ...] of forms [I, ..., 3] at the pixels of tiles with corners [I, K, 2]."""
    inner = forms.ndim - 2
    forms = forms.unsqueeze(1)
    x, y = (corners[..., axis].reshape(*corners.shape[:2], *[1] * inner) for axis in (0, 1))
    start = forms[..., 2] + forms[..., 0] * x + forms[..., 1] * y
    reach = forms[..., :2] * (side - 1)
    return start + reach.clamp(max=0).sum(-1), start + reach.clamp(min=0).sum(-1)


def grouped(entries: Entries, tiles_per_chunk: int, across_kinds: bool) -> Iterator[tuple[int, list[Group]]]:
    """Entries in groups without repeated tiles.

    Args:
        entries: in any order.
        tiles_per_chunk: neighbouring tiles form a chunk; a group has entries of one chunk.
        across_kinds: whether the entries of a tile are ordered across all kinds, so that the first group of each tile
            contains one entry of every tile; otherwise entries are ordered by kind.

    Yields:
        For each chunk its index and its groups in order.
    """
    if len(entries.tiles) == 0:
        return
    inner = entries.tiles * 8 + entries.kinds
    order = torch.argsort(inner, stable=True)
    entries, inner = entries.part(order), inner[order]
    run = entries.tiles if across_kinds else inner
    rank = torch.arange(len(run), device=run.device) - torch.searchsorted(run, run)
    chunk = entries.tiles // tiles_per_chunk
    key = (chunk * (NO_SURFACE + 1) + rank) * 8 + entries.kinds
    order = torch.argsort(key, stable=True)
    entries, key = entries.part(order), key[order]
    keys, counts = torch.unique_consecutive(key, return_counts=True)
    sizes = counts.tolist()
    parts = [Entries(*arrays) for arrays in zip(*(torch.split(array, sizes) for array in entries), strict=True)]
    groups: dict[int, list[Group]] = {}
    for number, part in zip(keys.tolist(), parts, strict=True):
        rest, kind = divmod(number, 8)
        chunk_idx, group_rank = divmod(rest, NO_SURFACE + 1)
        groups.setdefault(chunk_idx, []).append(Group(kind, group_rank == 0, part))
    yield from groups.items()


def placed_of(placement: Placement, kind: int) -> Placed:
    """The rows to which entries of a kind refer."""
    return {SPHERE: placement.spheres, CYLINDER: placement.cylinders, RELIEF: placement.reliefs}.get(
        kind, placement.planes
    )
