"""Remove points that turn out wrong and keyframes that add nothing.

Source: Mur-Artal, Montiel and Tardós, ORB-SLAM: A Versatile and Accurate Monocular SLAM System, 2015, section VI, B
and E.
"""

from __future__ import annotations

import numpy as np

from sfm_lightglue.tracking.slam_map import SlamMap

_TRIAL_KEYFRAMES = 3
"""A point must prove itself while so many keyframes are added after it."""

_MIN_OBSERVATIONS = 3
"""Fewest observations of a point after its trial."""

_NUM_LATEST = 3
"""The latest keyframes of a map are not removed: the tracker refers to them, and their points are on trial."""

_REDUNDANT_SHARE = 0.9
_MIN_OTHERS = 3
"""A keyframe is redundant if this fraction of its points is observed by so many others."""


class PointTrials:
    """The points that are too young to be trusted.

    Keyframes of other maps do not count: the last points of a map in which the camera was lost stay on trial, since
    the camera may be found again by them.
    """

    def __init__(self) -> None:
        self._births: dict[int, tuple[int, int]] = {}  # map and number, by point

    def begin(self, point_ids: list[int], map_id: int, keyframe_number: int) -> None:
        """Start the trial of points.

        Args:
            point_ids: of added points.
            map_id: of their map.
            keyframe_number: running number in this map of the keyframe that brought them.
        """
        self._births.update(dict.fromkeys(point_ids, (map_id, keyframe_number)))

    def continue_in(self, kept_id: int, joined_id: int, keyframe_number: int) -> None:
        """Let points of a map that was joined with another one have their trial there, from its beginning.

        Args:
            kept_id: of the map that has the points now.
            joined_id: of the map that ended.
            keyframe_number: running number of the latest keyframe of the map that stays.
        """
        moved = (point_id for point_id, (born_in, _) in self._births.items() if born_in == joined_id)
        self.begin(list(moved), kept_id, keyframe_number)

    def judge(self, slam_map: SlamMap, map_id: int, keyframe_number: int) -> int:
        """Remove points of a map with few observations after their trial; those of maps that ended leave the trial.

        Args:
            slam_map: changed in place.
            map_id: of the latest keyframe.
            keyframe_number: its running number in this map.

        Returns:
            Number of points removed.
        """
        with slam_map.lock:
            others = set(slam_map.map_ids()) - {map_id}
            done = [
                point_id
                for point_id, (born_in, number) in self._births.items()
                if born_in not in others and (born_in != map_id or keyframe_number - number >= _TRIAL_KEYFRAMES)
            ]
            for point_id in done:
                del self._births[point_id]
            counts = slam_map.num_observations(done)
            poor = np.array(done, np.int64)[(counts < _MIN_OBSERVATIONS) & (counts > 0)]
            slam_map.remove_points(poor)
            return len(poor)


def remove_redundant_keyframes(slam_map: SlamMap, idx: int) -> list[int]:
    """Remove keyframes that are covisible with one and whose points enough others observe.

    The first keyframe of a map and the latest ones stay.

    Args:
        slam_map: changed in place.
        idx: a keyframe.

    Returns:
        Indices of the removed keyframes.
    """
    removed = []
    with slam_map.lock:
        members = slam_map.members(slam_map.keyframes[idx].map_id)
        kept = {members[0], idx, *members[-_NUM_LATEST:]}
        for other, _ in slam_map.covisible(idx):
            if other not in kept and _is_redundant(slam_map, other):
                slam_map.remove_keyframe(other)
                removed.append(other)
    return removed


def _is_redundant(slam_map: SlamMap, idx: int) -> bool:
    point_ids = slam_map.keyframes[idx].point_ids
    counts = slam_map.num_observations(point_ids[point_ids >= 0])
    return len(counts) > 0 and float((counts > _MIN_OTHERS).mean()) >= _REDUNDANT_SHARE
