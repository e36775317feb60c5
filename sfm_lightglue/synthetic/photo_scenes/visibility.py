"""Visibility of points of one view in another, from exact depths, for many views at once.

V is the number of views, Q of ordered pairs of views, N of points of a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.synthetic.photo_scenes.posed_camera import MIN_DEPTH_M, PosedCamera

_SAME_DEPTH = 0.02
"""Largest relative difference of depth of a visible point."""

_BEHIND = 0.04
"""Smallest relative difference of depth of an occluded point."""

_EDGE_CURVATURE = 0.01
"""Relative second difference of inverse depth above which a pixel is at an edge."""

_NEIGHBOURS = (-1, 0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class DepthViews:
    """Depths and cameras of views of any sizes on one device. `of` makes it.

    Args:
        depths: [S] float32 metres, 0 where no surface is visible; the rows of all views, joined.
        starts: [V] int64 index of the first pixel of each view in `depths`.
        sizes: [V, 2] int64 (width, height) in pixels.
        image_sizes: the same on the CPU.
        focals_px: [V] float64.
        R: [V, 3, 3] float64 rotations of `cam_from_world`.
        t: [V, 3] float64 translations in metres.
    """

    depths: Tensor
    starts: Tensor
    sizes: Tensor
    image_sizes: tuple[tuple[int, int], ...]
    focals_px: Tensor
    R: Tensor
    t: Tensor

    @classmethod
    def of(cls, depths: Sequence[Tensor], cameras: Sequence[PosedCamera]) -> DepthViews:
        """Views with depths [H, W] each, which are on one device, and cameras."""
        numbers = np.array(
            [
                [*camera.size, camera.focal_px, *camera.cam_from_world.R.ravel(), *camera.cam_from_world.t]
                for camera in cameras
            ]
        )
        ends = np.cumsum([depth.numel() for depth in depths])
        starts = np.concatenate([[0], ends[:-1]])
        packed = torch.from_numpy(np.concatenate([numbers, starts[:, None]], axis=1)).to(depths[0].device)  # [V, 16]
        return cls(
            torch.cat([depth.reshape(-1) for depth in depths]),
            packed[:, 15].long(),
            packed[:, :2].long(),
            tuple(camera.size for camera in cameras),
            packed[:, 2],
            packed[:, 3:12].reshape(-1, 3, 3),
            packed[:, 12:15],
        )

    def __len__(self) -> int:
        return len(self.starts)

    def unproject(self, pixels: Tensor, depths: Tensor) -> Tensor:
        """Pixels [V, N, 2] with depths [V, N] in metres -> points [V, N, 3] float64 in the frame of each camera."""
        rays = (pixels.double() - self.sizes[:, None] / 2) / self.focals_px[:, None, None]
        return torch.cat([rays, torch.ones_like(rays[..., :1])], -1) * depths.double()[..., None]

    def project(self, points: Tensor, sources: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Points in the frames of some cameras, projected into others.

        Args:
            points: [Q, N, 3] in the frames of the cameras `sources`.
            sources: [Q] int64 indices of views.
            targets: [Q] int64 indices of views.

        Returns:
            Pixels [Q, N, 2] and depths [Q, N] float64 in metres. The pixels of points with a depth below `MIN_DEPTH_M`
            are meaningless.
        """
        R = self.R[targets] @ self.R[sources].mT
        t = self.t[targets] - (R @ self.t[sources][..., None])[..., 0]
        seen = torch.baddbmm(t[:, None], points, R.mT)
        depths = seen[..., 2]
        scaled = seen[..., :2] * (self.focals_px[targets, None] / depths.clamp(min=MIN_DEPTH_M))[..., None]
        return scaled + self.sizes[targets, None] / 2, depths

    def depth_at(self, views: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
        """Depths of pixels that are within the images; views, columns and rows are int64 of equal or broadcast shapes.

        Returns:
            float32 metres of their broadcast shape.
        """
        return self.depths[self.starts[views] + rows * self.sizes[views, 0] + columns]


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """How points [Q, N] are seen; bool each.

    Args:
        visible: whether the depth of a point is that of one of the nine pixels around it.
        occluded: whether it is behind all of them.
        outside: whether it is outside of the image or behind the camera.
    """

    visible: Tensor
    occluded: Tensor
    outside: Tensor


def depths_at(views: DepthViews, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Depths at pixels, and whether they are uncertain because of a nearby edge.

    Inverse depth is affine on planes, so it is interpolated. A large second difference is an edge.

    Args:
        views: V views.
        pixels: [V, N, 2] within the images.

    Returns:
        Depths [V, N] float64 in metres, 0 where no surface is visible; uncertain [V, N] bool.
    """
    view = torch.arange(len(views), device=pixels.device)[:, None]
    width, height = views.sizes[:, :1], views.sizes[:, 1:]
    columns = torch.minimum(pixels[..., 0].floor().long().clamp(min=0), width - 1)
    rows = torch.minimum(pixels[..., 1].floor().long().clamp(min=0), height - 1)

    def inverse_at(dx: int, dy: int) -> Tensor:
        x = torch.minimum((columns + dx).clamp(min=0), width - 1)
        y = torch.minimum((rows + dy).clamp(min=0), height - 1)
        depths = views.depth_at(view, x, y)
        return torch.where(depths > 0, 1 / depths.clamp(min=MIN_DEPTH_M), 0.0).double()

    center = inverse_at(0, 0)
    left, right, above, below = (inverse_at(dx, dy) for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)))
    inner = (columns > 0) & (columns < width - 1) & (rows > 0) & (rows < height - 1)
    bends = torch.maximum((left + right - 2 * center).abs(), (above + below - 2 * center).abs())
    uncertain = inner & (bends > _EDGE_CURVATURE * center)
    offsets = pixels.double() - torch.stack([columns, rows], -1) - 0.5
    moved = center + (right - left) / 2 * offsets[..., 0] + (below - above) / 2 * offsets[..., 1]
    interpolated = torch.where(inner & ~uncertain & (moved > 0), moved, center)
    return torch.where(center > 0, 1 / interpolated.clamp(min=1e-12), 0.0), uncertain


def sight(views: DepthViews, targets: Tensor, pixels: Tensor, depths: Tensor) -> Sight:
    """How points are seen in views.

    Args:
        views: all views.
        targets: [Q] int64 indices of the views in which points are looked for.
        pixels: [Q, N, 2] float64 in the views `targets`.
        depths: [Q, N] float64 in metres.
    """
    width, height = views.sizes[targets, None].unbind(-1)  # [Q, 1] each
    x, y = pixels.unbind(-1)
    inside = (depths >= MIN_DEPTH_M) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    offsets = torch.tensor(_NEIGHBOURS, device=pixels.device)[:, None, None]
    columns = torch.minimum((x.where(inside, 0.0).long() + offsets).clamp(min=0), width - 1)  # [3, Q, N]
    rows = torch.minimum((y.where(inside, 0.0).long() + offsets).clamp(min=0), height - 1)
    around = views.depth_at(targets[:, None], columns, rows[:, None]).flatten(0, 1).double()  # [9, Q, N]
    occluded = inside & (around.amin(0) > 0) & (depths > around.amax(0) * (1 + _BEHIND))
    is_same = (around > 0) & ((around - depths).abs() <= _SAME_DEPTH * around)
    return Sight(inside & is_same.any(0), occluded, ~inside)


def overlaps(views: DepthViews, pairs: Tensor, step: int = 16) -> Tensor:
    """Overlaps of pairs of views: mean of the fractions of each image that are visible in the other.

    Only every `step`-th pixel along both axes is used.

    Args:
        views: V views.
        pairs: [P, 2] int64 indices of views.
        step: in pixels.

    Returns:
        [P] float64 between 0 and 1.
    """
    sources, targets = torch.cat([pairs, pairs.flip(1)]).unbind(1)
    pixels, is_pixel = _grids(views, step)  # [V, G, 2], [V, G]
    view = torch.arange(len(views), device=pairs.device)[:, None]
    depths = views.depth_at(view, *pixels.unbind(-1)) * is_pixel
    points = views.unproject(pixels + 0.5, depths)
    seen = sight(views, targets, *views.project(points[sources], sources, targets))
    shares = (seen.visible & (depths > 0)[sources]).sum(1) / is_pixel.sum(1).clamp(min=1)[sources].double()
    return shares.view(2, -1).mean(0)


def _grids(views: DepthViews, step: int) -> tuple[Tensor, Tensor]:
    """Every `step`-th pixel (x, y) of each view [V, G, 2] int64, and which of them are not padding [V, G]."""
    start = step // 2
    most = max(len(range(start, width, step)) * len(range(start, height, step)) for width, height in views.image_sizes)
    numbers = torch.clamp((views.sizes - start + step - 1) // step, min=0)  # [V, 2] along x and y
    places = torch.arange(most, device=views.sizes.device)
    across = numbers[:, :1].clamp(min=1)
    is_pixel = places < numbers.prod(1)[:, None]
    pixels = torch.stack([places % across, places // across], -1) * step + start
    return pixels * is_pixel[..., None], is_pixel
