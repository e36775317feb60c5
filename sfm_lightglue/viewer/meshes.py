"""Meshes of the window as arrays: photos on frusta, squares of near points, and pictures on the screen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.drawing.scene import SEGMENTS_OF_FRUSTUM
from sfm_lightglue.drawing.viewpoint import Viewpoint
from sfm_lightglue.viewer.photos import atlas_side

MAX_SQUARES = 30_000
"""Near points that are drawn as squares; the nearest ones of more."""

MAX_SIZE_RATIO = 5.0
"""Side of the largest square, as a multiple of the size of far points."""

SCREEN_DEPTH = 0.006
"""Distance of pictures on the screen from the eye, in radii of the scene; nearer things are drawn over them."""

_INSET = 0.5
"""Half a texel is left out at each edge of a thumbnail, so that its neighbours do not shine through."""


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Triangles.

    Args:
        vertices: [V, 3].
        triangles: [T, 3] rows of vertices.
        uvs: [3 T, 2] places in the texture, (0, 0) in the upper left corner; empty without one.
        colors: [V, 3] red, green, blue in 0 to 1; empty with a texture.
    """

    vertices: AnyArray
    triangles: AnyArray
    uvs: AnyArray
    colors: AnyArray


def quads(corners: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Two triangles for each quad [Q, 4, 3] -> vertices [4 Q, 3] and triangles [2 Q, 3]."""
    first = 4 * np.arange(len(corners), dtype=np.int32)[:, None, None]
    triangles = first + np.array([(0, 1, 2), (0, 2, 3)], np.int32)
    return corners.reshape(-1, 3), triangles.reshape(-1, 3)


def thumbnail_mesh(frusta: Float32Array, texel_px: int) -> Mesh:
    """The images of cameras as quads with the thumbnails of an atlas as their texture.

    Args:
        frusta: [F, 8, 3], in the order of the atlas.
        texel_px: side of a thumbnail in the atlas in pixels.
    """
    vertices, front = quads(frusta[:, 1:5])
    triangles = np.concatenate([front, front[:, ::-1]])  # both sides: a camera is often seen from behind
    side = atlas_side(len(frusta))
    row, column = np.divmod(np.arange(len(frusta)), side)
    low, high = _INSET / texel_px, 1 - _INSET / texel_px
    corners = np.array([(low, low), (high, low), (high, high), (low, high)])
    uvs = (np.stack([column, row], axis=1)[:, None] + corners) / side
    return Mesh(vertices, triangles, uvs.reshape(-1, 2)[triangles.reshape(-1)], np.zeros((0, 3)))


def near_squares(
    points: Float32Array, view: Viewpoint, point_px: float, near_distance: float, height_px: int
) -> tuple[IndexArray, Float64Array]:
    """Points that are nearer to the eye than some distance, and so are drawn larger than the others.

    Args:
        points: [N, 3].
        view: of the window.
        point_px: size of the other points in pixels.
        near_distance: depth from which on all points have this size.
        height_px: of the window.

    Returns:
        At most `MAX_SQUARES` rows of points, and half the side of their squares in the world.
    """
    forward = view.cam_from_world.R[2].astype(np.float32)
    depths = points @ forward - np.float32(view.eye @ view.cam_from_world.R[2])
    rows = np.flatnonzero((depths > 0) & (depths < near_distance / 1.2))
    if len(rows) > MAX_SQUARES:
        rows = np.sort(rows[np.argpartition(depths[rows], MAX_SQUARES)[:MAX_SQUARES]])
    focal_length_px = height_px / 2 / np.tan(np.radians(view.vertical_fov_deg) / 2)
    sides_px = np.minimum(point_px * near_distance / depths[rows], MAX_SIZE_RATIO * point_px)
    half_sides: Float64Array = sides_px * depths[rows] / focal_length_px / 2
    return rows, half_sides


def square_mesh(points: Float32Array, half_sides: Float64Array, colors: AnyArray, view: Viewpoint) -> Mesh:
    """Squares that face the eye.

    Args:
        points: [N, 3] their centres.
        half_sides: [N] half the side of each.
        colors: [N, 3] in 0 to 1.
        view: of the window.
    """
    R = view.cam_from_world.R
    offsets = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) @ R[:2]  # [4, 3], counter-clockwise on the screen
    corners = points[:, None] + half_sides[:, None, None] * offsets
    vertices, triangles = quads(corners)
    return Mesh(vertices, triangles, np.zeros((0, 2)), np.repeat(colors, 4, axis=0))


def screen_mesh(view: Viewpoint, size: tuple[int, int], box: tuple[int, int, int, int], depth: float) -> Mesh:
    """A picture on the screen, as a quad in front of the eye.

    Args:
        view: of the window.
        size: (width, height) of the window in pixels.
        box: left, top, right and bottom of the picture in pixels.
        depth: of the quad.
    """
    focal_length_px = size[1] / 2 / np.tan(np.radians(view.vertical_fov_deg) / 2)
    left, top, right, bottom = box
    xy = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64) - np.array(size) / 2
    in_camera = np.column_stack([xy / focal_length_px, np.ones(4)]) * depth
    vertices, triangles = quads((view.cam_from_world.inverse() @ in_camera)[None])
    uvs = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
    return Mesh(vertices, triangles, uvs[triangles.reshape(-1)], np.zeros((0, 3)))


def frusta_lines(
    frusta: Float32Array, colors: AnyArray, picked: int | None = None
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """All frusta as one set of lines.

    Args:
        frusta: [F, 8, 3].
        colors: [F, 3] in 0 to 1.
        picked: row of a camera that is drawn in white, over the others; None for none.

    Returns:
        Vertices [8 F, 3], segments [10 F, 2] and their colours [10 F, 3].
    """
    first = 8 * np.arange(len(frusta), dtype=np.int32)
    segments = first[:, None, None] + np.array(SEGMENTS_OF_FRUSTUM, dtype=np.int32)
    shown = np.repeat(colors, len(SEGMENTS_OF_FRUSTUM), axis=0)
    if picked is not None:
        own = slice(picked * len(SEGMENTS_OF_FRUSTUM), (picked + 1) * len(SEGMENTS_OF_FRUSTUM))
        shown = shown.copy()
        shown[own] = PICKED
    return frusta.reshape(-1, 3), segments.reshape(-1, 2), shown


PICKED = np.array([1.0, 0.25, 0.9])
"""Colour of what was picked; it is seen on both backgrounds."""
