"""Keyframes of the front end in the map: when unknown intrinsics are refined."""

from dataclasses import replace

import numpy as np

from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.keyframe_mapping import KeyframeMapping
from sfm_lightglue.tracking.reference import Reference, RelativePose
from sfm_lightglue.tracking.slam_map import SlamMap
from tests.helpers.slam_scene import CAMERA, Walk

IMAGE = np.zeros((CAMERA.height, CAMERA.width), np.uint8)
NO_FEATURES = Features(
    np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros((0, 32), np.float32), CAMERA.size
)


class CullingMapper:
    """Adds keyframes, and removes an older one if there are more than `most`."""

    def __init__(self, slam_map, most):
        self.slam_map, self.most, self.adjusted = slam_map, most, []

    def add(self, keyframe, is_busy=False):
        self.slam_map.add_keyframe(keyframe)
        members = self.slam_map.members(keyframe.map_id)
        if len(members) > self.most:
            self.slam_map.remove_keyframe(members[1])

    def adjust_all(self, map_id):
        self.adjusted.append(map_id)


def reference(idx, first_idx):
    """A keyframe with the pose of the first one of a map."""
    none = np.zeros(0, np.int64)
    frame = Frame(10 * idx, f"{idx}", float(idx), IMAGE)
    relative = RelativePose(first_idx, Rigid3.identity(), 1.0)
    points = np.zeros((0, 2)), none, none, np.zeros((0, 3)), none
    return Reference(idx, frame, *points, relative=relative, features=NO_FEATURES)


def mapping_of(num_keyframes, most=100):
    """A map with an unknown camera, so many keyframes, and what is mapped into it."""
    slam_map, walk = SlamMap(replace(CAMERA, source="estimated")), Walk()
    for idx in range(num_keyframes):
        slam_map.add_keyframe(walk.keyframe(idx))
    mapper = CullingMapper(slam_map, most)
    return KeyframeMapping(slam_map, None, mapper, lambda keyframe: None), mapper


def test_intrinsics_are_refined_once_while_removed_keyframes_hold_their_number():
    mapping, mapper = mapping_of(5, most=6)
    for idx in range(5, 15):
        mapping.add(reference(idx, 0))
    assert len(mapper.slam_map.keyframes) == 6
    assert mapper.adjusted == [0]
    mapper.most = 100
    for idx in range(15, 25):
        mapping.add(reference(idx, 0))
    assert mapper.adjusted == [0, 0], "at 12 keyframes"


def test_intrinsics_are_not_refined_with_a_smaller_map():
    mapping, mapper = mapping_of(9)
    second = Walk().keyframe(9)
    second.map_id = 1
    mapper.slam_map.add_keyframe(second)
    for idx in range(10, 16):
        mapping.add(reference(idx, 9))
    assert len(mapper.slam_map.members(1)) == 7
    assert mapper.adjusted == []
