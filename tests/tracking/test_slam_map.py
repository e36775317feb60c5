"""The map stays consistent under every change: observations of points and points of keypoints agree."""

import numpy as np
import pytest

from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_from_rotvec
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap
from sfm_lightglue.types import Camera

CAMERA = Camera("PINHOLE", 640, 480, (500.0, 500.0, 320.0, 240.0))
NUM_ROWS = 30


def keyframe(idx, map_id=0, previous_idx=-1, point_ids=None):
    keypoints = np.stack([np.arange(NUM_ROWS), np.full(NUM_ROWS, idx)], axis=1).astype(np.float32)
    features = Features(keypoints, np.ones(NUM_ROWS, np.float32), np.ones((NUM_ROWS, 4), np.float32), (640, 480))
    none = np.full(NUM_ROWS, -1, np.int64)
    pose = Rigid3.from_rotvec([0, 0.1 * idx, 0], [0.5 * idx, 0, 1])
    previous_rows = np.arange(NUM_ROWS) if previous_idx >= 0 else none.copy()
    ids = none.copy() if point_ids is None else point_ids
    return Keyframe(
        idx, idx, f"{idx:03}.jpg", idx / 10, map_id, pose, features, keypoints, ids, previous_idx, previous_rows
    )


def map_of_three():
    """Keyframes 0, 1, 2; points 0 to 19 in 0 and 1, points 10 to 19 in 2 too; the row is the id of the point."""
    slam_map = SlamMap(CAMERA)
    for idx in range(3):
        slam_map.add_keyframe(keyframe(idx, previous_idx=idx - 1))
    tracks = [[(idx, row) for idx in range(3 if row >= 10 else 2)] for row in range(20)]
    xyz = np.random.default_rng(0).normal(size=(20, 3)) + np.array([0.0, 0.0, 5.0])
    assert slam_map.add_points(xyz, tracks).tolist() == list(range(20))
    return slam_map, xyz


def assert_consistent(slam_map):
    for idx, one in slam_map.keyframes.items():
        for row, point_id in enumerate(one.point_ids.tolist()):
            assert point_id == -1 or slam_map.track(point_id)[idx] == row
    for point_id in slam_map.points_of(list(slam_map.keyframes)).tolist():
        track = slam_map.track(point_id)
        assert len(track) >= 2
        assert all(slam_map.keyframes[idx].point_ids[row] == point_id for idx, row in track.items())


def test_added_points_have_their_observations():
    slam_map, xyz = map_of_three()
    assert_consistent(slam_map)
    assert np.array_equal(slam_map.xyz(np.arange(20)), xyz)
    assert slam_map.num_observations([0, 19]).tolist() == [2, 3]
    assert slam_map.covisible(0, min_shared=1) == [(1, 20), (2, 10)]
    assert slam_map.covisible(0) == [(1, 20)]
    with pytest.raises(ValueError, match="keyframe 0, row 3: it has a point already"):
        slam_map.add_points(np.zeros((1, 3)), [[(0, 3), (1, 25)]])


def test_points_beyond_the_first_capacity_are_kept():
    slam_map = SlamMap(CAMERA)
    for idx in range(2):
        slam_map.add_keyframe(keyframe(idx))
    xyz = np.arange(12000.0).reshape(-1, 3)
    for first in range(0, 4000, 10):
        ids = slam_map.add_points(xyz[first : first + 10], [[(0, row), (1, row)] for row in range(10)])
        assert np.array_equal(slam_map.xyz(ids), xyz[first : first + 10])
        slam_map.remove_points(ids[5:])
        slam_map.remove_points(ids[:5])
    assert np.isnan(slam_map.xyz(np.arange(4000))).all()


def test_a_keypoint_and_a_keyframe_take_one_observation():
    slam_map, _ = map_of_three()
    assert slam_map.add_observation(0, 2, 0)
    assert not slam_map.add_observation(0, 2, 25)  # the keyframe observes the point already
    assert not slam_map.add_observation(1, 2, 15)  # the keypoint has a point already
    assert_consistent(slam_map)


def test_a_point_with_one_observation_left_is_removed():
    slam_map, _ = map_of_three()
    slam_map.remove_observation(12, 1)
    assert slam_map.track(12) == {0: 12, 2: 12}
    slam_map.remove_observation(12, 0)
    assert slam_map.track(12) == {}
    assert slam_map.resolve([12, -1, 11]).tolist() == [-1, -1, 11]
    assert np.isnan(slam_map.xyz([12])).all()
    assert_consistent(slam_map)


def test_fused_points_are_one():
    slam_map, xyz = map_of_three()
    (other,) = slam_map.add_points(np.ones((1, 3)), [[(1, 25), (2, 25)]]).tolist()
    slam_map.fuse(3, other)  # 3 is seen in 0 and 1: the other observation in 1 goes
    assert slam_map.track(3) == {0: 3, 1: 3, 2: 25}
    assert slam_map.resolve([other]).tolist() == [3]
    slam_map.fuse(4, 3)
    assert slam_map.resolve([other]).tolist() == [4]
    assert np.array_equal(slam_map.xyz([other]), xyz[[4]])
    slam_map.remove_points([other])
    assert slam_map.resolve([other]).tolist() == [4]
    slam_map.remove_points([4])
    assert slam_map.resolve([other]).tolist() == [-1]
    assert_consistent(slam_map)


