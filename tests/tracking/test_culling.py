"""Points on trial and redundant keyframes."""

import numpy as np

from sfm_lightglue.tracking.culling import PointTrials, remove_redundant_keyframes
from sfm_lightglue.tracking.slam_map import SlamMap
from tests.helpers.slam_scene import CAMERA, Walk


def map_of(num_keyframes, num_observers):
    """All keyframes stand at one place; each point is observed by the first `num_observers` keyframes of it."""
    walk = Walk(num_points=300)
    slam_map = SlamMap(CAMERA)
    for idx in range(num_keyframes):
        keyframe = walk.keyframe(0)
        keyframe.idx, keyframe.previous_idx = idx, idx - 1
        slam_map.add_keyframe(keyframe)
    numbers = walk.numbers[0]
    tracks = [[(idx, row) for idx in range(num_observers)] for row in range(len(numbers))]
    ids = slam_map.add_points(walk.xyz[numbers], tracks)
    return slam_map, ids


def test_points_with_few_observations_leave_after_their_trial():
    slam_map, ids = map_of(4, num_observers=2)
    slam_map.add_observation(int(ids[0]), 2, int(np.flatnonzero(slam_map.keyframes[0].point_ids == ids[0])[0]))
    trials = PointTrials()
    trials.begin(ids.tolist(), 0, 1)
    assert trials.judge(slam_map, 0, 3) == 0
    assert trials.judge(slam_map, 0, 4) == len(ids) - 1
    assert slam_map.points_of([0]).tolist() == [ids[0]]
    assert trials.judge(slam_map, 0, 5) == 0


def test_the_last_points_of_a_map_stay_while_another_one_grows_and_leave_when_it_is_gone():
    slam_map, ids = map_of(3, num_observers=2)
    walk = Walk(num_points=300)
    other = walk.keyframe(0)
    other.idx, other.map_id = 9, 1
    slam_map.add_keyframe(other)
    trials = PointTrials()
    trials.begin(ids.tolist(), 0, 3)
    assert trials.judge(slam_map, 1, 40) == 0
    assert trials.judge(slam_map, 0, 4) == 0
    for keyframe in slam_map.keyframes.values():
        keyframe.map_id = 1
    assert trials.judge(slam_map, 1, 41) == len(ids)


def test_points_of_a_joined_map_are_judged_three_keyframes_later():
    slam_map, ids = map_of(3, num_observers=2)
    trials = PointTrials()
    trials.begin(ids.tolist(), 0, 3)
    for keyframe in slam_map.keyframes.values():
        keyframe.map_id = 1
    trials.continue_in(1, 0, 40)
    assert [trials.judge(slam_map, 1, number) for number in (41, 42)] == [0, 0]
    assert trials.judge(slam_map, 1, 43) == len(ids)


def test_points_that_left_before_are_no_matter():
    slam_map, ids = map_of(3, num_observers=2)
    trials = PointTrials()
    trials.begin(ids.tolist(), 0, 1)
    slam_map.fuse(int(ids[0]), int(ids[1]))
    slam_map.remove_points(ids[2:])
    assert trials.judge(slam_map, 0, 9) == 1


def test_a_keyframe_whose_points_three_others_observe_is_redundant():
    slam_map, _ = map_of(8, num_observers=8)
    removed = remove_redundant_keyframes(slam_map, 7)
    assert len(removed) == 4
    assert {0, 5, 6, 7} <= set(slam_map.keyframes)


def test_the_last_four_observers_stay():
    slam_map, _ = map_of(8, num_observers=4)
    assert remove_redundant_keyframes(slam_map, 3) == [1]
    assert remove_redundant_keyframes(slam_map, 3) == []
