"""Points of the map are found in a keyframe where position and descriptor agree."""

import numpy as np

from sfm_lightglue.tracking.point_search import find_points
from sfm_lightglue.tracking.slam_map import SlamMap
from tests.helpers.slam_scene import CAMERA, Walk


def map_of_two(noise_px=0.3):
    """Keyframes 0 and 1 with all points that both see, and keyframe 2 without any."""
    walk = Walk(noise_px)
    slam_map = SlamMap(CAMERA)
    for idx in range(3):
        slam_map.add_keyframe(walk.keyframe(idx))
    numbers = np.intersect1d(walk.numbers[0], walk.numbers[1])
    rows = [{number: row for row, number in enumerate(walk.numbers[idx].tolist())} for idx in range(2)]
    tracks = [[(idx, rows[idx][number]) for idx in range(2)] for number in numbers.tolist()]
    ids = slam_map.add_points(walk.xyz[numbers], tracks)
    return walk, slam_map, dict(zip(ids.tolist(), numbers.tolist(), strict=True))


def test_the_points_of_features_are_found():
    walk, slam_map, number_of = map_of_two()
    keyframe = slam_map.keyframes[2]
    found = find_points(slam_map, keyframe, [1, 0], radius_px=3.0)
    assert [number_of[point_id] for point_id in found.point_ids.tolist()] == walk.numbers[2][found.rows].tolist()
    visible = {number for number in number_of.values() if number % 2 == 0} & set(walk.numbers[2].tolist())
    assert len(found.rows) > 0.97 * len(visible)
    assert found.rows.tolist() == sorted(set(found.rows.tolist()))


def test_points_that_are_observed_are_not_looked_for():
    _, slam_map, _ = map_of_two()
    keyframe = slam_map.keyframes[2]
    found = find_points(slam_map, keyframe, [1], radius_px=3.0)
    for row, point_id in zip(found.rows[:10].tolist(), found.point_ids[:10].tolist(), strict=True):
        slam_map.add_observation(point_id, 2, row)
    again = find_points(slam_map, keyframe, [1], radius_px=3.0)
    assert np.array_equal(again.point_ids, found.point_ids[10:])


def test_neither_far_nor_unlike_features_are_taken():
    walk, slam_map, _ = map_of_two(noise_px=0.0)
    keyframe = slam_map.keyframes[2]
    assert len(find_points(slam_map, keyframe, [1, 0], radius_px=1.0).rows) > 100
    keyframe.features.keypoints[:] += 4
    assert len(find_points(slam_map, keyframe, [1, 0], radius_px=1.0).rows) < 5
    keyframe.features.keypoints[:] -= 4
    walk.random.shuffle(keyframe.features.descriptors)
    assert len(find_points(slam_map, keyframe, [1, 0], radius_px=1.0).rows) < 5


def test_no_keyframes_give_no_points():
    _, slam_map, _ = map_of_two()
    assert len(find_points(slam_map, slam_map.keyframes[2], [], radius_px=3.0).rows) == 0
