"""Kernel of guided matching."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array, IndexArray
from sfm_lightglue.kernels.arguments import pointer

_LANES = 16
"""The size of descriptors in the kernel is a multiple of this."""


@dataclass(frozen=True, eq=False, slots=True)
class SortedKeypoints:
    """The keypoints of one image, sorted by the class of the width of their band, then by their angle.

    Args:
        starts: [C + 1] first keypoint of each class; the last class has the wide bands.
        class_reaches: [C] largest half-width of each class, in radians.
        angles: [N] in radians.
        reaches: [N] half the width of each band, in radians.
        squared_reaches: [N] of the part of the width that is due to this image alone.
        squared_slopes: [N] of the change of the angle per pixel.
        squared_other_limits: [N] of half the width in the other image, in pixels.
        depths: [N]; a keypoint of image 1 can match those of image 0 that are not larger.
        descriptors: [N, D] of length 1.
    """

    starts: IndexArray
    class_reaches: Float64Array
    angles: Float32Array
    reaches: Float32Array
    squared_reaches: Float32Array
    squared_slopes: Float32Array
    squared_other_limits: Float32Array
    depths: Float32Array
    descriptors: Float32Array


class _Keypoints(ctypes.Structure):
    """The same in C."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num", "num_classes", "size")),
        *((name, ctypes.c_void_p) for name in SortedKeypoints.__dataclass_fields__),
    ]


def search_bands(
    library: ctypes.CDLL, keypoints: SortedKeypoints, others: SortedKeypoints, period: float, rounding: float
) -> tuple[IndexArray, Float32Array, Float32Array, Float32Array]:
    """The most similar keypoints within the bands.

    Args:
        library: the compiled kernels.
        keypoints: N of image 0.
        others: M of image 1.
        period: of the angles, in radians.
        rounding: error of the difference of two angles, in radians.

    Returns:
        The best one of image 1 for each keypoint of image 0 [N], its similarity [N], that of the second best one [N];
        and for each keypoint of image 1 the largest similarity [M] with keypoints of image 0 whose best one is another.
        Similarities are -2 where there is none.

    Raises:
        MemoryError: if there is not enough.
    """
    columns = np.empty(len(keypoints.angles), np.int64)
    best, second = (np.empty(len(keypoints.angles), np.float32) for _ in range(2))
    rest = np.empty(len(others.angles), np.float32)
    sides = [_with_padding(side) for side in (keypoints, others)]
    structures = [_structure(side) for side in sides]
    failed = library.search_bands(
        *(ctypes.byref(each) for each in structures),
        ctypes.c_double(period),
        ctypes.c_double(rounding),
        pointer(columns, np.int64),
        *(pointer(each, np.float32) for each in (best, second, rest)),
    )
    if failed:
        raise MemoryError("no memory is left for guided matching")
    return columns, best, second, rest


def _with_padding(side: SortedKeypoints) -> SortedKeypoints:
    """Zeros at the end of descriptors do not change their products."""
    missing = -side.descriptors.shape[1] % _LANES
    if missing == 0:
        return side
    arrays = {name: getattr(side, name) for name in SortedKeypoints.__dataclass_fields__}
    return SortedKeypoints(**(arrays | {"descriptors": np.pad(side.descriptors, ((0, 0), (0, missing)))}))


def _structure(side: SortedKeypoints) -> _Keypoints:
    types = {"starts": np.int64, "class_reaches": np.float64}
    pointers = (
        pointer(getattr(side, name), types.get(name, np.float32)) for name in SortedKeypoints.__dataclass_fields__
    )
    return _Keypoints(len(side.angles), len(side.class_reaches), side.descriptors.shape[1], *pointers)
