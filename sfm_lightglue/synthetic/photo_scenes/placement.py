"""Surfaces as seen by the views of a batch: one row of numbers per view and surface, ready for the rasteriser.

In a view, some quantities are affine in the pixel (x, y): `c0 + cx x + cy y`. Such a *form* is stored as the three
numbers (cx, cy, c0), where (x, y) are the integer indices of the pixel and the value is that at its centre. On a plane,
inverse depth is a form, and so are its texture coordinates times inverse depth. Everywhere, the components of the
direction of the ray in a local frame are forms; directions are scaled so that the parameter along a ray is the depth.

I is the number of rows of a kind, V the number of views.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.arrays import AnyArray, BoolArray, Float64Array
from sfm_lightglue.synthetic.photo_scenes.posed_camera import MIN_DEPTH_M, PosedCamera
from sfm_lightglue.synthetic.photo_scenes.surface_table import PLANE, RELIEF, SPHERE, SurfaceTable
from sfm_lightglue.synthetic.photo_scenes.surfaces import Light

SKY_INVERSE_DEPTH = 1e-12
"""Inverse depth of the sky, smaller than that of all surfaces."""

SKY_SHAPE = (12, 16)
"""(height, width) of the image of the sky before it is enlarged."""

OUTSIDE = 1e30
"""Factor of the forms of edges: the smallest of inverse depth and these forms is negative outside of a rectangle, and
the inverse depth inside of it."""

_EDGE_TOLERANCE_PX = 1 / 64
"""Planes are larger by this at every edge, so that rounding opens no gap between planes that touch."""

_MIN_FACING_M = 1e-3
"""Planes are not visible from points that are nearer to the infinite plane."""

NO_SURFACE = 255
"""Index of the surface at pixels without one."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacedViews:
    """Arrays of views.

    Args:
        scenes: [V] index of the scene.
        focals_px: [V].
        sizes: [V, 2] (width, height) in pixels.
        R: [V, 3, 3] rotation of `cam_from_world`.
        t: [V, 3] translation in metres.
        sun: [V, 3] direction towards the sun times its strength.
        ambient: [V] strength of the ambient light.
    """

    scenes: AnyArray
    focals_px: Float64Array
    sizes: AnyArray
    R: Float64Array
    t: Float64Array
    sun: Float64Array
    ambient: Float64Array

    @classmethod
    def of(cls, scenes: Sequence[int], cameras: Sequence[PosedCamera], lights: Sequence[Light]) -> PlacedViews:
        """One view per element of the sequences."""
        return cls(
            np.array(scenes, np.int64),
            np.array([camera.focal_px for camera in cameras], np.float64),
            np.array([camera.size for camera in cameras], np.int64).reshape(-1, 2),
            np.array([camera.cam_from_world.R for camera in cameras], np.float64).reshape(-1, 3, 3),
            np.array([camera.cam_from_world.t for camera in cameras], np.float64).reshape(-1, 3),
            np.array([light.direction * light.sun for light in lights], np.float64).reshape(-1, 3),
            np.array([light.ambient for light in lights], np.float64),
        )

    def forms(self, views: AnyArray, vectors: Float64Array) -> Float64Array:
        """Forms [N, ..., 3] of the dot products of vectors [N, ..., 3] with the rays (x, y, 1) of views [N]."""
        shape = (len(views), *[1] * (vectors.ndim - 2))
        focal = self.focals_px[views].reshape(shape)
        width, height = (self.sizes[views, axis].reshape(shape) for axis in (0, 1))
        slope_x, slope_y = vectors[..., 0] / focal, vectors[..., 1] / focal
        start = vectors[..., 2] + slope_x * (0.5 - width / 2) + slope_y * (0.5 - height / 2)
        return np.stack([slope_x, slope_y, start], axis=-1)


