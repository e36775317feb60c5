"""A quick comparison of two images: how many of their largest keypoints match."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float32Array, IndexArray, Int8Array, Int32Array, require_array
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, reporting, silent
from sfm_lightglue.retrieval.vlad import unit_rows

_MAX_RATIO = 0.8
"""Largest ratio of the distances to the nearest and to the second nearest descriptor."""

_ROUNDING = np.float32(1e-5)
"""Larger than the errors of products, so that equal descriptors are not distinct."""

_CHUNK = 64


@dataclass(frozen=True, eq=False, slots=True)
class LargestKeypoints:
    """Descriptors of the largest keypoints of images.

    Args:
        descriptors: [N, M, L] int8; the first `counts[i]` of image i are used.
        counts: [N].
    """

    descriptors: Int8Array
    counts: IndexArray

    def __post_init__(self) -> None:
        require_array("descriptors", self.descriptors, np.int8, (len(self.counts), None, None))

    @classmethod
    def from_images(cls, images: list[Int8Array]) -> LargestKeypoints:
        """From the descriptors [M, L] of each image, of which there is at least one."""
        counts = np.array([len(one) for one in images], np.int64)
        descriptors = np.zeros((len(images), int(counts.max()), images[0].shape[1]), np.int8)
        for i, one in enumerate(images):
            descriptors[i, : len(one)] = one
        return cls(descriptors, counts)

    @property
    def max_count(self) -> int:
        """Largest number of keypoints of an image."""
        return int(self.descriptors.shape[1])

    def num_matches(self, rows: IndexArray, executor: Executor = SERIAL, progress: Progress = silent) -> Int32Array:
        """The number [P] of mutual matches with a distinct nearest neighbour of pairs of images.

        Args:
            rows: [P, 2] indices of images; pairs of the same first image are quick if they follow each other.
            executor: compares chunks of pairs.
            progress: called with "compare" after each chunk.
        """
        chunks = (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))
        results = executor.map(self._of_chunk, chunks)
        found = list(reporting(results, "compare", -(-len(rows) // _CHUNK), progress))
        return np.concatenate(found) if found else np.zeros(0, np.int32)

    def _of_chunk(self, rows: IndexArray) -> Int32Array:
        unit: dict[int, Float32Array] = {i: self._unit(i) for i in np.unique(rows).tolist()}
        return np.array([num_mutual_matches(unit[i] @ unit[j].T) for i, j in rows.tolist()], np.int32)

    def _unit(self, image: int) -> Float32Array:
        return unit_rows(self.descriptors[image, : self.counts[image]].astype(np.float32))


def num_mutual_matches(products: Float32Array) -> int:
    """Mutual nearest neighbours that pass the ratio test in both directions, of products [M0, M1] of unit vectors."""
    if min(products.shape) < 2:
        return 0
    rows = np.arange(len(products))
    columns = products.argmax(axis=1)
    is_mutual = products.argmax(axis=0)[columns] == rows
    rows, columns = rows[is_mutual], columns[is_mutual]
    best = products[rows, columns]
    products[rows, columns] = -1
    second = np.maximum(products[rows].max(axis=1), products[:, columns].max(axis=0))
    return int((1 - best + _ROUNDING < _MAX_RATIO**2 * (1 - second)).sum())
