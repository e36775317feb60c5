"""Matches at the same pixel of both images, over a whole scene: content that stands still while the scene moves.

Logos, time stamps, head-up displays and the background of a turntable have many such matches. They agree with a camera
that stands still, and win against the matches of the scene.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Int32Array
from sfm_lightglue.types import ImagePair

_STILL_PX, _MOVING_PX = 1.0, 5.0
"""A match is still below the first displacement and moving above the second, in pixels of images of up to 1600 px."""

_CELL_PX = 4.0
"""Side of the cells of the map of still matches, in the same pixels."""

_REFERENCE_SIZE_PX = 1600.0
_MIN_STILL = 8
"""Number of still matches below which a pair has no influence."""

_MAX_BETWEEN = 0.5
"""A pair has still content only if at most this many matches lie between still and moving, per still match. In a slow
motion and in a forward motion the displacements are continuous."""

_MIN_IMAGES, _MIN_IMAGE_FRACTION = 3, 0.3
"""A cell shows still content if it has still matches in this many images, and in this fraction of all images."""

_STANDING, DOMINATED = 0.8, 0.5
"""Fraction of still matches from which a pair stands still as a whole, and from which still matches dominate it."""

_MIN_MATCHED_FRACTION = 0.3
"""A pair stands still as a whole only if this fraction of the keypoints is matched."""

_DOMINATED_SCENE = 0.8
"""Fraction of dominated pairs from which pairs that stand still as a whole are no exception."""


def is_still(points0: Float32Array, points1: Float32Array, size: tuple[int, int]) -> BoolArray:
    """[M] whether matches lie at the same pixel of both images.

    Args:
        points0: [M, 2] pixels of image 0.
        points1: [M, 2] pixels of image 1.
        size: (width, height) of both images in pixels.
    """
    still: BoolArray = np.linalg.norm(points0 - points1, axis=1) <= _STILL_PX * _scale(size)
    return still


@dataclass(frozen=True, slots=True)
class _PairStillness:
    """Counts of one pair with still content."""

    pair: ImagePair
    fraction: float
    stands_as_whole: bool


class StillMap:
    """Collects the still matches of all pairs of a scene."""

    def __init__(self) -> None:
        self._cells_from_name: dict[str, BoolArray] = {}
        self._size_from_name: dict[str, tuple[int, int]] = {}
        self._pairs: list[_PairStillness] = []
        self._num_pairs = 0

    def add(
        self,
        pair: ImagePair,
        points0: Float32Array,
        points1: Float32Array,
        sizes: tuple[tuple[int, int], tuple[int, int]],
        num_keypoints: int,
    ) -> None:
        """Add the matches of one pair.

        Args:
            pair: the images.
            points0: [M, 2] matched pixels of image 0.
            points1: [M, 2] matched pixels of image 1.
            sizes: (width, height) of both images in pixels.
            num_keypoints: of the image with fewer keypoints.
        """
        if len(points0) < _MIN_STILL:
            return
        self._num_pairs += 1
        if sizes[0] != sizes[1]:
            return
        displacements = np.linalg.norm(points0 - points1, axis=1) / _scale(sizes[0])
        still = displacements <= _STILL_PX
        num_still = int(still.sum())
        num_between = int((displacements <= _MOVING_PX).sum()) - num_still
        if num_still < _MIN_STILL or num_between > _MAX_BETWEEN * num_still:
            return
        fraction = num_still / len(points0)
        is_matched_all_over = len(points0) >= _MIN_MATCHED_FRACTION * num_keypoints
        self._pairs.append(_PairStillness(pair, fraction, fraction >= _STANDING and is_matched_all_over))
        rows, columns = _cells(points0[still], sizes[0])
        for name in (pair.name0, pair.name1):
            if name not in self._cells_from_name:
                self._cells_from_name[name] = np.zeros(_grid_shape(sizes[0]), np.bool_)
                self._size_from_name[name] = sizes[0]
            self._cells_from_name[name][rows, columns] = True

    def content(self, num_images: int) -> StillContent | None:
        """Where the images show still content; None if there is none.

        Args:
            num_images: of the scene.
        """
        cells_from_size: dict[tuple[int, int], BoolArray] = {}
        for size in sorted(set(self._size_from_name.values())):
            counts = sum(
                cells.astype(np.int32)
                for name, cells in self._cells_from_name.items()
                if self._size_from_name[name] == size
            )
            static: BoolArray = np.asarray(counts) >= max(_MIN_IMAGES, math.ceil(_MIN_IMAGE_FRACTION * num_images))
            if static.any():
                cells_from_size[size] = static
        if not cells_from_size:
            return None
        num_dominated = sum(pair.fraction >= DOMINATED for pair in self._pairs)
        is_dominated = num_dominated >= _DOMINATED_SCENE * self._num_pairs
        affected = [pair.pair for pair in self._pairs if is_dominated or not pair.stands_as_whole]
        return StillContent(cells_from_size, tuple(sorted(affected)), num_dominated, self._num_pairs)


@dataclass(frozen=True, eq=False, slots=True)
class StillContent:
    """Where the images of a scene show content that stands still.

    Args:
        cells_from_size: grids [rows, columns] by (width, height) of the images.
        pairs: pairs whose still matches are to be taken out.
        num_dominated: number of pairs in which most matches are still.
        num_pairs: number of pairs with matches.
    """

    cells_from_size: dict[tuple[int, int], BoolArray]
    pairs: tuple[ImagePair, ...]
    num_dominated: int
    num_pairs: int

    def mask(self, points0: Float32Array, points1: Float32Array, size: tuple[int, int]) -> BoolArray:
        """[M] whether matches are still and lie on still content.

        Args:
            points0: [M, 2] matched pixels of image 0.
            points1: [M, 2] matched pixels of image 1.
            size: (width, height) of both images in pixels.
        """
        cells = self.cells_from_size.get(size)
        if cells is None:
            return np.zeros(len(points0), np.bool_)
        near = _with_neighbours(cells)
        mask: BoolArray = is_still(points0, points1, size) & near[_cells(points0, size)]
        return mask


def _scale(size: tuple[int, int]) -> float:
    return max(1.0, max(size) / _REFERENCE_SIZE_PX)


def _grid_shape(size: tuple[int, int]) -> tuple[int, int]:
    cell = _CELL_PX * _scale(size)
    return math.ceil(size[1] / cell) + 1, math.ceil(size[0] / cell) + 1


def _cells(points: Float32Array, size: tuple[int, int]) -> tuple[Int32Array, Int32Array]:
    """Rows and columns [M] of the cells of pixels [M, 2]."""
    rows, columns = _grid_shape(size)
    cells = np.floor(points / (_CELL_PX * _scale(size))).astype(np.int32)
    return np.clip(cells[:, 1], 0, rows - 1), np.clip(cells[:, 0], 0, columns - 1)


def _with_neighbours(cells: BoolArray) -> BoolArray:
    """The cells and the eight around each: keypoints vary by a pixel."""
    padded = np.pad(cells, 1)
    rows, columns = cells.shape
    near: BoolArray = np.any([padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=0)
    return near
