"""VLAD: the sums of the differences between local descriptors and their words."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import Float32Array, IndexArray


def nearest_words(rows: Float32Array, words: Float32Array) -> IndexArray:
    """Index [N] of the nearest word [K, L] of each row [N, L]; the lowest if several are as near."""
    nearest: IndexArray = np.argmin((words * words).sum(axis=1) - 2 * (rows @ words.T), axis=1)
    return nearest


def vlad(rows: Float32Array, words: Float32Array) -> Float32Array:
    """The VLAD [K L] of an image, of length 1; zeros for no rows.

    Each difference has length 1, so has the sum of each word; of each number, the signed square root is taken.

    Source: Jégou et al., Aggregating local descriptors into a compact image representation, 2010; Delhumeau et al.,
    Revisiting the VLAD image representation, 2013 (lengths of differences); Arandjelović and Zisserman, All about
    VLAD, 2013 (lengths of sums).

    Args:
        rows: [N, L] reduced local descriptors.
        words: [K, L].
    """
    nearest = nearest_words(rows, words)
    members = np.zeros((len(words), len(rows)), np.float32)
    members[nearest, np.arange(len(rows))] = 1
    sums = unit_rows(members @ unit_rows(rows - words[nearest]))
    roots: Float32Array = np.sign(sums) * np.sqrt(np.abs(sums))
    return unit_rows(roots.reshape(1, -1)).ravel()


def unit_rows(rows: Float32Array) -> Float32Array:
    """Rows [N, D] divided by their lengths; rows of zeros stay zeros."""
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    units: Float32Array = rows / np.maximum(lengths, np.float32(1e-12))[:, None]
    return units
