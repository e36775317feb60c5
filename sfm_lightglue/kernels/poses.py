"""Kernel of the refinement of relative poses."""

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
