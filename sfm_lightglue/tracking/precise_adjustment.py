"""The last adjustment of a map: its observations are aligned with each other, and count by their precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.execution.blas import one_blas_thread
from sfm_lightglue.refinement.observations import Observations
from sfm_lightglue.tracking.adjustment import is_plausible, poses_of
from sfm_lightglue.tracking.bundle_adjustment import Bundle, adjust, adjust_without
from sfm_lightglue.tracking.config import pixel_factor
from sfm_lightglue.tracking.slam_map import SlamMap
from sfm_lightglue.tracking.track_alignment import AlignedTracks, align_tracks, observations_of

_MIN_SIGMA_PX = 0.1
"""No observation counts as more exact: that is about what a camera model leaves of the distortion of a real lens. In
pixels of an image of 640 px; larger images have a larger one."""

_LOSS_SIGMAS = 1.0
"""Residuals beyond so many standard deviations count linearly."""

_MAX_SIGMAS = 5.0
"""Observations with a larger residual are removed, and the others adjusted once more."""

_MIN_KEPT = 0.7
"""Fraction of the observations of a keyframe that are kept, the best ones, unless their errors are large in pixels: a
keyframe that hardly fits the others must not lose its connection with them."""

_MIN_LEFT = 0.5
"""A map is not adjusted by patches if a keyframe would keep a smaller fraction of its observations: too little would
hold its pose. It keeps less than `_MIN_KEPT` where the other keyframes do not keep observations of the same points."""

_MIN_OBSERVATIONS = 15
"""So many hold the pose of a keyframe; those with fewer were weakly connected before."""

_MIN_ALIGNED = 300
"""A map with fewer aligned observations is not adjusted by them."""

_MIN_ALIGNED_SHARE = 0.1
"""The same as a fraction of all observations. It is 0.23 to 0.39 in measured maps."""

_NUM_ITERATIONS = 15

_MAX_FACTOR = 1.4
"""If the residuals of aligned observations are larger by more than this factor than their patches tell, the map is not
adjusted by them. It is 1.7 to 1.9 on seven_scenes, whose frames are blurred, and up to 1.1 on the other sequences."""

_MEDIAN_LENGTH = 1.1774
"""Median length of a vector of two normal errors with standard deviation 1."""


@dataclass(frozen=True, slots=True)
class LastAdjustment:
    """How a map was adjusted for the last time.

    Args:
        uses_patches: whether its observations were aligned by patches, and counted by their precision.
        reason: why they were not; "" if they were.
        aligned_share: fraction of the observations that could be aligned; None if none was tried.
        residual_ratio: median of the residuals of aligned observations, relative to what their patches tell; 1 or less
            where patches and poses fit. None if it was not computed.
    """

    uses_patches: bool
    reason: str
    aligned_share: float | None = None
    residual_ratio: float | None = None


def adjust_precisely(
    slam_map: SlamMap, map_id: int, max_error_px: float, num_threads: int, refined_params: tuple[int, ...] = ()
) -> LastAdjustment:
    """Align the observations of a map with each other, and adjust all of it by their precision.

    Args:
        slam_map: changed in place: poses, points, keypoints, observations and, if wanted, intrinsics.
        map_id: of a map that is nearly right.
        max_error_px: of observations.
        num_threads: that align patches.
        refined_params: indices of the camera's parameters that are adjusted too.

    Returns:
        Whether it was adjusted, and why not. A map with a keyframe without an image is not, one without points, one
        with few aligned observations, one in which they do not fit as well as they should, and one of which a keyframe
        would lose its connection. It stays as it is then.
    """
    idxs = slam_map.members(map_id)
    images = [image for idx in idxs if (image := slam_map.keyframes[idx].image) is not None]
    if len(images) < max(2, len(idxs)) or len(slam_map.points_of(idxs)) == 0:
        return LastAdjustment(False, "there is one keyframe, no point, or a keyframe without an image")
    seen = observations_of(slam_map, idxs)
    aligned = align_tracks(slam_map, seen, images, num_threads)
    num_aligned = int(aligned.is_aligned.sum())
    share = round(num_aligned / len(seen), 3)
    if num_aligned < max(_MIN_ALIGNED, _MIN_ALIGNED_SHARE * len(seen)):
        return LastAdjustment(False, f"{num_aligned} of {len(seen)} observations could be aligned: too few", share)
    order = np.argsort(seen.points, kind="stable")
    bundle = _bundle(slam_map, idxs, seen, aligned, order)
    options = _LOSS_SIGMAS, _NUM_ITERATIONS, refined_params
    with one_blas_thread():
        bundle = adjust(bundle, *options)
        ratio = _residual_ratio(bundle, aligned.is_aligned[order])
        measured = share, round(ratio, 2) if np.isfinite(ratio) else None
        if not ratio <= _MAX_FACTOR:
            return LastAdjustment(False, "the patches do not fit the poses, as with motion blur", *measured)
        is_good = _fits(bundle, max_error_px, np.ones(len(seen), np.bool_))
        bundle = adjust_without(bundle, ~is_good, *options)
    if refined_params and not is_plausible(bundle.camera):
        return LastAdjustment(False, "the refined focal length is not that of a usual lens", *measured)
    is_good = _fits(bundle, max_error_px, is_good)
    loose = _loose(bundle, is_good)
    if len(loose) > 0:
        name = slam_map.keyframes[idxs[loose[0]]].name
        return LastAdjustment(False, f"{name} would lose more than half of its observations", *measured)
    _write(slam_map, idxs, seen, aligned, bundle, is_good[np.argsort(order)])
    return LastAdjustment(True, "", *measured)


def _bundle(
    slam_map: SlamMap, idxs: list[int], seen: Observations, aligned: AlignedTracks, order: IndexArray
) -> Bundle:
    """All keyframes and points of a map; the first keyframe is constant."""
    poses = [slam_map.keyframes[idx].cam_from_world for idx in idxs]
    min_sigma_px = _MIN_SIGMA_PX * pixel_factor(slam_map.camera.size)
    return Bundle(
        np.stack([pose.R for pose in poses]),
        np.stack([pose.t for pose in poses]),
        seen.positions,
        seen.images[order],
        seen.points[order],
        aligned.pixels[order],
        np.arange(len(poses)) > 0,
        slam_map.camera,
        np.maximum(aligned.sigmas_px, min_sigma_px)[order],
    )


def _residual_ratio(bundle: Bundle, is_aligned: BoolArray) -> float:
    """Median of the residuals of the aligned observations, relative to what their patches tell.

    It is large where motion blur or a rolling shutter moves the patches of a frame, so that no pose fits them.

    Source: Förstner and Wrobel, Photogrammetric Computer Vision, 2016, section 4.2.4 (variance factors).
    """
    return float(np.median(_in_sigmas(bundle, bundle.errors_px())[is_aligned])) / _MEDIAN_LENGTH


def _in_sigmas(bundle: Bundle, errors_px: Float64Array) -> Float64Array:
    return errors_px if bundle.sigmas is None else errors_px / bundle.sigmas


def _fits(bundle: Bundle, max_error_px: float, is_used: BoolArray) -> BoolArray:
    """Which of the used observations [M] have small errors, and another one of their point has too."""
    errors_px = bundle.errors_px()
    ratios = _in_sigmas(bundle, errors_px)
    limits = np.full(len(bundle.R), _MAX_SIGMAS)
    for cam in range(len(limits)):
        of_cam = bundle.cams == cam
        used = np.sort(ratios[of_cam & is_used])
        if len(used) > 0:
            last_kept = int(_MIN_KEPT * (of_cam.sum() - 1))
            limits[cam] = max(_MAX_SIGMAS, used[min(last_kept, len(used) - 1)])
    fits: BoolArray = is_used & (errors_px <= max_error_px) & (ratios <= limits[bundle.cams])
    return fits & (np.bincount(bundle.points, fits)[bundle.points] >= 2)


def _loose(bundle: Bundle, is_good: BoolArray) -> IndexArray:
    """Rows of the keyframes that would keep too few of their observations."""
    had, left = (np.bincount(bundle.cams, weights, len(bundle.R)) for weights in (None, is_good))
    return np.flatnonzero((had >= _MIN_OBSERVATIONS) & (left < _MIN_LEFT * had))


def _write(
    slam_map: SlamMap,
    idxs: list[int],
    seen: Observations,
    aligned: AlignedTracks,
    bundle: Bundle,
    is_good: BoolArray,
) -> None:
    """Write poses, points, intrinsics and moved keypoints into the map, and remove what does not fit."""
    point_ids = np.array(seen.point_ids, np.int64)
    with slam_map.lock:
        slam_map.place(poses_of(bundle, idxs), point_ids, bundle.xyz)
        slam_map.camera = bundle.camera
        for row, idx in enumerate(idxs):
            of_image = seen.of(row)
            is_moved = is_good[of_image] & aligned.is_aligned[of_image]
            moved = seen.keypoints[of_image][is_moved]
            slam_map.keyframes[idx].move_keypoints(moved, aligned.pixels[of_image][is_moved])
            for point_id in point_ids[seen.points[of_image][~is_good[of_image]]].tolist():
                if idx in slam_map.track(point_id):
                    slam_map.remove_observation(point_id, idx)
