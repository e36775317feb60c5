"""What the points of a map look like in its images: descriptors and sizes of the keypoints that observe them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array, IndexArray
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.features import DenseFeatures
from sfm_lightglue.localization.map_points import MapPoints

_NUM_IN_MEMORY = 256
"""Images whose observations are kept in memory, about half a megabyte each."""


@dataclass(frozen=True, eq=False, slots=True)
class ImageObservations:
    """The keypoints of an image of the map that observe points.

    Args:
        point_ids: [K] points.
        xyz: [K, 3] their positions.
        features: of K keypoints.
        center: [3] of the camera.
        sizes_px: [K] diameters in pixels of the stored image; NaN if they are unknown.
        sizes: [K] the same on the surface, in units of the map.
    """

    point_ids: IndexArray
    xyz: Float64Array
    features: DenseFeatures
    center: Float64Array
    sizes_px: Float64Array
    sizes: Float64Array


class MapAppearance:
    """Looks up the observations of the images of a map; those of the images used last are kept.

    Args:
        points: of the map.
        dense: features by name of image; safe to call from several threads.
        dense_rows: as in `MapFeatures`.
    """

    def __init__(
        self,
        points: MapPoints,
        dense: Callable[[str], DenseFeatures],
        dense_rows: Mapping[str, IndexArray] | None = None,
    ) -> None:
        self._points, self._dense, self._dense_rows = points, dense, dense_rows or {}
        self._recent: LruCache[str, ImageObservations] = LruCache(_NUM_IN_MEMORY)

    def of(self, name: str) -> ImageObservations:
        """The observations of an image."""
        found = self._recent.get(name)
        if found is None:
            found = self._observations(name)
            self._recent.put(name, found)
        return found

    def _observations(self, name: str) -> ImageObservations:
        dense = self._dense(name)
        exact = self._points.exactly_of(name, dense, self._dense_rows.get(name))
        rows = np.flatnonzero(exact.has_point)
        features, xyz = dense.rows(rows), exact.xyz[rows]
        pose = self._points.pose(name)
        sizes_px = sizes_in_pixels(features)
        per_px = (pose @ xyz)[:, 2] / self._points.camera(name).mean_focal_length()
        return ImageObservations(exact.point_ids[rows], xyz, features, pose.center, sizes_px, sizes_px * per_px)


def sizes_in_pixels(features: DenseFeatures) -> Float64Array:
    """Diameters [N] of keypoints in pixels of the stored image; NaN if they are unknown."""
    if features.scales is None:
        return np.full(len(features), np.nan)
    return features.scales.astype(np.float64) * (features.shrink_factor or 1.0)


@dataclass(frozen=True, eq=False, slots=True)
class Surroundings:
    """The points that some images of a map see, each point once, with all of their observations.

    Args:
        point_ids: [P] ascending.
        xyz: [P, 3] their positions.
        point: [O] index of the point of each observation.
        centers: [O, 3] of the cameras.
        sizes_px: [O] diameters in pixels; NaN if they are unknown.
        sizes: [O] the same on the surface, in units of the map.
        parts: the observations of each image, one after the other.
    """

    point_ids: IndexArray
    xyz: Float64Array
    point: IndexArray
    centers: Float64Array
    sizes_px: Float64Array
    sizes: Float64Array
    parts: tuple[ImageObservations, ...]

    @classmethod
    def of(cls, images: Sequence[ImageObservations]) -> Surroundings:
        """The points of some images, of which there is one at least."""
        ids = np.concatenate([one.point_ids for one in images])
        point_ids, first, point = np.unique(ids, return_index=True, return_inverse=True)
        return cls(
            point_ids,
            np.concatenate([one.xyz for one in images])[first],
            point.ravel(),
            np.concatenate([np.broadcast_to(one.center, (len(one.point_ids), 3)) for one in images]),
            np.concatenate([one.sizes_px for one in images]),
            np.concatenate([one.sizes for one in images]),
            tuple(images),
        )

    def descriptors(self, observations: IndexArray) -> Float32Array:
        """Descriptors [K, D] of length 1 of observations [K], which are ascending."""
        starts = np.cumsum([0, *(len(one.point_ids) for one in self.parts)])
        bounds = np.searchsorted(observations, starts)
        return np.concatenate(
            [
                one.features.rows(observations[first:last] - start).unit_descriptors()
                for one, start, first, last in zip(self.parts, starts[:-1], bounds[:-1], bounds[1:], strict=True)
            ]
        )
