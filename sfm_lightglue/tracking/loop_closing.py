"""Loops: a place that was seen before corrects the drift since then, or joins two maps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.geometry.transforms import Sim3, rotation_angle_deg
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.local_mapper import LocalMapper
from sfm_lightglue.tracking.map_merging import adjust_around, fuse_points, merge_maps
from sfm_lightglue.tracking.place_matching import distinct_places, neighbourhood
from sfm_lightglue.tracking.place_recognition import PlaceRecognition
from sfm_lightglue.tracking.place_verification import PlaceVerifier, VerifiedPlace
from sfm_lightglue.tracking.pose_graph import PoseGraphEdge, edge_errors, optimize_pose_graph
from sfm_lightglue.tracking.slam_map import SlamMap

_NUM_CANDIDATES = 10
_MIN_SIMILARITY = 0.07
"""Fraction of the largest keypoints that match, of a keyframe that is worth matching."""

_MAX_WAIT = 3
"""Keyframes that are skipped at most after failed attempts: matching takes as long as mapping."""

_MORE_SIMILAR = 1.1
"""A keyframe that is more similar than all failed ones by this factor is not skipped."""

_WAIT_AFTER_LOOP = 2
"""Keyframes that are skipped after a loop."""

_NUM_COMPARED = 10
"""Keyframes of each smaller map that are compared with other maps at the end."""

_RIVAL_SHARE = 0.5
"""A second place with this fraction of the points makes the first one doubtful, if it gives another pose."""

_SAME_POSITION, _SAME_ANGLE_DEG = 0.25, 8.0
"""Largest differences of equal poses: fraction of the distance to the points, and degrees."""

_NUM_REMEMBERED = 8
"""Latest keyframes that showed a place of another map, and wait for another keyframe that confirms it."""

_MAX_COMMON_SHARE = 0.5
"""Two keyframes that find more of the same points, as a fraction of those of the one with fewer, are one evidence: what
they see can occur twice."""

_MIN_EVIDENCE = 15
"""A keyframe that finds fewer points is no second evidence: the points may have been removed since."""

_MIN_SHARED = 30
_NUM_COVISIBLE = 4
"""Edges of the pose graph from a keyframe to those that share most points, and how many these must be."""

_LOOP_WEIGHT = 100.0
"""Weight of the edge of a loop, compared with that of a step from keyframe to keyframe."""

_MAX_STRAIN = 2.5
"""Largest correction of a step from keyframe to keyframe, root mean square over the loop in standard deviations."""

_DRIFT_OF_LENGTH, _DRIFT_OF_DEPTH = 0.05, 0.005
"""Standard deviation of a step, as fractions of its median length and of the median distance of the points."""


_Known = dict[tuple[int, int], VerifiedPlace | None]
"""Results of the comparison of pairs of keyframes."""

_Similar = dict[int, list[tuple[int, float]]]
"""Keyframes of other maps that look like a keyframe, by its idx, and their similarity. They depend on what its own map
has, not on which other maps the rest belongs to."""


@dataclass(frozen=True, slots=True)
class LoopClosure:
    """A place that was recognised.

    Args:
        idx: keyframe that recognised it.
        other_idx: keyframe that saw it before.
        num_inliers: points that both see.
        scale: length of the place per length before the correction.
        merged_map_id: map that has the keyframes of both, if they belonged to two maps.
    """

    idx: int
    other_idx: int
    num_inliers: int
    scale: float
    merged_map_id: int | None = None


class LoopCloser:
    """Recognises places at keyframes, and corrects the map.

    Args:
        slam_map: the map.
        places: its keyframes.
        matcher: of features.
        mapper: adjusts the map afterwards.
        config: options.
        seed: of RANSAC.
    """

    def __init__(
        self,
        slam_map: SlamMap,
        places: PlaceRecognition,
        matcher: Matcher,
        mapper: LocalMapper,
        config: TrackerConfig,
        seed: int,
    ) -> None:
        self._map, self._places, self._mapper, self._config = slam_map, places, mapper, config
        self._verifier = PlaceVerifier(slam_map, matcher, config, seed)
        self._num_failures = 0
        self._num_to_skip = 0
        self._failed_similarity = 0.0
        self._unconfirmed: deque[VerifiedPlace] = deque(maxlen=_NUM_REMEMBERED)

    def close(self, idx: int) -> LoopClosure | None:
        """Look for the place of a keyframe that was mapped, and correct the map if it was seen before.

        A place of another map is remembered until a second keyframe gives the same similarity between both maps, by
        other points.

        Args:
            idx: the keyframe.
        """
        self._places.keep(list(self._map.keyframes))
        if idx not in self._map.keyframes:
            return None
        similar = self._similar(idx)
        similarity = similar[0][1] if similar else 0.0
        if self._num_to_skip > 0 and similarity <= _MORE_SIMILAR * self._failed_similarity:
            self._num_to_skip -= 1
            return None
        candidates = distinct_places(self._map, similar, _MIN_SIMILARITY)
        if not candidates:
            self._num_failures, self._num_to_skip, self._failed_similarity = 0, 0, 0.0
            return None
        place = self._recognised(idx, candidates, {})
        if place is not None and self._joins_maps(place) and not self._is_confirmed(place, self._unconfirmed):
            self._unconfirmed.append(place)
            self._num_failures, self._num_to_skip = 0, 0
            return None
        closure = None if place is None else self._corrected(place)
        if closure is None:
            self._num_failures += 1
            self._num_to_skip = min(self._num_failures - 1, _MAX_WAIT)
            self._failed_similarity = max(self._failed_similarity, similarity)
        else:
            self._num_failures, self._num_to_skip, self._failed_similarity = 0, _WAIT_AFTER_LOOP, np.inf
        return closure

    def join_maps(self) -> list[LoopClosure]:
        """Join maps that show a common place, when the sequence is over.

        The keyframes of each map that look most like those of other maps are compared with them, also those that were
        compared before in vain: since then they have got more points. Two keyframes must give the same similarity
        between two maps by different points, as a merge cannot be undone.
        """
        self._places.keep(list(self._map.keyframes))
        closures: list[LoopClosure] = []
        known: _Known = {}
        similar: _Similar = {}
        while True:
            smaller = reversed(self._map.map_ids_by_size()[1:])  # the smallest first: it is the quickest to compare
            closure = next(filter(None, (self._joined(map_id, known, similar) for map_id in smaller)), None)
            if closure is None:
                return closures
            closures.append(closure)
            changed = set(self._map.members(self._map.keyframes[closure.idx].map_id))
            known = {pair: place for pair, place in known.items() if changed.isdisjoint(pair)}
            similar = {idx: found for idx, found in similar.items() if idx not in changed}

    def _joined(self, map_id: int, known: _Known, similar_of: _Similar) -> LoopClosure | None:
        """Join a map with another one, if two of its keyframes show places of it and agree."""
        places: list[VerifiedPlace] = []
        for idx, similar in self._most_similar_of(map_id, similar_of):
            place = self._recognised(idx, distinct_places(self._map, similar, _MIN_SIMILARITY), known)
            if place is not None and self._is_confirmed(place, places):
                return self._corrected(place)
            places.extend([place] if place is not None else [])
        return None

    def _most_similar_of(self, map_id: int, known: _Similar) -> list[tuple[int, list[tuple[int, float]]]]:
        """The keyframes of a map that look most like those of other maps, with these and their similarity.

        Args:
            map_id: the map.
            known: what looks like keyframes of maps that did not change since; new ones are added.
        """
        members = self._map.members(map_id)
        for idx in members:
            if idx not in known:
                known[idx] = self._places.query_keyframe(idx, _NUM_CANDIDATES, members)
        order = sorted((idx for idx in members if known[idx]), key=lambda idx: (-known[idx][0][1], idx))
        return [(idx, known[idx]) for idx in order[:_NUM_COMPARED]]

    def _similar(self, idx: int) -> list[tuple[int, float]]:
        """Keyframes that look like one and are not near it, with their similarity."""
        return self._places.query_keyframe(idx, _NUM_CANDIDATES, neighbourhood(self._map, idx))

    def _recognised(self, idx: int, candidates: list[int], known: _Known) -> VerifiedPlace | None:
        """The place of a keyframe; None if there is none, or if two different places look the same.

        Args:
            idx: keyframe.
            candidates: one keyframe of each place.
            known: results of pairs of keyframes, which are not computed again; new ones are added.
        """
        for other in candidates:
            if (idx, other) not in known:
                known[idx, other] = self._verifier.verify(idx, other)
        tried = (known[idx, other] for other in candidates)
        found = sorted((place for place in tried if place is not None), key=lambda place: -place.num_inliers)
        if not found or (len(found) == 2 and self._is_ambiguous(*found)):
            return None
        return found[0]

    def _is_ambiguous(self, best: VerifiedPlace, second: VerifiedPlace) -> bool:
        """Whether a second place explains a keyframe too, and gives it another position or one in a third map."""
        if second.num_inliers < _RIVAL_SHARE * best.num_inliers:
            return False
        own, first, other = (self._map.keyframes[idx].map_id for idx in (best.idx, best.other_idx, second.other_idx))
        if first == other:
            return not self._is_same_pose(best, best.place_from_world, second.place_from_world)
        if first == own:
            return False  # a loop: its strain shows whether it is a wrong one
        return other != own or not self._is_same_pose(second, second.place_from_world, Sim3.identity())

    def _is_same_pose(self, place: VerifiedPlace, first: Sim3, second: Sim3) -> bool:
        """Whether two similarities between worlds take the keyframe of a place to the same pose."""
        center = self._map.keyframes[place.idx].cam_from_world.center
        difference = first.inverse() @ second
        return bool(
            np.linalg.norm(first @ center - second @ center) <= _SAME_POSITION * place.distance
            and rotation_angle_deg(difference.R) <= _SAME_ANGLE_DEG
        )

    def _joins_maps(self, place: VerifiedPlace) -> bool:
        return self._map.keyframes[place.idx].map_id != self._map.keyframes[place.other_idx].map_id

    def _is_confirmed(self, place: VerifiedPlace, others: Iterable[VerifiedPlace]) -> bool:
        """Whether one of other places, by other points, gives the same similarity between the same two maps."""
        keyframes, point_ids = self._map.keyframes, self._points_of(place)
        maps = [keyframes[idx].map_id for idx in (place.idx, place.other_idx)]
        return any(
            other.idx != place.idx
            and _have_little_in_common(point_ids, self._points_of(other))
            and [keyframes[idx].map_id for idx in (other.idx, other.other_idx) if idx in keyframes] == maps
            and self._is_same_pose(place, place.place_from_world, other.place_from_world)
            and abs(other.place_from_world.scale / place.place_from_world.scale - 1) <= _SAME_POSITION
            for other in others
        )

    def _points_of(self, place: VerifiedPlace) -> set[int]:
        """Points that the keyframe of a place shows, at present."""
        return set(self._map.resolve(sorted(place.point_ids)).tolist()) - {-1}

    def _corrected(self, place: VerifiedPlace) -> LoopClosure | None:
        merged_map_id = None
        if self._joins_maps(place):
            maps = {self._map.keyframes[idx].map_id for idx in (place.idx, place.other_idx)}
            merged_map_id = merge_maps(self._map, place)
            self._mapper.continue_trials(merged_map_id, *(maps - {merged_map_id}))
        elif not self._close_graph(place):
            return None
        self._unconfirmed.clear()
        fuse_points(self._map, place.links)
        adjust_around(self._map, self._mapper, self._config, place.idx)
        scale = place.place_from_world.scale
        return LoopClosure(place.idx, place.other_idx, place.num_inliers, scale, merged_map_id)

    def _close_graph(self, place: VerifiedPlace) -> bool:
        """Distribute the drift over the keyframes of the map; False if it is too large to be drift."""
        with self._map.lock:
            members = self._map.members(self._map.keyframes[place.idx].map_id)
            poses = [self._map.keyframes[idx].cam_from_world for idx in members]
            steps, others = self._edges(members)
        old = {idx: Sim3(1.0, pose.R, pose.t) for idx, pose in zip(members, poses, strict=True)}
        loop = PoseGraphEdge(place.idx, place.other_idx, place.other_from_cam, _LOOP_WEIGHT)
        sigma = self._sigma_of_step(steps)
        new = optimize_pose_graph(old, [*steps, *others, loop], members[0], sigma)
        first, last = sorted((place.idx, place.other_idx))
        within = [edge for edge in steps if first <= edge.idx0 and edge.idx1 <= last]
        strain = edge_errors(new, within, sigma) if within else np.zeros(1)
        if np.sqrt((strain**2).mean()) > _MAX_STRAIN:
            return False
        self._map.move({idx: new[idx].inverse() @ old[idx] for idx in members if idx in self._map.keyframes})
        return True

    def _edges(self, members: list[int]) -> tuple[list[PoseGraphEdge], list[PoseGraphEdge]]:
        """Steps from keyframe to keyframe, and edges between others that share many points."""
        steps = [
            (keyframe.previous_idx, idx)
            for idx, keyframe in ((idx, self._map.keyframes[idx]) for idx in members)
            if keyframe.previous_idx in self._map.keyframes
            and self._map.keyframes[keyframe.previous_idx].map_id == keyframe.map_id
        ]
        shared = {
            (min(idx, other), max(idx, other))
            for idx in members
            for other, _ in self._map.covisible(idx, _MIN_SHARED)[:_NUM_COVISIBLE]
        }
        return [self._edge(*pair) for pair in steps], [self._edge(*pair) for pair in sorted(shared - set(steps))]

    def _edge(self, idx0: int, idx1: int) -> PoseGraphEdge:
        pose0, pose1 = (self._map.keyframes[idx].cam_from_world for idx in (idx0, idx1))
        relative = pose1 @ pose0.inverse()
        return PoseGraphEdge(idx0, idx1, Sim3(1.0, relative.R, relative.t))

    def _sigma_of_step(self, steps: list[PoseGraphEdge]) -> float:
        lengths = [float(np.linalg.norm(edge.cam1_from_cam0.t)) for edge in steps]
        with self._map.lock:
            idx = max(edge.idx1 for edge in steps)
            keyframe = self._map.keyframes[idx]
            ids = keyframe.point_ids[keyframe.point_ids >= 0]
            depths = (keyframe.cam_from_world @ self._map.xyz(ids))[:, 2]
        depth = float(np.median(depths)) if len(depths) > 0 else 0.0
        return max(_DRIFT_OF_LENGTH * float(np.median(lengths)) + _DRIFT_OF_DEPTH * depth, 1e-9)


def _have_little_in_common(points: set[int], others: set[int]) -> bool:
    fewest = min(len(points), len(others))
    return fewest >= _MIN_EVIDENCE and len(points & others) <= _MAX_COMMON_SHARE * fewest
