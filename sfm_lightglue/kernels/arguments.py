"""Arrays as arguments of the kernels."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import DTypeLike

from sfm_lightglue.arrays import AnyArray


def pointer(array: AnyArray, dtype: DTypeLike) -> ctypes.c_void_p:
    """Where the numbers of an array lie, for a kernel that expects this type.

    Raises:
        TypeError: for numbers of another type, or with gaps between them.
    """
    if array.dtype != np.dtype(dtype) or not array.flags.c_contiguous:
        raise TypeError(f"a kernel needs a contiguous array of {np.dtype(dtype)}, got {array.dtype}")
    return ctypes.c_void_p(array.ctypes.data)
