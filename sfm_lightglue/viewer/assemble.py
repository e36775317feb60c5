"""One or several models as the contents of a window: in place, side by side, or laid over each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float64Array, IndexArray
from sfm_lightglue.colmap.model_table import ModelTable
from sfm_lightglue.drawing.scene import (
    SEGMENTS_OF_FRUSTUM,
    ModelArrays,
    ViewScene,
    build_scene,
    frustum_lines,
    frustum_size,
)
from sfm_lightglue.drawing.viewpoint import near_mask, near_mask_of_models
from sfm_lightglue.geometry.transforms import Rigid3, Sim3
from sfm_lightglue.viewer.compare import Comparison
from sfm_lightglue.viewer.contents import REACH, Contents
from sfm_lightglue.viewer.models import ViewedModel, centers_by_name, path_segments

GAP = 0.3
"""Distance between models that stand side by side, in radii of the first one."""

MODEL_COLORS = np.array(
    [(0.35, 0.62, 1.0), (1.0, 0.60, 0.22), (0.45, 0.85, 0.45), (0.90, 0.45, 0.85), (0.95, 0.90, 0.40), (0.5, 0.9, 0.9)]
)
"""Colours of models that are told apart; a seventh one has the first again."""

AXIS_LENGTH = 0.25
"""Of the axes, in radii of the scene."""


def side_by_side(models: Sequence[ViewedModel], aspect: float) -> Contents:
    """One model in its own frame, or several of equal size in a row, each with its up direction upwards.

    Args:
        models: at least one.
        aspect: width divided by height of the picture.
    """
    first = models[0]
    scenes = [build_scene(model.table.arrays, aspect, model.up) for model in models]
    right = _rightwards(scenes[0], first.up)
    placed, offset = [Sim3.identity()], 0.0
    for model, scene in zip(models[1:], scenes[1:], strict=True):
        scale = _spread(scenes[0]) / _spread(scene)
        R = _upright_rotation(scene, model.up, right, first.up)
        offset += (2.0 + GAP) * scenes[0].radius
        target = scenes[0].viewpoint.target + offset * right
        placed.append(Sim3(scale, R, target - scale * R @ scene.viewpoint.target))
    return _assembled(models, placed, aspect, first.up, None)


def overlaid(first: ViewedModel, second: ViewedModel, comparison: Comparison, aspect: float) -> Contents:
    """Two models of one scene in the frame of the first, with a line between the two centres of each common image.

    Args:
        first: the reference.
        second: is moved by the similarity of the comparison.
        comparison: of both.
        aspect: width divided by height of the picture.
    """
    placed = [Sim3.identity(), comparison.first_from_second]
    return _assembled([first, second], placed, aspect, first.up, comparison)


def _spread(scene: ViewScene) -> float:
    """Size of a scene whatever its frame is: the distance from the middle that nine tenths do not exceed."""
    positions = np.concatenate([scene.points[near_mask(scene.points)], scene.centers[near_mask(scene.centers)]])
    return float(np.quantile(np.linalg.norm(positions - positions.mean(axis=0), axis=1), 0.9)) or 1.0


def _rightwards(scene: ViewScene, up: Float64Array) -> Float64Array:
    """The horizontal unit vector [3] that points to the right in the first view."""
    right = scene.viewpoint.cam_from_world.R[0]
    level = right - (right @ up) * up
    unit: Float64Array = level / np.linalg.norm(level)
    return unit


def _upright_rotation(scene: ViewScene, up: Float64Array, right: Float64Array, first_up: Float64Array) -> Float64Array:
    """The rotation that takes up and the rightward direction of a scene to those of the first one."""
    own_right = _rightwards(scene, up)
    own = np.stack([own_right, up, np.cross(own_right, up)], axis=1)
    target = np.stack([right, first_up, np.cross(right, first_up)], axis=1)
    R: Float64Array = target @ own.T
    return R


def moved(arrays: ModelArrays, world_from_model: Sim3) -> ModelArrays:
    """The same points and poses in another frame."""
    R = world_from_model.R
    poses = [Rigid3(pose.R @ R.T, -pose.R @ R.T @ (world_from_model @ pose.center)) for pose in arrays.poses]
    return replace(arrays, points=world_from_model @ arrays.points, poses=tuple(poses))


def _assembled(
    models: Sequence[ViewedModel],
    placed: Sequence[Sim3],
    aspect: float,
    up: Float64Array,
    comparison: Comparison | None,
) -> Contents:
    tables = [
        replace(model.table, arrays=moved(model.table.arrays, where)) if where is not placed[0] else model.table
        for model, where in zip(models, placed, strict=True)
    ]
    joined = _joined([table.arrays for table in tables])
    model_of_point = np.repeat(np.arange(len(tables)), [len(table.arrays.points) for table in tables])
    model_of_camera = np.repeat(np.arange(len(tables)), [len(table.names) for table in tables])
    # Outliers of each model: beside a large model, all of a small one would be outliers.
    centers = np.concatenate([_centers(table) for table in tables])
    near = near_mask_of_models(joined.points, model_of_point), near_mask_of_models(centers, model_of_camera)
    scene = build_scene(joined, aspect, up, near)
    frame = _Frame(scene)
    is_kept = np.asarray(np.isfinite(joined.points).all(axis=1))
    local_points = frame.local(joined.points)
    is_kept &= np.linalg.norm(np.where(is_kept[:, None], local_points, 0.0), axis=1) <= REACH
    # The distances between the cameras of one model count: those of compared models nearly coincide.
    length = max((frustum_size(_centers(table), scene.radius) for table in tables if table.names), default=1.0)
    frusta = frustum_lines(joined.poses, joined.corner_rays, length)
    local_frusta = frame.local(frusta.vertices).reshape(-1, 8, 3)
    has_camera = np.linalg.norm(local_frusta[:, 0], axis=1) <= REACH
    own_color = comparison is not None or len(tables) > 1
    colors = (
        MODEL_COLORS[model_of_camera % len(MODEL_COLORS)] if own_color else frusta.colors[:: len(SEGMENTS_OF_FRUSTUM)]
    )
    paths = [
        frame.local(path_segments(centers_by_name(table)))
        for table, model in zip(tables, models, strict=True)
        if model.is_sequence
    ]
    lines, values = _error_lines(tables, comparison)
    return Contents(
        points=local_points[is_kept].astype(np.float32),
        colors=_colors(tables)[is_kept],
        model_of_point=model_of_point[is_kept],
        frusta=local_frusta[has_camera].astype(np.float32),
        camera_colors=colors[has_camera].astype(np.float32),
        model_of_camera=model_of_camera[has_camera],
        names=_texts([name for table in tables for name in table.names], has_camera),
        files=_texts([_file(model, name) for model in models for name in model.table.names], has_camera),
        image_sizes=np.array([camera.size for table in tables for camera in table.cameras], np.int32).reshape(-1, 2)[
            has_camera
        ],
        **_tracks(tables, is_kept, has_camera),
        path=np.concatenate([np.zeros((0, 3)), *paths]).astype(np.float32),
        errors=frame.local(lines).astype(np.float32),
        error_values=values,
        axes=frame.axes(),
        model_names=np.array([model.name for model in models]),
        eye=frame.local(scene.viewpoint.eye),
        up=scene.viewpoint.up,
        vertical_fov_deg=np.array(scene.viewpoint.vertical_fov_deg),
    )


class _Frame:
    """The frame of the renderer."""

    def __init__(self, scene: ViewScene) -> None:
        self._target, self._radius = scene.viewpoint.target, scene.radius

    def local(self, positions: Float64Array) -> Float64Array:
        found: Float64Array = (positions - self._target) / self._radius
        return found

    def axes(self) -> AnyArray:
        """The axes at the origin of the world, or at the target if that is far away."""
        origin = self.local(np.zeros(3))
        if np.linalg.norm(origin) > 2.0:
            origin = np.zeros(3)
        ends = [(origin, origin + AXIS_LENGTH * axis) for axis in np.eye(3)]
        return np.array(ends, np.float32).reshape(6, 3)


def _joined(arrays: Sequence[ModelArrays]) -> ModelArrays:
    return ModelArrays(
        np.concatenate([one.points for one in arrays]),
        np.concatenate([one.point_colors for one in arrays]),
        tuple(itertools.chain.from_iterable(one.poses for one in arrays)),
        tuple(itertools.chain.from_iterable(one.corner_rays for one in arrays)),
    )


def _colors(tables: Sequence[ModelTable]) -> AnyArray:
    """Colours of all points [N, 3]; a model that has none is light grey."""
    parts = []
    for table in tables:
        colors = table.arrays.point_colors
        parts.append(colors if colors.any() else np.full_like(colors, (204, 212, 222)))
    return np.concatenate(parts)


def _centers(table: ModelTable) -> Float64Array:
    return np.array([pose.center for pose in table.arrays.poses]).reshape(-1, 3)


def _texts(values: Sequence[str], mask: BoolArray) -> AnyArray:
    return np.array([value for value, is_kept in zip(values, mask, strict=True) if is_kept], dtype=np.str_)


def _file(model: ViewedModel, name: str) -> str:
    return "" if model.images is None else str(model.images / name)


def _error_lines(tables: Sequence[ModelTable], comparison: Comparison | None) -> tuple[Float64Array, Float64Array]:
    """The lines between the two centres of each common image [E, 3], and their lengths [E / 2]."""
    if comparison is None:
        return np.zeros((0, 3)), np.zeros(0)
    centers = [dict(zip(table.names, _centers(table), strict=True)) for table in tables]
    names = comparison.names
    ends = [(centers[0][name], centers[1][name]) for name in names]
    return np.array(ends).reshape(-1, 3), np.array([comparison.aligned.center_errors[name] for name in names])


def _tracks(tables: Sequence[ModelTable], is_kept: BoolArray, has_camera: BoolArray) -> dict[str, AnyArray]:
    """The observations by point, the keypoints without a point by camera, and the mean error of each point."""
    first_point = np.cumsum([0, *(len(table.arrays.points) for table in tables)])
    first_camera = np.cumsum([0, *(len(table.names) for table in tables)])
    each = list(zip(tables, first_point, first_camera, strict=False))
    point_idx = np.concatenate([table.point_idx + start for table, start, _ in each])
    camera_idx = np.concatenate([table.image_idx + start for table, _, start in each])
    loose_idx = np.concatenate([table.loose_image_idx + start for table, _, start in each])
    row_of_point, row_of_camera = np.cumsum(is_kept) - 1, np.cumsum(has_camera) - 1
    used = np.flatnonzero(is_kept[point_idx] & has_camera[camera_idx])
    used = used[np.argsort(point_idx[used], kind="stable")]
    rows = row_of_point[point_idx[used]]
    residuals = np.concatenate([table.residuals_px for table in tables])[used]
    is_loose = has_camera[loose_idx]
    return {
        "track_starts": np.searchsorted(rows, np.arange(int(is_kept.sum()) + 1)).astype(np.int64),
        "track_cameras": row_of_camera[camera_idx[used]].astype(np.int32),
        "track_xy": np.concatenate([table.xy for table in tables])[used].astype(np.float32),
        "track_px": residuals.astype(np.float32),
        "loose_starts": np.searchsorted(row_of_camera[loose_idx[is_loose]], np.arange(int(has_camera.sum()) + 1)),
        "loose_xy": np.concatenate([table.loose_xy for table in tables])[is_loose].astype(np.float32),
        "errors_px": mean_of_each(rows, residuals, int(is_kept.sum())).astype(np.float32),
    }


def mean_of_each(rows: IndexArray, values: Float64Array, number: int) -> Float64Array:
    """Mean of the finite values [T] of each row [number]; NaN for a row without one."""
    is_finite = np.isfinite(values)
    sums = np.bincount(rows[is_finite], values[is_finite], number)
    counts = np.bincount(rows[is_finite], minlength=number)
    means: Float64Array = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means
