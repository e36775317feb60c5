"""The keypoints of a model that grows, and which of them the rows of our features are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pycolmap

from sfm_lightglue.arrays import IndexArray
from sfm_lightglue.colmap.image_points import observed_ids, pixels_of
from sfm_lightglue.mapping.dense_keypoints import DenseKeypoints

_MANY_POINTS = 2
"""Points are counted by images if the model has at most so many times their number."""

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


def seen_points(model: pycolmap.Reconstruction, image_ids: Iterable[int]) -> set[int]:
    """The points that at least one of these images observes."""
    return {point_id for image_id in image_ids for point_id in observed_ids(model.images[image_id]).tolist()}


def images_of_points(model: pycolmap.Reconstruction, point_ids: Iterable[int]) -> set[int]:
    """The images that observe at least one of these points."""
    return set(num_observed(model, point_ids))


def num_observed(model: pycolmap.Reconstruction, point_ids: Iterable[int]) -> dict[int, int]:
    """How many of these points each image observes that observes any, by id."""
    ids = np.array(sorted(set(point_ids)), np.int64)
    if len(ids) == 0:
        return {}
    if _MANY_POINTS * len(ids) >= model.num_points3D():  # quicker by images than by tracks
        images = (model.images[image_id] for image_id in sorted(model.reg_image_ids()))
        counts = {image.image_id: int(np.isin(np.unique(observed_ids(image)), ids).sum()) for image in images}
        return {image_id: num for image_id, num in counts.items() if num > 0}
    points = model.points3D
    tracks = [[element.image_id for element in points[point_id].track.elements] for point_id in ids.tolist()]
    image_ids: IndexArray = np.concatenate([np.array(track, np.int64) for track in tracks])
    rows = np.repeat(np.arange(len(tracks)), [len(track) for track in tracks])
    observed = np.unique(np.stack([rows, image_ids], axis=1), axis=0)  # an image may observe a point twice
    observers, numbers = np.unique(observed[:, 1], return_counts=True)
    return dict(zip(observers.tolist(), numbers.tolist(), strict=True))
