"""Keyframes from the points that are followed, while the map may be moved by a loop."""

import numpy as np

from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_from_rotvec
from sfm_lightglue.tracking.config import FlowConfig
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.frame_tracker import LiveTracks
from sfm_lightglue.tracking.new_keyframe import ReferenceFactory
from sfm_lightglue.tracking.optical_flow import FlowImage
from sfm_lightglue.tracking.projection import is_inside, project
from sfm_lightglue.tracking.reference import Reference, relative_to
from sfm_lightglue.tracking.slam_map import SlamMap
from tests.helpers.slam_scene import CAMERA, Walk

MOVED = Sim3(2.0, rotation_from_rotvec(np.array([0.1, 0.3, -0.2])), np.array([3.0, -1.0, 2.0]))
FRAME = Frame(30, "30", 1.0, np.zeros((CAMERA.height, CAMERA.width), np.uint8))


def followed_from_keyframe_0(walk, slam_map):
    """Points of a keyframe that were followed to the true pose 3, and the points [N, 3] of the scene."""
    keyframe = walk.keyframe(0)
    slam_map.add_keyframe(keyframe)
    pixels = project(CAMERA, walk.pose(3), walk.xyz[walk.numbers[0]])[0]
    slots = np.flatnonzero(is_inside(CAMERA, pixels))
    slots = slots[slots >= keyframe.num_features]
    rows, nothing = np.arange(len(keyframe.keypoints)), np.full(len(keyframe.keypoints), -1)
    feature_rows = np.where(rows < keyframe.num_features, rows, -1)
    unknown = np.full((len(rows), 3), np.nan)
    reference = Reference(0, None, keyframe.keypoints.astype(np.float64), rows, nothing, unknown, feature_rows)
    reference.keyframe = keyframe
    relative = relative_to(0, slam_map.reference(0), walk.pose(3))
    image = FlowImage.of(FRAME.image, max(CAMERA.size))
    live = LiveTracks(image, reference, slots, pixels[slots], relative, Rigid3.identity())
    return live, walk.xyz[walk.numbers[0][slots]]


def next_keyframe(live, slam_map):
    factory = ReferenceFactory(FlowConfig())
    factory.first(FRAME, live.image)  # takes number 0
    return factory.following(FRAME, live, slam_map)


def test_triangulated_points_and_pose_are_in_one_world_if_the_map_was_moved_after_tracking():
    walk, slam_map = Walk(), SlamMap(CAMERA)
    live, xyz = followed_from_keyframe_0(walk, slam_map)
    slam_map.move({0: MOVED})
    reference = next_keyframe(live, slam_map)
    found = reference.xyz(slam_map, np.arange(len(xyz)))
    is_known = ~np.isnan(found[:, 0])
    assert is_known.sum() > 50
    assert np.abs(found - MOVED @ xyz)[is_known].max() < 0.01
    assert np.allclose(reference.place(slam_map).cam_from_world.center, MOVED @ walk.pose(3).center)


def test_a_point_that_the_map_removes_is_not_followed_as_a_triangulated_one():
    walk, slam_map = Walk(), SlamMap(CAMERA)
    live, _ = followed_from_keyframe_0(walk, slam_map)
    slam_map.add_keyframe(walk.keyframe(1))
    rows_of_1 = {number: row for row, number in enumerate(walk.numbers[1].tolist())}
    slots = [slot for slot in live.slots.tolist() if int(walk.numbers[0][slot]) in rows_of_1][:20]
    numbers = walk.numbers[0][slots]
    tracks = [[(0, slot), (1, rows_of_1[int(number)])] for slot, number in zip(slots, numbers, strict=True)]
    ids = slam_map.add_points(walk.xyz[numbers], tracks)
    reference = next_keyframe(live, slam_map)
    known = np.flatnonzero(reference.point_ids >= 0)
    assert sorted(reference.point_ids[known]) == sorted(ids)
    np.testing.assert_allclose(reference.xyz(slam_map, known), walk.xyz[walk.numbers[0][live.slots[known]]])
    slam_map.remove_points(ids)
    assert np.isnan(reference.xyz(slam_map, known)).all()


def test_triangulated_points_move_with_the_keyframe_before():
    """They would contradict the points of the map if they stayed: a keyframe before is adjusted while others wait."""
    walk, slam_map = Walk(), SlamMap(CAMERA)
    live, xyz = followed_from_keyframe_0(walk, slam_map)
    reference = next_keyframe(live, slam_map)
    before = reference.xyz(slam_map, np.arange(len(xyz)))
    is_known = ~np.isnan(before[:, 0])
    assert is_known.sum() > 50
    slam_map.move({0: MOVED})
    after = reference.xyz(slam_map, np.arange(len(xyz)))
    np.testing.assert_allclose(after[is_known], (MOVED @ before)[is_known], atol=1e-9)
    assert np.isnan(after[~is_known]).all()
