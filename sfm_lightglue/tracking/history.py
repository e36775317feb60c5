"""The frames of a sequence and the tracks in them; at the end their poses are refined on the finished map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array, IndexArray
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking.absolute_pose import absolute_pose
from sfm_lightglue.tracking.config import PoseConfig
from sfm_lightglue.tracking.frame import FrameRecord, TrackState
from sfm_lightglue.tracking.place_matching import share_of_image
from sfm_lightglue.tracking.projection import reprojection_errors_px
from sfm_lightglue.tracking.reference import RelativePose, moved_with
from sfm_lightglue.tracking.slam_map import SlamMap
from sfm_lightglue.types import Camera

_MIN_SHARE = 0.5
"""A frame before the start gets a pose if it fits this fraction of its points."""

_MIN_REFINED_POINTS, _MIN_REFINED_CELLS = 50, 0.2
"""Inliers, and fraction of the cells of the image in which these are, of a refined pose that replaces the moved one."""


@dataclass(slots=True, eq=False)
class Trace:
    """A frame of the past.

    Args:
        record: what the tracker returned for it.
        relative: its pose, None without.
        track_ids: [N] running numbers of the tracks in it.
        pixels: [N, 2] where they are.
    """

    record: FrameRecord
    relative: RelativePose | None
    track_ids: IndexArray
    pixels: Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class TrackPoints:
    """Points of the finished maps by running number of their track: position [T, 3], NaN without, and map [T]."""

    xyz: Float64Array
    map_ids: IndexArray


def track_points(slam_map: SlamMap, track_ids_of: Mapping[int, IndexArray], num_tracks: int) -> TrackPoints:
    """The points of all tracks.

    Args:
        slam_map: finished.
        track_ids_of: running numbers of the tracks of the rows of each keyframe, -1 without, by its idx.
        num_tracks: of the sequence.
    """
    point_ids, map_ids = np.full(num_tracks, -1), np.full(num_tracks, -1)
    for idx, keyframe in sorted(slam_map.keyframes.items()):
        known = (keyframe.point_ids >= 0) & (track_ids_of[idx] >= 0)
        seen = track_ids_of[idx][known]
        point_ids[seen], map_ids[seen] = keyframe.point_ids[known], keyframe.map_id
    return TrackPoints(slam_map.xyz(point_ids), map_ids)


def final_records(
    traces: list[Trace], slam_map: SlamMap, points: TrackPoints, config: PoseConfig, limit_px: float, seed: int
) -> tuple[FrameRecord, ...]:
    """The frames with their final poses.

    Keyframes have the pose of the map. Other frames are refined on their points where that lowers the error. Frames
    before a start, also that of a later map, and frames of a map that was dropped get the pose that fits the points of
    their tracks, if there are enough of these. A frame with a pose is not "lost" then, and one of a dropped map is.

    Args:
        traces: all frames, in order.
        slam_map: finished.
        points: of the tracks.
        config: limits.
        limit_px: largest error of an inlier in stored pixels.
        seed: of RANSAC.
    """
    keyframes = {keyframe.frame_idx: keyframe for keyframe in slam_map.keyframes.values()}
    records = []
    for trace in traces:
        keyframe = keyframes.get(trace.record.frame_idx)
        if keyframe is not None:
            records.append(replace(trace.record, cam_from_world=keyframe.cam_from_world, map_id=keyframe.map_id))
            continue
        moved = None if trace.relative is None else _moved(trace, trace.relative, slam_map, points, limit_px)
        if moved is None and (trace.relative is not None or trace.record.state in ("initializing", "lost")):
            moved = _found(_without_pose(trace), slam_map.camera, points, config, limit_px, seed)
        records.append(moved or trace.record)
    return tuple(records)


def _without_pose(trace: Trace) -> Trace:
    """A frame that has no pose until it is found; one with a pose in a map that was dropped is lost."""
    if trace.relative is None:
        return trace
    return replace(trace, record=replace(trace.record, state="lost", cam_from_world=None, map_id=None, num_inliers=0))


def _moved(
    trace: Trace, relative: RelativePose, slam_map: SlamMap, points: TrackPoints, limit_px: float
) -> FrameRecord | None:
    """A frame moved with its keyframe, then refined; None if its map was dropped."""
    base = slam_map.reference(relative.keyframe_idx)
    if base is None:
        return None
    pose = moved_with(base, relative).cam_from_world
    known = points.map_ids[trace.track_ids] == base.map_id
    pixels, xyz = trace.pixels[known], points.xyz[trace.track_ids[known]]
    refined = absolute_pose(pixels, xyz, slam_map.camera, 0, limit_px, pose)
    if (
        refined is not None
        and refined.num_inliers >= _MIN_REFINED_POINTS
        and share_of_image(slam_map.camera, pixels[refined.inlier_mask]) >= _MIN_REFINED_CELLS
        and _error(slam_map.camera, refined.cam_from_world, xyz, pixels, limit_px)
        < _error(slam_map.camera, pose, xyz, pixels, limit_px)
    ):
        pose = refined.cam_from_world
    return replace(trace.record, cam_from_world=pose, map_id=base.map_id)


def _error(camera: Camera, pose: Rigid3, xyz: Float64Array, pixels: Float32Array, limit_px: float) -> float:
    """Mean reprojection error, of each point at most the limit."""
    return float(np.minimum(reprojection_errors_px(camera, pose, xyz, pixels), limit_px).mean())


def _found(
    trace: Trace, camera: Camera, points: TrackPoints, config: PoseConfig, limit_px: float, seed: int
) -> FrameRecord:
    """A frame before a start, found by the points that its tracks got later."""
    map_ids = points.map_ids[trace.track_ids]
    if not (map_ids >= 0).any():
        return trace.record
    map_id = int(np.bincount(map_ids[map_ids >= 0]).argmax())
    known = map_ids == map_id
    xyz = points.xyz[trace.track_ids[known]]
    found = absolute_pose(trace.pixels[known], xyz, camera, seed, limit_px)
    if found is None or found.num_inliers < max(config.min_inliers, _MIN_SHARE * known.sum()):
        return trace.record
    state: TrackState = "tracked" if trace.record.state == "lost" else trace.record.state
    return replace(
        trace.record,
        state=state,
        cam_from_world=found.cam_from_world,
        map_id=map_id,
        num_inliers=found.num_inliers,
    )
