"""The cues of all verified pairs of a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.geometry.transforms import rotation_angles_deg
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.name_order import is_a_way
from sfm_lightglue.lookalikes.region import SideCues, fit_affine, side_cues
from sfm_lightglue.lookalikes.same_view import ray_angles, same_view_conflict, unknown_surroundings
from sfm_lightglue.lookalikes.tracks import PairTracks
from sfm_lightglue.lookalikes.views import ImageView, PairView

_MAX_THIRD_IMAGES = 12
"""Number of third images of a pair that are examined at most: those that are connected best."""

_STRONGER = 1.5
"""A third image confirms or contradicts a pair if both of its pairs are stronger by at least this factor."""

_MIN_ORDER_CORRELATION = 0.4
"""The order of the names says something if the rank correlation between what pairs have in common and their nearness in
it is at least this."""

_MIN_ORDER_PAIRS = 10
"""Number of pairs that this needs."""


def scene_cues(images: Sequence[ImageView], pairs: Sequence[PairView], max_error_deg: float = 5.0) -> list[PairCues]:
    """The cues of each verified pair of a scene.

    Args:
        images: in the order of their names.
        pairs: the verified pairs, each once.
        max_error_deg: rotations of a triplet that differ by at most this angle close.
    """
    if not pairs:
        return []
    num_pairs = _num_pairs_of_keypoints(images, pairs)
    sides = [
        side_cues((images[pair.image0], images[pair.image1]), pair, (num_pairs[pair.image0], num_pairs[pair.image1]))
        for pair in pairs
    ]
    scene = _Scene(images, pairs, np.array([_strength(*both) for both in sides]), num_pairs, max_error_deg)
    return [scene.cues(idx, *both) for idx, both in enumerate(sides)]


def _num_pairs_of_keypoints(images: Sequence[ImageView], pairs: Sequence[PairView]) -> list[IndexArray]:
    """For each image, the number [N] of pairs in which each keypoint is an inlier."""
    counts = [np.zeros(len(image.keypoints), np.int64) for image in images]
    for pair in pairs:
        counts[pair.image0][pair.rows[:, 0]] += 1
        counts[pair.image1][pair.rows[:, 1]] += 1
    return counts


def _strength(first: SideCues, second: SideCues) -> float:
    """How completely a pair matches what both images should see, in [0, 1]."""
    matched = np.nan_to_num(first.matched * second.matched) ** 0.5
    return float(matched * (1 - np.nan_to_num((first.unmatched_cells + second.unmatched_cells) / 2)))


@dataclass(frozen=True, slots=True)
class _Closures:
    """How a pair agrees with the pairs of third images; NaN if there are none."""

    triplets_closed: float = nan
    tracks_closed: float = nan
    tracks_crossed: float = nan


class _Scene:
    """The pairs of a scene, by image.

    Args:
        images: in the order of their names.
        pairs: of the scene.
        strengths: [P] of the pairs.
        num_pairs: for each image, the number [N] of pairs of each keypoint.
        max_error_deg: see `scene_cues`.
    """

    def __init__(
        self,
        images: Sequence[ImageView],
        pairs: Sequence[PairView],
        strengths: Float64Array,
        num_pairs: Sequence[IndexArray],
        max_error_deg: float,
    ) -> None:
        self._images, self._pairs, self._strengths = images, pairs, strengths
        self._num_pairs, self._max_error_deg = num_pairs, max_error_deg
        self._tracks = PairTracks(images, pairs)
        self._best_strengths = self._best(strengths)
        self._best_inliers = self._best(np.array([len(pair.rows) for pair in pairs], np.float64))
        self._order_scale = 1 / len(images) if self._has_order() else nan
        self._angles = [ray_angles((images[pair.image0], images[pair.image1]), pair) for pair in pairs]
        angles_deg = np.array([each.median_deg for each in self._angles])
        self._is_way = is_a_way(len(images), pairs, strengths, angles_deg)
        self._usual_distance = self._usual_distance_m()

    def cues(self, idx: int, first: SideCues, second: SideCues) -> PairCues:
        """The cues of a pair, from those of its sides."""
        pair = self._pairs[idx]
        low, high = _sorted_fields(first, second)
        closures = self._closures(idx)
        spread, offset = self._scales(pair)
        rarity = [1 / self._num_pairs[image][pair.rows[:, side]] for side, image in enumerate(_ends(pair))]
        distance = self._distance_m(pair)
        return PairCues(
            log_inliers=float(np.log10(1 + len(pair.rows))),
            inlier_ratio=len(pair.rows) / max(pair.num_matches, 1),
            distinctive_ratio=(pair.num_distinctive_inliers + 1) / (pair.num_distinctive + 2),
            log_distinctive=float(np.log10(1 + pair.num_distinctive_inliers)),
            mean_score=pair.mean_score,
            region_low=low.region,
            region_high=high.region,
            matched_low=low.matched,
            matched_high=high.matched,
            relative_matched=float(self._strengths[idx] / self._best_of(pair, self._best_strengths)),
            unmatched_cells_low=low.unmatched_cells,
            unmatched_cells_high=high.unmatched_cells,
            missing_low=low.missing,
            missing_high=high.missing,
            scale_spread=spread,
            scale_offset=offset,
            track_rarity=float(np.concatenate(rarity).mean()) if len(pair.rows) > 0 else nan,
            triplets_closed=closures.triplets_closed,
            tracks_closed=closures.tracks_closed,
            tracks_crossed=closures.tracks_crossed,
            jaccard=self._jaccard(pair),
            relative_inliers=float(len(pair.rows) / self._best_of(pair, self._best_inliers)),
            order_gap=abs(pair.image0 - pair.image1) * self._order_scale,
            order_step=self._order_step(pair) if self._is_way else nan,
            same_view_conflict=self._same_view_conflict(idx),
            surroundings_conflict=self._surroundings_conflict(idx),
            position_gap=float(np.log2(1 + distance / self._usual_distance)),
        )

    def _best(self, values: Float64Array) -> Float64Array:
        """The largest value [N] of the pairs of each image."""
        best = np.full(len(self._images), 1e-9)
        for pair, value in zip(self._pairs, values.tolist(), strict=True):
            for image in _ends(pair):
                best[image] = max(best[image], value)
        return best

    def _best_of(self, pair: PairView, best: Float64Array) -> float:
        return float(np.sqrt(best[pair.image0] * best[pair.image1]))

    def _closures(self, idx: int) -> _Closures:
        """Whether rotations and tracks over third images agree with a pair.

        Third images count only if both of their pairs are clearly stronger: pairs of the same two places that look
        alike confirm each other.
        """
        pair = self._pairs[idx]
        others0, others1 = (self._tracks.idx_from_other[image] for image in _ends(pair))
        strength_from_third = {
            third: float(min(self._strengths[others0[third]], self._strengths[others1[third]]))
            for third in self._tracks.thirds(idx)
        }
        limit = _STRONGER * self._strengths[idx]
        stronger = [third for third, strength in strength_from_third.items() if strength > limit]
        thirds = sorted(stronger, key=lambda third: (-strength_from_third[third], third))[:_MAX_THIRD_IMAGES]
        if not thirds:
            return _Closures()
        weights = np.array([strength_from_third[third] for third in thirds]) ** 2
        to_third = np.array([self._rotation(others0[third], pair.image0) for third in thirds])
        from_third = np.array([self._rotation(others1[third], third) for third in thirds])
        is_closed = rotation_angles_deg(pair.rotation.T @ from_third @ to_third) <= self._max_error_deg
        found = self._tracks.agreement(idx, thirds)
        num_inliers = max(len(pair.rows), 1)
        return _Closures(
            float(weights @ is_closed / weights.sum()),
            float(found.is_confirmed.sum() / num_inliers),
            float(found.is_crossed.sum() / num_inliers),
        )

    def _rotation(self, idx: int, source: int) -> Float64Array:
        """The rotation [3, 3] of a pair, from one of its images to the other one."""
        pair = self._pairs[idx]
        return pair.rotation if pair.image0 == source else pair.rotation.T

    def _jaccard(self, pair: PairView) -> float:
        """Weighted by the strengths of the pairs; NaN if both images have no other pairs."""
        others0, others1 = (self._tracks.idx_from_other[image] for image in _ends(pair))
        common = united = 0.0
        for third in sorted((others0.keys() | others1.keys()) - set(_ends(pair))):
            first, second = (
                float(self._strengths[others[third]]) if third in others else 0.0 for others in (others0, others1)
            )
            common += min(first, second)
            united += max(first, second)
        return common / united if united > 0 else nan

    def _scales(self, pair: PairView) -> tuple[float, float]:
        """`scale_spread` and `scale_offset`."""
        image0, image1 = (self._images[image] for image in _ends(pair))
        if image0.scales is None or image1.scales is None or len(pair.rows) < 3:
            return nan, nan
        rows0, rows1 = pair.rows.T
        scales0, scales1 = image0.scales[rows0] / max(image0.size), image1.scales[rows1] / max(image1.size)
        ratios = np.log2(np.maximum(scales1, 1e-9) / np.maximum(scales0, 1e-9))
        middle = float(np.median(ratios))
        affine = fit_affine(image0.keypoints[rows0] / max(image0.size), image1.keypoints[rows1] / max(image1.size))
        growth = 0.5 * float(np.log2(np.abs(np.linalg.det(affine[:2])) + 1e-9))
        return float(np.median(np.abs(ratios - middle))), abs(middle - growth)

    def _has_order(self) -> bool:
        """Whether pairs of images with near names are the stronger ones."""
        if len(self._pairs) < _MIN_ORDER_PAIRS:
            return False
        gaps = np.array([abs(pair.image0 - pair.image1) for pair in self._pairs])
        common = self._strengths * [len(pair.rows) for pair in self._pairs]
        ranks0, ranks1 = (np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (common, gaps))
        return bool(np.corrcoef(ranks0, ranks1)[0, 1] <= -_MIN_ORDER_CORRELATION)

    def _order_step(self, pair: PairView) -> float:
        """Difference of the positions among all images; NaN for images of different folders."""
        first, second = (self._images[image] for image in _ends(pair))
        if first.folder != second.folder:
            return nan
        if first.number is None or second.number is None:
            return abs(pair.image0 - pair.image1)
        return abs(first.number - second.number)

    def _same_view_conflict(self, idx: int) -> float:
        pair, angles = self._pairs[idx], self._angles[idx]
        if not angles.is_same_view:
            return nan
        stands_still = self._tracks.matched_with(idx, 0), self._tracks.matched_with(idx, 1)
        return same_view_conflict((self._images[pair.image0], self._images[pair.image1]), pair, angles, stands_still)

    def _surroundings_conflict(self, idx: int) -> float:
        pair, angles = self._pairs[idx], self._angles[idx]
        if not angles.is_same_view:
            return nan
        images = self._images[pair.image0], self._images[pair.image1]
        num_pairs = self._num_pairs[pair.image0], self._num_pairs[pair.image1]
        return same_view_conflict(images, pair, angles, unknown_surroundings(images, num_pairs))

    def _distance_m(self, pair: PairView) -> float:
        """Distance of the known positions of both images; NaN if one is not known."""
        first, second = (self._images[image].position_m for image in _ends(pair))
        return nan if first is None or second is None else float(np.linalg.norm(first - second))

    def _usual_distance_m(self) -> float:
        """Median distance of the images of the stronger half of the pairs, at least 1 m."""
        distances = np.array([self._distance_m(pair) for pair in self._pairs])
        is_strong = (self._strengths >= np.median(self._strengths)) & ~np.isnan(distances)
        return max(float(np.median(distances[is_strong])), 1.0) if is_strong.any() else nan


def _ends(pair: PairView) -> tuple[int, int]:
    return pair.image0, pair.image1


def _sorted_fields(first: SideCues, second: SideCues) -> tuple[SideCues, SideCues]:
    """The smaller and the larger value of each cue of both sides."""
    values = np.array(
        [[side.region, side.matched, side.missing, side.unmatched_cells] for side in (first, second)], np.float64
    )
    values = np.sort(values, axis=0)
    return SideCues(*values[0].tolist()), SideCues(*values[1].tolist())
