"""Kernels of the refinement of relative poses, and of what fits them."""

from __future__ import annotations

import ctypes

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.kernels.arguments import pointer


def fit_poses(
    library: ctypes.CDLL,
    monomials: Float64Array,
    masks: BoolArray,
    turns: Float64Array,
    scale: float,
    is_truncated: bool,
    num_steps: int,
) -> Float64Array:
    """Minimise the Sampson errors of B poses of a pair with N matches.

    Args:
        library: the compiled kernels.
        monomials: [15, N] of the matches.
        masks: [B, N] the matches that count for each pose.
        turns: [B, 2, 3, 3] where the fits start: R, and a basis whose third column is t.
        scale: of the errors, in normalised units.
        is_truncated: whether a match with a larger error has no weight; else the loss is soft.
        num_steps: most steps.

    Returns:
        The `turns` at the end.

    Raises:
        MemoryError: if there is not enough.
    """
    fitted = np.array(turns, np.float64, order="C")
    points, counted = np.ascontiguousarray(monomials), np.ascontiguousarray(masks)
    if points.shape != (15, masks.shape[1]) or turns.shape != (len(masks), 2, 3, 3):
        raise ValueError(f"points {points.shape}, masks {masks.shape} and poses {turns.shape} do not fit together")
    failed = library.fit_poses(
        pointer(points, np.float64),
        ctypes.c_int64(masks.shape[1]),
        pointer(counted, np.bool_),
        ctypes.c_int64(len(masks)),
        ctypes.c_double(scale),
        ctypes.c_int64(is_truncated),
        ctypes.c_int64(num_steps),
        pointer(fitted, np.float64),
    )
    if failed:
        raise MemoryError("no memory is left for the refinement of a pose")
    return fitted


def sampson_errors(library: ctypes.CDLL, monomials: Float64Array, matrices: Float64Array) -> Float64Array:
    """Squared Sampson errors [B, N] of matrices [B, 3, 3] for N matches, with `monomials` [15, N]."""
    points, rows = np.ascontiguousarray(monomials), np.ascontiguousarray(matrices, np.float64)
    if points.ndim != 2 or len(points) != 15 or rows.ndim != 3 or rows.shape[1:] != (3, 3):
        raise ValueError(f"points {points.shape} and matrices {rows.shape} do not fit")
    squared = np.empty((len(rows), points.shape[1]))
    library.sampson_errors(
        pointer(points, np.float64),
        ctypes.c_int64(points.shape[1]),
        pointer(rows, np.float64),
        ctypes.c_int64(len(rows)),
        pointer(squared, np.float64),
    )
    return squared


def find_in_front(
    library: ctypes.CDLL,
    rays: tuple[Float64Array, Float64Array],
    poses: tuple[Float64Array, Float64Array],
    max_sine: float,
) -> BoolArray:
    """[B, N] whether matches lie in front of both cameras, or have rays that are parallel.

    Args:
        library: the compiled kernels.
        rays: [3, N] of length 1, of image 0 and of image 1.
        poses: R [B, 3, 3] and t [B, 3].
        max_sine: of the angle between parallel rays.
    """
    arrays = [np.ascontiguousarray(each, np.float64) for each in (*rays, *poses)]
    num, num_poses = arrays[0].shape[1], len(arrays[2])
    if [each.shape for each in arrays] != [(3, num), (3, num), (num_poses, 3, 3), (num_poses, 3)]:
        raise ValueError(f"rays, R and t cannot have the shapes {[each.shape for each in arrays]}")
    is_front = np.empty((num_poses, num), np.bool_)
    rays0, rays1, R, t = (pointer(each, np.float64) for each in arrays)
    numbers = ctypes.c_int64(num_poses), ctypes.c_double(max_sine**2)
    library.find_in_front(rays0, rays1, ctypes.c_int64(num), R, t, *numbers, pointer(is_front, np.bool_))
    return is_front
