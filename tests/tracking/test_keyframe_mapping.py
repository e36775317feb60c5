"""Keyframes of the front end in the map: where they are placed, and when unknown intrinsics are refined."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking import keyframe_mapping
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.keyframe_mapping import KeyframeMapping
from sfm_lightglue.tracking.projection import is_inside, project
from sfm_lightglue.tracking.reference import MapStart, Reference, RelativePose
from sfm_lightglue.tracking.slam_map import ReferencePose, SlamMap
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


def with_pixels(idx, pixels):
    """A keyframe of the front end with tracks at corners, none of which has a point."""
    nothing, unknown = np.full(len(pixels), -1), np.full((len(pixels), 3), np.nan)
    points = pixels.astype(np.float64), nothing, nothing, unknown, nothing.copy()
    return Reference(idx, Frame(10 * idx, f"{idx}", float(idx), IMAGE), *points, features=NO_FEATURES)


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


class StartingMapper:
    """Starts a map, or finds that the start is bad, after something else has happened."""

    def __init__(self, is_good, before):
        self.is_good, self.before = is_good, before

    def start(self, first, second):
        self.before()
        return self.is_good


def two_of_start():
    return [with_pixels(idx, np.array([[10.5, 20.5]])) for idx in range(2)]


@pytest.mark.parametrize("source", ["guessed", "estimated"])
def test_a_bad_start_restores_guessed_intrinsics_but_keeps_refined_ones(source):
    before = replace(CAMERA, source=source)
    newer = replace(CAMERA, params=tuple(1.01 * np.array(CAMERA.params)), source="estimated")
    slam_map = SlamMap(before)

    def refine():
        slam_map.camera = newer

    first, second = two_of_start()
    second.start = MapStart(first, ReferencePose(Rigid3.identity(), 1, 1.0), before)
    KeyframeMapping(slam_map, None, StartingMapper(False, refine), lambda keyframe: None).add(second)
    assert slam_map.camera == (before if source == "guessed" else newer)
    assert second.place(slam_map) is None


def test_both_references_of_a_start_get_their_keyframes_while_the_map_is_locked():
    slam_map, is_tried, is_locked, (first, second) = (
        SlamMap(CAMERA),
        threading.Event(),
        threading.Event(),
        two_of_start(),
    )
    mapper = StartingMapper(True, lambda: (is_tried.set(), is_locked.wait(60)))
    mapping = KeyframeMapping(slam_map, None, mapper, lambda keyframe: None)
    thread = threading.Thread(target=mapping.start, args=(first, second, Rigid3.identity(), 0))
    thread.start()
    assert is_tried.wait(60)
    with slam_map.lock:
        is_locked.set()
        thread.join(0.1)
        assert second.keyframe is None, "the tracker holds the map"
    thread.join(60)
    assert (first.keyframe.idx, second.keyframe.idx) == (0, 1)


def test_a_keyframe_that_was_made_too_early_is_placed_by_the_points_that_the_map_has_now(monkeypatch):
    """The keyframe before was not mapped then: no track had a point, and the step of the camera is wrong by a fifth."""
    walk, slam_map = Walk(), SlamMap(CAMERA)
    keyframes = [walk.keyframe(idx) for idx in range(3)]
    rows_of = [dict(zip(walk.numbers[idx].tolist(), range(len(walk.numbers[idx])), strict=True)) for idx in range(3)]
    for keyframe in keyframes:
        slam_map.add_keyframe(keyframe)
    common = sorted(set(rows_of[0]) & set(rows_of[1]) & set(rows_of[2]))
    slam_map.add_points(walk.xyz[common], [[(idx, rows_of[idx][number]) for idx in range(3)] for number in common])

    before, number_of = keyframes[2], walk.numbers[2]
    corners = np.arange(before.num_features, len(before.keypoints))
    pixels = project(CAMERA, walk.pose(3), walk.xyz[number_of[corners]])[0]
    corners, pixels = corners[is_inside(CAMERA, pixels)], pixels[is_inside(CAMERA, pixels)]
    step = walk.pose(3) @ walk.pose(2).inverse()
    wrong = RelativePose(2, Rigid3(step.R, 1.2 * step.t), 1.0)
    late = replace(with_pixels(3, pixels), previous=with_pixels(2, before.keypoints), previous_slots=corners)
    late_frame_idx = late.frame.idx
    late.relative, late.previous.keyframe = wrong, before
    late.previous.feature_rows[: before.num_features] = np.arange(before.num_features)
    seeds, found = [], keyframe_mapping.absolute_pose
    monkeypatch.setattr(keyframe_mapping, "absolute_pose", lambda *values: seeds.append(values[3]) or found(*values))
    KeyframeMapping(slam_map, None, CullingMapper(slam_map, 100), lambda keyframe: None, seed=7).add(late)
    assert seeds == [7 + late_frame_idx], "the seed of the tracker, and the frame"
    placed = slam_map.keyframes[3]
    assert np.linalg.norm(placed.cam_from_world.center - walk.pose(3).center) < 1e-3
    has_point = np.isin(number_of[corners], common)
    np.testing.assert_array_equal(placed.point_ids >= 0, has_point)
