"""Kernels of points whose cameras are known."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.kernels.arguments import pointer


def best_positions(
    library: ctypes.CDLL,
    point: IndexArray,
    columns: tuple[Float64Array, Float64Array, Float64Array, Float64Array],
    xyz: Float64Array,
    loss: float | None,
    is_short: float,
    max_steps: int,
) -> Float64Array:
    """Points after Gauss-Newton steps.

    Args:
        library: the compiled kernels.
        point: [O] row of the point of each observation.
        columns: R [3, 3, O], t [3, O], xy [2, O] and scale ([O] or [2, 2, O]) of `PointViews`.
        xyz: [P, 3] from which the search begins.
        loss: scale of a soft L1 loss; None for squared errors.
        is_short: a point ends with a step that changes all of its errors together by no more than this.
        max_steps: of a point.

    Raises:
        MemoryError: if there is not enough.
    """
    num, R, t, xy, scale = len(point), *(np.ascontiguousarray(each, np.float64) for each in columns)
    shapes = [each.shape for each in (R, t, xy)]
    if shapes != [(3, 3, num), (3, num), (2, num)] or scale.shape not in ((num,), (2, 2, num)):
        raise ValueError(f"columns of {num} observations cannot have the shapes {[*shapes, scale.shape]}")
    if num > 0 and not 0 <= point.min() <= point.max() < len(xyz):
        raise ValueError(f"observations of points {point.min()} to {point.max()} do not fit {len(xyz)} points")
    moved = np.array(xyz, np.float64, order="C")
    rows = np.ascontiguousarray(point, np.int64)
    failed = library.best_positions(
        ctypes.c_int64(len(xyz)),
        ctypes.c_int64(num),
        pointer(rows, np.int64),
        *(pointer(each, np.float64) for each in (R, t, xy, scale)),
        ctypes.c_int64(scale.ndim == 3),
        ctypes.c_double(0.0 if loss is None else loss),
        ctypes.c_double(is_short),
        ctypes.c_int64(max_steps),
        pointer(moved, np.float64),
    )
    if failed:
        raise MemoryError("no memory is left for the positions of points")
    return moved


@dataclass(frozen=True, eq=False, slots=True)
class SeenKeypoints:
    """Keypoints of images with known poses.

    Args:
        image: [K] row of the image of each keypoint.
        xy: [K, 2] normalised image points.
        R: [I, 3, 3] rotations, camera from world.
        t: [I, 3].
        scale: [I] errors per unit of the normalised image.
    """

    image: IndexArray
    xy: Float64Array
    R: Float64Array
    t: Float64Array
    scale: Float64Array


def squared_errors(
    library: ctypes.CDLL, keypoints: SeenKeypoints, xyz: Float64Array, point: IndexArray, keypoint: IndexArray
) -> tuple[Float64Array, Float64Array]:
    """Squared reprojection errors [N], and depths [N], of points [P, 3] for keypoints, by rows of both [N].

    Raises:
        IndexError: for a row that does not exist.
    """
    rows = (point, len(xyz)), (keypoint, len(keypoints.xy)), (keypoints.image, len(keypoints.R))
    if any(len(values) > 0 and not 0 <= values.min() <= values.max() < num for values, num in rows):
        raise IndexError("a row of a point, keypoint or image does not exist")
    squared, depth = (np.empty(len(point)) for _ in range(2))
    integers = [np.ascontiguousarray(each, np.int64) for each in (point, keypoint, keypoints.image)]
    numbers = [
        np.ascontiguousarray(each, np.float64)
        for each in (xyz, keypoints.xy, keypoints.R, keypoints.t, keypoints.scale)
    ]
    library.squared_errors(
        ctypes.c_int64(len(point)),
        pointer(numbers[0], np.float64),
        *(pointer(each, np.int64) for each in integers),
        *(pointer(each, np.float64) for each in (*numbers[1:], squared, depth)),
    )
    return squared, depth
