"""The map of visual SLAM: keyframes, points and the observations that link them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float32Array, Float64Array, IndexArray, UInt8Array
from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, project_to_rotation
from sfm_lightglue.tracking.compact_features import CompactFeatures
from sfm_lightglue.tracking.compact_image import CompactImage
from sfm_lightglue.types import Camera

Ids = AnyArray | Sequence[int]
"""Ids of points."""


class Keyframe:
    """A frame of the map, with its features and the tracks of optical flow.

    Args:
        idx: running number over all maps.
        frame_idx: of the frame in the sequence.
        name: of the frame.
        time_s: of the frame.
        map_id: the map it belongs to.
        cam_from_world: pose in that map.
        features: for matching, in pixels of the stored frame.
        keypoints: [N, 2]: those of the features first, then the corners that optical flow follows.
        point_ids: [N] point of each keypoint, -1 without one.
        previous_idx: keyframe before, -1 for the first of a map.
        previous_rows: [N] row of the same track of optical flow in that keyframe, -1 if there is none.
        scale: units of the map per unit when the keyframe was made.
        colors: [N, 3] RGB of the keypoints, None if unknown.
        image: for the alignment of patches, None without.
    """

    __slots__ = (
        "_features",
        "cam_from_world",
        "colors",
        "frame_idx",
        "idx",
        "image",
        "keypoints",
        "map_id",
        "name",
        "point_ids",
        "previous_idx",
        "previous_rows",
        "scale",
        "time_s",
    )

    def __init__(
        self,
        idx: int,
        frame_idx: int,
        name: str,
        time_s: float,
        map_id: int,
        cam_from_world: Rigid3,
        features: Features,
        keypoints: Float32Array,
        point_ids: IndexArray,
        previous_idx: int,
        previous_rows: IndexArray,
        scale: float = 1.0,
        colors: UInt8Array | None = None,
        image: CompactImage | None = None,
    ) -> None:
        self.idx, self.frame_idx, self.name, self.time_s, self.map_id = idx, frame_idx, name, time_s, map_id
        self.cam_from_world, self.scale = cam_from_world, scale
        self._features: Features | CompactFeatures = features
        self.keypoints, self.point_ids, self.colors = keypoints, point_ids, colors
        self.previous_idx, self.previous_rows = previous_idx, previous_rows
        self.image = image

    @property
    def features(self) -> Features:
        """The features as they were given; after `compact`, made anew at each call."""
        kept = self._features
        return kept if isinstance(kept, Features) else kept.as_features()

    @property
    def num_features(self) -> int:
        """Number of features: the first rows of `keypoints`."""
        return len(self._features)

    def compact(self) -> None:
        """Keep the descriptors in 8 bits a number from now on: a quarter of the memory."""
        kept = self._features
        if isinstance(kept, Features):
            self._features = CompactFeatures.of(kept)

    def move_keypoints(self, rows: IndexArray, pixels: Float64Array) -> None:
        """Set the pixels [M, 2] of some keypoints; the features stay as they were found."""
        self.keypoints = self.keypoints.copy()
        self.keypoints[rows] = pixels


class ReferencePose(NamedTuple):
    """Where a keyframe is at present, see `SlamMap.reference`."""

    cam_from_world: Rigid3
    map_id: int
    scale: float


class _Successor(NamedTuple):
    """The keyframe that stands for a removed one, and the removed one's pose and scale in its frame and unit."""

    idx: int
    removed_from_successor: Rigid3
    scale_ratio: float
    successor_scale: float


