"""The observations of a model as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.colmap.image_points import observed_ids, observing_keypoints, pixels_of


@dataclass(frozen=True, eq=False)
class Observations:
    """The keypoints of registered images that observe points: those of one image follow each other.

    Args:
        image_ids: [I] of the registered images, ascending.
        starts: [I + 1] first observation of each image, and their number.
        keypoints: [M] index of the keypoint in its image.
        points: [M] row of the point.
        xy: [M, 2] pixels of the stored image, COLMAP convention.
        point_ids: [P] of the points, ascending.
        positions: [P, 3] of the points, in the unit of the world.
    """

    image_ids: tuple[int, ...]
    starts: IndexArray
    keypoints: IndexArray
    points: IndexArray
    xy: Float64Array
    point_ids: tuple[int, ...]
    positions: Float64Array

    def __len__(self) -> int:
        return len(self.points)

    @property
    def images(self) -> IndexArray:
        """[M] row of the image of each observation."""
        return np.repeat(np.arange(len(self.image_ids)), np.diff(self.starts))

    def of(self, row: int) -> slice:
        """The observations of an image, by its row."""
        return slice(int(self.starts[row]), int(self.starts[row + 1]))


def read_observations(model: pycolmap.Reconstruction) -> Observations:
    """All observations of a model."""
    image_ids = tuple(sorted(model.reg_image_ids()))
    keypoints, numbers, xy = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, 2))]
    for image_id in image_ids:
        image = model.images[image_id]
        keypoints.append(observing_keypoints(image))
        numbers.append(observed_ids(image))
        xy.append(pixels_of(image)[keypoints[-1]])
    point_ids, points = np.unique(np.concatenate(numbers), return_inverse=True)
    ids = tuple(point_ids.tolist())
    points3D = model.points3D
    return Observations(
        image_ids,
        np.cumsum([0, *map(len, keypoints[1:])]).astype(np.int64),
        np.concatenate(keypoints),
        points.astype(np.int64),
        np.concatenate(xy),
        ids,
        np.array([points3D[point_id].xyz for point_id in ids], np.float64).reshape(-1, 3),
    )


def move_keypoints(model: pycolmap.Reconstruction, image_id: int, keypoints: IndexArray, xy: Float64Array) -> None:
    """Set the pixels of some keypoints of an image.

    Args:
        model: changed in place.
        image_id: of the image.
        keypoints: [N] indices.
        xy: [N, 2] pixels of the stored image, COLMAP convention.
    """
    points2D = model.images[image_id].points2D
    for keypoint, pixel in zip(keypoints.tolist(), xy, strict=True):
        points2D[keypoint].xy = pixel


def add_keypoints(model: pycolmap.Reconstruction, image_id: int, xy: Float64Array, point_ids: IndexArray) -> None:
    """Add keypoints to an image, after those that it has, each of which observes a point.

    Args:
        model: changed in place.
        image_id: of the image.
        xy: [N, 2] pixels of the stored image, COLMAP convention.
        point_ids: [N] of the points.
    """
    points2D = model.images[image_id].points2D
    first = len(points2D)
    for pixel in xy:
        points2D.append(pycolmap.Point2D(pixel))
    for keypoint, point_id in enumerate(point_ids.tolist(), start=first):
        model.add_observation(point_id, pycolmap.TrackElement(image_id, keypoint))
