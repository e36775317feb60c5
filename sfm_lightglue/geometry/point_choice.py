"""A part of the points of a model that determines its cameras nearly as well as all points do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray

_ENOUGH_OF_PAIR = 100
"""Common points of two images by which one is adjusted to the other; of images with fewer, all."""

_ENOUGH_OF_PARAMETER = 250
"""Observations of a camera for each of its parameters that it gets at least, also if many cameras are free."""

_SEED = 0
"""Of the choice of the points."""


class PointChoice:
    """Chooses points by chance, so that they are as far from the middle of the images as all are.

    Args:
        num_points: to choose from.
        point: [O] row of the point of each observation.
        image: [O] row of its image.
        num_images: in which they are observed.
    """

    def __init__(self, num_points: int, point: IndexArray, image: IndexArray, num_images: int) -> None:
        self._point, self._image, self._num_images = point, image, num_images
        self._shares = np.zeros(num_points)

    def want(self, nums: Float64Array | int, mask: BoolArray | None = None) -> None:
        """Demand observations of each image, or of its observations of a mask [O]; of an image with fewer, all.

        Args:
            nums: [I] of the images, or of each.
            mask: [O] of the observations that count; all by default.
        """
        rows: IndexArray | slice = slice(None) if mask is None else np.flatnonzero(mask)
        point, image = self._point[rows], self._image[rows]
        counts = np.bincount(image, minlength=self._num_images)
        np.maximum.at(self._shares, point, (nums / np.maximum(counts, 1))[image])

    def want_pairs(self) -> None:
        """Demand common points of each pair of images: parts of a model are often joined by few points."""
        order = np.argsort(self._point, kind="stable")
        point, image = self._point[order], self._image[order]
        codes, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        for _, code in self._pairs(point, image):
            found, inverse = np.unique(np.concatenate([codes, code]), return_inverse=True)
            nums = np.concatenate([counts, np.ones(len(code), np.int64)])
            codes, counts = found, np.bincount(inverse, nums).astype(np.int64)
        shares = _ENOUGH_OF_PAIR / counts
        for rows, code in self._pairs(point, image):
            np.maximum.at(self._shares, point[rows], shares[np.searchsorted(codes, code)])

    def _pairs(self, point: IndexArray, image: IndexArray) -> Iterator[tuple[IndexArray, IndexArray]]:
        """Pairs of observations of a point that are a step apart, then two, ...: rows, and numbers of their images."""
        rows = np.arange(len(point))
        for step in range(1, len(point)):
            rows = rows[rows + step < len(point)]
            rows = rows[point[rows] == point[rows + step]]
            if len(rows) == 0:
                return
            first, second = image[rows], image[rows + step]
            yield rows, np.minimum(first, second) * self._num_images + np.maximum(first, second)

    def chosen(self) -> BoolArray:
        """The chosen points [P]."""
        return np.asarray(np.random.default_rng(_SEED).random(len(self._shares)) < self._shares)


def wanted_for_intrinsics(
    per_image: IndexArray, cameras: IndexArray, num_params: Mapping[int, int], enough: int, enough_of_all: int
) -> Float64Array:
    """Observations of each image [I] by which the intrinsics of its camera are adjusted; 0 if these are not free.

    Args:
        per_image: [I] observations that there are.
        cameras: [I] number of the camera of each image.
        num_params: of the intrinsics of each free camera, by its number.
        enough: observations of a camera.
        enough_of_all: of all free cameras together: each of many cameras gets less, their common points tie them
            together. None gets less than `_ENOUGH_OF_PARAMETER` for each parameter.
    """
    per_camera = np.bincount(cameras, per_image)[cameras]
    least = _ENOUGH_OF_PARAMETER * np.array([num_params.get(camera, 0) for camera in cameras.tolist()])
    of_camera = np.minimum(np.maximum(enough_of_all / max(len(num_params), 1), least), enough)
    return np.where(least > 0, of_camera, 0) * per_image / np.maximum(per_camera, 1)