Layout = dict[str, tuple[slice, tuple[int, ...]]]
"""Columns and shape of named numbers in a table."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacedRows:
    """Numbers of n rows, by name.

    Args:
        layout: where they are.
        double: [n, columns] float64.
        single: the same in float32.
    """

    layout: Layout
    double: Tensor
    single: Tensor

    def forms(self, name: str) -> Tensor:
        """Forms float64 [n, F, 3], which are named after what they are."""
        columns, shape = self.layout[name]
        return self.double[:, columns].view(-1, *shape)

    def number(self, name: str) -> Tensor:
        """A number per row, float32 [n, 1, 1]."""
        return self.single[:, self.layout[name][0], None]

    def vector(self, name: str) -> list[Tensor]:
        """The components of a vector per row, float32 [n, 1, 1] each."""
        return [part[:, :, None] for part in torch.split(self.single[:, self.layout[name][0]], 1, dim=1)]

    def index(self, name: str) -> Tensor:
        """An index per row, int64 [n]."""
        return self.single[:, self.layout[name][0].start].long()


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Rows of one kind on the device.

    Args:
        views: [I] int64.
        slots: [I] int64 index of the surface in its scene; `NO_SURFACE` for the sky.
        textures: [I] int64 row of the texture; those of the sky follow those of the scenes.
        rows: all numbers.
    """

    views: Tensor
    slots: Tensor
    textures: Tensor
    rows: PlacedRows

    @classmethod
    def of(
        cls, views: AnyArray, slots: AnyArray, textures: AnyArray, numbers: dict[str, AnyArray], device: torch.device
    ) -> Placed:
        """Arrays of the CPU [I, ...], copied to the device at once."""
        parts = [views, slots, textures, *numbers.values()]
        flat = [part.reshape(len(views), math.prod(part.shape[1:])) for part in parts]
        ends = np.cumsum([part.shape[1] for part in flat]).tolist()
        packed = torch.from_numpy(np.concatenate(flat, axis=1).astype(np.float64)).to(device)
        layout = {
            name: (slice(start, end), part.shape[1:])
            for (name, part), start, end in zip(numbers.items(), ends[2:], ends[3:], strict=False)
        }
        views_, slots_, textures_ = packed[:, :3].long().unbind(1)
        return cls(views_, slots_, textures_, PlacedRows(layout, packed, packed.float()))

    def __len__(self) -> int:
        return len(self.views)

    def column(self, name: str) -> Tensor:
        """One of the numbers of all rows, float64 [I, ...]."""
        return self.rows.forms(name)

    def at(self, rows: Tensor) -> PlacedRows:
        """The numbers of rows [n]."""
        double, single = (table.index_select(0, rows) for table in (self.rows.double, self.rows.single))
        return PlacedRows(self.rows.layout, double, single)


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """All rows of a batch.

    Args:
        planes: and one sky per view.
        spheres: round surfaces without height.
        cylinders: round surfaces with height.
        reliefs: rows of reliefs.
    """

    planes: Placed
    spheres: Placed
    cylinders: Placed
    reliefs: Placed


def place(table: SurfaceTable, views: PlacedViews) -> Placement:
    """All pairs of views and surfaces of their scenes, without those that are not visible."""
    counts = np.diff(table.starts)[views.scenes]
    view = np.repeat(np.arange(len(counts)), counts)
    slot = np.arange(len(view)) - np.repeat(np.cumsum(counts) - counts, counts)
    row = table.starts[views.scenes[view]] + slot
    kinds = table.kinds[row]
    is_sphere, is_relief = kinds == SPHERE, kinds == RELIEF
    parts = (kinds == PLANE, is_sphere, ~is_sphere & ~is_relief & (kinds != PLANE), is_relief)
    planes, spheres, cylinders, reliefs = ((view[part], row[part], slot[part]) for part in parts)
    return Placement(
        _planes(table, views, *planes),
        _rounds(table, views, *spheres),
        _rounds(table, views, *cylinders),
        _reliefs(table, views, *reliefs),
    )


def _poses(table: SurfaceTable, views: PlacedViews, view: AnyArray, row: AnyArray) -> tuple[Float64Array, Float64Array]:
    """Rotations [I, 3, 3] and translations [I, 3] of `cam_from_local`."""
    R = views.R[view] @ table.R[row]
    return R, (views.R[view] @ table.t[row][..., None])[..., 0] + views.t[view]


