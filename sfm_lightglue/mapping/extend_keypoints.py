"""The keypoints of a model that grows, and which of them the rows of our features are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.mapping.dense_keypoints import DenseKeypoints

RowsFromName = Mapping[str, IndexArray]
"""For each image, index in the `points2D` of the model for each row of its features."""


def keypoints_of(
    model: pycolmap.Reconstruction, image_ids: Iterable[int], rows_from_name: RowsFromName
) -> DenseKeypoints:
    """The keypoints of some images of a model, numbered together.

    Args:
        model: its images have all keypoints.
        image_ids: registered images.
        rows_from_name: of these images.
    """
    ids = tuple(sorted(image_ids))
    names = tuple(model.images[image_id].name for image_id in ids)
    pixels = tuple(pixels_of(model.images[image_id]) for image_id in ids)
    starts = np.cumsum([0, *(len(each) for each in pixels)])
    numbers = tuple(rows_from_name[name] + start for name, start in zip(names, starts[:-1], strict=True))
    return DenseKeypoints(ids, names, pixels, starts, numbers)


def pixels_of(image: pycolmap.Image) -> Float64Array:
    """Pixels [N, 2] of all keypoints of an image."""
    return np.array([point.xy for point in image.points2D], np.float64).reshape(-1, 2)


def point_ids_of(image: pycolmap.Image) -> IndexArray:
    """Point [N] of each keypoint of an image, -1 for none."""
    return np.array([point.point3D_id for point in image.points2D], np.uint64).astype(np.int64)  # COLMAP's none is -1


def seen_points(model: pycolmap.Reconstruction, image_ids: Iterable[int]) -> set[int]:
    """The points that at least one of these images observes."""
    return {point.point3D_id for image_id in image_ids for point in model.images[image_id].get_observation_points2D()}


def images_of_points(model: pycolmap.Reconstruction, point_ids: Iterable[int]) -> set[int]:
    """The images that observe at least one of these points."""
    return set(num_observed(model, point_ids))


def num_observed(model: pycolmap.Reconstruction, point_ids: Iterable[int]) -> dict[int, int]:
    """How many of these points each image observes that observes any, by id."""
    counts: Counter[int] = Counter()
    for point_id in point_ids:
        counts.update({element.image_id for element in model.points3D[point_id].track.elements})
    return dict(counts)
