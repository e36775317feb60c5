"""Kernels of the scale space of SIFT."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array, IndexArray, Int32Array, UInt8Array
from sfm_lightglue.kernels.arguments import pointer

_NUM_BLURRED = 6
"""Blurred images of an octave."""

_MAX_RADIUS = 32
"""Largest radius of a kernel that blurs."""

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


def blur_and_find(
    library: ctypes.CDLL, images: Sequence[Float32Array], weights: Sequence[Float32Array], faintest: float
) -> tuple[IndexArray, Float32Array]:
    """Blur images [H, W] one after the other, and find the extrema of the differences of the last six.

    Args:
        library: the compiled kernels.
        images: the first one exists, the others are written. The last one may be the same memory as the first.
        weights: for each image but the first, half of the kernel that blurs the one before, from its centre [R + 1].
        faintest: smallest value of an extremum.

    Returns:
        Places [N, 3] (layer, y, x) and values [N].
    """
    pointers, size = _images(images)
    radii = np.array([len(each) - 1 for each in weights], np.int64)
    if len(weights) != len(images) - 1 or len(images) < _NUM_BLURRED or radii.max() > _MAX_RADIUS:
        raise ValueError(f"{len(images)} images cannot be blurred by kernels of the radii {radii.tolist()}")
    padded = np.zeros((len(weights), _MAX_RADIUS + 1), np.float32)
    for row, each in zip(padded, weights, strict=True):
        row[: len(each)] = each
    capacity = int(images[0].size * _EXTREMA_PER_PIXEL) + 64
    places, values = np.empty((capacity, 3), np.int32), np.empty(capacity, np.float32)
    num = library.blur_and_find(
        pointers,
        ctypes.c_int64(len(images)),
        *size,
        pointer(padded, np.float32),
        pointer(radii, np.int64),
        ctypes.c_float(faintest),
        ctypes.c_int64(capacity),
        pointer(places, np.int32),
        pointer(values, np.float32),
    )
    if num > capacity:
        return _find_extrema(library, images[-_NUM_BLURRED:], faintest, num)
    return _found(num, places, values)


def _find_extrema(
    library: ctypes.CDLL, blurred: Sequence[Float32Array], faintest: float, num: int
) -> tuple[IndexArray, Float32Array]:
    """The extrema of six blurred images, which are `num`."""
    pointers, size = _images(blurred)
    places, values = np.empty((num, 3), np.int32), np.empty(num, np.float32)
    arrays = pointer(places, np.int32), pointer(values, np.float32)
    found = library.find_extrema(pointers, *size, ctypes.c_float(faintest), ctypes.c_int64(num), *arrays)
    return _found(found, places, values)


def _found(num: int, places: Int32Array, values: Float32Array) -> tuple[IndexArray, Float32Array]:
    if num < 0:
        raise MemoryError("no memory is left for the extrema of an image")
    return places[:num].astype(np.int64), values[:num].copy()


def refine_extrema(
    library: ctypes.CDLL, blurred: Sequence[Float32Array], places: IndexArray, edge_threshold: float
) -> tuple[IndexArray, IndexArray, Float64Array, Float64Array]:
    """Extrema of quadratic functions around places [N, 3].

    Returns:
        For each of M extrema the row where its search began [M], its place [M, 3], the offsets from there [M, 3], and
        the value [M].
    """
    if len(blurred) != _NUM_BLURRED:
        raise ValueError(f"an octave has {_NUM_BLURRED} images, got {len(blurred)}")
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


def _images(images: Sequence[Float32Array]) -> tuple[ctypes.Array[ctypes.c_void_p], tuple[ctypes.c_int64, ...]]:
    shapes = sorted({image.shape for image in images})
    if len(shapes) != 1:
        raise ValueError(f"the images of an octave have one size, got {shapes}")
    pointers = (ctypes.c_void_p * len(images))(*(pointer(image, np.float32).value for image in images))
    return pointers, tuple(ctypes.c_int64(length) for length in shapes[0])
