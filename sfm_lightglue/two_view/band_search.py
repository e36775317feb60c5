"""Best and second best keypoint of each epipolar band, in blocks of neighbouring bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray

_BLOCK_SIZE = 64
"""Keypoints of image 0 that are compared at once."""

_WIDE_RAD = 0.2
"""A keypoint with a wider band, near the epipole, is compared with all others."""

_CLASS_FACTOR = 4.0
"""Bands of one class have widths that differ by less than this factor. Near the epipole a band of a few pixels is a
wide angle; without classes, all keypoints would be compared with others in so wide an angle."""

_ROUNDING_RAD = 1e-6
"""Error of the difference of two float32 angles below 2 pi, with which bands are widened in the choice of keypoints."""

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
    scratch = _Scratch()
    blocks = _blocks(sorted0) if len(side1.angles) > 0 else []
    for rows, columns in zip(blocks, _columns(blocks, sorted0, sorted1, period), strict=True):
        if columns is None:
            continue
        others = _rows(sorted1.descriptors, columns)
        similarity = scratch.array(0, (rows.stop - rows.start, len(others)))
        np.matmul(sorted0.descriptors[rows], others.T, out=similarity)
        outside = _outside(sorted0, rows, sorted1, columns, period, scratch)
        np.copyto(similarity, _NOT_ALLOWED, where=outside)
        best1.update(columns, _two_best(similarity, sorted0.order[rows], axis=0))
        by_row = _two_best(similarity, sorted1.order[columns], axis=1)
        best0.rows[rows], best0.similarities[rows] = by_row.rows, by_row.similarities
        best0.next_similarities[rows] = by_row.next_similarities
    return _in_first_order(best0, sorted0.order), _in_first_order(best1, sorted1.order)


@dataclass(frozen=True, eq=False, slots=True)
class _Sorted:
    """Keypoints of one image, sorted by the class of the width of their band, then by their angle; float32 arrays [N].

    Args:
        order: [N] rows of the keypoints.
        starts: [C + 1] first keypoint of each class; the last class has the wide bands.
        angles: in radians.
        reaches: half the width of each band in radians.
        class_reaches: [C] the largest one of each class.
        squared_reaches: squares of the part of the width that is due to this image alone.
        squared_slopes: squared change of the angle per pixel.
        squared_other_limits: squared width in the other image.
        depths: see `BandSide`.
        descriptors: [N, D].
    """

    order: IndexArray
    starts: IndexArray
    angles: Float32Array
    reaches: Float32Array
    class_reaches: Float64Array
    squared_reaches: Float32Array
    squared_slopes: Float32Array
    squared_other_limits: Float32Array
    depths: Float32Array
    descriptors: Float32Array

    @classmethod
    def of(cls, side: BandSide, limits_px: Float64Array) -> _Sorted:
        """Sort the keypoints of an image; `limits_px` [N] are half the widths of their bands in its pixels."""
        reaches = limits_px * side.slopes
        borders = _borders(max(float(reaches.min(initial=_WIDE_RAD)), 1e-12))
        classes = np.searchsorted(borders, reaches, side="right")
        order = np.lexsort((side.angles, classes))
        starts = np.searchsorted(classes[order], np.arange(len(borders) + 2))
        columns = (
            side.angles,
            reaches,
            (side.limits_px * side.slopes) ** 2,
            side.slopes**2,
            side.other_limits_px**2,
            np.clip(side.depths, -1e30, 1e30),
        )
        angles, widths, squared, slopes, others, depths = (column[order].astype(np.float32) for column in columns)
        largest = np.zeros(len(borders) + 1)
        np.maximum.at(largest, classes, reaches)
        descriptors = side.descriptors.take(order, axis=0)  # a fifth of the time of indexing
        return cls(order, starts, angles, widths, largest, squared, slopes, others, depths, descriptors)


def _borders(smallest_rad: float) -> Float64Array:
    """Ascending widths [C - 1] that divide the classes; the last class is that of wide bands."""
    num = max(int(np.ceil(np.log(_WIDE_RAD / smallest_rad) / np.log(_CLASS_FACTOR))), 1)
    return np.asarray(np.minimum(smallest_rad * _CLASS_FACTOR ** np.arange(1, num + 1), _WIDE_RAD))


def _blocks(keypoints: _Sorted) -> list[slice]:
    """Blocks of keypoints of one class with neighbouring angles."""
    return [
        slice(start, min(start + _BLOCK_SIZE, last))
        for first, last in pairwise(keypoints.starts.tolist())
        for start in range(first, last, _BLOCK_SIZE)
    ]


def _columns(
    blocks: Sequence[slice], keypoints: _Sorted, others: _Sorted, period: float
) -> Iterator[IndexArray | slice | None]:
    """For each block, positions of the other keypoints whose bands can contain one of it; None if there are none."""
    if not blocks:
        return
    starts, stops = np.array([(rows.start, rows.stop) for rows in blocks], np.int64).T
    lowest, highest = keypoints.angles[starts], keypoints.angles[stops - 1]
    reaches = np.maximum.reduceat(keypoints.reaches, starts)
    is_wide = starts >= keypoints.starts[-2]
    found = []
    for number, other_reach in enumerate(others.class_reaches.tolist()):
        first, last = others.starts[number : number + 2].tolist()
        if first == last:
            continue
        reach = np.hypot(reaches, np.float32(other_reach)) * np.float32(1 + 1e-5) + np.float32(_ROUNDING_RAD)
        low, high = lowest - reach, highest + reach
        is_all = is_wide | (high - low >= 0.99 * period) | (number == len(others.class_reaches) - 1)
        angles = others.angles[first:last]
        for turn in (0.0, -period, period):
            begins = first + angles.searchsorted(low + np.float32(turn))
            ends = first + angles.searchsorted(high + np.float32(turn), side="right")
            found.append((np.where(is_all, first, begins), np.where(is_all, last if turn == 0 else first, ends)))
    for begins, ends in zip(*(np.stack(each, axis=1).tolist() for each in zip(*found, strict=True)), strict=True):
        parts = [(begin, end) for begin, end in zip(begins, ends, strict=True) if begin < end]
        if len(parts) > 1:
            yield np.concatenate([np.arange(begin, end) for begin, end in parts])
        else:
            yield slice(*parts[0]) if parts else None


def _outside(
    keypoints: _Sorted, rows: slice, others: _Sorted, columns: IndexArray | slice, period: float, scratch: _Scratch
) -> BoolArray:
    """[R, C] whether two keypoints do not lie in each other's band, or at an impossible depth."""
    angles, other_angles = keypoints.angles[rows], others.angles[columns]
    shape = len(angles), len(other_angles)
    gaps, part = scratch.array(1, shape), scratch.array(2, shape)
    np.subtract(angles[:, None], other_angles, out=gaps)
    is_sorted = isinstance(columns, slice)  # neighbours of one class
    low, high = (other_angles[0], other_angles[-1]) if is_sorted else (other_angles.min(), other_angles.max())
    if max(angles[-1] - low, high - angles[0]) > period / 2:
        np.multiply(gaps, np.float32(1 / period), out=part)
        np.rint(part, out=part)  # np.remainder is twenty times as slow
        part *= np.float32(period)
        gaps -= part
    gaps *= gaps
    np.multiply(keypoints.squared_other_limits[rows, None], others.squared_slopes[columns], out=part)
    gaps -= part
    outside: BoolArray = gaps > keypoints.squared_reaches[rows, None]
    outside |= others.depths[columns] < keypoints.depths[rows, None]
    return outside


