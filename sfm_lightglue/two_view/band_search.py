"""Best and second best keypoint of each epipolar band, in blocks of neighbouring bands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray

_BLOCK_SIZE = 96
"""Keypoints of image 0 that are compared at once."""

_WIDE_RAD = 0.05
"""A keypoint with a wider band, near the epipole, is compared with all others."""

_NOT_ALLOWED = np.float32(-2.0)
"""Similarity of keypoints outside the band; cosines are at least -1."""


@dataclass(frozen=True, eq=False, slots=True)
class BandSide:
    """The keypoints of one image.

    Args:
        angles: [N] of their epipolar planes around the baseline, in radians, in [0, period).
        slopes: [N] change of the angle per pixel.
        limits_px: [N] half the width of the band, in pixels of this image.
        other_limits_px: [N] half the width of the band of the keypoint, in pixels of the other image.
        depths: [N] position along the epipolar line, larger for farther points in image 1 and for nearer ones in
            image 0: a keypoint of image 1 can match those of image 0 that are not larger. Zeros allow all.
        descriptors: [N, D] float32 of length 1.
    """

    angles: Float64Array
    slopes: Float64Array
    limits_px: Float64Array
    other_limits_px: Float64Array
    depths: Float64Array
    descriptors: Float32Array


@dataclass(frozen=True, eq=False, slots=True)
class Best:
    """The best keypoint of the other image for each keypoint.

    Args:
        rows: [N] of the other image; -1 if its band is empty.
        similarities: [N] float32 cosine of the best one; -2 if the band is empty.
        next_similarities: [N] float32 cosine of the second best one; -2 without a second one.
    """

    rows: IndexArray
    similarities: Float32Array
    next_similarities: Float32Array

    @classmethod
    def nothing(cls, num: int) -> Best:
        """No keypoint has a band yet."""
        return cls(np.full(num, -1), np.full(num, _NOT_ALLOWED), np.full(num, _NOT_ALLOWED))

    def update(self, columns: IndexArray | slice, found: Best) -> None:
        """Take better keypoints into some columns, in place; those of `found` have not been compared before."""
        best, second = self.similarities[columns], self.next_similarities[columns]
        better = found.similarities > best
        runner_up = np.minimum(best, found.similarities)
        self.next_similarities[columns] = np.maximum(np.maximum(second, found.next_similarities), runner_up)
        self.rows[columns] = np.where(better, found.rows, self.rows[columns])
        self.similarities[columns] = np.maximum(best, found.similarities)


def best_of_bands(side0: BandSide, side1: BandSide, period: float) -> tuple[Best, Best]:
    """For each keypoint of both images, the best and second best one of the other image within its band.

    Keypoints i and j are within each other's band if the difference of their angles is at most
    √((limit_i slope_i)² + (limit_j slope_j)²), the Sampson error of equal angles, and the depth is possible.

    Args:
        side0: keypoints of image 0.
        side1: keypoints of image 1.
        period: of the angles, in radians.
    """
    sorted0 = _Sorted.of(side0, side0.limits_px)
    sorted1 = _Sorted.of(side1, np.full(len(side1.angles), side0.other_limits_px.max(initial=0.0)))
    best0, best1 = Best.nothing(len(side0.angles)), Best.nothing(len(side1.angles))
    for rows in _blocks(sorted0):
        columns = _columns(sorted0, rows, sorted1, period)
        if columns is None:
            continue
        similarity = sorted0.descriptors[rows] @ sorted1.descriptors[columns].T
        similarity[~_within(sorted0, rows, sorted1, columns, period)] = _NOT_ALLOWED
        by_column = _two_best(similarity.T.copy(), sorted0.order[rows])
        by_row = _two_best(similarity, sorted1.order[columns])
        best0.rows[rows], best0.similarities[rows] = by_row.rows, by_row.similarities
        best0.next_similarities[rows] = by_row.next_similarities
        best1.update(columns, by_column)
    return _in_first_order(best0, sorted0.order), _in_first_order(best1, sorted1.order)


@dataclass(frozen=True, eq=False, slots=True)
class _Sorted:
    """Keypoints of one image, sorted by their angle, those with wide bands last; arrays are float32 [N].

    Args:
        order: [N] rows of the keypoints.
        num_narrow: number of keypoints whose bands are not wide.
        angles: in radians.
        reaches: half the width of each band in radians.
        squared_reaches: squares of the part of the width that is due to this image alone.
        squared_slopes: squared change of the angle per pixel.
        squared_other_limits: squared width in the other image.
        depths: see `BandSide`.
        descriptors: [N, D].
    """

    order: IndexArray
    num_narrow: int
    angles: Float32Array
    reaches: Float32Array
    squared_reaches: Float32Array
    squared_slopes: Float32Array
    squared_other_limits: Float32Array
    depths: Float32Array
    descriptors: Float32Array

    @classmethod
    def of(cls, side: BandSide, limits_px: Float64Array) -> _Sorted:
        """Sort the keypoints of an image; `limits_px` [N] are half the widths of their bands in its pixels."""
        reaches = limits_px * side.slopes
        is_wide = reaches > _WIDE_RAD
        order = np.lexsort((side.angles, is_wide))
        columns = (
            side.angles,
            reaches,
            (side.limits_px * side.slopes) ** 2,
            side.slopes**2,
            side.other_limits_px**2,
            np.clip(side.depths, -1e30, 1e30),
        )
        angles, widths, squared, slopes, others, depths = (column[order].astype(np.float32) for column in columns)
        num_narrow = len(order) - int(is_wide.sum())
        descriptors = side.descriptors[order]
        return cls(order, num_narrow, angles, widths, squared, slopes, others, depths, descriptors)


def _blocks(keypoints: _Sorted) -> Iterator[slice]:
    """Blocks of keypoints with neighbouring angles; those with wide bands have blocks of their own."""
    num = len(keypoints.order)
    for first, last in ((0, keypoints.num_narrow), (keypoints.num_narrow, num)):
        for start in range(first, last, _BLOCK_SIZE):
            yield slice(start, min(start + _BLOCK_SIZE, last))


def _columns(keypoints: _Sorted, rows: slice, others: _Sorted, period: float) -> IndexArray | slice | None:
    """Positions of the other keypoints whose bands can contain one of a block; None if there are none."""
    num, num_narrow = len(others.order), others.num_narrow
    reach = float(keypoints.reaches[rows].max()) + float(others.reaches[:num_narrow].max(initial=0.0))
    low, high = float(keypoints.angles[rows.start]) - reach, float(keypoints.angles[rows.stop - 1]) + reach
    if rows.start >= keypoints.num_narrow or high - low >= period:
        return slice(0, num)
    narrow = others.angles[:num_narrow]
    turns = [turn for turn in (0.0, -period, period) if low + turn < period and high + turn >= 0]
    ends = [np.searchsorted(narrow, (low + turn, high + turn)) for turn in turns]
    if num_narrow == num and len(ends) == 1:
        return slice(*ends[0]) if ends[0][0] < ends[0][1] else None
    columns = np.concatenate([*(np.arange(*both) for both in ends), np.arange(num_narrow, num)])
    return columns if len(columns) else None


def _within(keypoints: _Sorted, rows: slice, others: _Sorted, columns: IndexArray | slice, period: float) -> BoolArray:
    """[R, C] whether two keypoints lie in each other's band, at a possible depth."""
    gaps = np.subtract.outer(keypoints.angles[rows], others.angles[columns])
    if not isinstance(columns, slice) or rows.start >= keypoints.num_narrow:
        gaps -= np.rint(gaps * np.float32(1 / period)) * np.float32(period)  # np.remainder is twenty times as slow
    gaps *= gaps
    gaps -= np.multiply.outer(keypoints.squared_other_limits[rows], others.squared_slopes[columns])
    allowed: BoolArray = gaps <= keypoints.squared_reaches[rows, None]
    allowed &= others.depths[columns] >= keypoints.depths[rows, None]
    return allowed


def _two_best(similarity: Float32Array, numbers: IndexArray) -> Best:
    """The two largest values of each row of [R, C], changed in place, and the number [C] of the largest."""
    rows = np.arange(len(similarity))
    positions = similarity.argmax(axis=1)
    best = similarity[rows, positions]
    similarity[rows, positions] = _NOT_ALLOWED
    return Best(np.where(best > _NOT_ALLOWED, numbers[positions], -1), best, similarity.max(axis=1))


def _in_first_order(best: Best, order: IndexArray) -> Best:
    """The entries of sorted keypoints in the order before sorting."""
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.arange(len(order))
    return Best(best.rows[inverse], best.similarities[inverse], best.next_similarities[inverse])
