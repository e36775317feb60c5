"""Lost frames that the finished map shows get their poses at the end; others get none."""

from types import SimpleNamespace

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking import lost_frames
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.feature_matching import FeatureMatching
from sfm_lightglue.tracking.frame import FrameRecord
from sfm_lightglue.tracking.lost_frames import LostFrames
from sfm_lightglue.tracking.place_recognition import PlaceRecognition
from sfm_lightglue.tracking.relocalization import Relocalizer
from tests.helpers.slam_ring import NearestMatcher, Ring, ring_map

CONFIG = TrackerConfig()
NUM_KEYFRAMES = 12


def record(frame_idx, pose=None):
    map_id = None if pose is None else 0
    return FrameRecord(
        frame_idx, f"{frame_idx}", frame_idx / 30, "lost" if pose is None else "tracked", pose, map_id, 0, 1
    )


@pytest.fixture
def ring():
    return Ring()


@pytest.fixture
def back_end(ring):
    return back_end_of(ring)


def back_end_of(ring):
    slam_map, matcher, places = ring_map(ring, range(NUM_KEYFRAMES)), NearestMatcher(), PlaceRecognition()
    for keyframe in slam_map.keyframes.values():
        places.add(keyframe)
    relocalizer = Relocalizer(slam_map, places, matcher, CONFIG, 0)
    return SimpleNamespace(
        slam_map=slam_map, relocalizer=relocalizer, matching=FeatureMatching(None, matcher, CONFIG), matcher=matcher
    )


def test_a_frame_of_a_known_place_gets_its_pose_and_one_of_another_place_none(ring, back_end):
    lost = LostFrames()
    lost.add(5, ring.features(5)[0])
    lost.add(7, ring.features(30)[0])
    known = record(3, Rigid3.identity())
    records = lost.found([known, record(5), record(7), record(8)], back_end, 0)
    assert records[0] is known and records[3].state == "lost"
    assert (records[1].state, records[1].map_id) == ("tracked", 0) and records[1].num_inliers >= 20
    assert np.linalg.norm(records[1].cam_from_world.center - ring.true_pose(5).center) < 0.02
    assert (records[2].state, records[2].cam_from_world) == ("lost", None)


def test_a_frame_that_retrieval_does_not_find_is_found_by_keyframes_of_its_time(ring, back_end):
    back_end.relocalizer.relocalize = lambda *_: None
    lost = LostFrames()
    for frame_idx in (5, 11):
        lost.add(frame_idx, ring.features(5)[0])
    near, far = lost.found([record(5), record(11)], back_end, 0)
    assert near.cam_from_world is not None
    assert np.linalg.norm(near.cam_from_world.center - ring.true_pose(5).center) < 0.02
    assert far.cam_from_world is None


def test_few_matches_in_a_corner_are_not_enough_for_a_frame_that_retrieval_does_not_find():
    ring = Ring(num_points=12000)
    back_end = back_end_of(ring)
    back_end.relocalizer.relocalize = lambda *_: None
    features = ring.features(5)[0]
    corner = features.rows((features.keypoints < [235, 235]).all(axis=1))
    assert len(corner) >= 100
    lost = LostFrames()
    lost.add(5, corner)
    assert lost.found([record(5)], back_end, 0)[0].cam_from_world is None


def test_frames_with_a_pose_are_not_searched(ring, back_end):
    lost = LostFrames()
    lost.add(5, ring.features(5)[0])
    posed = record(5, Rigid3.identity())
    assert lost.found([posed], back_end, 0) == (posed,)
    assert back_end.matcher.num_calls == 0


def test_dark_frames_and_the_oldest_of_many_are_not_kept(ring, monkeypatch):
    monkeypatch.setattr(lost_frames, "_MAX_FRAMES", 3)
    lost, features = LostFrames(), ring.features(0)[0]
    lost.add(0, features.rows(np.arange(50)))
    assert len(lost) == 0
    for frame_idx in range(5):
        lost.add(frame_idx, features)
    assert len(lost) == 3
