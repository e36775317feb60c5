"""What is drawn of the contents, by name, for a look: lines and meshes. Points are apart: there are many of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, IndexArray, UInt8Array
from sfm_lightglue.drawing.scene import point_size_px
from sfm_lightglue.drawing.viewpoint import Viewpoint, near_mask_of_models
from sfm_lightglue.viewer.contents import Contents
from sfm_lightglue.viewer.look import BACKGROUNDS, Look
from sfm_lightglue.viewer.meshes import PICKED, Mesh, frusta_lines, thumbnail_mesh
from sfm_lightglue.viewer.orbit import fitted_for_turn, turntable
from sfm_lightglue.viewer.photos import THUMBNAIL_PX, atlas
from sfm_lightglue.viewer.point_colors import error_colors

PATH_COLORS = {"dark": (1.0, 1.0, 1.0), "light": (0.15, 0.15, 0.2)}

AXIS_COLORS = np.array([(0.95, 0.2, 0.2), (0.2, 0.85, 0.25), (0.3, 0.5, 1.0)])

_LIGHT_FACTOR = 0.72
"""Bright colours of frusta are darker on a light background."""


def first_view(contents: Contents) -> Viewpoint:
    """The viewpoint of the contents."""
    return Viewpoint(contents.eye, np.zeros(3), contents.up, float(contents.vertical_fov_deg))


def turn_views(contents: Contents, size: tuple[int, int], num_pictures: int) -> list[Viewpoint]:
    """Viewpoints of a turn around the scene; outliers may be outside of the pictures.

    Args:
        contents: of the scene.
        size: (width, height) of the pictures.
        num_pictures: of the turn; one is the first view.
    """
    view = first_view(contents)
    if num_pictures == 1:
        return [view]
    rows_of_models = [np.flatnonzero(contents.model_of_point == model) for model in range(len(contents.model_names))]
    rows = np.concatenate([rows[:: 1 + len(rows) // _NUM_FITTED] for rows in rows_of_models])
    points = contents.points[rows].astype(np.float64)
    near_points = points[near_mask_of_models(points, contents.model_of_point[rows])]
    near_cameras = near_mask_of_models(contents.centers.astype(np.float64), contents.model_of_camera)
    positions = np.concatenate([near_points, contents.frusta[near_cameras].reshape(-1, 3).astype(np.float64)])
    return turntable(fitted_for_turn(view, positions, size[0] / size[1]), num_pictures)


_NUM_FITTED = 20_000
"""Points of a model that must be in the pictures of a turn; evenly spaced ones of more."""


def points_shown(contents: Contents, look: Look) -> BoolArray:
    """Which points [N] belong to models that are not hidden."""
    hidden: BoolArray = ~np.isin(contents.model_of_point, sorted(look.hidden_models))
    return hidden


def cameras_shown(contents: Contents, look: Look) -> IndexArray:
    """Rows of the cameras that are drawn."""
    if not look.cameras:
        return np.zeros(0, np.int64)
    return np.flatnonzero(~np.isin(contents.model_of_camera, sorted(look.hidden_models)))


def point_px(num_points: int, look: Look, height_px: int) -> float:
    """Side of a far point in pixels: points are larger if there are few of them, and in a larger picture."""
    return max(point_size_px(num_points) * look.point_factor * height_px / 960, 1.0)


def near_distance(contents: Contents) -> float:
    """Depth from which on points have the same size: that of the middle of the scene in the first view."""
    return float(np.linalg.norm(contents.eye))


Lines = tuple[AnyArray, AnyArray, AnyArray]
"""Vertices [V, 3], segments [S, 2] and their colours [S, 3]."""


def camera_lines(contents: Contents, look: Look, rows: IndexArray, picked: int | None) -> Lines:
    """The frusta of some cameras.

    Args:
        contents: with the cameras.
        look: of the window.
        rows: of the cameras.
        picked: row of the camera that is marked; None for none.
    """
    colors = contents.camera_colors[rows] * (_LIGHT_FACTOR if look.background == "light" else 1.0)
    place = np.flatnonzero(rows == picked) if picked is not None else np.zeros(0, np.int64)
    return frusta_lines(contents.frusta[rows], colors, int(place[0]) if len(place) > 0 else None)


def other_lines(contents: Contents, look: Look) -> dict[str, Lines]:
    """The trajectory, the errors between two models and the axes, as far as they are drawn."""
    parts: dict[str, Lines] = {}
    if look.path and len(contents.path) > 0:
        parts["path"] = _segments(contents.path, np.array([PATH_COLORS[look.background]]))
    if look.errors and len(contents.errors) > 0 and not look.hidden_models:
        parts["errors"] = _segments(contents.errors, error_colors(contents.error_values))
    if look.axes:
        parts["axes"] = _segments(contents.axes, AXIS_COLORS)
    return parts


def _segments(ends: AnyArray, colors: AnyArray) -> Lines:
    number = len(ends) // 2
    return ends, np.arange(2 * number).reshape(-1, 2), np.broadcast_to(colors, (number, 3))


def thumbnails_of(contents: Contents, thumbnails: Mapping[int, UInt8Array]) -> tuple[Mesh, UInt8Array] | None:
    """The photos of some cameras on their frusta, and their texture; None if there are none."""
    if not thumbnails:
        return None
    rows = np.array(sorted(thumbnails))
    return thumbnail_mesh(contents.frusta[rows], THUMBNAIL_PX), atlas([thumbnails[row] for row in rows.tolist()])


def track_lines(contents: Contents, point: int, cameras: IndexArray) -> Lines:
    """Lines from a point to the cameras that see it."""
    ends = np.empty((2 * len(cameras), 3), np.float32)
    ends[0::2], ends[1::2] = contents.points[point], contents.centers[cameras]
    return _segments(ends, PICKED[None])


def background(look: Look) -> tuple[float, float, float]:
    """Red, green, blue in 0 to 1."""
    return BACKGROUNDS[look.background]
