"""A finished model gets the points of many more keypoints, matched along the epipolar lines of its poses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float32Array, IndexArray, Int32Array
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.mapping.dense_keypoints import DenseKeypoints, our_camera, poses_of
from sfm_lightglue.mapping.dense_pairs import pairs_with_common_surface
from sfm_lightglue.mapping.dense_tracks import triangulate_matches
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.mapping.short_tracks import remove_short_tracks
from sfm_lightglue.mapping.track_completion import TrackCompletion
from sfm_lightglue.two_view.guided import GuidedView, match_views
from sfm_lightglue.types import DenseFeatures

logger = logging.getLogger(__name__)

DENSIFY_VERSION = 5
"""Part of a dense model's key. Raise it when the same model and features would become another dense model."""

_NUM_IN_MEMORY = 96
"""Images whose descriptors are kept in memory."""

_MIN_SHIFT = 0.2
"""Matching is repeated if the adjustment takes away an error of this part of the largest one of a match. Smaller errors
of the poses hide few matches: on a beach from the air (0.12), a second matching of the same pairs found no more points
and took as long as all other steps."""

_MIN_FRESH = 0.15
"""Part of the image pairs that must not have been matched so that matching goes on: a model of few points does not know
all images that see the same surface, its dense model does."""

_MIN_BASELINE_RATIO = 1e-9
"""Smallest distance of two cameras that are matched, relative to the extent of all cameras."""


@dataclass(frozen=True, eq=False, slots=True)
class DensifyResult:
    """A dense model, and what it cost.

    Args:
        model: with the points of the dense layer; without colours.
        num_pairs: image pairs whose matches the points of the last round come from.
        num_matches: of these pairs.
        num_rounds: of matching.
    """

    model: pycolmap.Reconstruction
    num_pairs: int
    num_matches: int
    num_rounds: int


def densify_model(
    model: pycolmap.Reconstruction,
    dense: Callable[[str], DenseFeatures],
    config: DensityConfig,
    adjust: Callable[[pycolmap.Reconstruction], None],
    executor: Executor = SERIAL,
    progress: Progress = silent,
) -> DensifyResult:
    """Match the dense layer along the epipolar lines of a model, triangulate, and adjust everything robustly.

    Image pairs that see the same surface by the model are matched, also those that were not matched before; then those
    that only the dense model shows, and all again if its poses are clearly better. The tracks of the model are
    continued. The keypoints of the model keep their indices; others follow.

    Args:
        model: registered images with poses and some points; it is not changed.
        dense: features by name of image; safe to call from several threads.
        config: options.
        adjust: adjusts a model in place, and removes what is beyond its limits. Points that it leaves with too few
            observations are removed.
        executor: matches several pairs at a time.
        progress: called with the stage "densify" after each pair, then with "complete tracks" after each image.

    Returns:
        The dense model. If nothing can be matched, it has the points of the model.
    """
    keypoints = DenseKeypoints.from_model(model, dense)
    known = keypoints.matches_of_tracks(model)
    current = model
    result = DensifyResult(pycolmap.Reconstruction(model), 0, 0, 0)
    matched: dict[tuple[int, int], _PairMatches] = {}
    for number in range(1, config.max_rounds + 1):
        found = pairs_with_common_surface(
            current, keypoints.image_ids, config, executor=executor, predicts_all=not matched
        )
        fresh = [pair for pair in found if pair not in matched]
        if len(fresh) <= _MIN_FRESH * len(found):
            break
        views = SurfaceViews(current, keypoints, dense)
        matched |= _matches_of_pairs(current, keypoints, fresh, views, config, executor, progress)
        pairs, matches = sorted(matched), _surest_first(matched)
        if number == config.max_rounds:
            matched = {}  # not needed any more
        observers = keypoints.observers(current, config.max_error_px, config.guided.reference_size_px)
        min_views = config.min_views(len(keypoints.image_ids))
        limits = config.min_point_angle_deg, min_views
        points = triangulate_matches(np.concatenate([known, matches]), observers, *limits)
        if len(points.xyz) == 0:
            break
        completion = TrackCompletion(keypoints, observers, views, pairs, config.max_distance, executor, progress)
        points = completion.grown(points, matches, *limits)
        densified = keypoints.model_with(current, points)
        densified.update_point_3d_errors()
        error_before = densified.compute_mean_reprojection_error()
        adjust(densified)
        error_after = densified.compute_mean_reprojection_error()  # of points that are kept too: they tell of poses
        remove_short_tracks(densified, min_views)
        result = DensifyResult(densified, len(pairs), len(matches), number)
        logger.debug(
            "round %d: %d pairs, %d matches, %d points, reprojection error %.3f -> %.3f px",
            number,
            len(pairs),
            len(matches),
            densified.num_points3D(),
            error_before,
            error_after,
        )
        shift = np.sqrt(max(error_before**2 - error_after**2, 0.0)) / np.median(observers.limits_px)
        if shift >= _MIN_SHIFT:
            matched = {}  # all are matched again with the better poses
        current = densified
    return result


