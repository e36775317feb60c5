"""Places that a sequence of images comes back to, by likeness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sfm_lightglue.arrays import IndexArray
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.pair_sets import IndexedPairs
from sfm_lightglue.retrieval.describe import describe_scene
from sfm_lightglue.retrieval.similar_images import SimilarImages

_CANDIDATES_PER_WINDOW = 10
"""Similar images that are looked at for each image of the window: most of them are a little farther on the way."""

_CANDIDATES_PER_LOOP = 2
"""Similar images elsewhere on the way whose keypoints are compared, for each that is chosen."""

_NUM_LIKE = 2
"""Number of the most similar images of each image that are compared with its neighbours in the sequence."""

_NEIGHBOR_STEPS = 2
"""Steps in the sequence to the images that count as neighbours."""


def similar_images(context: PairContext) -> SimilarImages:
    """Global descriptors of the images whose features are known."""
    return describe_scene(context.features, context.store, context.executor, context.progress)


def loop_pairs(similar: SimilarImages, sequence: Sequence[str], window: int, num_loops: int) -> IndexedPairs:
    """Each image with similar ones elsewhere in a sequence.

    The images of a pair are more than a window apart, and so are the images that one image is paired with.

    Args:
        similar: global descriptors of images of the sequence.
        sequence: names of all images, in their order.
        window: number of steps.
        num_loops: of each image.
    """
    steps_from_name = {name: i for i, name in enumerate(sequence)}
    steps = np.array([steps_from_name[name] for name in similar.names], np.int64)
    # The keypoints are compared of the few candidates only that remain.
    found, _ = similar.by_vectors().nearest(num_loops + _CANDIDATES_PER_WINDOW * window)
    rows = [
        (row, other)
        for row, candidates in enumerate(found)
        for other in _apart(steps, row, candidates[candidates >= 0].tolist(), window, _CANDIDATES_PER_LOOP * num_loops)
    ]
    best = _most_similar(similar, np.array(rows, np.int64).reshape(-1, 2), num_loops)
    return IndexedPairs.from_rows(similar.names, best).among_names(sequence)


def _apart(steps: IndexArray, image: int, candidates: Sequence[int], window: int, num: int) -> list[int]:
    """The first candidates that are more than a window away from the image and from each other."""
    taken: list[int] = []
    taken_steps = [steps[image]]
    for other in candidates:
        if len(taken) == num:
            break
        if min(abs(steps[other] - step) for step in taken_steps) > window:
            taken.append(other)
            taken_steps.append(steps[other])
    return taken


def _most_similar(similar: SimilarImages, rows: IndexArray, num: int) -> IndexArray:
    """The most similar pairs of each first image.

    Args:
        similar: global descriptors.
        rows: [P, 2] sorted by first image.
        num: of each image.
    """
    if len(rows) == 0:
        return rows
    order = np.lexsort((rows[:, 1], -similar.similarity(rows), rows[:, 0]))
    rank = np.arange(len(rows)) - np.searchsorted(rows[:, 0], rows[:, 0])
    chosen: IndexArray = rows[order[rank < num]]
    return chosen


def share_like_neighbors(similar: SimilarImages, sequence: Sequence[str]) -> float:
    """Fraction of the images of which one of the two most similar images is at most two steps away in the sequence."""
    steps_from_name = {name: i for i, name in enumerate(sequence)}
    steps: IndexArray = np.array([steps_from_name[name] for name in similar.names], np.int64)
    found, _ = similar.nearest(_NUM_LIKE)
    if found.size == 0:
        return 0.0
    is_near = (np.abs(steps[found] - steps[:, None]) <= _NEIGHBOR_STEPS) & (found >= 0)
    return float(is_near.any(axis=1).mean())
