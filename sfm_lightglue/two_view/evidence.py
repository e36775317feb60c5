"""Evidence that two images show the same place: distinctive matches, and what they say about the geometry.

Matches between equal windows of different walls agree with a common geometry, because windows stand in rows. But each
of their keypoints has look-alikes in the other image too. Keypoints without a look-alike are distinctive; between
images of different places few of them are matched, and few of these are inliers.
"""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, IndexArray
from sfm_lightglue.two_view.correspondences import MatchedPair
from sfm_lightglue.types import Features, PairEvidence

_MAX_RATIO = 0.8
"""A match is distinctive if its distance is smaller than this multiple of the next smallest one, in both images.

Source: Lowe, Distinctive image features from scale-invariant keypoints, 2004, section 7.1.
"""

_SAME_PLACE_PX = 6.0
"""Keypoints this near to the matched one, in pixels of the image that the detector received, are no look-alikes."""

_MAX_EXAMINED = 256
"""Number of matches of a pair that are examined at most."""

_MAX_NEIGHBOURS = 5
"""Number of keypoints of a block that are skipped at most, because they are the matched one or near it."""

_UNIT_TOLERANCE = 1e-5
"""Largest difference of a squared length from 1 that is rounding."""

_BLOCKS = (0, 64, 320)
"""First keypoints of the blocks that are searched for look-alikes one after another. Half of the look-alikes are found
in the first two, and a match that has one is compared no further."""


def measure_evidence(pair: MatchedPair, inlier_mask: BoolArray, log10_false_alarms: float) -> PairEvidence:
    """Count the distinctive matches and inliers of a verified pair.

    Of many matches, `_MAX_EXAMINED` that are spread evenly are examined, and the counts are scaled.

    Args:
        pair: features and matches.
        inlier_mask: [M] of the verified geometry.
        log10_false_alarms: of the verified geometry.
    """
    num_matches = len(pair.matches)
    num_examined = min(num_matches, _MAX_EXAMINED)
    examined = np.linspace(0, max(num_matches - 1, 0), num_examined).astype(np.int64)
    indices0, indices1 = pair.matches.indices[examined].T
    features0, features1 = pair.features
    distinctive = np.ones(num_examined, np.bool_)
    for source, rows, target, columns in (
        (features0, indices0, features1, indices1),
        (features1, indices1, features0, indices0),
    ):
        distinctive[distinctive] = _has_no_look_alike(source, rows[distinctive], target, columns[distinctive])
    scale = num_matches / max(num_examined, 1)
    return PairEvidence(
        num_distinctive=round(scale * int(distinctive.sum())),
        num_distinctive_inliers=round(scale * int((distinctive & inlier_mask[examined]).sum())),
        mean_inlier_score=float(pair.matches.scores[inlier_mask].mean()) if inlier_mask.any() else 0.0,
        log10_false_alarms=log10_false_alarms,
    )


def _has_no_look_alike(source: Features, rows: IndexArray, target: Features, columns: IndexArray) -> BoolArray:
    """[K] whether the descriptor of the matched keypoint is much nearer than that of any keypoint elsewhere.

    Args:
        source: features of one image.
        rows: [K] of the matched keypoints.
        target: features of the other image.
        columns: [K] of their matches.
    """
    if len(rows) == 0:
        return np.zeros(0, np.bool_)
    descriptors, others = _unit(source.descriptors[rows]), _unit(target.descriptors)
    matched = np.einsum("kd,kd->k", descriptors, others[columns])
    # d < ratio d' for distances with d² = 2 - 2 s is a limit on the similarity s'.
    limits = 1 - (1 - np.minimum(matched, 1)) / np.float32(_MAX_RATIO**2)
    places, radius = target.keypoints[columns], _SAME_PLACE_PX * (target.shrink_factor or 1.0)
    left = np.arange(len(rows))
    for start, stop in zip(_BLOCKS, (*_BLOCKS[1:], len(others)), strict=True):
        if start >= len(others):
            break
        similarity = descriptors[left] @ others[start:stop].T
        elsewhere = _largest_elsewhere(similarity, limits[left], target.keypoints[start:stop], places[left], radius)
        left = left[elsewhere < limits[left]]
    distinctive = np.zeros(len(rows), np.bool_)
    distinctive[left] = True
    return distinctive


def _largest_elsewhere(
    similarity: Float32Array, limits: Float32Array, keypoints: Float32Array, places: Float32Array, radius: float
) -> Float32Array:
    """[K] largest similarity to a keypoint that is not near a place; exact where it reaches the limit.

    Args:
        similarity: [K, N]; it is changed.
        limits: [K] smaller similarities do not matter.
        keypoints: [N, 2].
        places: [K, 2].
        radius: within which a keypoint is near.
    """
    numbers = np.arange(len(similarity))
    nearest = similarity.argmax(axis=1)
    largest: Float32Array = similarity[numbers, nearest]
    for _ in range(_MAX_NEIGHBOURS):
        offsets = keypoints[nearest] - places
        near = np.flatnonzero((largest >= limits) & ((offsets**2).sum(axis=1) <= radius**2))
        if len(near) == 0:
            break
        similarity[near, nearest[near]] = -1.0
        nearest[near] = similarity[near].argmax(axis=1)
        largest[near] = similarity[near, nearest[near]]
    return largest


def _unit(descriptors: Float32Array) -> Float32Array:
    """The descriptors with length 1; those of most extractors have it, and are not copied."""
    squared = np.einsum("nd,nd->n", descriptors, descriptors)
    if np.abs(squared - 1).max(initial=0.0) <= _UNIT_TOLERANCE:
        return descriptors
    unit: Float32Array = descriptors / np.sqrt(np.maximum(squared, np.float32(1e-24)))[:, None]
    return unit