def test_a_keyframe_comes_with_what_is_left_of_its_points():
    slam_map, _ = map_of_three()
    slam_map.fuse(12, 5)
    slam_map.remove_points([6])
    ids = np.full(NUM_ROWS, -1, np.int64)
    ids[:8] = np.arange(8)
    slam_map.add_keyframe(keyframe(3, previous_idx=2, point_ids=ids))
    assert slam_map.keyframes[3].point_ids[:8].tolist() == [0, 1, 2, 3, 4, 12, -1, 7]
    assert_consistent(slam_map)
    with pytest.raises(ValueError, match="keyframe 3"):
        slam_map.add_keyframe(keyframe(3))


def test_tracks_of_flow_skip_a_removed_keyframe():
    slam_map, _ = map_of_three()
    slam_map.keyframes[1].previous_rows[4] = -1
    slam_map.keyframes[2].previous_rows[7] = -1
    slam_map.remove_keyframe(1)
    last = slam_map.keyframes[2]
    assert last.previous_idx == 0
    assert np.flatnonzero(last.previous_rows < 0).tolist() == [4, 7]
    assert slam_map.resolve(np.arange(20)).tolist() == [-1] * 10 + list(range(10, 20))
    assert_consistent(slam_map)


def test_a_removed_keyframe_moves_with_its_successor():
    slam_map, _ = map_of_three()
    before = slam_map.keyframes[1].cam_from_world
    slam_map.remove_keyframe(1)
    reference = slam_map.reference(1)
    assert np.allclose(reference.cam_from_world.as_matrix(), before.as_matrix())
    new_from_old = Sim3(2.0, rotation_from_rotvec(np.array([0.1, 0.2, 0.3])), np.array([1.0, 2.0, 3.0]))
    slam_map.move({0: new_from_old, 2: new_from_old})
    moved = slam_map.reference(1)
    assert np.allclose(moved.cam_from_world.center, new_from_old @ before.center)
    assert np.allclose(moved.cam_from_world.R, before.R @ new_from_old.R.T)
    assert moved.scale == 2.0
    for idx in (0, 2):
        slam_map.remove_keyframe(idx)
    assert slam_map.reference(1) is None


def test_a_similarity_keeps_all_projections():
    slam_map, xyz = map_of_three()
    before = [one.cam_from_world @ xyz for one in slam_map.keyframes.values()]
    new_from_old = Sim3(3.0, rotation_from_rotvec(np.array([0.1, -0.2, 0.3])), np.array([1.0, 2.0, 3.0]))
    slam_map.move(dict.fromkeys(range(3), new_from_old))
    for one, xyz_in_cam in zip(slam_map.keyframes.values(), before, strict=True):
        assert np.allclose(one.cam_from_world @ slam_map.xyz(np.arange(20)), 3 * xyz_in_cam)
        assert one.scale == 3.0
    assert slam_map.revision == 1


def test_points_move_with_their_first_keyframe():
    slam_map, xyz = map_of_three()
    (own,) = slam_map.add_points(np.ones((1, 3)), [[(2, 25), (1, 25)]]).tolist()
    slam_map.move({2: Sim3(2.0, np.eye(3), np.zeros(3))})
    assert np.array_equal(slam_map.xyz(np.arange(20)), xyz)
    slam_map.move({1: Sim3(2.0, np.eye(3), np.zeros(3))})
    assert slam_map.xyz([own]).tolist() == [[2.0, 2.0, 2.0]]


def test_joined_maps_are_one():
    slam_map, _ = map_of_three()
    for idx in (3, 4):
        slam_map.add_keyframe(keyframe(idx, map_id=1, previous_idx=idx - 1 if idx > 3 else -1))
    (point_id,) = slam_map.add_points(np.ones((1, 3)), [[(3, 0), (4, 0)]]).tolist()
    assert slam_map.map_ids() == [0, 1]
    slam_map.join(0, 1, Sim3(0.5, np.eye(3), np.zeros(3)))
    assert slam_map.map_ids() == [0]
    assert slam_map.members(0) == [0, 1, 2, 3, 4]
    assert slam_map.xyz([point_id]).tolist() == [[0.5, 0.5, 0.5]]
    assert slam_map.keyframes[4].scale == 0.5
    assert slam_map.revision == 1


def test_adjusted_values_of_removed_parts_are_dropped():
    slam_map, _ = map_of_three()
    slam_map.remove_keyframe(2)
    slam_map.remove_points([3])
    slam_map.place({1: Rigid3.identity(), 2: Rigid3.identity()}, np.array([2, 3]), np.ones((2, 3)))
    assert np.array_equal(slam_map.keyframes[1].cam_from_world.R, np.eye(3))
    assert 2 not in slam_map.keyframes
    assert np.array_equal(np.isnan(slam_map.xyz([2, 3])).all(axis=1), [False, True])
