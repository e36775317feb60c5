"""Which points the images of a model have in common, and which are missing where they should be seen.

Two images that see the same place from a similar direction have most of their points in common. If two places that
look alike were made one, their images have only those of the repeated parts in common: the points of everything else
are missing in the images of the other place, although they should be seen there.

Points that an image does not detect lie between those that it does. Points of another place fill whole parts of the
image, with none in common, and the image has other points there: these missing points are *alone*.

Source: J. Heinly, E. Dunn and J.-M. Frahm, Correcting for duplicate scene structure in sparse 3D reconstruction,
ECCV 2014, for the idea of unique points that contradict images; the statistic is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.lookalikes.sparse_model import SparseModel

_MAX_ANGLE_DEG = 15.0
"""Largest angle between two views of a point that is expected in both images."""

_MAX_SCALE = 1.5
"""Largest ratio of the sizes of a point's surroundings in the two images."""

_PER_SCALE_DEG = 10.0
"""Angle between two views that is as great a difference as a factor of e between their scales."""

_BORDER = 0.02
"""Width of the border of an image in which no point is expected, as a fraction of the longer side."""

_NUM_NEAR = 5
"""Number of points of an image, near the expected place, that show how far the surface is there."""

_BEHIND = 1.15
"""A point that is this many times as far as the surface there is hidden by it."""

_NUM_CELLS = 24
"""Largest number of cells along the longer side of an image. A point is alone if no point in its cell and in the eight
cells around it is common."""

_NUM_AROUND, _FEWEST_CELLS = 8, 6
"""Number of points of an image that these nine cells should hold: with fewer, a point is alone by chance. So the cells
of an image with few points are larger. If they are fewer than the second number along the longer side, no point is
alone."""

_MIN_COMMON_AROUND = 4.0
"""Number of common points of two images that nine cells must hold on average, or no point of them is alone."""

_RARE = 0.7
"""A point is rare if at most this fraction of the images that should observe it do."""

_MIN_OTHERS = 2
"""Number of other points of the image in these cells."""

_MAX_COSINES = 5_000_000
"""Largest number of cosines between rays that are held at once."""


@dataclass(frozen=True, eq=False, slots=True)
class SharedPoints:
    """Common and missing points of each two images of a model.

    Args:
        num_common: [n, n] points that both images observe, from similar directions and at a similar scale.
        num_missing: [n, n] points that the image of the row observes, and the image of the column should and does not.
        differences: [n, n] of the views of the image of the column from those of the row, of these points: the angle
            between them in degrees, and ten degrees for a factor of e between their scales. NaN without such points.
        num_alone: [n, n] of the missing points, those that are alone among points of the image of the column that the
            one of the row does not observe. Their views differ no more than those by which they were matched.
        num_rare: [n, n] points that both images observe, and that are missing in many others.
        num_with: [P] images that observe each point.
        num_without: [P] images that should observe it and do not.
        alone: [M, 3] image of the row, image of the column and point of each point that is alone.
        alone_pixels: [M, 2] where the image of the column should see it.
    """

    num_common: IndexArray
    num_missing: IndexArray
    differences: Float64Array
    num_alone: IndexArray
    num_rare: IndexArray
    num_with: IndexArray
    num_without: IndexArray
    alone: IndexArray
    alone_pixels: Float64Array


