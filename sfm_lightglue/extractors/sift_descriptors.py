"""Orientations and descriptors of SIFT, of many blobs at a time.

A patch of each blob is sampled from its layer of the scale space, on a grid that is scaled and rotated with the blob;
its gradients are then the same for all blobs of a batch, and are summed by one matrix.

Source: Lowe, Distinctive image features from scale-invariant keypoints, 2004 (sections 5 and 6).
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array, IndexArray
from sfm_lightglue.extractors.scale_space import LAYERS, Blobs, ScaleSpace, pixels_per_image_pixel

_BATCH = 256
"""Patches that are processed at a time, so that they stay in the cache of the processor."""

_ORIENTATION_STEP = 0.6
"""Distance of the samples of the orientation, in standard deviations of the blob."""
_ORIENTATION_RADIUS = 7
"""Samples from the centre to the side of the patch; together with the step 4.2 standard deviations."""
_ORIENTATION_SIGMA = 1.5
"""Of the weights, in standard deviations of the blob."""
_ORIENTATION_BINS = 36
_PEAK_RATIO = 0.8
"""Orientations with at least this ratio of the best one are as good; the lowest angle of them is used."""

_CELLS = 4
"""Cells of a descriptor along a side."""
_CELL_WIDTH = 3.0
"""In standard deviations of the blob."""
_SAMPLES_PER_CELL = 4
_BINS = 8
_LARGEST_VALUE = 0.2
"""Limit of the values of a descriptor of length 1, against strong gradients that depend on the light."""


def orientations(space: ScaleSpace, blobs: Blobs) -> tuple[Float32Array, Float32Array]:
    """The dominant directions of the gradient of each blob, in radians from 0 to 2 pi.

    Returns:
        The lowest one [N], and the next one [N], NaN for a blob with one only.
    """
    angles, others = np.zeros(len(blobs), np.float32), np.full(len(blobs), np.nan, np.float32)
    steps = np.arange(-_ORIENTATION_RADIUS, _ORIENTATION_RADIUS + 1) * _ORIENTATION_STEP
    weights = np.exp(-(steps**2) / (2 * _ORIENTATION_SIGMA**2))
    grid_weights = np.outer(weights, weights).astype(np.float32)
    upright = np.zeros(len(blobs), np.float32)
    for rows, x, y in _gradients(space, blobs, upright, 2 * _ORIENTATION_RADIUS + 1, _ORIENTATION_STEP):
        lengths, directions = cv2.cartToPolar(x, y, angleInDegrees=True)
        bins = np.rint(directions * np.float32(_ORIENTATION_BINS / 360)).astype(np.int64) % _ORIENTATION_BINS
        bins += np.arange(len(rows))[:, None, None] * _ORIENTATION_BINS
        sums = np.bincount(
            bins.reshape(-1), (lengths * grid_weights).reshape(-1), minlength=len(rows) * _ORIENTATION_BINS
        )
        peaks = _two_lowest_peaks(sums.astype(np.float64).reshape(len(rows), _ORIENTATION_BINS))
        angles[rows], others[rows] = np.nan_to_num(peaks[:, 0]), peaks[:, 1]
    return angles, others


def describe(space: ScaleSpace, blobs: Blobs, angles_rad: Float32Array) -> Float32Array:
    """Descriptors [N, 128] float32 of length 1, of blobs with angles [N]."""
    found = np.zeros((len(blobs), _CELLS * _CELLS * _BINS), np.float32)
    sums = _cell_weights()
    side = (_CELLS + 1) * _SAMPLES_PER_CELL
    for rows, x, y in _gradients(space, blobs, angles_rad, side, _CELL_WIDTH / _SAMPLES_PER_CELL):
        lengths, directions = cv2.cartToPolar(x.reshape(len(rows), -1), -y.reshape(len(rows), -1))
        directions *= np.float32(_BINS / (2 * np.pi))
        lower = directions.astype(np.int32)
        upper_share = (directions - lower) * lengths
        shares = np.zeros((*lengths.shape, _BINS), np.float32)  # [n, samples, bins]
        first = np.arange(lengths.size, dtype=np.int32).reshape(lengths.shape) * np.int32(_BINS)
        flat = shares.reshape(-1)
        flat[first + (lower & (_BINS - 1))] = lengths - upper_share
        flat[first + ((lower + 1) & (_BINS - 1))] = upper_share
        found[rows] = np.matmul(sums, shares).reshape(len(rows), -1)  # [cells, samples] @ [n, samples, bins]
    return _limited(found)


def _gradients(
    space: ScaleSpace, blobs: Blobs, angles_rad: Float32Array, side: int, step: float
) -> Iterator[tuple[IndexArray, Float32Array, Float32Array]]:
    """Rows [n] of blobs of one layer, and the gradients in x and y [n, side, side] of their rotated patches.

    Args:
        space: in which the blobs were found.
        blobs: N of them.
        angles_rad: [N] from the x axis of the image to that of the patch.
        side: samples along a side of a patch.
        step: distance of the samples in standard deviations of the blob.
    """
    ticks = ((np.arange(side + 2) - (side + 1) / 2) * step).astype(np.float32)
    group = blobs.octave_idxs * (LAYERS + 1) + blobs.layer_idxs
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    for of_layer in np.split(order, starts[1:]) if len(order) > 0 else []:
        octave_idx, layer_idx = int(blobs.octave_idxs[of_layer[0]]), int(blobs.layer_idxs[of_layer[0]])
        image, factor = space.blurred(octave_idx, layer_idx), np.float32(pixels_per_image_pixel(octave_idx))
        for start in range(0, len(of_layer), _BATCH):
            rows = of_layer[start : start + _BATCH]
            centres = (blobs.keypoints[rows] - np.float32(0.5)) * factor
            yield rows, *_patch_gradients(image, centres, blobs.scales[rows] * (factor / 2), angles_rad[rows], ticks)


def _patch_gradients(
    image: Float32Array, centres: Float32Array, sigmas: Float32Array, angles_rad: Float32Array, ticks: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """Gradients in x and y [n, S, S] of patches; zero outside the image.

    Args:
        image: [H, W].
        centres: [n, 2] (x, y), with the centre of the first pixel at 0.
        sigmas: [n] unit of the ticks in pixels.
        angles_rad: [n] of the patches.
        ticks: [S + 2] positions of the samples along a side.
    """
    cosine, sine = np.cos(angles_rad) * sigmas, np.sin(angles_rad) * sigmas
    along_x = cosine[:, None] * ticks + centres[:, :1], sine[:, None] * ticks + centres[:, 1:]
    map_x = along_x[0][:, None, :] - (sine[:, None] * ticks)[:, :, None]
    map_y = along_x[1][:, None, :] + (cosine[:, None] * ticks)[:, :, None]
    wide = (-1, len(ticks))
    patches = cv2.remap(
        image, map_x.reshape(wide), map_y.reshape(wide), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).reshape(map_x.shape)
    x = np.ascontiguousarray(patches[:, 1:-1, 2:] - patches[:, 1:-1, :-2])
    y = np.ascontiguousarray(patches[:, 2:, 1:-1] - patches[:, :-2, 1:-1])
    size = np.array(image.shape[::-1])
    reach = sigmas[:, None] * (np.sqrt(2) * ticks[-1])
    at_border = np.flatnonzero(((centres < reach) | (centres + reach > size - 1)).any(axis=1))
    if len(at_border) > 0:
        columns, lines = map_x[at_border, 1:-1, 1:-1], map_y[at_border, 1:-1, 1:-1]
        is_inside = (columns > 0) & (columns < size[0] - 1) & (lines > 0) & (lines < size[1] - 1)
        x[at_border] *= is_inside
        y[at_border] *= is_inside
    return x, y


def _two_lowest_peaks(sums: Float64Array) -> Float32Array:
    """The two lowest angles [N, 2] in radians of the peaks of cyclic histograms [N, bins] that are nearly the highest.

    NaN stands for a missing peak.
    """
    near = np.roll(sums, 1, axis=1) + np.roll(sums, -1, axis=1)
    far = np.roll(sums, 2, axis=1) + np.roll(sums, -2, axis=1)
    smooth = (far + 4 * near + 6 * sums) / 16
    before, after = np.roll(smooth, 1, axis=1), np.roll(smooth, -1, axis=1)
    is_peak = (smooth > before) & (smooth > after) & (smooth >= _PEAK_RATIO * smooth.max(axis=1, keepdims=True))
    curvature = np.where(is_peak, before - 2 * smooth + after, -1)
    places = np.arange(sums.shape[1]) + 0.5 * (before - after) / curvature
    angles = np.where(is_peak, np.mod(places, sums.shape[1]), np.inf)
    lowest = np.partition(angles, 1, axis=1)[:, :2] * (2 * np.pi / sums.shape[1])
    return np.where(np.isfinite(lowest), lowest, np.nan).astype(np.float32)


def _cell_weights() -> Float32Array:
    """Weight of each sample of a patch in each cell [cells, samples]: linear between cells, Gaussian over the patch."""
    ticks = (np.arange((_CELLS + 1) * _SAMPLES_PER_CELL) + 0.5) / _SAMPLES_PER_CELL - (_CELLS + 1) / 2
    centres = np.arange(_CELLS) - (_CELLS - 1) / 2
    linear = np.maximum(0, 1 - np.abs(ticks - centres[:, None])) * np.exp(-(ticks**2) / (_CELLS**2 / 2))
    return np.kron(linear, linear).astype(np.float32)


def _limited(values: Float32Array) -> Float32Array:
    """Descriptors [N, D] of length 1, of which no value was above the limit before the last division."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    limited = np.minimum(values, _LARGEST_VALUE * lengths)
    scaled: Float32Array = limited / np.maximum(np.linalg.norm(limited, axis=1, keepdims=True), np.float32(1e-12))
    return scaled
