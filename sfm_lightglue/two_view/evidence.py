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

_MAX_NEIGHBOURS = 4
"""Number of keypoints near the matched one that are skipped at most."""


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
    descriptors = _unit(source.descriptors[rows])
    similarity = descriptors @ _unit(target.descriptors).T  # [K, N]
    numbers = np.arange(len(rows))
    matched = similarity[numbers, columns].copy()
    similarity[numbers, columns] = -1.0
    radius = _SAME_PLACE_PX * (target.shrink_factor or 1.0)
    nearest = similarity.argmax(axis=1)
    for _ in range(_MAX_NEIGHBOURS):
        offsets = target.keypoints[nearest] - target.keypoints[columns]
        near = np.flatnonzero((offsets**2).sum(axis=1) <= radius**2)
        if len(near) == 0:
            break
        similarity[near, nearest[near]] = -1.0
        nearest[near] = similarity[near].argmax(axis=1)
    squared, squared_next = (np.maximum(2 - 2 * value, 0) for value in (matched, similarity[numbers, nearest]))
    distinctive: BoolArray = squared < _MAX_RATIO**2 * squared_next
    return distinctive


def _unit(descriptors: Float32Array) -> Float32Array:
    norms = np.linalg.norm(descriptors, axis=1, keepdims=True)
    unit: Float32Array = descriptors / np.maximum(norms, np.float32(1e-12))
    return unit
