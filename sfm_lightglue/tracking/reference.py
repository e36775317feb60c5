"""Keyframes as the front end sees them: points that optical flow follows, and poses relative to keyframes."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Rigid3, project_to_rotation
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.slam_map import Keyframe, ReferencePose, SlamMap
from sfm_lightglue.types import Camera


class RelativePose(NamedTuple):
    """Pose of a frame relative to a keyframe, which the map may move later.

    Args:
        keyframe_idx: of the keyframe.
        cam_from_keyframe: the pose.
        scale: of the keyframe when the pose was estimated, see `Keyframe.scale`.
    """

    keyframe_idx: int
    cam_from_keyframe: Rigid3
    scale: float


class MapStart(NamedTuple):
    """The start of a map that is not mapped yet.

    Args:
        first: keyframe of the map, whose camera is the world.
        pose: of the second keyframe.
        camera_before: intrinsics before it; if they were guessed, they are right again if the start is bad.
    """

    first: Reference
    pose: ReferencePose
    camera_before: Camera


@dataclass(slots=True, eq=False)
class Reference:
    """A keyframe from which optical flow follows points, its slots.

    In the map, a slot is the row of a feature, or else a corner: corners are the rows after the features.

    Args:
        idx: of the keyframe.
        frame: its image, None as soon as the map has the keyframe.
        pixels: [T, 2] of the slots.
        track_ids: [T] running numbers of the tracks over the whole sequence.
        point_ids: [T] points of the map, -1 without; those that are known when the keyframe is made.
        local_xyz: [T, 3] points that the front end triangulated, until the map has the keyframe, in the frame of its
            camera and the unit of `relative`: they move with it when the map is adjusted. NaN without.
        feature_rows: [T] feature at which a track begins, -1 for corners.
        previous: keyframe before, None for the first of a map, and as soon as the map has this one.
        previous_slots: [T] slot of the same track there, -1 without.
        matched_idx: keyframe of the map that the tracks continue instead, -1 for none.
        matched_rows: [T] its rows, -1 without.
        relative: pose relative to a keyframe that was made before; None for the first two of a map.
        features: if their extraction has begun.
        start: of the map whose second keyframe this is, until the map has it; None if the start was bad.
        keyframe: in the map; None while it waits for mapping.
    """

    idx: int
    frame: Frame | None
    pixels: Float64Array
    track_ids: IndexArray
    point_ids: IndexArray
    local_xyz: Float64Array
    feature_rows: IndexArray
    previous: Reference | None = None
    previous_slots: IndexArray = field(default_factory=lambda: np.zeros(0, np.int64))
    matched_idx: int = -1
    matched_rows: IndexArray = field(default_factory=lambda: np.zeros(0, np.int64))
    relative: RelativePose | None = None
    features: Features | Future[Features] | None = None
    start: MapStart | None = None
    keyframe: Keyframe | None = None

    def rows_with(self, num_features: int) -> IndexArray:
        """Rows [T] of all slots in a keyframe with so many features."""
        is_corner = self.feature_rows < 0
        return np.where(is_corner, num_features + np.cumsum(is_corner) - 1, self.feature_rows)

    def rows(self, slots: IndexArray) -> IndexArray:
        """Rows [N] of slots in the keyframe of the map, -1 for the slot -1."""
        if self.keyframe is None:
            raise ValueError(f"keyframe {self.idx}: it is not in the map")
        return np.where(slots >= 0, self.rows_with(self.keyframe.num_features)[slots], -1)

    def xyz(self, slam_map: SlamMap, slots: IndexArray) -> Float64Array:
        """Points [N, 3] of slots, NaN without."""
        with slam_map.lock:
            if self.keyframe is not None:
                return slam_map.xyz(self.keyframe.point_ids[self.rows(slots)])
            of_map, placed = slam_map.xyz(self.point_ids[slots]), self.place(slam_map)
        if placed is None:
            return of_map
        local = placed.cam_from_world.inverse() @ (placed.scale * self.local_xyz[slots])
        return np.where(np.isnan(of_map), local, of_map)

    def forget_local(self, slots: IndexArray) -> None:
        """Forget points of slots [N] that the front end triangulated: they do not fit. Their tracks may be right."""
        self.local_xyz[slots] = np.nan

    def known_points(self, slam_map: SlamMap, slots: IndexArray) -> IndexArray:
        """Ids of the points [N] of slots in the map, -1 without."""
        with slam_map.lock:
            ids = self.point_ids[slots] if self.keyframe is None else self.keyframe.point_ids[self.rows(slots)]
            return slam_map.resolve(ids)

    def place(self, slam_map: SlamMap) -> ReferencePose | None:
        """Pose at present; None if its map was dropped, or its start was bad."""
        with slam_map.lock:
            found = slam_map.reference(self.idx)
            if found is not None:
                return found
            if self.relative is None:
                return None if self.start is None else self.start.pose
            before = slam_map.reference(self.relative.keyframe_idx)
            if before is None and self.previous is not None:
                before = self.previous.place(slam_map)
        return None if before is None else moved_with(before, self.relative)

    def is_before_start(self, slam_map: SlamMap) -> bool:
        """Whether it belongs to a map whose start is not mapped yet."""
        with slam_map.lock:
            placed = self.place(slam_map)
            return placed is not None and not slam_map.members(placed.map_id)

    def forget(self) -> None:
        """Drop what only a keyframe that waits for mapping needs."""
        self.frame, self.previous = None, None


def moved_with(keyframe: ReferencePose, relative: RelativePose) -> ReferencePose:
    """Pose of a frame, from the present pose of the keyframe that it is relative to.

    The rotation is projected: in chains of relative poses, departures from a rotation double at each keyframe.
    """
    growth = keyframe.scale / relative.scale
    pose = relative.cam_from_keyframe
    placed = Rigid3(pose.R, pose.t * growth) @ keyframe.cam_from_world
    return ReferencePose(Rigid3(project_to_rotation(placed.R), placed.t), keyframe.map_id, growth)


def relative_to(keyframe_idx: int, keyframe: ReferencePose, cam_from_world: Rigid3) -> RelativePose:
    """Pose of a frame relative to a keyframe, both in the world at present."""
    return RelativePose(keyframe_idx, cam_from_world @ keyframe.cam_from_world.inverse(), keyframe.scale)
