"""The images with the most similar global descriptors: exact search in blocks of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sfm_lightglue.arrays import Float32Array, IndexArray, Int32Array, require_array
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, reporting, silent
from sfm_lightglue.retrieval.largest_keypoints import LargestKeypoints

_BLOCK_SIZE = 512
"""Images whose similarities to all others are computed at once: 20 MB for 10,000 images."""

_FAISS_FROM = 20_000
"""Number of images from which faiss searches, if it is installed."""

NUM_CANDIDATES = 24
"""Images with the largest products of vectors whose largest keypoints are matched, for each image."""

_CANDIDATES_PER_RESULT = 1.5
"""Candidates for each wanted image, if that gives more of them."""

_EQUAL = 1e-6
"""Similarities that differ by less count as equal: sums of products in another order differ by as much."""


@dataclass(frozen=True, eq=False)
class SimilarImages:
    """Images by their global descriptors, and if they are known, by their largest keypoints.

    Args:
        names: of the images, sorted.
        vectors: [N, D] float32 of length 1; their products order the images.
        executor: searches blocks of images.
        largest: of the same images; the images with the largest products are ordered by the number of their matches.
        progress: called with "search" after each block of images, and with "compare" after each chunk of pairs whose
            largest keypoints are matched.
    """

    names: tuple[str, ...]
    vectors: Float32Array
    executor: Executor = SERIAL
    largest: LargestKeypoints | None = None
    progress: Progress = silent

    def __post_init__(self) -> None:
        require_array("vectors", self.vectors, np.float32, (len(self.names), None))

    def __len__(self) -> int:
        return len(self.names)

    def by_vectors(self) -> SimilarImages:
        """The same images by the products of their vectors alone."""
        return replace(self, largest=None)

    def nearest(self, k: int) -> tuple[Int32Array, Float32Array]:
        """The most similar other images of each image, most similar first; the lower index first if they are equal.

        Args:
            k: number of images; at most all others are returned.

        Returns:
            Indices [N, min(k, N - 1)] int32, and similarities of the same shape: products of vectors, or, with the
            largest keypoints, roughly the fraction of them that match.
        """
        everything = np.arange(len(self))
        return self.between(everything, everything, max(0, min(k, len(self) - 1)))

    def between(self, rows0: npt.ArrayLike, rows1: npt.ArrayLike, k: int) -> tuple[Int32Array, Float32Array]:
        """The most similar images of one set for each image of another; an image is never similar to itself.

        Args:
            rows0: [M] indices of the images to find similar ones for.
            rows1: indices of the images to choose from, without repetition.
            k: number of images.

        Returns:
            Indices [M, K] int32 and similarities [M, K] float32, K = min(k, len(rows1)), most similar first. If fewer
            than K other images exist, the last index is -1 and its similarity is -inf.
        """
        queries, choices = np.asarray(rows0, np.int64), np.sort(np.asarray(rows1, np.int64))
        k = min(k, len(choices))
        if len(queries) == 0 or k == 0:
            return np.zeros((len(queries), k), np.int32), np.zeros((len(queries), k), np.float32)
        if self.largest is None:
            return self._by_vectors(queries, choices, k)
        num_candidates = min(len(choices), max(NUM_CANDIDATES, int(_CANDIDATES_PER_RESULT * k)))
        return self._by_matches(self.largest, queries, *self._by_vectors(queries, choices, num_candidates), k)

    def similarity(self, rows: IndexArray) -> Float32Array:
        """The similarity [P] of pairs [P, 2] of images, as in `nearest`."""
        products: Float32Array = np.einsum("pd,pd->p", *(self.vectors[column] for column in rows.T))
        if self.largest is None:
            return products
        return self._joined(self.largest, self.largest.num_matches(rows, self.executor), products)

    @staticmethod
    def _joined(largest: LargestKeypoints, numbers: Int32Array, products: Float32Array) -> Float32Array:
        """Numbers of matches are integers: products of vectors decide between equal ones only."""
        joined = (numbers + products / 4) / np.float32(largest.max_count + 0.25)
        return joined.astype(np.float32, copy=False)

    def _by_vectors(self, queries: IndexArray, choices: IndexArray, k: int) -> tuple[Int32Array, Float32Array]:
        vectors = self.vectors[choices]
        index = _faiss_index(vectors) if len(choices) >= _FAISS_FROM else None

        def search(block: IndexArray) -> tuple[Int32Array, Float32Array]:
            if index is not None:
                return _by_faiss(index, self.vectors[block], block, choices, k)
            return _nearest_columns(self.vectors[block] @ vectors.T, block, choices, k)

        num_blocks = -(-len(queries) // _BLOCK_SIZE)
        results = self.executor.map(search, _blocks(queries))
        found = list(reporting(results, "search", num_blocks, self.progress))
        return np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found])

    def _by_matches(
        self, largest: LargestKeypoints, queries: IndexArray, found: Int32Array, products: Float32Array, k: int
    ) -> tuple[Int32Array, Float32Array]:
        rows, columns = np.nonzero(found >= 0)
        both = np.sort(np.stack((queries[rows], found[rows, columns].astype(np.int64)), axis=1), axis=1)
        asked, positions = np.unique(both, axis=0, return_inverse=True)  # most pairs are found from both images
        numbers = largest.num_matches(asked, self.executor, self.progress)[positions.ravel()]
        similarity = np.full(found.shape, -np.inf, np.float32)
        similarity[rows, columns] = self._joined(largest, numbers, products[rows, columns])
        order = np.argsort(-np.round(similarity / _EQUAL), axis=1, kind="stable")[:, :k]
        return np.take_along_axis(found, order, axis=1), np.take_along_axis(similarity, order, axis=1)


def _blocks(rows: IndexArray) -> Iterator[IndexArray]:
    return (rows[start : start + _BLOCK_SIZE] for start in range(0, len(rows), _BLOCK_SIZE))


def _nearest_columns(
    similarity: Float32Array, queries: IndexArray, choices: IndexArray, k: int
) -> tuple[Int32Array, Float32Array]:
    """The images of the k largest numbers of each row.

    Args:
        similarity: [M, N], overwritten.
        queries: [M] images of the rows.
        choices: [N] images of the columns, ascending.
        k: at most N.
    """
    column = np.searchsorted(choices, queries).clip(max=len(choices) - 1)
    is_itself = np.flatnonzero(choices[column] == queries)
    similarity[is_itself, column[is_itself]] = -np.inf
    limit = np.partition(similarity, -k, axis=1)[:, -k, None]
    rows, columns = np.nonzero(similarity >= limit - np.float32(_EQUAL))
    return _ordered(rows, choices[columns], similarity[rows, columns], len(queries), k)


def _ordered(
    rows: IndexArray, images: IndexArray, similarity: Float32Array, num_rows: int, k: int
) -> tuple[Int32Array, Float32Array]:
    """The first k candidates of each row, by similarity, then by index. Each row has at least k candidates."""
    with np.errstate(invalid="ignore"):
        order = np.lexsort((images, -np.round(similarity / _EQUAL), rows))
    starts = np.searchsorted(rows, np.arange(num_rows))
    chosen = order[starts[:, None] + np.arange(k)]
    values = similarity[chosen]
    return np.where(np.isfinite(values), images[chosen], -1).astype(np.int32), values


def _faiss_index(vectors: Float32Array) -> Any:
    """An exact index of faiss; None if it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    return index


def _by_faiss(
    index: Any, vectors: Float32Array, queries: IndexArray, choices: IndexArray, k: int
) -> tuple[Int32Array, Float32Array]:
    wanted = min(k + 1, len(choices))
    similarity, columns = index.search(np.ascontiguousarray(vectors), wanted)
    images = choices[columns]
    similarity[images == queries[:, None]] = -np.inf
    rows = np.repeat(np.arange(len(queries)), wanted)
    return _ordered(rows, images.ravel(), similarity.ravel(), len(queries), k)


__all__ = ["SimilarImages"]
