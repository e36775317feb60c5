"""Align patches of an image with templates by translation, with gain and bias of the grey values.

Source: Baker and Matthews, Lucas-Kanade 20 Years On: part 1 (inverse composition) and part 3 (appearance).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array, IndexArray, UInt8Array
from sfm_lightglue.refinement.patches import Pyramid, grid

_MIN_CONTRAST = 2.0
"""Smallest standard deviation of the grey values of a template."""

_STOP_PX = 0.1
"""An alignment ends with a shorter step, whose result is not compared again. With 0.04 the errors are the same."""

_LEFT_OF_STEP = 0.3
"""Part of the last step that would follow it: measured, steps get shorter by about this factor."""

_MIN_CORRELATION = 0.3
"""At a lower normalised correlation the gradient of the template tells nothing about the shift."""

_SIGMA_FACTOR = 2.0
"""Measured errors of aligned keypoints over those of independent noise of the samples, in rendered images. Noise of
neighbouring samples is correlated, and the surface is not quite a plane."""

_BLOCK = 2048
"""Patches that are aligned at the same time, so that their arrays stay in the cache."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """Aligned patches.

    Args:
        centers: [N, 2] pixels of the stored image with the highest correlation found, COLMAP convention.
        before: [N] normalised correlation of the patch at the first centre with its template, -1 to 1; -1 without
            contrast.
        after: [N] the same at `centers`.
        sigmas_px: [N] standard deviation of `centers` along the direction in which it is largest, together with the
            step that would follow; infinite without contrast.
    """

    centers: Float64Array
    before: Float64Array
    after: Float64Array
    sigmas_px: Float64Array

    def part(self, rows: slice) -> Alignment:
        """Some of the patches."""
        return Alignment(self.centers[rows], self.before[rows], self.after[rows], self.sigmas_px[rows])


@dataclass(frozen=True, eq=False)
class _Templates:
    """Templates of N patches without mean and of norm 1, and how they change with a shift.

    The part of the derivatives that is orthogonal to a constant and to the values is never computed for each sample.

    Args:
        values: [N, S].
        slopes: [N, 2, S] differences of grey values by x and y.
        scales: [N] derivatives of the values per difference of grey values.
        overlaps: [N, 2] scalar products of the derivatives and the values.
        inverses: [N, 2, 2] of the normal matrices of the orthogonal parts; infinite without contrast.
    """

    values: Float32Array
    slopes: Float32Array
    scales: Float64Array
    overlaps: Float64Array
    inverses: Float64Array

    def chosen(self, rows: IndexArray) -> _Templates:
        """Some of the templates, by their ascending rows."""
        if len(rows) == len(self.values):
            return self
        return _Templates(
            self.values.take(rows, axis=0),
            self.slopes.take(rows, axis=0),
            self.scales[rows],
            self.overlaps[rows],
            self.inverses[rows],
        )


def align(
    image: Pyramid,
    centers: Float64Array,
    warps: Float64Array,
    templates: UInt8Array,
    num_iterations: int,
    max_shift_px: float,
) -> Alignment:
    """Move patches to where they resemble their templates most.

    Args:
        image: that is sampled.
        centers: [N, 2] first middles of the patches in pixels of the stored image, COLMAP convention.
        warps: [N, 2, 2] pixels of the stored image per sample of the template.
        templates: [N, size + 2, size + 2] grey values; the outermost samples are used for derivatives only.
        num_iterations: largest number of steps.
        max_shift_px: a patch that would move further stays where its correlation was best.
    """
    parts = [
        _align_block(image, centers[rows], warps[rows], templates[rows], num_iterations, max_shift_px)
        for rows in (slice(start, start + _BLOCK) for start in range(0, max(1, len(centers)), _BLOCK))
    ]
    return Alignment(
        np.concatenate([part.centers for part in parts]),
        np.concatenate([part.before for part in parts]),
        np.concatenate([part.after for part in parts]),
        np.concatenate([part.sigmas_px for part in parts]),
    )


def _align_block(
    image: Pyramid,
    centers: Float64Array,
    warps: Float64Array,
    patches: UInt8Array,
    num_iterations: int,
    max_shift_px: float,
) -> Alignment:
    templates = _templates(patches)
    offsets = grid(patches.shape[1] - 2)
    current, best = centers.copy(), centers.copy()
    before, after = np.full(len(centers), -1.0), np.full(len(centers), -1.0)
    left_px = np.full(len(centers), np.inf)  # length of the step that follows from the best centre
    active = np.flatnonzero(np.isfinite(templates.inverses).all(axis=(1, 2)))
    for step in range(num_iterations + 1):
        if len(active) == 0:
            break
        values = image.sample(current[active], warps[active], offsets)
        correlations, shifts = _compare(values, templates.chosen(active))
        if step == 0:
            before[active] = correlations
        moves = (warps[active] @ shifts[:, :, None])[:, :, 0]
        lengths = np.linalg.norm(moves, axis=1)
        is_better = correlations > after[active]
        better = active[is_better]
        after[better], best[better], left_px[better] = correlations[is_better], current[better], lengths[is_better]
        current[active] -= moves
        is_last = is_better & (lengths <= _STOP_PX)
        last = active[is_last]
        best[last], left_px[last] = current[last], _LEFT_OF_STEP * lengths[is_last]
        goes_on = (correlations > _MIN_CORRELATION) & (lengths > _STOP_PX)
        goes_on &= np.linalg.norm(current[active] - centers[active], axis=1) <= max_shift_px
        active = active[goes_on]
    sigmas_px = np.hypot(_sigmas(warps, templates.inverses, after, len(offsets)), left_px)
    return Alignment(best, before, after, sigmas_px)


def _templates(patches: UInt8Array) -> _Templates:
    grey = patches.astype(np.float32)
    num_patches, size = len(grey), grey.shape[1] - 2
    shaped = np.empty((num_patches, 2, size, size), np.float32)
    np.subtract(grey[:, 1:-1, 2:], grey[:, 1:-1, :-2], out=shaped[:, 0])
    np.subtract(grey[:, 2:, 1:-1], grey[:, :-2, 1:-1], out=shaped[:, 1])
    slopes = shaped.reshape(num_patches, 2, size * size)
    values = grey[:, 1:-1, 1:-1].reshape(num_patches, size * size)
    values -= values.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.einsum("ns,ns->n", values, values))[:, None]
    has_contrast = norms[:, 0] > _MIN_CONTRAST * np.sqrt(values.shape[1])
    norms = np.maximum(norms, np.float32(1e-6))
    values /= norms
    scales = 0.5 / norms[:, 0].astype(np.float64)
    overlaps = np.einsum("nks,ns->nk", slopes, values).astype(np.float64) * scales[:, None]
    means = slopes.mean(axis=2).astype(np.float64)

    def moments(i: int, j: int) -> Float64Array:
        products = np.einsum("ns,ns->n", slopes[:, i], slopes[:, j]).astype(np.float64)
        products -= slopes.shape[2] * means[:, i] * means[:, j]
        return np.asarray(products * scales**2 - overlaps[:, i] * overlaps[:, j])

    # Closed forms: LAPACK takes a microsecond for each matrix.
    xx, xy, yy = moments(0, 0), moments(0, 1), moments(1, 1)
    determinants = xx * yy - xy**2
    is_regular = has_contrast & (determinants > 1e-12)
    inverses = np.full((num_patches, 2, 2), np.inf)
    adjugates = np.stack([yy, -xy, -xy, xx], axis=1).reshape(-1, 2, 2)
    inverses[is_regular] = adjugates[is_regular] / determinants[is_regular, None, None]
    return _Templates(values, slopes, scales, overlaps, inverses)


def _compare(values: Float32Array, templates: _Templates) -> tuple[Float64Array, Float64Array]:
    """Normalised correlations [N] of samples [N, S], and the shifts [N, 2] in samples that would explain them."""
    values -= values.mean(axis=1, keepdims=True)
    gains = np.einsum("ns,ns->n", values, templates.values).astype(np.float64)
    norms = np.sqrt(np.einsum("ns,ns->n", values, values)).astype(np.float64)
    # The part of the slopes that is orthogonal to the template and to a constant: gain and bias do not matter.
    along = np.einsum("nks,ns->nk", templates.slopes, values).astype(np.float64) * templates.scales[:, None]
    along -= templates.overlaps * gains[:, None]
    shifts = (templates.inverses @ along[:, :, None])[:, :, 0] / np.maximum(gains, 1e-6)[:, None]
    return gains / np.maximum(norms, 1e-6), shifts


def _sigmas(warps: Float64Array, inverses: Float64Array, correlations: Float64Array, num_samples: int) -> Float64Array:
    """Largest standard deviations [N] in pixels of centres, from the difference of patch and template."""
    is_finite = np.isfinite(inverses).all(axis=(1, 2))
    covariances = warps[is_finite] @ inverses[is_finite] @ warps[is_finite].transpose(0, 2, 1)
    variances = np.maximum(1 - correlations[is_finite] ** 2, 0) / (num_samples - 4)
    sigmas = np.full(len(warps), np.inf)
    mean, half = ((covariances[:, 0, 0] + sign * covariances[:, 1, 1]) / 2 for sign in (1, -1))
    largest = np.maximum(mean + np.hypot(half, covariances[:, 0, 1]), 0)  # eigenvalue
    sigmas[is_finite] = _SIGMA_FACTOR * np.sqrt(largest * variances)
    return sigmas
