"""A model in few bytes: positions in 16 bits, keypoints in 16 bits relative to their photo, as base64."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array, IndexArray
from sfm_lightglue.colmap.model_table import ModelTable
from sfm_lightglue.drawing.scene import ViewScene, build_scene, order_colors
from sfm_lightglue.drawing.viewpoint import near_mask
from sfm_lightglue.images.orientation import turn_forward

FAR_FACTOR = 10.0
"""Points farther away than this multiple of the usual distance are not drawn: they would make the others coarse."""

MAX_RESIDUAL_PX = 5.1
"""Largest residual that is told apart: 255 steps of 0.02 px."""

MAX_LOOSE_KEYPOINTS = 500
"""Keypoints without a point that are drawn in a photo; of more, evenly spaced ones."""

_LEVELS = 65535

MAX_SHORT_ROW = 65535
"""Largest row of an image that is written in 16 bits; reports of more images have rows of 32 bits."""


@dataclass(frozen=True, slots=True)
class PackingLimits:
    """How much of a model goes into a report."""

    max_points: int = 60_000
    """Points that are drawn; of more, evenly spaced ones."""

    max_observations: int = 400_000
    """Observations of these points; more reduce the number of points."""


def packed_model(
    table: ModelTable,
    idx_from_name: Mapping[str, int],
    turns_from_name: Mapping[str, int],
    limits: PackingLimits,
) -> dict[str, Any]:
    """Plain values for the script of the page.

    Args:
        table: the model.
        idx_from_name: row of each image in the report.
        turns_from_name: clockwise quarter turns that make each stored image upright.
        limits: of the size.
    """
    scene = build_scene(table.arrays, aspect=1.5)
    kept = _kept_points(table, limits)
    positions, offset, scale = _quantised(scene.points[kept])
    is_kept, row_of_point = _rows(kept, len(table.arrays.points))
    chosen = np.flatnonzero(is_kept[table.point_idx])
    by_point = chosen[np.argsort(row_of_point[table.point_idx[chosen]], kind="stable")]
    rows = row_of_point[table.point_idx[by_point]]
    image_rows = np.array([idx_from_name[name] for name in table.names], np.int64)
    turns = np.array([turns_from_name.get(name, 0) for name in table.names], np.int64)
    sizes = np.array([camera.size for camera in table.cameras], np.float64).reshape(-1, 2)
    residuals = np.nan_to_num(table.residuals_px[by_point], nan=MAX_RESIDUAL_PX)
    loose = _evenly_of_each(table.loose_image_idx, len(table.names))
    loose_image_idx = table.loose_image_idx[loose]
    row_bits = 16 if image_rows.max(initial=0) <= MAX_SHORT_ROW else 32
    row_type = f"<u{row_bits // 8}"
    return {
        "num_points": len(kept),
        "num_all_points": len(table.arrays.points),
        "offset": _rounded(offset),
        "scale": float(scale),
        "xyz": _base64(positions.astype("<i2")),
        "rgb": _base64(np.round(255 * scene.point_colors[kept]).astype(np.uint8)),
        "track_starts": _base64(np.searchsorted(rows, np.arange(len(kept) + 1)).astype("<u4")),
        "row_bits": row_bits,
        "track_images": _base64(image_rows[table.image_idx[by_point]].astype(row_type)),
        "track_xy": _upright_xy(table.xy[by_point], table.image_idx[by_point], sizes, turns),
        "track_px": _base64(np.clip(np.round(residuals / MAX_RESIDUAL_PX * 255), 0, 255).astype(np.uint8)),
        "loose_images": _base64(image_rows[loose_image_idx].astype(row_type)),
        "loose_xy": _upright_xy(table.loose_xy[loose], loose_image_idx, sizes, turns),
        "max_residual_px": MAX_RESIDUAL_PX,
        "scale_px": _scale_px(table.residuals_px),
        "cameras": _cameras(scene, table, image_rows, turns),
        "view": {
            "eye": _rounded(scene.viewpoint.eye),
            "target": _rounded(scene.viewpoint.target),
            "up": _rounded(scene.viewpoint.up),
            "fov": scene.viewpoint.vertical_fov_deg,
        },
        "radius": scene.radius,
    }


def _kept_points(table: ModelTable, limits: PackingLimits) -> IndexArray:
    """Rows of the points that are drawn, ascending."""
    points = table.arrays.points
    usable = np.flatnonzero(np.isfinite(points).all(axis=1))
    usable = usable[near_mask(points[usable], FAR_FACTOR)]
    mean_length = len(table.point_idx) / max(len(points), 1)
    most = min(limits.max_points, int(limits.max_observations / max(mean_length, 1)))
    if len(usable) > most:
        usable = usable[np.arange(most) * len(usable) // most]
    return usable


def _rows(kept: IndexArray, num_points: int) -> tuple[AnyArray, IndexArray]:
    is_kept = np.zeros(num_points, np.bool_)
    is_kept[kept] = True
    row_of_point = np.zeros(num_points, np.int64)
    row_of_point[kept] = np.arange(len(kept))
    return is_kept, row_of_point


def _quantised(points: Float64Array) -> tuple[AnyArray, Float64Array, float]:
    """Positions as integers of 16 bits, and the offset and the scale that give them back."""
    if len(points) == 0:
        return np.zeros((0, 3)), np.zeros(3), 1.0
    lowest, highest = points.min(axis=0), points.max(axis=0)
    offset = (lowest + highest) / 2
    scale = float((highest - lowest).max()) / 2 / 32767 or 1.0
    return np.round((points - offset) / scale), offset, scale


def _upright_xy(xy: Float64Array, image_idx: IndexArray, sizes: Float64Array, turns: IndexArray) -> str:
    """Keypoints [T, 2] of stored images -> fractions of the upright photo in 16 bits, as base64."""
    fractions = xy / sizes[image_idx]
    for quarter_turns in (1, 2, 3):
        turned = turns[image_idx] == quarter_turns
        fractions[turned] = turn_forward(fractions[turned], quarter_turns, (1.0, 1.0))
    return _base64(np.clip(np.round(fractions * _LEVELS), 0, _LEVELS).astype("<u2"))


def packed_xy(xy: AnyArray, size: tuple[int, int], quarter_turns: int) -> str:
    """Keypoints [M, 2] of one stored image in the same form."""
    image_idx = np.zeros(len(xy), np.int64)
    sizes = np.array([size], np.float64)
    return _upright_xy(xy.astype(np.float64), image_idx, sizes, np.array([quarter_turns]))


def _scale_px(residuals_px: Float64Array) -> float:
    """The residual of the last colour: a round number that 95 % of the residuals do not exceed."""
    finite = residuals_px[np.isfinite(residuals_px)]
    high = float(np.quantile(finite, 0.95)) if len(finite) > 0 else 1.0
    return next((step for step in (0.25, 0.5, 1.0, 2.0) if high <= step), 5.0)


def _evenly_of_each(image_idx: IndexArray, num_images: int) -> IndexArray:
    """Rows of at most `MAX_LOOSE_KEYPOINTS` entries of each image; `image_idx` is ascending."""
    starts = np.searchsorted(image_idx, np.arange(num_images + 1))
    rows = [np.zeros(0, np.int64)]
    for start, stop in itertools.pairwise(starts):
        number = min(int(stop - start), MAX_LOOSE_KEYPOINTS)
        rows.append(start + np.arange(number) * (stop - start) // max(number, 1))
    return np.concatenate(rows)


def _cameras(scene: ViewScene, table: ModelTable, image_rows: IndexArray, turns: IndexArray) -> list[dict[str, Any]]:
    """Centre, the corners of the upright photo, and a colour of each camera."""
    vertices = scene.frusta.vertices.reshape(-1, 8, 3)
    cameras = []
    for row, color in enumerate(np.round(255 * order_colors(len(table.names))).astype(int)):
        # Turned clockwise once, the lower left corner becomes the upper left one.
        corners = np.roll(vertices[row, 1:5], turns[row], axis=0)
        cameras.append(
            {
                "image": int(image_rows[row]),
                "center": _rounded(vertices[row, 0]),
                "corners": [_rounded(corner) for corner in corners],
                "color": [int(value) for value in color],
            }
        )
    return cameras


def _rounded(values: Float64Array) -> list[float]:
    return [float(f"{value:.7g}") for value in values]


def _base64(values: AnyArray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
