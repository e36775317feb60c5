"""Learn a vocabulary from local descriptors: principal axes, and words by k-means."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import Float32Array, IndexArray
from sfm_lightglue.retrieval.vlad import nearest_words
from sfm_lightglue.retrieval.vocabulary import Vocabulary

LEARNING_VERSION = 1
"""Number to raise when a change of the code changes what is learnt from the same descriptors."""

NUM_WORDS = 64
LOCAL_DIMENSION = 64
_NUM_ROUNDS = 20
_BLOCK_ROWS = 16_384


def learn_vocabulary(descriptors: Float32Array, seed: int = 0) -> Vocabulary:
    """A vocabulary of at most 64 words.

    Args:
        descriptors: [N, D] local descriptors of many images, N at least 1.
        seed: of the choice of the first words.
    """
    mean, axes = principal_axes(descriptors, LOCAL_DIMENSION)
    reduced = ((descriptors - mean) @ axes).astype(np.float32, copy=False)
    return Vocabulary(mean, axes, cluster_centers(reduced, NUM_WORDS, seed))


def principal_axes(rows: Float32Array, num: int) -> tuple[Float32Array, Float32Array]:
    """The mean [D] of rows [N, D], and at most `num` principal axes [D, M] of length 1, largest variance first."""
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    centered = (rows - mean).astype(np.float64)
    if len(rows) < rows.shape[1]:  # the smaller product has the same variances
        variances, vectors = np.linalg.eigh(centered @ centered.T)
        has_variance = variances > 1e-9 * max(1e-9, variances[-1])
        axes = centered.T @ (vectors[:, has_variance] / np.sqrt(variances[has_variance]))
    else:
        axes = np.linalg.eigh(centered.T @ centered)[1]
    axes = axes[:, ::-1][:, :num]
    if axes.shape[1] == 0:
        return mean, np.zeros((rows.shape[1], 0), np.float32)
    # The sign of an axis is free: its largest entry is positive.
    signs = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0))
    return mean, np.ascontiguousarray(axes * signs, np.float32)


def cluster_centers(rows: Float32Array, num: int, seed: int) -> Float32Array:
    """The centres [K, L] of clusters of rows [N, L] by k-means, K = min(num, N).

    A cluster that becomes empty keeps its centre.
    """
    rng = np.random.default_rng(seed)
    centers = rows[np.sort(rng.choice(len(rows), min(num, len(rows)), replace=False))]
    for _ in range(_NUM_ROUNDS):
        words = _nearest_in_blocks(rows, centers)
        order = np.argsort(words, kind="stable")
        filled, starts = np.unique(words[order], return_index=True)
        sums = np.add.reduceat(rows[order], starts, axis=0, dtype=np.float64)
        moved = centers.copy()
        moved[filled] = sums / np.diff([*starts, len(rows)])[:, None]
        if np.array_equal(moved, centers):
            break
        centers = moved
    return centers


def _nearest_in_blocks(rows: Float32Array, centers: Float32Array) -> IndexArray:
    blocks = range(0, len(rows), _BLOCK_ROWS)
    return np.concatenate([nearest_words(rows[start : start + _BLOCK_ROWS], centers) for start in blocks])
