"""Kernels of the orientations and descriptors of SIFT."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float32Array
from sfm_lightglue.kernels.arguments import pointer


@dataclass(frozen=True, eq=False, slots=True)
class Patches:
    """Patches of the N blobs of one layer of the scale space.

    Args:
        image: [H, W] of the layer.
        centres: [N, 2] (x, y), with the centre of the first pixel at 0.
        sigmas: [N] unit of the samples in pixels.
        angles_rad: [N] of the patches.
    """

    image: Float32Array
    centres: Float32Array
    sigmas: Float32Array
    angles_rad: Float32Array


def find_orientations(
    library: ctypes.CDLL, patches: Patches, ticks: Float32Array, weights: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """The two lowest dominant directions [N] of each blob, in radians; NaN for a missing one.

    Args:
        library: the compiled kernels.
        patches: of the blobs.
        ticks: [17] positions of the samples along a side.
        weights: [15, 15] of the gradients.
    """
    lowest, others = (np.empty(len(patches.centres), np.float32) for _ in range(2))
    found = pointer(lowest, np.float32), pointer(others, np.float32)
    _call(library.find_orientations, patches, (ticks, 17), (weights, 15 * 15), found)
    return lowest, others


def describe(library: ctypes.CDLL, patches: Patches, ticks: Float32Array, weights: Float32Array) -> Float32Array:
    """Descriptors [N, 128] of length 1.

    Args:
        library: the compiled kernels.
        patches: of the blobs.
        ticks: [22] positions of the samples along a side.
        weights: [4, 20] of each position in each cell.
    """
    found = np.empty((len(patches.centres), 128), np.float32)
    _call(library.describe_blobs, patches, (ticks, 22), (weights, 4 * 20), (pointer(found, np.float32),))
    return found


def _call(
    kernel: ctypes._NamedFuncPointer,
    patches: Patches,
    ticks: tuple[Float32Array, int],
    weights: tuple[Float32Array, int],
    found: tuple[ctypes.c_void_p, ...],
) -> None:
    for array, size in (ticks, weights):
        if array.size != size:
            raise ValueError(f"the kernel needs {size} numbers, got {array.size}")
    height, width = patches.image.shape
    # An image of one row or column has no blobs; bilinear interpolation needs two.
    if min(height, width) < 2 and len(patches.centres) > 0:
        raise ValueError(f"an image of {width} x {height} pixels has no blobs")
    columns = (
        *patches.centres.T,
        np.cos(patches.angles_rad) * patches.sigmas,
        np.sin(patches.angles_rad) * patches.sigmas,
        ticks[0],
        weights[0],
    )
    arrays = [np.ascontiguousarray(column, np.float32) for column in columns]  # they must live as long as the call
    sizes = (ctypes.c_int64(each) for each in (height, width, len(patches.centres)))
    kernel(pointer(patches.image, np.float32), *sizes, *(pointer(each, np.float32) for each in arrays), *found)
