"""Adjust a part of the map, or all of it: copy out, solve without the lock, write back what still exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import AnyArray, IndexArray
from sfm_lightglue.execution.blas import one_blas_thread
from sfm_lightglue.geometry.transforms import Rigid3, project_to_rotation
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.tracking.bundle_adjustment import Bundle, adjust
from sfm_lightglue.tracking.slam_map import SlamMap
from sfm_lightglue.types import Camera


class _Copied(NamedTuple):
    """A part of the map as arrays, and the keyframe [C] and point [P] of each of their rows."""

    bundle: Bundle
    idxs: list[int]
    point_ids: IndexArray


def window_of(slam_map: SlamMap, idx: int, size: int) -> list[int]:
    """A keyframe and its most covisible ones, without the first of the map, `size` of them at most."""
    with slam_map.lock:
        first = slam_map.members(slam_map.keyframes[idx].map_id)[0]
        others = [other for other, _ in slam_map.covisible(idx, min_shared=1)]
        return [one for one in (idx, *others) if one != first][:size]


def adjust_keyframes(
    slam_map: SlamMap,
    idxs: Sequence[int],
    loss_px: float,
    max_error_px: float,
    max_iterations: int,
    refined_params: tuple[int, ...] = (),
    min_decrease: float = 1e-3,
) -> int:
    """Adjust the poses of keyframes and all points that they observe; other observers of these points are constant.

    Observations beyond the largest error are removed afterwards.

    Args:
        slam_map: changed in place; its lock is free while the adjustment runs.
        idxs: keyframes of one map, without its first one.
        loss_px: scale of the Huber loss.
        max_error_px: of observations.
        max_iterations: of the solver.
        refined_params: indices of the camera's parameters that are adjusted too.
        min_decrease: the solver ends when a step lowers the cost by a smaller fraction. Windows overlap, so the next
            adjustment goes on from there.

    Returns:
        Number of observations removed.
    """
    copied = _copied(slam_map, idxs)
    if copied is None:
        return 0
    with one_blas_thread():
        bundle = adjust(copied.bundle, loss_px, max_iterations, refined_params, min_decrease)
    if refined_params and not is_plausible(bundle.camera):
        return 0
    outliers = np.flatnonzero(bundle.errors_px() > max_error_px)
    with slam_map.lock:
        slam_map.place(poses_of(bundle, copied.idxs), copied.point_ids, bundle.xyz)
        if refined_params:
            slam_map.camera = bundle.camera
        for row in outliers.tolist():
            _remove(slam_map, int(copied.point_ids[bundle.points[row]]), copied.idxs[bundle.cams[row]])
    return len(outliers)


def poses_of(bundle: Bundle, idxs: Sequence[int]) -> dict[int, Rigid3]:
    """The adjusted poses of a bundle by keyframe.

    Args:
        bundle: after its adjustment.
        idxs: keyframe of each of its poses.
    """
    return {
        idx: Rigid3(project_to_rotation(bundle.R[row]), bundle.t[row])
        for row, idx in enumerate(idxs)
        if bundle.is_free[row]
    }


def is_plausible(camera: Camera) -> bool:
    """Whether the field of view of a refined camera is one of a usual lens, 10 to 150 degrees."""
    focal = as_pycolmap(camera).mean_focal_length() / max(camera.size)
    return bool(0.13 < focal < 6.0) and bool(np.isfinite(camera.params).all())


def _remove(slam_map: SlamMap, point_id: int, idx: int) -> None:
    if idx in slam_map.track(point_id):
        slam_map.remove_observation(point_id, idx)


def _copied(slam_map: SlamMap, free: Sequence[int]) -> _Copied | None:
    """The keyframes, all points that they observe, and the other observers of these; None if there are no points."""
    with slam_map.lock:
        point_ids = slam_map.points_of(free)
        if len(point_ids) == 0:
            return None
        tracks = [slam_map.track(point_id) for point_id in point_ids.tolist()]
        flat = np.array([pair for track in tracks for pair in sorted(track.items())], np.int64)
        points = np.repeat(np.arange(len(tracks)), [len(track) for track in tracks])
        present, cams = np.unique(flat[:, 0], return_inverse=True)
        keyframes = [slam_map.keyframes[idx] for idx in present.tolist()]
        pixels = observed_pixels([keyframe.keypoints for keyframe in keyframes], cams, flat[:, 1])
        bundle = Bundle(
            np.stack([keyframe.cam_from_world.R for keyframe in keyframes]),
            np.stack([keyframe.cam_from_world.t for keyframe in keyframes]),
            slam_map.xyz(point_ids),
            cams,
            points,
            pixels,
            np.isin(present, free),
            slam_map.camera,
        )
        return _Copied(bundle, present.tolist(), point_ids)


def observed_pixels(keypoints: Sequence[AnyArray], of_image: IndexArray, rows: IndexArray) -> AnyArray:
    """Keypoints [M, 2] float64 of several images.

    Args:
        keypoints: [N, 2] of each image.
        of_image: [M] which image.
        rows: [M] row there.
    """
    starts = np.cumsum([0, *map(len, keypoints)])
    return np.concatenate(keypoints)[starts[of_image] + rows].astype(np.float64)
