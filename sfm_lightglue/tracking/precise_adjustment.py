"""The last adjustment of a map: its observations are aligned with each other, and count by their precision."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import BoolArray, IndexArray
from sfm_lightglue.execution.blas import one_blas_thread
from sfm_lightglue.refinement.observations import Observations
from sfm_lightglue.tracking.adjustment import is_plausible, poses_of
from sfm_lightglue.tracking.bundle_adjustment import Bundle, adjust, adjust_without
from sfm_lightglue.tracking.slam_map import SlamMap
from sfm_lightglue.tracking.track_alignment import AlignedTracks, align_tracks, observations_of

_MIN_SIGMA_PX = 0.1
"""No observation counts as more exact: that is about what a camera model leaves of the distortion of a real lens."""

_LOSS_SIGMAS = 1.0
"""Residuals beyond so many standard deviations count linearly."""

_MAX_SIGMAS = 5.0
"""Observations with a larger residual are removed, and the others adjusted once more."""

_MIN_KEPT = 0.7
"""Fraction of the observations of a keyframe that are kept, the best ones, unless their errors are large in pixels: a
keyframe that hardly fits the others must not lose its connection with them."""

_NUM_ITERATIONS = 15

_MAX_FACTOR = 1.4
"""If the residuals of aligned observations are larger by more than this factor than their patches tell, the map is not
adjusted by them. It is 1.7 to 1.9 on seven_scenes, whose frames are blurred, and up to 1.1 on the other sequences."""

_MEDIAN_LENGTH = 1.1774
"""Median length of a vector of two normal errors with standard deviation 1."""


def adjust_precisely(
    slam_map: SlamMap, map_id: int, max_error_px: float, num_threads: int, refined_params: tuple[int, ...] = ()
) -> bool:
    """Align the observations of a map with each other, and adjust all of it by their precision.

    Args:
        slam_map: changed in place: poses, points, keypoints, observations and, if wanted, intrinsics.
        map_id: of a map that is nearly right.
        max_error_px: of observations.
        num_threads: that align patches.
        refined_params: indices of the camera's parameters that are adjusted too.

    Returns:
        Whether it was adjusted. A map with a keyframe without an image is not, one without points, and one in which
        aligned observations do not fit as well as they should.
    """
    idxs = slam_map.members(map_id)
    images = [image for idx in idxs if (image := slam_map.keyframes[idx].image) is not None]
    if len(images) < max(2, len(idxs)) or len(slam_map.points_of(idxs)) == 0:
        return False
    seen = observations_of(slam_map, idxs)
    aligned = align_tracks(slam_map, seen, images, num_threads)
    order = np.argsort(seen.points, kind="stable")
    bundle = _bundle(slam_map, idxs, seen, aligned, order)
    options = _LOSS_SIGMAS, _NUM_ITERATIONS, refined_params
    with one_blas_thread():
        bundle = adjust(bundle, *options)
        if not _is_as_precise(bundle, aligned.is_aligned[order]):
            return False
        is_good = _fits(bundle, max_error_px)
        bundle = adjust_without(bundle, ~is_good, *options)
    if refined_params and not is_plausible(bundle.camera):
        return False
    is_good &= _fits(bundle, max_error_px)
    _write(slam_map, idxs, seen, aligned, bundle, is_good[np.argsort(order)])
    return True


def _bundle(
    slam_map: SlamMap, idxs: list[int], seen: Observations, aligned: AlignedTracks, order: IndexArray
) -> Bundle:
    """All keyframes and points of a map; the first keyframe is constant."""
    poses = [slam_map.keyframes[idx].cam_from_world for idx in idxs]
    return Bundle(
        np.stack([pose.R for pose in poses]),
        np.stack([pose.t for pose in poses]),
        seen.positions,
        seen.images[order],
        seen.points[order],
        aligned.pixels[order],
        np.arange(len(poses)) > 0,
        slam_map.camera,
        np.maximum(aligned.sigmas_px, _MIN_SIGMA_PX)[order],
    )


def _is_as_precise(bundle: Bundle, is_aligned: BoolArray) -> bool:
    """Whether the residuals of the aligned observations are about as large as their patches tell.

    They are larger where motion blur or a rolling shutter moves the patches of a frame, so that no pose fits them.

    Source: Förstner and Wrobel, Photogrammetric Computer Vision, 2016, section 4.2.4 (variance factors).
    """
    if bundle.sigmas is None or not is_aligned.any():
        return False
    ratios = bundle.errors_px()[is_aligned] / bundle.sigmas[is_aligned]
    return float(np.median(ratios)) <= _MAX_FACTOR * _MEDIAN_LENGTH


def _fits(bundle: Bundle, max_error_px: float) -> BoolArray:
    """Which observations [M] have small errors, and another one of their point has too."""
    errors_px = bundle.errors_px()
    ratios = errors_px if bundle.sigmas is None else errors_px / bundle.sigmas
    limits = np.full(len(bundle.R), _MAX_SIGMAS)
    for cam in range(len(limits)):
        of_cam = np.sort(ratios[bundle.cams == cam])
        if len(of_cam) > 0:
            limits[cam] = max(_MAX_SIGMAS, of_cam[int(_MIN_KEPT * (len(of_cam) - 1))])
    fits: BoolArray = (errors_px <= max_error_px) & (ratios <= limits[bundle.cams])
    return fits & (np.bincount(bundle.points, fits)[bundle.points] >= 2)


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