def _planes(table: SurfaceTable, views: PlacedViews, view: AnyArray, row: AnyArray, slot: AnyArray) -> Placed:
    R, t = _poses(table, views, view, row)
    facing = (R[:, :, 2] * t).sum(1)
    kept = (np.abs(facing) >= _MIN_FACING_M) & ((facing > 0) | table.two_sided[row])
    view, row, slot, R, t, facing = (array[kept] for array in (view, row, slot, R, t, facing))
    inverse = views.forms(view, R[:, :, 2] / facing[:, None])
    # A local coordinate, u = R[:, 0] . (ray z - t), times inverse depth is R[:, 0] . ray - (R[:, 0] . t) / z.
    across = views.forms(view, R[:, :, :2].swapaxes(1, 2))  # [I, 2, 3]
    across = across - np.einsum("ika,ik->ia", R[:, :, :2], t)[..., None] * inverse[:, None]
    opposite = table.size_m[row][..., None] * inverse[:, None] - across
    edges = np.concatenate([across, opposite, _near_edge(inverse)], axis=1)  # [I, 5, 3]
    edges[:, :4, 2] += _EDGE_TOLERANCE_PX * np.hypot(edges[:, :4, 0], edges[:, :4, 1])
    kept = _in_image(views, view, edges)
    start = table.offset_m[row][..., None] * inverse[:, None]
    lookup = (across + start) / table.texture_size_m[row][..., None]
    sun = -np.sign(facing) * (table.R[row][:, :, 2] * views.sun[view]).sum(1)
    # A pixel covers z / f by z / (f cos) with cos = distance / z; the geometric mean selects the level.
    detail = (table.texels_per_m[row] / views.focals_px[view]) ** 2 / np.abs(facing)
    gain = views.ambient[view] + np.maximum(sun, 0)
    rows = (
        view,
        slot,
        table.texture_rows[row],
        inverse[:, None],
        edges * OUTSIDE,
        lookup,
        gain,
        detail,
        table.mask_rows[row],
    )
    sky = _skies(table, views)
    names = "inverse", "edges", "lookup", "gain", "detail", "mask"
    joined = [np.concatenate([array[kept], last]) for array, last in zip(rows, sky, strict=True)]
    views_, slots, textures, *numbers = joined
    return Placed.of(views_, slots, textures, dict(zip(names, numbers, strict=True)), table.device)


def _near_edge(inverse: Float64Array) -> Float64Array:
    """The form [I, 1, 3] of inverse depth that is missing to that of the smallest visible depth."""
    return np.asarray((np.array([0, 0, 1 / MIN_DEPTH_M]) - inverse)[:, None])


def _in_image(views: PlacedViews, view: AnyArray, edges: Float64Array) -> BoolArray:
    """Whether each of the forms [I, K, 3] is positive somewhere in the image."""
    most = edges[..., 2] + (np.maximum(edges[..., :2], 0) * (views.sizes[view] - 1)[:, None]).sum(-1)
    inside: BoolArray = (most >= 0).all(1)
    return inside


def _skies(table: SurfaceTable, views: PlacedViews) -> tuple[AnyArray, ...]:
    """The rows of the sky behind each view, a distant plane."""
    V = len(views.scenes)
    inverse = np.tile([0, 0, SKY_INVERSE_DEPTH], (V, 1))
    edges = np.tile([0, 0, OUTSIDE], (V, 5, 1))
    # The image of the sky has one more pixel at every border, because textures are repeated.
    lookup = np.zeros((V, 2, 3))
    for axis, side in ((0, SKY_SHAPE[1]), (1, SKY_SHAPE[0])):
        step = side / (side + 2) / views.sizes[:, axis]
        lookup[:, axis, axis] = step * SKY_INVERSE_DEPTH
        lookup[:, axis, 2] = (step / 2 + 1 / (side + 2)) * SKY_INVERSE_DEPTH
    textures = len(table.textures) + np.arange(V)
    slots = np.full(V, NO_SURFACE)
    return np.arange(V), slots, textures, inverse[:, None], edges, lookup, np.ones(V), np.zeros(V), np.full(V, -1)


