"""Matches of images that came into a model -> observations of its points, and points of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.colmap.image_points import add_points, point_ids_of
from sfm_lightglue.mapping.dense_keypoints import DenseKeypoints
from sfm_lightglue.mapping.dense_tracks import first_occurrences, triangulate_matches
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.mapping.observers import Observers


def add_matches(
    model: pycolmap.Reconstruction, keypoints: DenseKeypoints, matches: IndexArray, limits: DensityConfig
) -> int:
    """Continue the tracks of a model by matches, and triangulate matched keypoints without a point.

    Existing points keep their ids, positions and observations.

    Args:
        model: changed in place.
        keypoints: of the matched images.
        matches: [M, 2] numbers of keypoints of different images, the surest first.
        limits: of reprojection errors, angles and track lengths.

    Returns:
        Number of the observations that were added.
    """
    if len(matches) == 0:
        return 0
    observers = keypoints.observers(model, limits.max_error_px, limits.guided.reference_size_px)
    point_of = np.concatenate([point_ids_of(model.images[image_id]) for image_id in keypoints.image_ids])
    num_added = _continue_tracks(model, keypoints, observers, matches, point_of)
    free = (point_of[matches] < 0).all(axis=1)
    min_views = limits.min_views(len(keypoints.image_ids))
    points = triangulate_matches(matches[free], observers, limits.min_point_angle_deg, min_views)
    order = np.lexsort((points.keypoint, points.point))
    numbers = points.keypoint[order]
    ends = np.searchsorted(points.point[order], np.arange(len(points.xyz)), side="right")
    image = observers.image[numbers]
    add_points(model, points.xyz, ends, np.array(keypoints.image_ids)[image], numbers - keypoints.starts[image])
    return num_added + len(numbers)


def _elements(keypoints: DenseKeypoints, observers: Observers, numbers: IndexArray) -> list[tuple[int, int]]:
    """Image id, and index in the image, of keypoints."""
    image = observers.image[numbers]
    ids = np.array(keypoints.image_ids)[image].tolist()
    return list(zip(ids, (numbers - keypoints.starts[image]).tolist(), strict=True))


@dataclass(frozen=True, eq=False, slots=True)
class _Candidates:
    """Observations that may be added: keypoints by number, and the ids of the points that they may observe."""

    number: IndexArray
    point_id: IndexArray

    def chosen(self, rows: IndexArray | BoolArray) -> _Candidates:
        return _Candidates(self.number[rows], self.point_id[rows])


def _continue_tracks(
    model: pycolmap.Reconstruction,
    keypoints: DenseKeypoints,
    observers: Observers,
    matches: IndexArray,
    point_of: IndexArray,
) -> int:
    """Add keypoints to the points of the keypoints that they match; `point_of` is changed in place."""
    candidates = _candidates(matches, point_of)
    if len(candidates.number) == 0:
        return 0
    ids, position = np.unique(candidates.point_id, return_inverse=True)
    xyz = np.array([model.points3D[point_id].xyz for point_id in ids.tolist()])[position]
    residuals, depth = observers.residuals(xyz, candidates.number)
    errors: Float64Array = np.linalg.norm(residuals, axis=1)
    fits = np.flatnonzero((depth > 0) & (errors <= 1))  # NaN does not fit
    fits = fits[np.argsort(errors[fits], kind="stable")]
    candidates = candidates.chosen(fits)
    candidates = candidates.chosen(first_occurrences(candidates.number))
    image = observers.image[candidates.number]
    codes = candidates.point_id * len(keypoints.image_ids) + image
    observing = np.flatnonzero(point_of >= 0)
    observed = point_of[observing] * len(keypoints.image_ids) + observers.image[observing]
    first = first_occurrences(codes)
    candidates = candidates.chosen(first[~np.isin(codes[first], observed)])  # no image observes a point twice
    elements = _elements(keypoints, observers, candidates.number)
    for point_id, (image_id, index) in zip(candidates.point_id.tolist(), elements, strict=True):
        model.add_observation(point_id, pycolmap.TrackElement(image_id, index))
    point_of[candidates.number] = candidates.point_id
    return len(candidates.number)


def _candidates(matches: IndexArray, point_of: IndexArray) -> _Candidates:
    """The keypoints without a point that match one with a point."""
    numbers, point_ids = [], []
    for one, other in ((0, 1), (1, 0)):
        rows = (point_of[matches[:, one]] < 0) & (point_of[matches[:, other]] >= 0)
        numbers.append(matches[rows, one])
        point_ids.append(point_of[matches[rows, other]])
    return _Candidates(np.concatenate(numbers), np.concatenate(point_ids))
