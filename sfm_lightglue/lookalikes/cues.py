"""Cues: numbers that say whether a verified pair is a true overlap or shows two places that look alike."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import nan
from typing import ClassVar

import numpy as np

from sfm_lightglue.arrays import Float64Array


@dataclass(frozen=True, slots=True)
class PairCues:
    """The cues of a verified pair; NaN is a cue that is not known. Of two sides, "low" is the smaller value.

    Args:
        log_inliers: decimal logarithm of 1 + the number of inliers.
        inlier_ratio: fraction of the matches that are inliers.
        distinctive_ratio: fraction of the distinctive matches that are inliers.
        log_distinctive: decimal logarithm of 1 + the number of distinctive inliers.
        mean_score: mean score of the inliers.
        region_low: fraction of the image that the region seen by both images covers.
        matched_low: fraction of the matchable keypoints in that region that are inliers, the smaller one of both sides.
        matched_high: the same of the other side.
        unmatched_cells: fraction of the cells of that region with matchable keypoints that have no inlier.
        scale_spread: standard deviation of the logarithm (base 2) of the ratio of the scales of matched keypoints.
        track_rarity: mean over the inliers of how few images see their track; 1 if only this pair does.
        missing_low: fraction of the keypoints in the region that other pairs match and this pair does not, the smaller
            one of both sides.
        missing_high: the same of the other side.
        triplets_closed: fraction of the triplets of images with this pair whose rotations close.
        tracks_closed: fraction of the tracks over a third image that this pair closes.
        jaccard: size of the common neighbourhood of both images, as a fraction of their united neighbourhoods.
        relative_inliers: number of inliers, as a fraction of that of the strongest pairs of both images.
        order_gap: distance of both images in the order of names, as a fraction of the number of images; NaN if the
            order of the names says nothing.
        position_gap: distance of known positions, as a multiple of the usual one of verified pairs.
    """

    log_inliers: float = nan
    inlier_ratio: float = nan
    distinctive_ratio: float = nan
    log_distinctive: float = nan
    mean_score: float = nan
    region_low: float = nan
    matched_low: float = nan
    matched_high: float = nan
    unmatched_cells: float = nan
    scale_spread: float = nan
    track_rarity: float = nan
    missing_low: float = nan
    missing_high: float = nan
    triplets_closed: float = nan
    tracks_closed: float = nan
    jaccard: float = nan
    relative_inliers: float = nan
    order_gap: float = nan
    position_gap: float = nan

    FIELDS: ClassVar[tuple[str, ...]]
    """Names of the cues, in the order of `as_vector`."""

    def as_vector(self) -> Float64Array:
        """The cues [F] in the order of `FIELDS`."""
        return np.array([getattr(self, name) for name in self.FIELDS], np.float64)


PairCues.FIELDS = tuple(field.name for field in fields(PairCues))