def _rows(values: Float32Array, rows: IndexArray | slice) -> Float32Array:
    """Rows of an array [N, D]."""
    return values[rows] if isinstance(rows, slice) else values.take(rows, axis=0)


class _Scratch:
    """Memory that blocks use one after the other: new pages take longer than the arithmetic on them."""

    def __init__(self) -> None:
        self._flat = [np.empty(0, np.float32)] * 3

    def array(self, number: int, shape: tuple[int, int]) -> Float32Array:
        """One of three arrays, float32 with any values."""
        size = shape[0] * shape[1]
        if len(self._flat[number]) < size:
            self._flat[number] = np.empty(size, np.float32)
        return self._flat[number][:size].reshape(shape)


def _two_best(similarity: Float32Array, numbers: IndexArray, axis: int) -> Best:
    """The two largest values of [R, C] along an axis, and the largest one's number; `numbers` are those of the axis."""
    positions = similarity.argmax(axis=axis)
    along = np.arange(similarity.shape[1 - axis])
    place = (positions, along) if axis == 0 else (along, positions)
    best = similarity[place]
    similarity[place] = _NOT_ALLOWED
    second = similarity.max(axis=axis)
    similarity[place] = best
    return Best(np.where(best > _NOT_ALLOWED, numbers[positions], -1), best, second)


def _in_first_order(best: Best, order: IndexArray) -> Best:
    """The entries of sorted keypoints in the order before sorting."""
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.arange(len(order))
    return Best(best.rows[inverse], best.similarities[inverse], best.next_similarities[inverse])
