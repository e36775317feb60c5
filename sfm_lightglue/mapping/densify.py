"""A finished model gets the points of many more keypoints, matched along the epipolar lines of its poses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float32Array, Float64Array, IndexArray, Int32Array
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.mapping.dense_adjustment import adjust_poses
from sfm_lightglue.mapping.dense_keypoints import DenseKeypoints, our_camera, poses_of
from sfm_lightglue.mapping.dense_pairs import has_all_partners, pairs_to_match, ranked_partners
from sfm_lightglue.mapping.dense_tracks import DensePoints, triangulate_matches
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.mapping.observers import Observers
from sfm_lightglue.mapping.short_tracks import remove_short_tracks
from sfm_lightglue.mapping.track_completion import TrackCompletion
from sfm_lightglue.two_view.guided import GuidedView, match_views
from sfm_lightglue.types import DenseFeatures

logger = logging.getLogger(__name__)

DENSIFY_VERSION = 12
"""Part of a dense model's key. Raise it when the same model and features would become another dense model."""

_NUM_IN_MEMORY = 48
"""Images whose descriptors are kept in memory. With twice as many, those of a town of 300 are read 4 % less often."""

_MIN_SHIFT = 0.4
"""The pairs of an image are matched again if the adjustment takes away an error of this part of the largest one of a
match from its observations. Smaller errors of the poses hide few matches: on a beach from the air, with 0.28 for one
image, a second matching found 0.7 % more points and took as long as all other steps."""

_MIN_FRESH = 0.15
"""Part of the image pairs that must not have been matched so that matching goes on: a model of few points does not know
all images that see the same surface, its dense model does."""

_MIN_GROWTH = 1.15
"""Points are looked for again if the dense model shows so many times as many pairs of images that see the same surface:
a next strip, or the end of a loop."""

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
    adjusts_all: bool = True,
    constant_camera_ids: Collection[int] = (),
) -> DensifyResult:
    """Match the dense layer along the epipolar lines of a model, triangulate, and adjust everything robustly.

    Each image is matched with a few of those that see the same surface by the model, also if they were not matched
    before; then with those that only the dense model shows, if it has too few, and once more if its pose is clearly
    better there. A pair with fewer than `config.min_shared_points` matches does not count. If the dense model shows
    many more pairs that see the same surface, tracks are continued between these too. The tracks of the model are
    continued, and points are looked for in all images that see the surface.
    The keypoints of the model keep their indices; others follow.

    Args:
        model: registered images with poses and some points; it is not changed.
        dense: features by name of image; safe to call from several threads.
        config: options.
        adjust: adjusts a model in place, and removes what is beyond its limits. The poses are adjusted by a part of the
            points in each round.
        executor: matches several pairs at a time.
        progress: called with the stage "densify" after each pair, then with "complete tracks" after each image.
        adjusts_all: adjust the whole model at the end, and remove points that this leaves with too few observations.
            False where another adjustment follows: all points fit the adjusted poses.
        constant_camera_ids: cameras whose intrinsics `adjust` leaves as they are; others need more points.

    Returns:
        The dense model. If nothing can be matched, it has the points of the model.
    """
    keypoints = DenseKeypoints.from_model(model, dense)
    known = keypoints.matches_of_tracks(model)
    current = model
    result = DensifyResult(pycolmap.Reconstruction(model), 0, 0, 0)
    num_wanted = config.num_matched_partners(len(keypoints.image_ids))
    matched: dict[tuple[int, int], _PairMatches] = {}
    seeing: list[tuple[int, int]] = []
    moved: set[int] = set()
    knows_all = False
    found: _Found | None = None
    for number in range(1, config.max_rounds + 1):
        failed = {pair for pair, (_, scores) in matched.items() if len(scores) < config.min_shared_points}
        if knows_all and not moved and has_all_partners(matched.keys() - failed, len(keypoints.image_ids), num_wanted):
            break
        ranked = ranked_partners(current, keypoints.image_ids, config, executor=executor, predicts_all=not matched)
        pairs = pairs_to_match(ranked, num_wanted, matched, failed)
        num_fresh, num_seeing = len(pairs) - len(matched), len(seeing)
        seeing = sorted({*pairs, *(pair for of_image in ranked for pair in of_image)})
        is_worth_it = num_fresh > 0 if moved else num_fresh > _MIN_FRESH * len(pairs)
        if not is_worth_it and len(seeing) <= _MIN_GROWTH * num_seeing:
            break
        knows_all = min(map(len, ranked)) >= min(config.max_partners, len(keypoints.image_ids) - 1)
        is_last = number == config.max_rounds
        found = _points_of_pairs(
            current,
            keypoints,
            known,
            matched,
            pairs,
            seeing,
            found,
            is_last,
            dense,
            config,
            adjust,
            constant_camera_ids,
            executor,
            progress,
        )
        if found is None:
            break
        current = found.model
        result = DensifyResult(current, len(pairs), found.num_matches, number)
        moved = set(np.flatnonzero(found.shifts >= _MIN_SHIFT).tolist())
        logger.debug(
            "round %d: %d pairs, %d matches, %d points, %d images moved clearly, the most by %.2f of the limit",
            number,
            len(pairs),
            found.num_matches,
            current.num_points3D(),
            len(moved),
            found.shifts.max(),
        )
        matched = {pair: matches for pair, matches in matched.items() if moved.isdisjoint(pair)}
    if result.num_rounds > 0 and adjusts_all:
        adjust(result.model)
        remove_short_tracks(result.model, config.min_views(len(keypoints.image_ids)))
    return result