class SlamMap:
    """Several maps in one object, told apart by `map_id`. All methods take the lock.

    Point ids are never used twice. A point has at most one observation in a keyframe, and a keypoint at most one point.

    Args:
        camera: of all frames.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        """Intrinsics; replaced when they are refined."""
        self.lock = threading.RLock()
        """Hold it over several calls that must see one state."""
        self.revision = 0
        """Raised when keyframes were moved by a loop or a merge: the tracker takes its reference pose anew."""
        self.keyframes: dict[int, Keyframe] = {}
        self._tracks: list[dict[int, int]] = []
        self._xyz = np.zeros((1024, 3))
        self._ids = np.zeros(1024, np.int64)  # the point itself, the one it was fused into, or -1
        self._successors: dict[int, _Successor] = {}

    def add_keyframe(self, keyframe: Keyframe) -> None:
        """Add a keyframe with the observations of its `point_ids`, which may have been fused or removed meanwhile."""
        with self.lock:
            if keyframe.idx in self.keyframes or keyframe.idx in self._successors:
                raise ValueError(f"keyframe {keyframe.idx}: it was added before")
            if keyframe.previous_idx >= 0:
                self._skip_removed_previous(keyframe)
            given, keyframe.point_ids = keyframe.point_ids, np.full(len(keyframe.keypoints), -1, np.int64)
            self.keyframes[keyframe.idx] = keyframe
            resolved = self.resolve(given)
            for row in np.flatnonzero(resolved >= 0).tolist():
                self.add_observation(int(resolved[row]), keyframe.idx, row)

    def _skip_removed_previous(self, keyframe: Keyframe) -> None:
        if keyframe.previous_idx not in self.keyframes:
            keyframe.previous_idx = -1
            keyframe.previous_rows = np.full(len(keyframe.keypoints), -1, np.int64)

    def remove_keyframe(self, idx: int) -> None:
        """Remove a keyframe with its observations. Its most covisible keyframe stands for it afterwards.

        Points with a single observation left are removed. Tracks of optical flow skip the keyframe.
        """
        with self.lock:
            self._name_successor(idx)
            keyframe = self.keyframes[idx]
            for point_id in keyframe.point_ids[keyframe.point_ids >= 0].tolist():
                self.remove_observation(point_id, idx)
            for other in self.keyframes.values():
                if other.previous_idx == idx:
                    rows = other.previous_rows
                    other.previous_rows = np.where(rows >= 0, keyframe.previous_rows[rows], -1)
                    other.previous_idx = keyframe.previous_idx
            del self.keyframes[idx]

    def _name_successor(self, idx: int) -> None:
        keyframe = self.keyframes[idx]
        shared = self.covisible(idx, min_shared=1)
        others = [shared[0][0]] if shared else [other for other in self.members(keyframe.map_id) if other != idx]
        if others:
            successor = self.keyframes[min(others, key=lambda other: abs(other - idx))]
            self._successors[idx] = _Successor(
                successor.idx,
                keyframe.cam_from_world @ successor.cam_from_world.inverse(),
                keyframe.scale / successor.scale,
                successor.scale,
            )

    def reference(self, idx: int) -> ReferencePose | None:
        """Pose, map and scale of a keyframe, also of a removed one, which moves with its successor.

        Returns:
            None if it was removed with all keyframes of its map.
        """
        with self.lock:
            if idx in self.keyframes:
                keyframe = self.keyframes[idx]
                return ReferencePose(keyframe.cam_from_world, keyframe.map_id, keyframe.scale)
            if idx not in self._successors:
                return None
            link = self._successors[idx]
            successor = self.reference(link.idx)
            if successor is None:
                return None
            growth = successor.scale / link.successor_scale
            relative = Rigid3(link.removed_from_successor.R, link.removed_from_successor.t * growth)
            pose = relative @ successor.cam_from_world
            pose = Rigid3(project_to_rotation(pose.R), pose.t)
            return ReferencePose(pose, successor.map_id, link.scale_ratio * successor.scale)

    def add_points(self, xyz: AnyArray, tracks: Sequence[Sequence[tuple[int, int]]]) -> IndexArray:
        """Add points.

        Args:
            xyz: positions [P, 3].
            tracks: (keyframe idx, row) of each observation of each point, of keypoints without a point.

        Returns:
            Ids [P].

        Raises:
            ValueError: if a keypoint has a point already.
        """
        with self.lock:
            first = len(self._tracks)
            count = first + len(tracks)
            if count > len(self._xyz):
                grown = max(count, 2 * len(self._xyz))
                self._xyz = np.concatenate([self._xyz[:first], np.zeros((grown - first, 3))])
                self._ids = np.concatenate([self._ids[:first], np.zeros(grown - first, np.int64)])
            ids = np.arange(first, count)
            self._xyz[first:count] = np.reshape(np.asarray(xyz, np.float64), (-1, 3))
            self._ids[first:count] = ids
            self._tracks.extend({} for _ in tracks)
            for point_id, track in zip(ids.tolist(), tracks, strict=True):
                for idx, row in track:
                    if not self.add_observation(point_id, idx, row):
                        raise ValueError(f"keyframe {idx}, row {row}: it has a point already")
            return ids

    def xyz(self, point_ids: Ids) -> Float64Array:
        """Positions [P, 3] of points, of the one it was fused into for a fused one; NaN for removed ones."""
        with self.lock:
            ids = self.resolve(point_ids)
            positions = self._xyz[ids]
            positions[ids < 0] = np.nan
            return positions

    def resolve(self, point_ids: Ids) -> IndexArray:
        """Ids [P] of points after fusing; -1 for removed ones, and for -1."""
        with self.lock:
            ids = np.array(point_ids, dtype=np.int64)
            while True:
                following = np.where(ids >= 0, self._ids[ids], -1)
                if np.array_equal(following, ids):
                    return ids
                ids = following

    def track(self, point_id: int) -> dict[int, int]:
        """Row of each keyframe that observes a point, by keyframe idx; empty for a removed or fused one."""
        with self.lock:
            return dict(self._tracks[point_id])

    def num_observations(self, point_ids: Ids) -> IndexArray:
        """Number [P] of keyframes that observe each point, all of them present ones."""
        with self.lock:
            tracks = self._tracks
            return np.array([len(tracks[point_id]) for point_id in np.asarray(point_ids).tolist()], np.int64)

    def add_observation(self, point_id: int, idx: int, row: int) -> bool:
        """Let a keypoint observe a point, unless one of both has another partner there: False then."""
        with self.lock:
            keyframe = self.keyframes[idx]
            track = self._tracks[point_id]
            if idx in track or keyframe.point_ids[row] >= 0 or self._ids[point_id] != point_id:
                return False
            track[idx] = row
            keyframe.point_ids[row] = point_id
            return True

    def remove_observation(self, point_id: int, idx: int) -> None:
        """Remove the observation in a keyframe, and the point if a single one is left."""
        with self.lock:
            track = self._tracks[point_id]
            self.keyframes[idx].point_ids[track.pop(idx)] = -1
            if len(track) < 2:
                self.remove_points(np.array([point_id]))

    def remove_points(self, point_ids: Ids) -> None:
        """Remove points with their observations. Those that are removed or fused stay as they are."""
        with self.lock:
            for point_id in np.asarray(point_ids).tolist():
                for idx, row in self._tracks[point_id].items():
                    self.keyframes[idx].point_ids[row] = -1
                if self._ids[point_id] == point_id:
                    self._ids[point_id] = -1
                self._tracks[point_id].clear()

    def fuse(self, kept: int, dropped: int) -> None:
        """Make one point of two. An observation in a keyframe that observes the kept one too is removed."""
        with self.lock:
            moved = dict(self._tracks[dropped])
            self.remove_points(np.array([dropped]))
            self._ids[dropped] = kept
            for idx, row in moved.items():
                self.add_observation(kept, idx, row)

    def covisible(self, idx: int, min_shared: int = 15) -> list[tuple[int, int]]:
        """(idx, number of shared points) of the keyframes that share points with one, most first."""
        with self.lock:
            point_ids = self.keyframes[idx].point_ids
            counts: Counter[int] = Counter()
            for point_id in point_ids[point_ids >= 0].tolist():
                counts.update(self._tracks[point_id].keys())
            del_self = ((other, shared) for other, shared in counts.items() if other != idx and shared >= min_shared)
            return sorted(del_self, key=lambda item: (-item[1], item[0]))

    def members(self, map_id: int) -> list[int]:
        """Indices of the keyframes of a map, in order."""
        with self.lock:
            return sorted(idx for idx, keyframe in self.keyframes.items() if keyframe.map_id == map_id)

    def map_ids(self) -> list[int]:
        """Maps that have keyframes, in order."""
        with self.lock:
            return sorted({keyframe.map_id for keyframe in self.keyframes.values()})

    def map_ids_by_size(self) -> list[int]:
        """Maps that have keyframes, the one with most first, of equal ones the older."""
        with self.lock:
            return sorted(self.map_ids(), key=lambda map_id: (-len(self.members(map_id)), map_id))

    def points_of(self, idxs: Sequence[int]) -> IndexArray:
        """Ids of the points that some keyframes observe, in order."""
        with self.lock:
            ids = np.unique(np.concatenate([np.zeros(0, np.int64), *(self.keyframes[idx].point_ids for idx in idxs)]))
            return ids[ids >= 0]

    def place(self, poses: Mapping[int, Rigid3], point_ids: AnyArray, xyz: AnyArray) -> None:
        """Set poses of keyframes and positions [P, 3] of points; those that were removed meanwhile stay removed."""
        with self.lock:
            for idx, cam_from_world in poses.items():
                if idx in self.keyframes:
                    self.keyframes[idx].cam_from_world = cam_from_world
            self._xyz[np.asarray(point_ids, np.int64)] = xyz

    def move(self, new_from_old: Mapping[int, Sim3]) -> None:
        """Move keyframes, each with the points whose first keyframe it is.

        Args:
            new_from_old: of the world around each keyframe that moves.
        """
        with self.lock:
            for idx, sim3 in new_from_old.items():
                keyframe = self.keyframes[idx]
                ids = keyframe.point_ids[keyframe.point_ids >= 0]
                own = ids[[min(self._tracks[point_id]) == idx for point_id in ids.tolist()]]
                self._xyz[own] = sim3 @ self._xyz[own]
                R = project_to_rotation(keyframe.cam_from_world.R @ sim3.R.T)
                keyframe.cam_from_world = Rigid3(R, -R @ (sim3 @ keyframe.cam_from_world.center))
                keyframe.scale *= sim3.scale
            self.revision += 1

    def join(self, map_id: int, other_id: int, map_from_other: Sim3) -> None:
        """Move all keyframes and points of another map into a map.

        Args:
            map_id: of the map that stays.
            other_id: of the map that ends.
            map_from_other: similarity between their worlds.
        """
        with self.lock:
            others = self.members(other_id)
            self.move(dict.fromkeys(others, map_from_other))
            for idx in others:
                self.keyframes[idx].map_id = map_id
