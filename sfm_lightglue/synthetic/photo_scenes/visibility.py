"""Visibility of points of one view in another, from exact depths."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, Float64Array
from sfm_lightglue.synthetic.photo_scenes.posed_camera import MIN_DEPTH_M, PosedCamera

_SAME_DEPTH = 0.02
"""Largest relative difference of depth of a visible point."""

_BEHIND = 0.04
"""Smallest relative difference of depth of an occluded point."""

_EDGE_CURVATURE = 0.01
"""Relative second difference of inverse depth above which a pixel is at an edge."""

_OFFSETS = np.array([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)])


def shared_view(
    depth0: Float32Array, camera0: PosedCamera, depth1: Float32Array, camera1: PosedCamera, step: int = 16
) -> float:
    """Overlap of two views: mean of the fractions of each image that are visible in the other.

    Only every `step`-th pixel along both axes is used.
    """
    shares = []
    for depth, camera, other_depth, other in ((depth0, camera0, depth1, camera1), (depth1, camera1, depth0, camera0)):
        y, x = np.mgrid[step // 2 : depth.shape[0] : step, step // 2 : depth.shape[1] : step]
        depths = depth[y, x].ravel()
        pixels = np.stack([x.ravel(), y.ravel()], axis=1) + 0.5
        visible, _ = visibility(*other.project(camera.unproject(pixels, depths)), other_depth)
        shares.append(float((visible & (depths > 0)).mean()) if len(depths) else 0.0)
    return (shares[0] + shares[1]) / 2


def depths_at(depth: Float32Array, pixels: AnyArray) -> tuple[Float64Array, BoolArray]:
    """Depths at pixels, and whether they are uncertain because of a nearby edge.

    Inverse depth is affine on planes, so it is interpolated. A large second difference is an edge.

    Args:
        depth: [H, W] metres, 0 where no surface is visible.
        pixels: [N, 2] within the image.

    Returns:
        Depths [N] in metres, 0 where no surface is visible; uncertain [N] bool.
    """
    inverse = np.where(depth > 0, 1 / np.maximum(depth, np.float32(MIN_DEPTH_M)), np.float32(0))
    height, width = depth.shape
    columns = np.clip(np.floor(pixels[:, 0]).astype(np.int64), 0, width - 1)
    rows = np.clip(np.floor(pixels[:, 1]).astype(np.int64), 0, height - 1)
    center = inverse[rows, columns].astype(np.float64)
    left, right, above, below = (
        inverse[np.clip(rows + dy, 0, height - 1), np.clip(columns + dx, 0, width - 1)].astype(np.float64)
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1))
    )
    inner = (columns > 0) & (columns < width - 1) & (rows > 0) & (rows < height - 1)
    bends = np.maximum(np.abs(left + right - 2 * center), np.abs(above + below - 2 * center))
    uncertain = inner & (bends > _EDGE_CURVATURE * center)
    offset_x, offset_y = pixels[:, 0] - columns - 0.5, pixels[:, 1] - rows - 0.5
    moved = center + (right - left) / 2 * offset_x + (below - above) / 2 * offset_y
    smooth = inner & ~uncertain & (moved > 0)
    interpolated = np.where(smooth, moved, center)
    return np.where(center > 0, 1 / np.maximum(interpolated, 1e-12), 0.0), uncertain


def outside_image(pixels: Float64Array, depths: Float64Array, camera: PosedCamera) -> BoolArray:
    """Whether points [N] are behind the camera or outside of its image."""
    out: BoolArray = (depths < MIN_DEPTH_M) | (pixels < 0).any(1) | (pixels >= np.asarray(camera.size)).any(1)
    return out


def visibility(pixels: Float64Array, depths: Float64Array, depth: Float32Array) -> tuple[BoolArray, BoolArray]:
    """Whether points at pixels [N, 2] with depths [N] are visible; whether they are occluded: [N] each.

    A point is visible if its depth is that of one of the nine pixels around it, and occluded if it is behind all of
    them.
    """
    height, width = depth.shape
    inside = (depths >= MIN_DEPTH_M) & (pixels >= 0).all(1) & (pixels < (width, height)).all(1)
    at = np.floor(np.where(inside[:, None], pixels, 0)).astype(np.int64)[:, None] + _OFFSETS
    around = depth[np.clip(at[..., 1], 0, height - 1), np.clip(at[..., 0], 0, width - 1)].astype(np.float64)
    behind = inside & ((around > 0) & (depths[:, None] > around * (1 + _BEHIND))).all(1)
    seen = inside & ((around > 0) & (np.abs(around - depths[:, None]) <= _SAME_DEPTH * around)).any(1)
    return seen, behind
