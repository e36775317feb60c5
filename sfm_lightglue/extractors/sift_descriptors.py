"""Orientations and descriptors of SIFT, of many blobs at a time.

A patch of each blob is sampled from its layer of the scale space, on a grid that is scaled and rotated with the blob;
its gradients are then the same for all blobs of a batch, and are summed by one matrix.

Source: Lowe, Distinctive image features from scale-invariant keypoints, 2004 (sections 5 and 6).
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from sfm_lightglue.arrays import AnyArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.extractors.scale_space import LAYERS, Blobs, ScaleSpace, pixels_per_image_pixel
from sfm_lightglue.kernels import blobs as kernels
from sfm_lightglue.kernels.library import compiled

_BATCH = 256
"""Patches that are processed at a time, so that they stay in the cache of the processor."""
_FEW = 64
"""Patches whose gradients are divided into bins at a time, which takes eight times the memory."""
_STRIP_PX = 16
"""Height of the strips of a layer whose patches are processed from left to right."""

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
    steps = np.arange(-_ORIENTATION_RADIUS, _ORIENTATION_RADIUS + 1) * _ORIENTATION_STEP
    weights = np.exp(-(steps**2) / (2 * _ORIENTATION_SIGMA**2))
    sample_weights = np.outer(weights, weights).astype(np.float32).reshape(-1, 1)
    upright, side = np.zeros(len(blobs), np.float32), 2 * _ORIENTATION_RADIUS + 1
    library = compiled()
    if library is not None:
        angles, others = np.empty((2, len(blobs)), np.float32)
        ticks = _ticks(side, _ORIENTATION_STEP)
        for rows, patches in _patches(space, blobs, upright):
            angles[rows], others[rows] = kernels.find_orientations(library, patches, ticks, sample_weights)
        return np.nan_to_num(angles), others
    histograms = np.zeros((_ORIENTATION_BINS, len(blobs)))
    for rows, x, y in _gradients(space, blobs, upright, side, _ORIENTATION_STEP):
        lengths, bins = cv2.cartToPolar(x, y, angleInDegrees=True)
        bins *= np.float32(_ORIENTATION_BINS / 360)
        np.rint(bins, out=bins)
        bins *= bins < _ORIENTATION_BINS  # a full turn is none
        bins *= np.float32(len(rows))
        bins += np.arange(len(rows), dtype=np.float32)  # whole numbers below 2**24: exact
        lengths *= sample_weights
        num_sums = _ORIENTATION_BINS * len(rows)
        sums = np.bincount(bins.astype(np.intp).reshape(-1), lengths.reshape(-1), minlength=num_sums)
        histograms[:, rows] = sums.reshape(_ORIENTATION_BINS, -1)
    angles, others = _two_lowest_peaks(histograms)
    return np.nan_to_num(angles), others


def describe(space: ScaleSpace, blobs: Blobs, angles_rad: Float32Array) -> Float32Array:
    """Descriptors [N, 128] float32 of length 1, of blobs with angles [N]."""
    found = np.zeros((len(blobs), _CELLS * _CELLS * _BINS), np.float32)
    side, step = (_CELLS + 1) * _SAMPLES_PER_CELL, _CELL_WIDTH / _SAMPLES_PER_CELL
    library = compiled()
    if library is not None:
        ticks, along_side = _ticks(side, step), _cell_weights_of_side().astype(np.float32)
        for rows, patches in _patches(space, blobs, angles_rad):
            found[rows] = kernels.describe(library, patches, ticks, along_side)
        return found
    of_side = _cell_weights_of_side()
    weights = np.kron(of_side, of_side).astype(np.float32)  # of each sample in each cell
    for rows, x, y in _gradients(space, blobs, angles_rad, side, step):
        lengths, directions = cv2.cartToPolar(x, np.negative(y, out=y))
        directions *= np.float32(_BINS / (2 * np.pi))
        lengths, directions = cv2.transpose(lengths), cv2.transpose(directions)
        for start in range(0, len(rows), _FEW):
            part = slice(start, start + _FEW)
            sums = np.matmul(weights, _shares_of_bins(lengths[part], directions[part]))  # one product for each patch
            found[rows[part]] = sums.reshape(len(sums), -1)
    return _limited(found)


def _shares_of_bins(lengths: AnyArray, directions: AnyArray) -> Float32Array:
    """Shares [n, samples, bins] of the lengths [n, samples] of gradients, linear between the bins of directions."""
    lower = directions.astype(np.int32)
    upper_share = directions - lower
    upper_share *= lengths
    shares = np.zeros((*lengths.shape, _BINS), np.float32)
    first = np.arange(0, shares.size, _BINS).reshape(lengths.shape)
    flat = shares.reshape(-1)
    flat[first + (lower & (_BINS - 1))] = lengths - upper_share
    lower += 1
    lower &= _BINS - 1
    first += lower
    flat[first] = upper_share
    return shares


def _gradients(
    space: ScaleSpace, blobs: Blobs, angles_rad: Float32Array, side: int, step: float
) -> Iterator[tuple[IndexArray, Float32Array, Float32Array]]:
    """Rows [n] of blobs of one layer, and the gradients in x and y [side * side, n] of their rotated patches.

    Args:
        space: in which the blobs were found.
        blobs: N of them.
        angles_rad: [N] from the x axis of the image to that of the patch.
        side: samples along a side of a patch.
        step: distance of the samples in standard deviations of the blob.
    """
    ticks = _ticks(side, step)
    for rows, patches in _patches(space, blobs, angles_rad):
        # Patches of a batch are sampled together, so that their pixels are in the cache of the processor.
        for start in range(0, len(rows), _BATCH):
            batch = slice(start, start + _BATCH)
            of_batch = patches.centres[batch], patches.sigmas[batch], patches.angles_rad[batch]
            yield rows[batch], *_patch_gradients(patches.image, *of_batch, ticks)


def _ticks(side: int, step: float) -> Float32Array:
    """Positions of the samples along a side and one more at each end [side + 2], in standard deviations of the blob."""
    return ((np.arange(side + 2) - (side + 1) / 2) * step).astype(np.float32)


def _patches(space: ScaleSpace, blobs: Blobs, angles_rad: Float32Array) -> Iterator[tuple[IndexArray, kernels.Patches]]:
    """Rows [n] and patches of the blobs of each layer, neighbours one after the other."""
    group = blobs.octave_idxs * (LAYERS + 1) + blobs.layer_idxs
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    for of_layer in np.split(order, starts[1:]) if len(order) > 0 else []:
        octave_idx, layer_idx = int(blobs.octave_idxs[of_layer[0]]), int(blobs.layer_idxs[of_layer[0]])
        factor = np.float32(pixels_per_image_pixel(octave_idx))
        centres = (blobs.keypoints[of_layer] - np.float32(0.5)) * factor
        near = np.lexsort((centres[:, 0], centres[:, 1] // _STRIP_PX))
        rows = of_layer[near]
        sigmas = blobs.scales[rows] * (factor / 2)
        yield rows, kernels.Patches(space.blurred(octave_idx, layer_idx), centres[near], sigmas, angles_rad[rows])


def _patch_gradients(
    image: Float32Array, centres: Float32Array, sigmas: Float32Array, angles_rad: Float32Array, ticks: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """Gradients in x and y [S * S, n] of patches; zero outside the image.

    The patches are the last axis, so that NumPy works on long rows.

    Args:
        image: [H, W].
        centres: [n, 2] (x, y), with the centre of the first pixel at 0.
        sigmas: [n] unit of the ticks in pixels.
        angles_rad: [n] of the patches.
        ticks: [S + 2] positions of the samples along a side.
    """
    along, across = ticks[:, None] * (np.cos(angles_rad) * sigmas), ticks[:, None] * (np.sin(angles_rad) * sigmas)
    map_x = (along + centres[:, 0])[None] - across[:, None]  # [S + 2, S + 2, n]
    map_y = (across + centres[:, 1])[None] + along[:, None]
    samples = cv2.remap(
        image,
        map_x.reshape(-1, len(centres)),
        map_y.reshape(-1, len(centres)),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    ).reshape(map_x.shape)
    x, y = samples[1:-1, 2:] - samples[1:-1, :-2], samples[2:, 1:-1] - samples[:-2, 1:-1]
    size = np.array(image.shape[::-1])
    reach = sigmas[:, None] * (np.sqrt(2) * ticks[-1])
    at_border = np.flatnonzero(((centres < reach) | (centres + reach > size - 1)).any(axis=1))
    if len(at_border) > 0:
        columns, lines = map_x[1:-1, 1:-1, at_border], map_y[1:-1, 1:-1, at_border]
        is_inside = (columns > 0) & (columns < size[0] - 1) & (lines > 0) & (lines < size[1] - 1)
        x[..., at_border] *= is_inside
        y[..., at_border] *= is_inside
    return x.reshape(-1, len(centres)), y.reshape(-1, len(centres))


def _two_lowest_peaks(sums: Float64Array) -> Float32Array:
    """The two lowest angles [2, N] in radians of the peaks of cyclic histograms [bins, N] that are nearly the highest.

    NaN stands for a missing peak.
    """
    num_bins = len(sums)
    wide = np.concatenate([sums[-2:], sums, sums[:2]])
    smooth = (wide[:-4] + wide[4:] + 4 * (wide[1:-3] + wide[3:-1]) + 6 * sums) / 16
    wide = np.concatenate([smooth[-1:], smooth, smooth[:1]])
    is_peak = (smooth > wide[:-2]) & (smooth > wide[2:]) & (smooth >= _PEAK_RATIO * smooth.max(axis=0))
    bins, rows = np.nonzero(is_peak)
    before, peaks, after = wide[bins, rows], wide[bins + 1, rows], wide[bins + 2, rows]
    angles = np.mod(bins + 0.5 * (before - after) / (before - 2 * peaks + after), num_bins) * (2 * np.pi / num_bins)
    lowest = np.full((2, sums.shape[1]), np.nan, np.float32)
    order = np.lexsort((angles, rows))
    rows, angles = rows[order], angles[order]
    is_first = np.diff(rows, prepend=-1) > 0
    is_second = ~is_first & np.concatenate([[False], is_first])[: len(rows)]
    lowest[0, rows[is_first]], lowest[1, rows[is_second]] = angles[is_first], angles[is_second]
    return lowest


def _cell_weights_of_side() -> Float64Array:
    """Weight of each sample along a side in each cell [cells, samples]: linear between cells, Gaussian over the patch.

    The weight of a sample of a patch is the product of those along both sides.
    """
    ticks = (np.arange((_CELLS + 1) * _SAMPLES_PER_CELL) + 0.5) / _SAMPLES_PER_CELL - (_CELLS + 1) / 2
    centres = np.arange(_CELLS) - (_CELLS - 1) / 2
    weights: Float64Array = np.maximum(0, 1 - np.abs(ticks - centres[:, None])) * np.exp(-(ticks**2) / (_CELLS**2 / 2))
    return weights


def _limited(values: Float32Array) -> Float32Array:
    """Descriptors [N, D] of length 1, of which no value was above the limit before the last division."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    limited = np.minimum(values, _LARGEST_VALUE * lengths)
    scaled: Float32Array = limited / np.maximum(np.linalg.norm(limited, axis=1, keepdims=True), np.float32(1e-12))
    return scaled