def _rounds(table: SurfaceTable, views: PlacedViews, view: AnyArray, row: AnyArray, slot: AnyArray) -> Placed:
    R, t = _poses(table, views, view, row)
    origin = -np.einsum("ika,ik->ia", R, t)
    radius, half = table.size_m[row].T
    is_sphere = np.isinf(half)
    heights = np.where(is_sphere, radius, half)
    corners = np.stack([radius, radius, heights], 1)
    box, _ = _boxes(views, view, R, t, -corners, corners)
    square = (origin[:, :2] ** 2).sum(1) + np.where(is_sphere, origin[:, 2] ** 2, 0.0)
    # No point of the surface is nearer to the camera than this; depth is distance divided by the length of the ray.
    gap = np.abs(np.sqrt(square) - radius)
    longest = np.sqrt(1 + ((views.sizes[view] / 2 / views.focals_px[view, None]) ** 2).sum(1))
    nearest = longest / np.maximum(gap, 1e-9)
    side = table.side[row]
    scale = np.stack([radius * side, np.where(is_sphere, radius, 1.0)], 1) / table.texture_size_m[row]
    numbers = {
        "rays": views.forms(view, R.swapaxes(1, 2)),
        "origin": origin,
        "excess": square - radius**2,
        "radius": radius,
        "half": heights,
        "side": side,
        "scale": scale,
        "sun": (table.R[row].swapaxes(1, 2) @ views.sun[view][..., None])[..., 0],
        "ambient": views.ambient[view],
        "detail": (table.texels_per_m[row] / views.focals_px[view]) ** 2,
        "box": box,
        "nearest": nearest,
    }
    return _seen(table, view, row, slot, numbers)


def _reliefs(table: SurfaceTable, views: PlacedViews, view: AnyArray, row: AnyArray, slot: AnyArray) -> Placed:
    R, t = _poses(table, views, view, row)
    origin = -np.einsum("ika,ik->ia", R, t)
    size, highest = table.size_m[row], table.highest_m[row]
    low, high = np.zeros((len(row), 3)), np.zeros((len(row), 3))
    low[:, 2], high[:, :2] = -highest, size
    box, nearest = _boxes(views, view, R, t, low, high)
    box[origin[:, 2] > -highest] = 0
    samples = np.array([table.heights[k].shape[::-1] for k in table.heights_rows[row]], np.float64).reshape(-1, 2)
    numbers = {
        "rays": views.forms(view, R.swapaxes(1, 2)),
        "origin": origin,
        "highest": highest,
        "size": size,
        "samples": samples,
        "heights": table.heights_rows[row],
        "scale": 1 / table.texture_size_m[row],
        "sun": (table.R[row].swapaxes(1, 2) @ views.sun[view][..., None])[..., 0],
        "ambient": views.ambient[view],
        "detail": (table.texels_per_m[row] / views.focals_px[view]) ** 2,
        "box": box,
        "nearest": nearest,
    }
    return _seen(table, view, row, slot, numbers)


def _seen(table: SurfaceTable, view: AnyArray, row: AnyArray, slot: AnyArray, numbers: dict[str, AnyArray]) -> Placed:
    """The rows whose box is not empty."""
    box = numbers["box"]
    kept = (box[:, 2:] > box[:, :2]).all(1)
    columns = {name: array[kept] for name, array in numbers.items()}
    return Placed.of(view[kept], slot[kept], table.texture_rows[row][kept], columns, table.device)


def _boxes(
    views: PlacedViews, view: AnyArray, R: Float64Array, t: Float64Array, low: Float64Array, high: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Parts of the image [I, 4] (x0, y0, x1, y1) that contain local boxes [I, 3], and their largest inverse depths [I].

    Parts are empty where nothing is visible. Inverse depths are infinite where a box is partly behind the camera.
    """
    which = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    corners = np.where(which, high[:, None], low[:, None])  # [I, 8, 3]
    points = corners @ R.swapaxes(1, 2) + t[:, None]
    z = points[..., 2]
    is_behind = z <= MIN_DEPTH_M
    size = views.sizes[view].astype(np.float64)
    divisors = np.where(is_behind, 1.0, z)
    pixels = points[..., :2] / divisors[..., None] * views.focals_px[view][:, None, None] + size[:, None] / 2
    first = np.clip(np.floor(pixels.min(1)), 0, size)
    last = np.clip(np.ceil(pixels.max(1)), 0, size)
    some, every = is_behind.any(1, keepdims=True), is_behind.all(1, keepdims=True)
    first = np.where(some, 0.0, first)
    last = np.where(every, 0.0, np.where(some, size, last))
    nearest = np.where(is_behind.any(1), np.inf, 1 / divisors.min(1))
    return np.concatenate([first, last], axis=1), nearest
