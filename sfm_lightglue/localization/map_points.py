"""The 3D points behind the features of the images of a map, which another tool may have made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pycolmap
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import AnyArray, BoolArray, Float64Array, IndexArray
from sfm_lightglue.colmap.image_points import pixels_of, point_ids_of
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.features import DenseFeatures, Features
from sfm_lightglue.geometry.transforms import Rigid3

_SAME_KEYPOINT_PX = 1.0
"""A feature within this distance of an observation, in pixels of the image that the detector saw, is the same point."""

_NEAR_PX = 3.0
"""Within this distance of an observation, a feature is taken to lie on the same surface."""

_MAX_MOVED_PX = 3.0
"""Refinement moves a keypoint by less than this number of pixels of the image that the detector saw."""

_NUM_IN_MEMORY = 1024


@dataclass(frozen=True, eq=False, slots=True)
class FeaturePoints:
    """The 3D points of the features of an image.

    Args:
        point_ids: [N] id of the point of each feature, or of the nearest observation; -1 for none.
        xyz: [N, 3] position in the world; NaN for none.
    """

    point_ids: IndexArray
    xyz: Float64Array

    @property
    def has_point(self) -> BoolArray:
        """[N] which features have a position."""
        return self.point_ids >= 0


class MapPoints:
    """Looks up the points of the images of a model; those of the images used last are kept.

    Args:
        model: a finished model.
    """

    def __init__(self, model: pycolmap.Reconstruction) -> None:
        self.model = model
        self._image_from_name = {model.images[i].name: model.images[i] for i in sorted(model.reg_image_ids())}
        self._recent: LruCache[str, FeaturePoints] = LruCache(_NUM_IN_MEMORY)
        self._ids: LruCache[str, IndexArray] = LruCache(_NUM_IN_MEMORY)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the registered images, sorted."""
        return tuple(sorted(self._image_from_name))

    def pose(self, name: str) -> Rigid3:
        """`cam_from_world` of an image."""
        return Rigid3.from_matrix(np.asarray(self._image_from_name[name].cam_from_world().matrix()))

    def camera(self, name: str) -> pycolmap.Camera:
        """The camera of an image."""
        return self.model.cameras[self._image_from_name[name].camera_id]

    def observed_ids(self, name: str) -> IndexArray:
        """Ids of the points that an image observes, ascending."""
        found = self._ids.get(name)
        if found is None:
            points = self._image_from_name[name].get_observation_points2D()
            found = np.unique(np.array([point.point3D_id for point in points], np.int64))
            self._ids.put(name, found)
        return found

    def of(self, name: str, features: Features) -> FeaturePoints:
        """The points of the features of an image.

        A feature that is an observation of the model has its point. Near an observation of another keypoint, as in the
        model of another tool, it has a position of its own: on its ray, in the depth of the observed point.

        Args:
            name: of the image.
            features: of the image, always the same ones.
        """
        found = self._recent.get(name)
        if found is None:
            found = self._points(name, features)
            self._recent.put(name, found)
        return found

    def exactly_of(self, name: str, dense: DenseFeatures, rows: IndexArray | None = None) -> FeaturePoints:
        """The points that the keypoints of the dense layer of an image observe themselves, not only beside them.

        Args:
            name: of the image.
            dense: its dense layer.
            rows: [N] which keypoints of the model they are; None if that is not known.
        """
        pixels, ids, xyz = self._keypoints(name)
        if rows is not None:
            return FeaturePoints(ids[rows], xyz[rows])
        unit_px = dense.shrink_factor or 1.0
        if _are_same(pixels, dense.keypoints, _MAX_MOVED_PX * unit_px):
            return FeaturePoints(ids[: len(dense)], xyz[: len(dense)])
        observed = np.flatnonzero(ids >= 0)
        if len(observed) == 0 or len(dense) == 0:
            return FeaturePoints(np.full(len(dense), -1, np.int64), np.full((len(dense), 3), np.nan))
        limit_px = _SAME_KEYPOINT_PX * unit_px
        distances, nearest = cKDTree(pixels[observed]).query(dense.keypoints, distance_upper_bound=limit_px)
        is_same = np.isfinite(distances)
        source = observed[np.where(is_same, nearest, 0)]
        return FeaturePoints(np.where(is_same, ids[source], -1), np.where(is_same[:, None], xyz[source], np.nan))

    def most_common_images(self, point_ids: IndexArray, num: int) -> list[str]:
        """Names of the images that observe most of some points, most first; `num` at most."""
        counts: Counter[int] = Counter()
        for point_id in point_ids.tolist():
            counts.update({element.image_id for element in self.model.points3D[point_id].track.elements})
        names = {self.model.images[image_id].name: number for image_id, number in counts.items()}
        return sorted(names.keys() & self._image_from_name.keys(), key=lambda name: (-names[name], name))[:num]

    def _keypoints(self, name: str) -> tuple[Float64Array, IndexArray, Float64Array]:
        """Pixels [N, 2], points [N] (-1 for none) and their positions [N, 3] of the keypoints that the model has."""
        image = self._image_from_name[name]
        pixels, ids = pixels_of(image), point_ids_of(image)
        xyz = np.full((len(ids), 3), np.nan)
        for row in np.flatnonzero(ids >= 0).tolist():
            xyz[row] = self.model.points3D[int(ids[row])].xyz
        return pixels, ids, xyz

    def _points(self, name: str, features: Features) -> FeaturePoints:
        pixels, ids, xyz = self._keypoints(name)
        observed = np.flatnonzero(ids >= 0)
        point_ids, positions = np.full(len(features), -1, np.int64), np.full((len(features), 3), np.nan)
        unit_px = features.shrink_factor or 1.0
        if _are_same(pixels, features.keypoints, _MAX_MOVED_PX * unit_px):
            point_ids, positions = ids[: len(features)].copy(), xyz[: len(features)].copy()
        missing = np.flatnonzero(point_ids < 0)
        if len(missing) > 0 and len(observed) > 0:
            keypoints = features.keypoints[missing].astype(np.float64)
            limit_px = _NEAR_PX * unit_px
            distances, nearest = cKDTree(pixels[observed]).query(keypoints, distance_upper_bound=limit_px)
            is_near = np.isfinite(distances)
            rows, source = missing[is_near], observed[np.asarray(nearest, np.int64)[is_near]]
            point_ids[rows] = ids[source]
            on_rays = self._in_depth_of(name, keypoints[is_near], xyz[source])
            is_same = np.asarray(distances)[is_near] <= _SAME_KEYPOINT_PX * unit_px
            positions[rows] = np.where(is_same[:, None], xyz[source], on_rays)
            point_ids[~np.isfinite(positions).all(axis=1)] = -1
        return FeaturePoints(point_ids, positions)

    def _in_depth_of(self, name: str, keypoints: Float64Array, xyz: Float64Array) -> Float64Array:
        """Positions [N, 3] on the rays of keypoints [N, 2], as deep in the image as points [N, 3]."""
        pose = self.pose(name)
        depth = (pose @ xyz)[:, 2:]
        rays = np.asarray(self.camera(name).cam_from_img(keypoints), np.float64).reshape(-1, 2)
        return pose.inverse() @ (np.column_stack([rays, np.ones(len(rays))]) * depth)


def _are_same(pixels: Float64Array, keypoints: AnyArray, max_moved_px: float) -> bool:
    """Whether the first of a model's keypoints are those of our features, apart from their refinement."""
    if len(keypoints) == 0 or len(pixels) < len(keypoints):
        return False
    return bool((np.abs(pixels[: len(keypoints)] - keypoints) <= max_moved_px).all())
