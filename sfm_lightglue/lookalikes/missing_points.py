"""Which points the images of a model have in common, and which are missing where they should be seen.

Two images that see the same place from a similar direction have most of their points in common. If two places that
look alike were made one, their images have only those of the repeated parts in common: the points of everything else
are missing in the images of the other place, although they should be seen there.

Source: J. Heinly, E. Dunn and J.-M. Frahm, Correcting for duplicate scene structure in sparse 3D reconstruction,
ECCV 2014, for the idea of points that contradict images.
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

_BORDER = 0.02
"""Width of the border of an image in which no point is expected, as a fraction of the longer side."""

_NUM_NEAR = 5
"""Number of points of an image, near the expected place, that show how far the surface is there."""

_BEHIND = 1.15
"""A point that is this many times as far as the surface there is hidden by it."""


@dataclass(frozen=True, eq=False, slots=True)
class SharedPoints:
    """Common and missing points of each two images of a model.

    Args:
        num_common: [n, n] points that both images observe, from similar directions and at a similar scale.
        num_missing: [n, n] points that the image of the row observes, and the image of the column should and does not.
    """

    num_common: IndexArray
    num_missing: IndexArray


def shared_points(model: SparseModel) -> SharedPoints:
    """Count the common and the missing points of each two images of a model."""
    num_images = len(model.names)
    common, missing = (np.zeros((num_images, num_images), np.int64) for _ in range(2))
    centers = model.centers
    rays = model.points[model.point_rows] - centers[model.image_rows]
    distances = np.linalg.norm(rays, axis=1)
    rays /= np.maximum(distances, 1e-12)[:, None]
    focal_lengths = np.array([camera.mean_focal_length() for camera in model.cameras])
    sizes = focal_lengths[model.image_rows] / np.maximum(distances, 1e-12)
    first = np.searchsorted(model.image_rows, np.arange(num_images + 1))
    min_cosine = np.cos(np.radians(_MAX_ANGLE_DEG))
    for image in range(num_images):
        own = slice(first[image], first[image + 1])
        if own.start == own.stop:
            continue
        observed = np.zeros(len(model.points), np.bool_)
        observed[model.point_rows[own]] = True
        expected = _expected(model, image, model.point_rows[own], model.pixels[own], observed)
        others = np.flatnonzero((observed | expected)[model.point_rows])
        points = model.point_rows[others]
        view = model.points[points] - centers[image]
        distance = np.maximum(np.linalg.norm(view, axis=1), 1e-12)
        cosine = (view * rays[others]).sum(axis=1) / distance
        ratio = sizes[others] * distance / focal_lengths[image]
        is_similar = (cosine >= min_cosine) & (ratio <= _MAX_SCALE) & (ratio >= 1 / _MAX_SCALE)
        for counts, chosen in ((common, observed), (missing, expected)):
            rows = model.image_rows[others[is_similar & chosen[points]]]
            counts[:, image] = np.bincount(rows, minlength=num_images)
    return SharedPoints(common, missing)


def _expected(
    model: SparseModel, image: int, own_rows: IndexArray, own_pixels: Float64Array, observed: BoolArray
) -> BoolArray:
    """Which points [P] an image should see and does not observe: inside, and not hidden by the points that it sees."""
    expected = np.zeros(len(model.points), np.bool_)
    rows, pixels, depths = model.project(image, _BORDER)
    is_new = ~observed[rows]
    rows, pixels = rows[is_new], pixels[is_new]
    num_near = min(_NUM_NEAR, len(own_rows))
    if len(rows) == 0 or num_near == 0:
        return expected
    _, nearest = cKDTree(own_pixels).query(pixels, k=num_near)
    surface = np.median(depths[own_rows][nearest.reshape(-1, num_near)], axis=1)
    expected[rows[depths[rows] <= _BEHIND * surface]] = True
    return expected
