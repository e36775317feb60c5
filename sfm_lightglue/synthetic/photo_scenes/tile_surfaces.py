"""What the pixels of tiles show of one surface per tile: inverse depth, place on the texture, size of a pixel, light.

n is the number of tiles, s their side; arrays are [n, s, s] float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sfm_lightglue.synthetic.photo_scenes.placement import OUTSIDE, Placed, PlacedRows
from sfm_lightglue.synthetic.photo_scenes.posed_camera import MIN_DEPTH_M
from sfm_lightglue.synthetic.photo_scenes.surface_table import SurfaceTable
from sfm_lightglue.synthetic.photo_scenes.value_grids import Grids

_MIN_COSINE = 0.05
"""Lower limit of the cosine between ray and normal, which limits the footprint of a pixel."""

_MARCH_STRIDE = 4
_NUM_MARCH_STEPS = 24
_NUM_SECANTS = 4
_MIN_SLOPE = 1e-3

_MAX_REFINEMENT = 1e-4
"""Largest relative change of the depths of reliefs, more than the rounding of the rasteriser."""


class Look(NamedTuple):
    """A surface at the pixels of tiles; meaningless where it is not visible.

    Args:
        depth: metres.
        x: place on the texture, in widths of it.
        y: place on the texture, in heights of it.
        footprint: twice the square of the side of a pixel on the surface, in texels of the first level.
        gain: brightness; [n, 1, 1] or [n, s, s].
    """

    depth: Tensor
    x: Tensor
    y: Tensor
    footprint: Tensor
    gain: Tensor


class TileSurfaces:
    """Evaluates surfaces in tiles.

    Args:
        table: all surfaces.
        side: of a tile in pixels.
    """

    def __init__(self, table: SurfaceTable, side: int) -> None:
        self._steps = torch.arange(side, dtype=torch.float64, device=table.device)
        self._masks = Grids.of([mask[None] for mask in table.masks], table.device)
        self._heights = Grids.of(_heights_and_slopes(table), table.device)

    def plane_inverse(self, placed: Placed, rows: Tensor, corners: Tensor, is_full: bool, is_masked: bool) -> Tensor:
        """Inverse depth of rectangles, negative outside of them."""
        numbers = placed.at(rows)
        inverse = self._forms(numbers.forms("inverse"), corners)[0]
        if is_full:
            return inverse
        for edge in self._forms(numbers.forms("edges"), corners):
            torch.minimum(inverse, edge, out=inverse)
        if is_masked:
            depth = inverse.reciprocal()
            x, y = (place * depth for place in self._forms(numbers.forms("lookup"), corners))
            alpha = self._masks.nearest(numbers.index("mask"), x.nan_to_num_(0, 0, 0), y.nan_to_num_(0, 0, 0))
            torch.minimum(inverse, alpha.sub_(127.5).mul_(OUTSIDE), out=inverse)
        return inverse

    def plane_look(self, placed: Placed, rows: Tensor, corners: Tensor) -> Look:
        """The look of planes."""
        numbers = placed.at(rows)
        depth = self._forms(numbers.forms("inverse"), corners)[0].reciprocal_()
        x, y = (place.mul_(depth) for place in self._forms(numbers.forms("lookup"), corners))
        footprint = (depth * depth).mul_(depth).mul_(2 * numbers.number("detail"))
        return Look(depth, x, y, footprint, numbers.number("gain"))

    def round_inverse(self, placed: Placed, rows: Tensor, corners: Tensor, is_sphere: bool) -> Tensor:
        """Inverse depth of the smaller root, or from inside the larger root, of a quadratic equation.

        It is negative where the ray misses the surface.
        """
        numbers = placed.at(rows)
        rays = self._forms(numbers.forms("rays"), corners)
        origin = numbers.vector("origin")
        axes = range(3 if is_sphere else 2)
        a = sum((rays[axis] * rays[axis] for axis in axes), torch.zeros_like(rays[0])).clamp_(min=1e-12)
        b = sum((rays[axis] * origin[axis] for axis in axes), torch.zeros_like(rays[0]))
        discriminant = (b * b).sub_(a * numbers.number("excess"))
        root = discriminant.clamp(min=0).sqrt_().mul_(-numbers.number("side"))
        depth = root.sub_(b).div_(a)
        inverse = torch.minimum(depth.reciprocal(), discriminant.mul_(OUTSIDE))
        torch.minimum(inverse, (1 / MIN_DEPTH_M - inverse).mul_(OUTSIDE), out=inverse)
        if not is_sphere:
            above = (rays[2] * depth).add_(origin[2]).abs_()
            torch.minimum(inverse, (numbers.number("half") - above).mul_(OUTSIDE), out=inverse)
        return inverse

    def round_look(self, placed: Placed, rows: Tensor, corners: Tensor, depth: Tensor, is_sphere: bool) -> Look:
        """The look of round surfaces at given depths."""
        numbers = placed.at(rows)
        rays = self._forms(numbers.forms("rays"), corners)
        points = [(ray * depth).add_(start) for ray, start in zip(rays, numbers.vector("origin"), strict=True)]
        scale_x, scale_y = numbers.vector("scale")
        x = torch.atan2(points[1], points[0]).mul_(scale_x)
        per_radius = numbers.number("side") / numbers.number("radius")
        if is_sphere:
            y = (points[2] / numbers.number("radius")).clamp_(-1, 1).acos_().mul_(scale_y)
        else:
            y = (numbers.number("half") - points[2]).mul_(scale_y)
        axes = range(3 if is_sphere else 2)
        normals = [points[axis] * per_radius for axis in axes]
        cosines = sum((normals[axis] * rays[axis] for axis in axes), torch.zeros_like(depth)).neg_()
        sun = numbers.vector("sun")
        facing = sum((normals[axis] * sun[axis] for axis in axes), torch.zeros_like(depth)).clamp_(min=0)
        gain = facing.add_(numbers.number("ambient"))
        return Look(depth, x, y, _footprint(numbers, depth, cosines), gain)

    def relief_inverse(self, placed: Placed, rows: Tensor, corners: Tensor) -> Tensor:
        """Inverse depth by marching along every 4th ray to the first crossing, then by the secant method for all rays.

        It is negative where the ray misses the surface.
        """
        numbers = placed.at(rows)
        rays = self._forms(numbers.forms("rays"), corners)
        slope = rays[2].clamp(min=_MIN_SLOPE)
        coarse = self._march(numbers, [ray[:, ::_MARCH_STRIDE, ::_MARCH_STRIDE] for ray in rays])
        depth = coarse.repeat_interleave(_MARCH_STRIDE, 1).repeat_interleave(_MARCH_STRIDE, 2)
        depth = depth[:, : slope.shape[1], : slope.shape[2]]
        before = self._below(numbers, rays, depth)
        last, depth = depth, depth - _limited(before / slope, 0.2 * depth)
        for _ in range(_NUM_SECANTS):
            here = self._below(numbers, rays, depth)
            last, before, depth = (
                depth,
                here,
                depth - _limited(_quotient(here * (depth - last), here - before), 0.2 * depth),
            )
        places = [(ray * depth).add_(start) for ray, start in zip(rays, numbers.vector("origin"), strict=True)]
        residual = (self._heights_at(numbers, *places[:2]) + places[2]).abs_()
        inverse = depth.reciprocal()
        tests = [depth.mul_(1e-3).sub_(residual), 1 / MIN_DEPTH_M - inverse, rays[2] - _MIN_SLOPE]
        for place, size in zip(places[:2], numbers.vector("size"), strict=True):
            tests += [place, size - place]
        for test in tests:
            torch.minimum(inverse, test.mul(OUTSIDE), out=inverse)
        return inverse

    def relief_look(self, placed: Placed, rows: Tensor, corners: Tensor, near: Tensor) -> Look:
        """The look of reliefs at the depths that are near given ones."""
        numbers = placed.at(rows)
        rays = self._forms(numbers.forms("rays"), corners)
        u, v, w = ((ray * near).add_(start) for ray, start in zip(rays, numbers.vector("origin"), strict=True))
        height, slope_u, slope_v = self._heights.linear(numbers.index("heights"), *self._cells(numbers, u, v), 3)
        # The distance below the surface is w + height; this is its derivative by depth.
        change = (slope_u * rays[0]).addcmul_(slope_v, rays[1]).add_(rays[2])
        step = _limited(_quotient(-(w + height), change), near * _MAX_REFINEMENT)
        depth = near + step
        sun = numbers.vector("sun")
        facing = -(slope_u * sun[0] + slope_v * sun[1] + sun[2]) / torch.sqrt(1 + slope_u**2 + slope_v**2)
        gain = facing.clamp_(min=0).add_(numbers.number("ambient"))
        u, v = u.addcmul_(rays[0], step), v.addcmul_(rays[1], step)
        x, y = (place * scale for place, scale in zip((u, v), numbers.vector("scale"), strict=True))
        return Look(depth, x, y, _footprint(numbers, depth, rays[2]), gain)

    def _forms(self, forms: Tensor, corners: Tensor) -> list[Tensor]:
        """Values [n, s, s] of forms [n, F, 3] in tiles with corners [n, 2]."""
        start = forms[..., 2] + forms[..., 0] * corners[:, :1] + forms[..., 1] * corners[:, 1:]
        down = (start[..., None] + forms[..., 1:2] * self._steps).float()[..., None]  # [n, F, s, 1]
        across = (forms[..., :1] * self._steps).float()[..., None, :]
        return [down[:, k] + across[:, k] for k in range(forms.shape[1])]

    def _march(self, numbers: PlacedRows, rays: list[Tensor]) -> Tensor:
        """Depth of the first of some points along each ray that is below the surface; the last one if there is none.

        The points of all rays of a tile are handled as a tile with more rows.
        """
        rows = rays[2].shape[1]
        steps = torch.linspace(0, 1, _NUM_MARCH_STEPS, device=rays[2].device).repeat_interleave(rows)[:, None]
        slope, height = rays[2].clamp(min=_MIN_SLOPE), numbers.vector("origin")[2]
        start, end = (-numbers.number("highest") - height) / slope, -height / slope
        first, last = (limit.repeat(1, _NUM_MARCH_STEPS, 1) for limit in (start, end))
        points = torch.lerp(first, last, steps)
        below = self._below(numbers, [ray.repeat(1, _NUM_MARCH_STEPS, 1) for ray in rays], points)
        is_above = below.view(torch.int32).bitwise_right_shift_(31)  # -1 for negative numbers
        crossing = points.sub_(is_above.float().mul_(OUTSIDE)).view(-1, _NUM_MARCH_STEPS, rows, rows).amin(1)
        return torch.minimum(crossing, end)

    def _below(self, numbers: PlacedRows, rays: list[Tensor], depth: Tensor) -> Tensor:
        """Distances in metres of the rays at a depth below a relief; negative above it."""
        u, v, w = ((ray * depth).add_(start) for ray, start in zip(rays, numbers.vector("origin"), strict=True))
        return w.add_(self._heights_at(numbers, u, v))

    def _heights_at(self, numbers: PlacedRows, u: Tensor, v: Tensor) -> Tensor:
        """Heights in metres at (u, v) on a relief."""
        return self._heights.linear(numbers.index("heights"), *self._cells(numbers, u, v), 1)[0]

    def _cells(self, numbers: PlacedRows, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Metres on a relief in cells of its heights."""
        columns, lines = numbers.vector("samples")
        width, height = numbers.vector("size")
        return u * (columns / width), v * (lines / height)


def _heights_and_slopes(table: SurfaceTable) -> list[Tensor]:
    """Heights, and slopes along u and v: [3, H, W] of each relief."""
    sizes = {int(row): size for row, size in zip(table.heights_rows, table.size_m, strict=True) if row >= 0}
    found = []
    for row, heights in enumerate(table.heights):
        slope_v, slope_u = torch.gradient(heights)
        per_m = [samples / side for samples, side in zip(heights.shape[::-1], sizes[row], strict=True)]
        found.append(torch.stack([heights, slope_u * per_m[0], slope_v * per_m[1]]))
    return found


def _footprint(numbers: PlacedRows, depth: Tensor, cosines: Tensor) -> Tensor:
    """Twice the square of the side of a pixel on a surface, in texels of the first level."""
    return (depth * depth).mul_(2 * numbers.number("detail")).div_(cosines.clamp(min=_MIN_COSINE))


def _quotient(value: Tensor, divisor: Tensor) -> Tensor:
    """A quotient, but 0 where the divisor is 0; overwrites the divisor."""
    return (value * divisor).div_(divisor.square_().add_(1e-14))


def _limited(step: Tensor, limit: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(step, limit), -limit)