class SurfaceViews:
    """The dense layers of images, ready for guided matching, by the position of the image; those used last are kept.

    Args:
        model: with the cameras.
        keypoints: of its images.
        dense: features by name of image; safe to call from several threads.
    """

    def __init__(
        self, model: pycolmap.Reconstruction, keypoints: DenseKeypoints, dense: Callable[[str], DenseFeatures]
    ) -> None:
        self._names, self._dense = keypoints.names, dense
        self._cameras = [our_camera(model.cameras[model.images[i].camera_id]) for i in keypoints.image_ids]
        self._views: LruCache[int, GuidedView] = LruCache(_NUM_IN_MEMORY)

    def __call__(self, image: int) -> GuidedView:
        """The view of an image."""
        found = self._views.get(image)
        if found is None:
            found = GuidedView.from_features(self._dense(self._names[image]), self._cameras[image])
            self._views.put(image, found)
        return found


def match_surface_pairs(
    model: pycolmap.Reconstruction,
    keypoints: DenseKeypoints,
    pairs: Sequence[tuple[int, int]],
    view: Callable[[int], GuidedView],
    config: DensityConfig,
    executor: Executor,
    progress: Progress,
) -> IndexArray:
    """Match pairs of images along the epipolar lines of the poses of a model.

    Args:
        model: with the poses.
        keypoints: of its images.
        pairs: (i, j) of positions in `keypoints.image_ids`.
        view: of an image, by its position; safe to call from several threads.
        config: options.
        executor: matches several pairs at a time.
        progress: called with the stage "densify" after each pair.

    Returns:
        [M, 2] numbers of matched keypoints of all pairs, the surest first.
    """
    return _surest_first(_matches_of_pairs(model, keypoints, pairs, view, config, executor, progress))


_PairMatches = tuple[Int32Array, Float32Array]
"""[M, 2] numbers of matched keypoints, and their scores [M]; all pairs of large scenes are in memory."""


def _matches_of_pairs(
    model: pycolmap.Reconstruction,
    keypoints: DenseKeypoints,
    pairs: Sequence[tuple[int, int]],
    view: Callable[[int], GuidedView],
    config: DensityConfig,
    executor: Executor,
    progress: Progress,
) -> dict[tuple[int, int], _PairMatches]:
    """The matches of `match_surface_pairs`, by pair."""
    poses = poses_of(model, keypoints.image_ids)
    centers = np.stack([pose.inverse().t for pose in poses])
    min_baseline = _MIN_BASELINE_RATIO * float(np.ptp(centers, axis=0).max())

    def match(pair: tuple[int, int]) -> _PairMatches:
        first, second = pair
        cam1_from_cam0 = poses[second] @ poses[first].inverse()
        if np.linalg.norm(cam1_from_cam0.t) <= min_baseline:
            return np.zeros((0, 2), np.int32), np.zeros(0, np.float32)
        found = match_views(view(first), view(second), cam1_from_cam0, config=config.guided)
        numbers = keypoints.number_from_row[first], keypoints.number_from_row[second]
        indices = [number[rows] for number, rows in zip(numbers, found.indices.T, strict=True)]
        return np.stack(indices, axis=1).astype(np.int32), found.scores

    progress("densify", 0, len(pairs))
    matched = {}
    for pair, matches in zip(pairs, executor.map(match, pairs), strict=True):
        matched[pair] = matches
        progress("densify", len(matched), len(pairs))
    return matched


def _surest_first(matched: Mapping[tuple[int, int], _PairMatches]) -> IndexArray:
    """The matches [M, 2] of all pairs, those with the highest scores first."""
    indices, scores = zip(*(matched[pair] for pair in sorted(matched)), strict=True)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return np.concatenate(indices)[order].astype(np.int64)
