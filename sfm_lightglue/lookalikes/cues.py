"""Cues: numbers that say whether a verified pair is a true overlap or shows two places that look alike."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import nan
from typing import ClassVar

import numpy as np

from sfm_lightglue.arrays import Float64Array

CUES_VERSION = 8
"""Part of the keys of models. Raise it when the same verified pairs would have other cues."""


@dataclass(frozen=True, slots=True)
class PairCues:
    """The cues of a verified pair; NaN is a cue that is not known.

    Several cues are fractions of one side: "low" is the smaller one of both images, "high" the larger one.

    Args:
        log_inliers: decimal logarithm of 1 + the number of inliers.
        inlier_ratio: fraction of the matches that are inliers.
        distinctive_ratio: fraction of the distinctive matches that are inliers.
        log_distinctive: decimal logarithm of 1 + the number of distinctive inliers.
        mean_score: mean score of the inliers.
        region_low: fraction of the image that the other image should see.
        region_high: the same of the other side.
        matched_low: fraction of the keypoints in that region that are inliers.
        matched_high: the same of the other side.
        relative_matched: that fraction, in relation to those of the best pairs of both images.
        unmatched_cells_low: fraction of the cells of that region with keypoints that other pairs match in which this
            pair has no inlier.
        unmatched_cells_high: the same of the other side.
        missing_low: fraction of the keypoints in that region that other pairs match and this pair does not.
        missing_high: the same of the other side.
        scale_spread: median deviation of the binary logarithm of the ratio of the scales of matched keypoints.
        scale_offset: difference between this ratio and the one by which the matched region is larger, as a binary
            logarithm.
        track_rarity: mean over the inliers of the reciprocal number of pairs that match their keypoints.
        triplets_closed: weighted fraction of the triplets with two stronger pairs whose rotations close; NaN if there
            are no such triplets.
        tracks_closed: fraction of the inliers that tracks over two stronger pairs confirm; NaN likewise.
        tracks_crossed: fraction of the inliers that such tracks contradict; NaN likewise.
        jaccard: size of the common neighbourhood of both images in relation to that of both neighbourhoods.
        relative_inliers: number of inliers in relation to those of the strongest pairs of both images.
        order_gap: difference of the positions in the order of the names, as a fraction of the number of images; NaN
            if the order of the names says nothing.
        order_step: difference of the positions of all images in the natural order of the names; NaN between folders, or
            if that is not the order of the camera's way, see `is_a_way`.
        same_view_conflict: how much more stays unmatched in whole parts of two images from nearly one place than is
            usual; NaN if they are not taken from one place, see `same_view_conflict`.
        surroundings_conflict: the same of keypoints that no pair matches, see `unknown_surroundings`.
        position_gap: binary logarithm of 1 + the distance of known positions as a multiple of the usual one of the
            strongest pairs.
    """

    log_inliers: float = nan
    inlier_ratio: float = nan
    distinctive_ratio: float = nan
    log_distinctive: float = nan
    mean_score: float = nan
    region_low: float = nan
    region_high: float = nan
    matched_low: float = nan
    matched_high: float = nan
    relative_matched: float = nan
    unmatched_cells_low: float = nan
    unmatched_cells_high: float = nan
    missing_low: float = nan
    missing_high: float = nan
    scale_spread: float = nan
    scale_offset: float = nan
    track_rarity: float = nan
    triplets_closed: float = nan
    tracks_closed: float = nan
    tracks_crossed: float = nan
    jaccard: float = nan
    relative_inliers: float = nan
    order_gap: float = nan
    position_gap: float = nan
    order_step: float = nan
    same_view_conflict: float = nan
    surroundings_conflict: float = nan

    FIELDS: ClassVar[tuple[str, ...]]
    """Names of the cues, in the order of `as_vector`."""

    def as_vector(self) -> Float64Array:
        """The cues [F] in the order of `FIELDS`."""
        return np.array([getattr(self, name) for name in self.FIELDS], np.float64)


PairCues.FIELDS = tuple(field.name for field in fields(PairCues))
