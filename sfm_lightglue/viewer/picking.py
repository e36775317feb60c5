"""What lies under the mouse: a camera, by its frustum, or a point, by its projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float32Array, Float64Array
from sfm_lightglue.drawing.viewpoint import Viewpoint

POINT_RADIUS_PX = 8.0
"""Largest distance of a point from the mouse."""

CAMERA_RADIUS_PX = 10.0
"""Largest distance of the centre of a camera from the mouse, if the ray misses its frustum, which may be tiny."""

SAME_PLACE_PX = 2.0
"""Of points whose distances from the mouse differ by less than this, the one that is nearest to the eye is picked."""

_TRIANGLES = np.array([(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 1), (1, 2, 3), (1, 3, 4)])
"""The faces of a frustum, as rows of its vertices."""

_NUM_POINTS_AT_ONCE = 500_000


@dataclass(frozen=True, slots=True)
class Picked:
    """A camera or a point.

    Args:
        kind: of the thing.
        row: of it in the contents.
    """

    kind: Literal["camera", "point"]
    row: int


def pick(
    view: Viewpoint, size: tuple[int, int], xy: tuple[float, float], points: Float32Array, frusta: Float32Array
) -> Picked | None:
    """The camera or point at a pixel; of both, the one that is nearer to the eye. None where neither is.

    Args:
        view: of the window.
        size: (width, height) of the window in pixels.
        xy: the pixel, the corner of the window at (0, 0).
        points: [N, 3] that are drawn.
        frusta: [F, 8, 3] that are drawn; empty if cameras are hidden.
    """
    camera = pick_camera(view, size, xy, frusta)
    point = pick_point(view, size, xy, points)
    if camera is None or point is None:
        found = camera or point
        return None if found is None else Picked("camera" if camera is not None else "point", found[0])
    return Picked("camera", camera[0]) if camera[1] <= point[1] else Picked("point", point[0])


def pixel_ray(view: Viewpoint, size: tuple[int, int], xy: tuple[float, float]) -> Float64Array:
    """The direction [3] from the eye through a pixel; its component along the viewing direction is 1."""
    focal_length_px = size[1] / 2 / np.tan(np.radians(view.vertical_fov_deg) / 2)
    in_camera = np.array([(xy[0] - size[0] / 2) / focal_length_px, (xy[1] - size[1] / 2) / focal_length_px, 1.0])
    ray: Float64Array = view.cam_from_world.R.T @ in_camera
    return ray


def pick_camera(
    view: Viewpoint, size: tuple[int, int], xy: tuple[float, float], frusta: Float32Array
) -> tuple[int, float] | None:
    """The nearest camera at a pixel, and its depth; None if there is none."""
    if len(frusta) == 0:
        return None
    depths = ray_depths(view.eye, pixel_ray(view, size, xy), frusta)
    if np.isfinite(depths).any():
        row = int(np.argmin(depths))
        return row, float(depths[row])
    pixels, center_depths = view.project(frusta[:, 0].astype(np.float64), size)
    return _nearest(pixels, center_depths, xy, CAMERA_RADIUS_PX)


def ray_depths(eye: Float64Array, ray: Float64Array, frusta: Float32Array) -> Float64Array:
    """How far along a ray its first hit of each frustum is.

    Args:
        eye: [3] where the ray begins.
        ray: [3] its direction.
        frusta: [F, 8, 3].

    Returns:
        [F] multiples of the length of the direction; infinity for a frustum that is missed or that has the eye inside.

    Source: Möller and Trumbore, Fast, Minimum Storage Ray/Triangle Intersection, 1997.
    """
    corners = frusta[:, _TRIANGLES].astype(np.float64)  # [F, 6, 3 corners, 3]
    edge1, edge2 = corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    p = np.cross(ray, edge2)
    determinant = (edge1 * p).sum(axis=-1)
    offset = eye - corners[:, :, 0]
    q = np.cross(offset, edge1)
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v, depth = (offset * p).sum(-1) / determinant, q @ ray / determinant, (q * edge2).sum(-1) / determinant
        is_hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (depth > 0)
    hits = np.where(is_hit, depth, np.inf)
    is_inside = is_hit.sum(axis=1) == 1  # a ray that enters also leaves
    found: Float64Array = np.where(is_inside, np.inf, hits.min(axis=1))
    return found


def pick_point(
    view: Viewpoint, size: tuple[int, int], xy: tuple[float, float], points: Float32Array
) -> tuple[int, float] | None:
    """The point whose projection is nearest to a pixel, and its depth; None if none is near."""
    best: tuple[float, float, int] | None = None
    for start in range(0, len(points), _NUM_POINTS_AT_ONCE):
        pixels, depths = view.project(points[start : start + _NUM_POINTS_AT_ONCE], size)
        found = _nearest(pixels, depths, xy, POINT_RADIUS_PX)
        if found is None:
            continue
        row, depth = found
        step = round(float(np.linalg.norm(pixels[row] - xy)) / SAME_PLACE_PX)
        best = min(best or (np.inf, np.inf, 0), (step, depth, start + row))
    return None if best is None else (best[2], best[1])


def _nearest(pixels: AnyArray, depths: AnyArray, xy: tuple[float, float], radius_px: float) -> tuple[int, float] | None:
    """The row that is nearest to a pixel, within a radius; of about equally near ones, the one with least depth."""
    distances = np.linalg.norm(pixels - np.array(xy), axis=1)
    near = np.flatnonzero(distances <= radius_px)  # NaN is not
    if len(near) == 0:
        return None
    near = near[distances[near] <= distances[near].min() + SAME_PLACE_PX]
    row = int(near[np.argmin(depths[near])])
    return row, float(depths[row])


def in_view(view: Viewpoint, size: tuple[int, int], points: Float32Array) -> AnyArray:
    """Which points [N] are in the picture."""
    R, t = view.cam_from_world.R.astype(np.float32), view.cam_from_world.t.astype(np.float32)
    half_height = np.float32(np.tan(np.radians(view.vertical_fov_deg) / 2))
    half_width = half_height * np.float32(size[0] / size[1])
    masks = [np.zeros(0, np.bool_)]
    for start in range(0, len(points), _NUM_POINTS_AT_ONCE):
        in_camera = points[start : start + _NUM_POINTS_AT_ONCE] @ R.T + t
        x, y, z = in_camera.T
        masks.append((z > 0) & (np.abs(x) <= half_width * z) & (np.abs(y) <= half_height * z))
    return np.concatenate(masks)
