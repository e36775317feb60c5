"""The keypoints of an image of a model as arrays, read at once where pycolmap allows that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array, IndexArray

_PIXELS = pycolmap.Camera(model="SIMPLE_PINHOLE", width=1, height=1, params=[1.0, 0.0, 0.0])
"""Coordinates in the camera are those of the pixel: pycolmap converts a whole list of keypoints with it at once."""


_POINTS_AT_A_TIME = 4096
"""Points whose observations become objects of pycolmap at once: lists of a few take longer, all need much memory."""


def pixels_of(image: pycolmap.Image) -> Float64Array:
    """Pixels [N, 2] of all keypoints of an image."""
    if image.num_points2D() == 0:
        return np.zeros((0, 2))
    return np.asarray(_PIXELS.cam_from_img(image.points2D), np.float64).reshape(-1, 2)


def point_ids_of(image: pycolmap.Image) -> IndexArray:
    """Point [N] of each keypoint of an image, -1 for none."""
    ids = np.full(image.num_points2D(), -1, np.int64)
    ids[observing_keypoints(image)] = observed_ids(image)
    return ids


def observing_keypoints(image: pycolmap.Image) -> IndexArray:
    """Indices [O] of the keypoints of an image that observe a point, ascending."""
    return np.array(image.get_observation_point2D_idxs(), np.int64)


def observed_ids(image: pycolmap.Image) -> IndexArray:
    """Ids [O] of the points that an image observes, in the order of its keypoints."""
    return np.array([point.point3D_id for point in image.get_observation_points2D()], np.uint64).astype(np.int64)


def keypoints_of_models(models: Iterable[pycolmap.Reconstruction]) -> Iterator[tuple[str, Float64Array]]:
    """Name and pixels [N, 2] of all keypoints of each registered image of each model."""
    for model in models:
        for image_id in sorted(model.reg_image_ids()):
            yield model.images[image_id].name, pixels_of(model.images[image_id])


def add_points(
    model: pycolmap.Reconstruction,
    positions: Float64Array,
    ends: IndexArray,
    image_ids: IndexArray,
    keypoints: IndexArray,
) -> None:
    """Add points to a model, which numbers them one after the other.

    Args:
        model: changed in place.
        positions: [P, 3] of the points.
        ends: [P] where the observations of each point end; they begin where those of the point before end.
        image_ids: [O] of the observations.
        keypoints: [O] indices of the keypoints in their images.
    """
    begins = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    for first in range(0, len(positions), _POINTS_AT_A_TIME):
        some = slice(first, first + _POINTS_AT_A_TIME)
        start, stop = int(begins[first]), int(ends[some][-1])
        elements = list(map(pycolmap.TrackElement, image_ids[start:stop].tolist(), keypoints[start:stop].tolist()))
        for xyz, begin, end in zip(
            positions[some], (begins[some] - start).tolist(), (ends[some] - start).tolist(), strict=True
        ):
            model.add_point3D(xyz, pycolmap.Track(elements[begin:end]))
