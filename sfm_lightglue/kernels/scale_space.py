"""Kernels of the scale space of SIFT."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array, IndexArray, Int32Array, UInt8Array
from sfm_lightglue.kernels.arguments import pointer

_EXTREMA_PER_PIXEL = 1 / 64
"""Places for extrema that are reserved at first; an image of pure noise has more."""


def double_size(library: ctypes.CDLL, pixels: UInt8Array, out: Float32Array) -> Float32Array:
    """Write an image [H, W] at twice its size to `out` [2 H, 2 W]: pixel i becomes pixel 2 i."""
    height, width = pixels.shape
    if out.shape != (2 * height, 2 * width):
        raise ValueError(f"an image of twice the size of {pixels.shape} has another shape than {out.shape}")
    pixels = np.ascontiguousarray(pixels)
    size = ctypes.c_int64(height), ctypes.c_int64(width)
    library.double_size(pointer(pixels, np.uint8), *size, pointer(out, np.float32))
    return out


def find_extrema(
    library: ctypes.CDLL, blurred: Sequence[Float32Array], faintest: float
) -> tuple[IndexArray, Float32Array]:
    """Places [N, 3] (layer, y, x) and values [N] of extrema of the differences of six blurred images [H, W]."""
    images, size = _images(blurred)
    capacity = int(blurred[0].size * _EXTREMA_PER_PIXEL) + 64
    while True:
        places, values = np.empty((capacity, 3), np.int32), np.empty(capacity, np.float32)
        arrays = pointer(places, np.int32), pointer(values, np.float32)
        num = library.find_extrema(images, *size, ctypes.c_float(faintest), ctypes.c_int64(capacity), *arrays)
        if num < 0:
            raise MemoryError("no memory is left for the extrema of an image")
        if num <= capacity:
            return places[:num].astype(np.int64), values[:num].copy()
        capacity = num


def refine_extrema(
    library: ctypes.CDLL, blurred: Sequence[Float32Array], places: IndexArray, edge_threshold: float
) -> tuple[IndexArray, IndexArray, Float64Array, Float64Array]:
    """Extrema of quadratic functions around places [N, 3].

    Returns:
        For each of M extrema the row where its search began [M], its place [M, 3], the offsets from there [M, 3], and
        the value [M].
    """
    images, size = _images(blurred)
    num = len(places)
    moved: Int32Array = places.astype(np.int32)  # a copy, which is overwritten
    rows, offsets, values = np.empty(num, np.int32), np.empty((num, 3)), np.empty(num)
    found = library.refine_extrema(
        images,
        *size,
        ctypes.c_int64(num),
        ctypes.c_double(edge_threshold),
        pointer(moved, np.int32),
        pointer(rows, np.int32),
        pointer(offsets, np.float64),
        pointer(values, np.float64),
    )
    return rows[:found].astype(np.int64), moved[:found].astype(np.int64), offsets[:found], values[:found]


def _images(blurred: Sequence[Float32Array]) -> tuple[ctypes.Array[ctypes.c_void_p], tuple[ctypes.c_int64, ...]]:
    shapes = {image.shape for image in blurred}
    if len(blurred) != 6 or len(shapes) != 1:
        raise ValueError(f"an octave has six images of one size, got {len(blurred)} of the sizes {sorted(shapes)}")
    pointers = (ctypes.c_void_p * 6)(*(pointer(image, np.float32).value for image in blurred))
    return pointers, tuple(ctypes.c_int64(length) for length in blurred[0].shape)