def shared_points(model: SparseModel) -> SharedPoints:
    """Count the common, the missing, the alone and the rare points of each two images of a model."""
    num_images, num_points = len(model.names), len(model.points)
    common, missing, num_alone = (np.zeros((num_images, num_images), np.int64) for _ in range(3))
    differences = np.full((num_images, num_images), np.nan)
    alone, alone_pixels = [np.zeros((0, 3), np.int64)], [np.zeros((0, 2))]
    views = _Views.of_model(model)
    first = np.searchsorted(model.image_rows, np.arange(num_images + 1))
    num_without = np.zeros(num_points, np.int64)
    for image in range(num_images):
        own = slice(first[image], first[image + 1])
        if own.start == own.stop:
            continue
        observed, pixels = np.zeros(num_points, np.bool_), np.zeros((num_points, 2))
        observed[model.point_rows[own]] = True
        expected = _expected(model, image, model.point_rows[own], model.pixels[own], observed, pixels)
        pixels[model.point_rows[own]] = model.pixels[own]
        others = np.flatnonzero((observed | expected)[model.point_rows])
        points = model.point_rows[others]
        cosines, ratios = views.compared(model, image, others)
        is_similar: BoolArray = cosines >= np.cos(np.radians(_MAX_ANGLE_DEG))
        is_similar &= (ratios <= _MAX_SCALE) & (ratios >= 1 / _MAX_SCALE)
        for counts, chosen in ((common, observed), (missing, expected)):
            rows = model.image_rows[others[is_similar & chosen[points]]]
            counts[:, image] = np.bincount(rows, minlength=num_images)
        images = model.image_rows[others[is_similar]]
        differences[:, image] = _differences(images, cosines[is_similar], ratios[is_similar], num_images)
        num_without[np.unique(points[is_similar & expected[points]])] += 1
        cells = _Cells.of_image(model, image, own.stop - own.start)
        if cells is None:
            continue
        rows = cells.alone(
            (model.image_rows[others], cells.of(pixels[points])),
            observed[points] & (model.image_rows[others] != image),
            np.flatnonzero(is_similar & (cosines >= views.matched_cosines[others]) & expected[points]),
            cells.of(model.pixels[own]),
        )
        images = model.image_rows[others[rows]]
        num_alone[:, image] = np.bincount(images, minlength=num_images)
        alone.append(np.column_stack([images, np.full(len(rows), image), points[rows]]))
        alone_pixels.append(pixels[points[rows]])
    num_with = np.bincount(model.point_rows, minlength=num_points)
    is_rare = num_with <= _RARE * (num_with + num_without)
    rare = model.num_common(is_rare)
    of_points = num_with, num_without
    return SharedPoints(
        common, missing, differences, num_alone, rare, *of_points, np.concatenate(alone), np.concatenate(alone_pixels)
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Views:
    """How images see their points.

    Args:
        rays: [K, 3] of the observations, of length 1.
        sizes: [K] of a unit at their points, in pixels.
        matched_cosines: [K] see `_matched_cosines`.
        focal_lengths_px: [n] of the images.
    """

    rays: Float64Array
    sizes: Float64Array
    matched_cosines: Float64Array
    focal_lengths_px: Float64Array

    @classmethod
    def of_model(cls, model: SparseModel) -> _Views:
        """The views of a model."""
        rays = model.points[model.point_rows] - model.centers[model.image_rows]
        distances = np.maximum(np.linalg.norm(rays, axis=1), 1e-12)
        rays /= distances[:, None]
        focal_lengths = np.array([camera.mean_focal_length() for camera in model.cameras], np.float64)
        return cls(rays, focal_lengths[model.image_rows] / distances, _matched_cosines(model, rays), focal_lengths)

    def compared(self, model: SparseModel, image: int, rows: IndexArray) -> tuple[Float64Array, Float64Array]:
        """How an image sees the points of observations [M] of other images, compared with these.

        Args:
            model: of the views.
            image: its row.
            rows: [M] of the observations.

        Returns:
            Cosines [M] of the angles between both rays to each point, and ratios [M] of the sizes of its surroundings.
        """
        view = model.points[model.point_rows[rows]] - model.centers[image]
        distance = np.maximum(np.linalg.norm(view, axis=1), 1e-12)
        cosines: Float64Array = (view * self.rays[rows]).sum(axis=1) / distance
        return cosines, self.sizes[rows] * distance / self.focal_lengths_px[image]


def _differences(images: IndexArray, cosines: Float64Array, ratios: Float64Array, num_images: int) -> Float64Array:
    """The differences [n] of the views of each image from those of another one; NaN for images without points.

    Args:
        images: [M] image of each observation.
        cosines: [M] of the angles between both rays to its point.
        ratios: [M] of the scales.
        num_images: n.
    """
    counts = np.bincount(images, minlength=num_images)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0
        cosine, ratio = (np.bincount(images, values, num_images) / counts for values in (cosines, ratios))
        found: Float64Array = np.degrees(np.arccos(np.clip(cosine, -1, 1))) + _PER_SCALE_DEG * np.abs(np.log(ratio))
    return found


def _matched_cosines(model: SparseModel, rays: Float64Array) -> Float64Array:
    """For each observation [K], the cosine of the largest angle to another observation of the same point."""
    order = np.argsort(model.point_rows, kind="stable")
    starts = np.searchsorted(model.point_rows[order], np.arange(len(model.points) + 1))
    lengths = np.diff(starts)
    found = np.ones(len(rays))
    for length in np.unique(lengths[lengths > 1]).tolist():
        firsts = starts[:-1][lengths == length]
        per_chunk = max(_MAX_COSINES // length**2, 1)
        for start in range(0, len(firsts), per_chunk):
            rows = order[firsts[start : start + per_chunk, None] + np.arange(length)]
            own = rays[rows]
            found[rows] = (own @ own.transpose(0, 2, 1)).min(axis=2)
    return found


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of an image.

    Args:
        side_px: of a cell.
        shape: number of (rows, columns), with one more on each side.
    """

    side_px: float
    shape: tuple[int, int]

    @classmethod
    def of_image(cls, model: SparseModel, image: int, num_points: int) -> _Cells | None:
        """The cells of an image of a model that observes a number of points; None if these are too few."""
        width, height = model.cameras[image].width, model.cameras[image].height
        longest = max(width, height)
        side_px = max(longest / _NUM_CELLS, float(np.sqrt(_NUM_AROUND * width * height / (9 * max(num_points, 1)))))
        if side_px > longest / _FEWEST_CELLS:
            return None
        return cls(side_px, (int(height / side_px) + 3, int(width / side_px) + 3))

    def of(self, pixels: Float64Array) -> IndexArray:
        """The cell of each pixel [M]."""
        columns, rows = (pixels // self.side_px).astype(np.int64).T + 1
        found: IndexArray = rows.clip(1, self.shape[0] - 2) * self.shape[1] + columns.clip(1, self.shape[1] - 2)
        return found

    def alone(
        self, observations: tuple[IndexArray, IndexArray], is_common: BoolArray, asked: IndexArray, own: IndexArray
    ) -> IndexArray:
        """Rows of the observations of other images whose points are alone.

        Args:
            observations: image and cell [M] of the observations of the other images.
            is_common: [M] those of points that the image observes.
            asked: [A] rows of those of points that the image should observe and does not.
            own: [K] cells of the points that the image observes.
        """
        images, cells = observations
        num_cells = self.shape[0] * self.shape[1]
        around = (np.array([-1, 0, 1])[:, None] * self.shape[1] + np.array([-1, 0, 1])).ravel()
        num_others = np.bincount(own, minlength=num_cells)[cells[asked, None] + around].sum(axis=1)
        num_common = np.bincount(images[is_common], minlength=int(images.max(initial=0)) + 1)
        min_common = _MIN_COMMON_AROUND * (self.shape[0] - 2) * (self.shape[1] - 2) / 9
        asked = asked[(num_others >= _MIN_OTHERS) & (num_common[images[asked]] >= min_common)]
        common = np.unique(images[is_common] * num_cells + cells[is_common])
        keys = images[asked] * num_cells + cells[asked]
        return asked[~np.isin(keys[:, None] + around, common).any(axis=1)]


def _expected(
    model: SparseModel,
    image: int,
    own_rows: IndexArray,
    own_pixels: Float64Array,
    observed: BoolArray,
    expected_pixels: Float64Array,
) -> BoolArray:
    """Which points [P] an image should see and does not observe: inside, and not hidden by the points that it sees.

    Their pixels are written into `expected_pixels` [P, 2].
    """
    expected = np.zeros(len(model.points), np.bool_)
    rows, pixels, depths = model.project(image, _BORDER)
    is_new = ~observed[rows]
    rows, pixels = rows[is_new], pixels[is_new]
    expected_pixels[rows] = pixels
    num_near = min(_NUM_NEAR, len(own_rows))
    if len(rows) == 0 or num_near == 0:
        return expected
    _, nearest = cKDTree(own_pixels).query(pixels, k=num_near)
    surface = np.median(depths[own_rows][nearest.reshape(-1, num_near)], axis=1)
    expected[rows[depths[rows] <= _BEHIND * surface]] = True
    return expected
