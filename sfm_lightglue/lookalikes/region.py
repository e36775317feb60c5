"""The part of an image that another image should see too, and what of it is matched.

Depths are not known before mapping. An affine map that is fitted to the inliers of a pair predicts well enough where
the rest of the image lies in the other one: matches of an equal facade extend to the car that stands in front of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.lookalikes.views import ImageView, PairView

_NUM_FITS = 3
"""Iterations of the robust fit of an affine map."""

_NUM_CELLS = 12
"""An image is divided into this number of cells in both directions."""

_MIN_KEYPOINTS_IN_CELL = 2
"""A cell is expected to have inliers if at least this number of its keypoints is matched by several other pairs."""

_MIN_OTHER_PAIRS = 2
"""Number of other pairs that must match such a keypoint."""


_MIN_DETERMINANT = 1e-9
"""Determinant, relative to the cube of the trace, from which normal equations have one solution without doubt."""


@dataclass(frozen=True, slots=True)
class SideCues:
    """What is matched in one image of a pair, of the part that the other image should see.

    Args:
        region: fraction of the image that this part covers.
        matched: fraction of its keypoints that are inliers.
        missing: fraction of its keypoints that other pairs match and this pair does not.
        unmatched_cells: fraction of its cells with keypoints that other pairs match in which this pair has no inlier.
    """

    region: float
    matched: float
    missing: float
    unmatched_cells: float


def side_cues(
    images: tuple[ImageView, ImageView], pair: PairView, num_pairs: tuple[IndexArray, IndexArray]
) -> tuple[SideCues, SideCues]:
    """The cues of both images of a pair.

    Args:
        images: of the pair.
        pair: its inliers.
        num_pairs: [N] for each image, the number of verified pairs in which each keypoint is an inlier, with this one.

    Source: Zach, Irschara and Bischof, What can missing correspondences tell us about 3D structure and motion?, 2008;
    Roberts et al., Structure from motion for scenes with large duplicate structures, 2011.
    """
    rows = pair.rows[:, 0], pair.rows[:, 1]
    is_asked = [pair.is_asked(side, len(images[side].keypoints)) for side in (0, 1)]
    first, second = (
        _side(images[side], images[1 - side], rows[side], rows[1 - side], num_pairs[side], is_asked[side])
        for side in (0, 1)
    )
    return first, second


def _side(
    image: ImageView,
    other: ImageView,
    rows: IndexArray,
    other_rows: IndexArray,
    num_pairs: IndexArray,
    is_asked: BoolArray,
) -> SideCues:
    size, other_size = np.array(image.size, np.float64), np.array(other.size, np.float64)
    keypoints = image.keypoints / size
    affine = fit_affine(keypoints[rows], other.keypoints[other_rows] / other_size)
    is_seen = _is_inside(keypoints, affine) & is_asked
    is_matched = np.zeros(len(keypoints), np.bool_)
    is_matched[rows] = True
    num_others = num_pairs - is_matched
    num_seen, num_matched = int(is_seen.sum()), int((is_seen & is_matched).sum())
    missing = int((is_seen & ~is_matched & (num_others > 0)).sum())
    columns, rows_of_cells = (keypoints * _NUM_CELLS).astype(np.int64).clip(0, _NUM_CELLS - 1).T
    cells = rows_of_cells * _NUM_CELLS + columns
    expected = _count(cells[is_seen & (num_others >= _MIN_OTHER_PAIRS)]) >= _MIN_KEYPOINTS_IN_CELL
    num_expected = int(expected.sum())
    has_none = _count(cells[is_matched]) == 0
    return SideCues(
        float(_is_inside(_CELL_CENTRES, affine).mean()),
        num_matched / num_seen if num_seen > 0 else np.nan,
        missing / (missing + num_matched) if missing + num_matched > 0 else np.nan,
        float((expected & has_none).sum() / num_expected) if num_expected > 0 else np.nan,
    )


def fit_affine(points: Float64Array, others: Float64Array) -> Float64Array:
    """The affine map [3, 2] with `[x y 1] @ map` near the other points of most of the inliers; 0 without any.

    Args:
        points: [K, 2].
        others: [K, 2].
    """
    A = np.column_stack([points, np.ones(len(points))])
    weights = np.ones(len(points))
    affine: Float64Array = np.zeros((3, 2))
    for _ in range(_NUM_FITS if len(points) > 0 else 0):
        weighted = A * weights[:, None]
        affine = _solution(weighted.T @ A, weighted.T @ others)
        errors = np.hypot(*(A @ affine - others).T)
        weights = 1 / (1 + (errors / (_median(errors) + 1e-6)) ** 2) ** 2
    return affine


def _solution(normal: Float64Array, right: Float64Array) -> Float64Array:
    """The solution [3, 2] of normal equations, the smallest one if there are several."""
    if np.linalg.det(normal) > _MIN_DETERMINANT * np.trace(normal) ** 3:
        return np.asarray(np.linalg.solve(normal, right), np.float64)
    return np.asarray(np.linalg.lstsq(normal, right, rcond=None)[0], np.float64)


def _median(values: Float64Array) -> float:
    """The median; NumPy's function takes three times as long for some hundred values."""
    middle = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, middle)[middle])
    return float(np.partition(values, [middle - 1, middle])[middle - 1 : middle + 1].mean())


def _is_inside(points: Float64Array, affine: Float64Array) -> BoolArray:
    """[N] whether points [N, 2] are mapped into the other image, both in fractions of the image sizes."""
    mapped = points @ affine[:2] + affine[2]
    inside: BoolArray = ((mapped > 0) & (mapped < 1)).all(axis=1)
    return inside


def _count(cells: IndexArray) -> IndexArray:
    return np.bincount(cells, minlength=_NUM_CELLS**2)


_CELL_CENTRES = (np.stack(np.divmod(np.arange(_NUM_CELLS**2), _NUM_CELLS), axis=1) + 0.5) / _NUM_CELLS
