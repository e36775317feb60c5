"""Keypoints that are the best ones of each other's epipolar bands, in blocks of neighbouring bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array, IndexArray
from sfm_lightglue.kernels.bands import SortedKeypoints, search_bands
from sfm_lightglue.kernels.library import compiled

_BLOCK_SIZE = 64
"""Keypoints of image 0 that are compared at once."""

_WIDE_RAD = 0.2
"""A keypoint with a wider band, near the epipole, is compared with all others."""

_CLASS_FACTOR = 4.0
"""Bands of one class have widths that differ by less than this factor. Near the epipole a band of a few pixels is a
wide angle; without classes, all keypoints would be compared with others in so wide an angle."""

_ROUNDING_RAD = 1e-6
"""Error of the difference of two float32 angles below 2 pi, with which bands are widened in the choice of keypoints."""

_NUM_SCRATCH = 5
"""Arrays that each block overwrites: similarities, gaps, a part of these, descriptors of both images."""

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
class MutualBest:
    """Keypoints that are the best ones of each other's bands.

    Args:
        rows0: [M] of image 0, ascending.
        rows1: [M] of image 1.
        similarities: [M] float32 cosine of both.
        next_similarities: [M] float32 cosine of the second best pair of either keypoint; -2 without one.
    """

    rows0: IndexArray
    rows1: IndexArray
    similarities: Float32Array
    next_similarities: Float32Array


def mutual_best(side0: BandSide, side1: BandSide, period: float) -> MutualBest:
    """The keypoints of both images that are the best ones of each other within their bands.

    Keypoints i and j are within each other's band if the difference of their angles is at most
    √((limit_i slope_i)² + (limit_j slope_j)²), the Sampson error of equal angles, and the depth is possible.

    Args:
        side0: keypoints of image 0.
        side1: keypoints of image 1.
        period: of the angles, in radians.
    """
    sorted0 = _Sorted.of(side0, side0.limits_px)
    sorted1 = _Sorted.of(side1, np.full(len(side1.angles), side0.other_limits_px.max(initial=0.0)))
    found = _Found.nothing(len(side0.angles), len(side1.angles))
    library = compiled()
    if library is not None:
        found = _Found(*search_bands(library, sorted0.for_kernel(), sorted1.for_kernel(), period, _ROUNDING_RAD))
    elif len(side1.angles) > 0:
        blocks, bands = _blocks(sorted0), _Bands(sorted0, sorted1, period)
        for rows, columns in zip(blocks, _columns(blocks, sorted0, sorted1, period), strict=True):
            if columns is not None:
                found.update(rows, columns, bands.similarities(rows, columns))
    return found.mutual(sorted0.order, sorted1.order)


@dataclass(frozen=True, eq=False, slots=True)
class _Found:
    """What the blocks have shown, by the positions of sorted keypoints. Similarities are -2 where nothing was found.

    Args:
        columns: [N0] best keypoint of image 1 for each one of image 0.
        best: [N0] its similarity.
        second: [N0] similarity of the second best one.
        others: [N1] largest similarity of each keypoint of image 1 with keypoints of image 0 in whose band it lies, but
            whose best keypoint is another one.
    """

    columns: IndexArray
    best: Float32Array
    second: Float32Array
    others: Float32Array

    @classmethod
    def nothing(cls, num0: int, num1: int) -> _Found:
        """No keypoint has a band yet."""
        best, second, others = (np.full(num, _NOT_ALLOWED) for num in (num0, num0, num1))
        return cls(np.zeros(num0, np.int64), best, second, others)

    def update(self, rows: slice, columns: IndexArray | slice, similarity: Float32Array) -> None:
        """Take the similarities of a block, whose values are overwritten; each row comes in one block."""
        positions = similarity.argmax(axis=1)
        flat, places = similarity.reshape(-1), positions + np.arange(0, similarity.size, similarity.shape[1])
        self.best[rows] = flat.take(places)
        flat[places] = _NOT_ALLOWED
        self.second[rows] = similarity.max(axis=1)
        largest = similarity.max(axis=0)
        if isinstance(columns, slice):
            self.columns[rows] = positions + columns.start
            others = self.others[columns]
            np.maximum(others, largest, out=others)
        else:
            self.columns[rows] = columns.take(positions)
            self.others[columns] = np.maximum(self.others.take(columns), largest)

    def mutual(self, order0: IndexArray, order1: IndexArray) -> MutualBest:
        """The pairs in which both keypoints are the best ones, in the orders [N0] and [N1] before sorting."""
        rows = np.flatnonzero(self.best > _NOT_ALLOWED)
        rows = rows[np.lexsort((-self.best[rows], self.columns[rows]))]
        columns, best = self.columns[rows], self.best[rows]
        firsts = np.flatnonzero(np.diff(columns, prepend=-1))  # of the rows with the same best keypoint
        followers = np.minimum(firsts + 1, len(rows) - 1)
        has_follower = (columns[followers] == columns[firsts]) & (followers > firsts)
        others = np.maximum(self.others[columns[firsts]], np.where(has_follower, best[followers], _NOT_ALLOWED))
        is_mutual = best[firsts] >= others
        chosen, others = rows[firsts[is_mutual]], others[is_mutual]
        rows0 = order0[chosen]
        order = np.argsort(rows0)
        chosen = chosen[order]
        next_similarities = np.maximum(self.second[chosen], others[order])
        return MutualBest(rows0[order], order1[self.columns[chosen]], self.best[chosen], next_similarities)


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
        descriptors: [N, D], not sorted.
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
        return cls(order, starts, angles, widths, largest, squared, slopes, others, depths, side.descriptors)

    def for_kernel(self) -> SortedKeypoints:
        """The same, with sorted descriptors."""
        return SortedKeypoints(
            self.starts,
            self.class_reaches,
            self.angles,
            self.reaches,
            self.squared_reaches,
            self.squared_slopes,
            self.squared_other_limits,
            self.depths,
            self.descriptors.take(self.order, axis=0),
        )


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


class _Bands:
    """Similarities of blocks of keypoints within their bands.

    Args:
        keypoints: of image 0.
        others: of image 1.
        period: of the angles, in radians.
    """

    def __init__(self, keypoints: _Sorted, others: _Sorted, period: float) -> None:
        self._keypoints, self._others, self._period, self._scratch = keypoints, others, period, _Scratch()
        limits = keypoints.squared_other_limits
        self._widths = others.squared_slopes * limits[0] if len(limits) > 0 and (limits == limits[0]).all() else None

    def similarities(self, rows: slice, columns: IndexArray | slice) -> Float32Array:
        """Cosines [R, C] of descriptors; -2 for keypoints outside the band, or at an impossible depth.

        The array is valid until the next call.
        """
        keypoints, others = self._keypoints, self._others
        descriptors = self._descriptors(3, keypoints, rows), self._descriptors(4, others, columns)
        shape = len(descriptors[0]), len(descriptors[1])
        similarity = self._scratch.array(0, shape)
        np.matmul(descriptors[0], descriptors[1].T, out=similarity)
        gaps = self._squared_gaps(rows, columns, shape)
        if self._widths is None:
            part = self._scratch.array(2, shape)
            np.multiply(keypoints.squared_other_limits[rows, None], _part(others.squared_slopes, columns), out=part)
            gaps -= part
        else:
            gaps -= _part(self._widths, columns)
        outside = gaps > keypoints.squared_reaches[rows, None]
        outside |= _part(others.depths, columns) < keypoints.depths[rows, None]
        np.putmask(similarity, outside, _NOT_ALLOWED)  # np.copyto takes longer
        return similarity

    def _descriptors(self, number: int, keypoints: _Sorted, part: IndexArray | slice) -> Float32Array:
        """Descriptors of some keypoints, in scratch memory, which stays in the cache: the other image has them all."""
        chosen = _part(keypoints.order, part)
        taken = self._scratch.array(number, (len(chosen), keypoints.descriptors.shape[1]))
        return keypoints.descriptors.take(chosen, axis=0, out=taken, mode="clip")  # "raise" copies once more

    def _squared_gaps(self, rows: slice, columns: IndexArray | slice, shape: tuple[int, int]) -> Float32Array:
        """Squared differences of the angles of keypoints."""
        angles, other_angles = self._keypoints.angles[rows], _part(self._others.angles, columns)
        gaps = self._scratch.array(1, shape)
        np.subtract(angles[:, None], other_angles, out=gaps)
        is_sorted = isinstance(columns, slice)  # neighbours of one class
        low, high = (other_angles[0], other_angles[-1]) if is_sorted else (other_angles.min(), other_angles.max())
        if max(angles[-1] - low, high - angles[0]) > self._period / 2:
            part = self._scratch.array(2, shape)
            np.multiply(gaps, np.float32(1 / self._period), out=part)
            np.rint(part, out=part)  # np.remainder is twenty times as slow
            part *= np.float32(self._period)
            gaps -= part
        gaps *= gaps
        return gaps


_Values = TypeVar("_Values", Float32Array, IndexArray)


def _part(values: _Values, rows: IndexArray | slice) -> _Values:
    """Some values of an array [N]."""
    return values[rows] if isinstance(rows, slice) else values.take(rows, axis=0)


class _Scratch:
    """Memory that blocks use one after the other: new pages take longer than the arithmetic on them."""

    def __init__(self) -> None:
        self._flat = [np.empty(0, np.float32)] * _NUM_SCRATCH

    def array(self, number: int, shape: tuple[int, int]) -> Float32Array:
        """One of the arrays, float32 with any values."""
        size = shape[0] * shape[1]
        if len(self._flat[number]) < size:
            self._flat[number] = np.empty(size, np.float32)
        return self._flat[number][:size].reshape(shape)