@dataclass(frozen=True, eq=False, slots=True)
class _Found:
    """The points of one round.

    Args:
        model: with adjusted poses and these points.
        observers: of the model.
        points: without the numbers of the model.
        num_matches: that they come from.
        shifts: see `PoseAdjustment`.
    """

    model: pycolmap.Reconstruction
    observers: Observers
    points: DensePoints
    num_matches: int
    shifts: Float64Array


def _points_of_pairs(
    model: pycolmap.Reconstruction,
    keypoints: DenseKeypoints,
    known: IndexArray,
    matched: dict[tuple[int, int], _PairMatches],
    pairs: Sequence[tuple[int, int]],
    seeing: Sequence[tuple[int, int]],
    before: _Found | None,
    is_last: bool,
    dense: Callable[[str], DenseFeatures],
    config: DensityConfig,
    adjust: Callable[[pycolmap.Reconstruction], None],
    constant_camera_ids: Collection[int],
    executor: Executor,
    progress: Progress,
) -> _Found | None:
    """Match pairs that were not matched yet, triangulate the matches of all, adjust the poses, and continue the tracks.

    What is needed for it takes more memory than the model. It is free when the whole model is adjusted.

    Args:
        model: with the poses.
        keypoints: of its images.
        known: [M, 2] matches of its tracks.
        matched: of pairs; gets those of the others. It is emptied before triangulation if it is not needed any more.
        pairs: all pairs to be matched, sorted.
        seeing: pairs of images that see the same surface; tracks are continued between them.
        before: points of the round before, which are continued if all pairs are matched already.
        is_last: whether no other round follows.
        dense: features by name of image.
        config: options.
        adjust: adjusts a model in place.
        constant_camera_ids: cameras whose intrinsics it leaves as they are.
        executor: works on several pairs or images at a time.
        progress: called after each of them.

    Returns:
        None if no match can be triangulated, or no point fits the adjusted poses.
    """
    views = SurfaceViews(model, keypoints, dense)
    fresh = [pair for pair in pairs if pair not in matched]
    matched |= _matches_of_pairs(model, keypoints, fresh, views, config, executor, progress)
    matches = _surest_first(matched)
    if is_last:
        matched.clear()
    limits = config.min_point_angle_deg, config.min_views(len(keypoints.image_ids))
    if before is None or fresh:
        observers = keypoints.observers(model, config.max_error_px, config.guided.reference_size_px)
        points = triangulate_matches(np.concatenate([known, matches]), observers, *limits)
        if len(points.xyz) == 0:
            return None
        adjusted = adjust_poses(model, keypoints, points, observers, adjust, *limits, constant_camera_ids)
        if adjusted is None:
            return None
        model, observers, points, shifts = adjusted.model, adjusted.observers, adjusted.points, adjusted.shifts
    else:
        observers, points, shifts = before.observers, before.points, np.zeros(len(keypoints.image_ids))
    completion = TrackCompletion(keypoints, observers, views, seeing, config.max_distance, executor, progress)
    points = completion.grown(points, matches, *limits)
    if len(points.xyz) == 0:
        return None
    return _Found(keypoints.model_with(model, points), observers, points, len(matches), shifts)


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
