"""Relocalisation: exact in known places, None in unknown ones and where two places look alike."""

import numpy as np

from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_angle_deg
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.place_recognition import PlaceRecognition
from sfm_lightglue.tracking.relocalization import Relocalizer
from tests.helpers.slam_ring import CAMERA, NUM_STEPS, NearestMatcher, Ring, ring_map

OFFSET = np.array([0.2, 0.05, 0.3])


def relocalizer_of(slam_map):
    places = PlaceRecognition()
    for keyframe in slam_map.keyframes.values():
        places.add(keyframe)
    return Relocalizer(slam_map, places, NearestMatcher(), TrackerConfig(), seed=0)


def test_a_known_place_gives_the_pose_and_its_points():
    ring = Ring()
    slam_map = ring_map(ring, range(20))
    relocalizer = relocalizer_of(slam_map)
    for step in (1, 7, 15):
        features, numbers = ring.features(step, OFFSET)
        found = relocalizer.relocalize(features, CAMERA.size)
        true = ring.true_pose(step)
        pose = Rigid3(true.R, true.t - OFFSET)
        assert found.map_id == 0
        assert rotation_angle_deg(found.cam_from_world.R @ pose.R.T) < 0.2
        np.testing.assert_allclose(found.cam_from_world.center, pose.center, atol=0.02)
        assert len(found.rows) >= 60
        np.testing.assert_allclose(slam_map.xyz(found.point_ids), ring.xyz[numbers[found.rows]], atol=1e-9)


def without_most_points(slam_map, step=16):
    """Keep one of `step` points: most of what a young map knows is corners without descriptors."""
    ids = np.unique(np.concatenate([one.point_ids for one in slam_map.keyframes.values()]))
    slam_map.remove_points([point_id for point_id in ids[ids >= 0].tolist() if point_id % step > 0])
    return slam_map


def test_matches_without_points_confirm_the_pose_of_a_few_points():
    ring = Ring()
    slam_map = without_most_points(ring_map(ring, range(20)))
    relocalizer = relocalizer_of(slam_map)
    for step in (3, 7, 15):
        found = relocalizer.relocalize(ring.features(step, OFFSET)[0], CAMERA.size)
        true = ring.true_pose(step)
        pose = Rigid3(true.R, true.t - OFFSET)
        assert rotation_angle_deg(found.cam_from_world.R @ pose.R.T) < 0.5
        np.testing.assert_allclose(found.cam_from_world.center, pose.center, atol=0.06)
        assert 5 <= found.num_points < 25
        assert len(found.rows) >= 80
        keyframe = slam_map.keyframes[found.keyframe_idx]
        np.testing.assert_array_equal(slam_map.resolve(keyframe.point_ids[found.keyframe_rows]), found.point_ids)


def test_few_points_are_not_found_in_unknown_places_or_in_one_of_two_that_look_alike():
    ring = Ring()
    relocalizer = relocalizer_of(without_most_points(ring_map(ring, range(15))))
    assert not any(relocalizer.relocalize(ring.features(step)[0], CAMERA.size) for step in (22, 28, 34))
    for options, steps in (
        ({"alike": 1.0}, (NUM_STEPS // 4 - 2, NUM_STEPS // 4 + 2 + NUM_STEPS // 2)),
        ({"alike": 0.07, "alike_in_corner": True}, range(NUM_STEPS * 5 // 8, NUM_STEPS * 7 // 8, 3)),
    ):
        ring = Ring(**options)
        num_mapped = NUM_STEPS - 6 if options["alike"] == 1.0 else NUM_STEPS // 2
        relocalizer = relocalizer_of(without_most_points(ring_map(ring, range(num_mapped))))
        assert not any(relocalizer.relocalize(ring.features(step)[0], CAMERA.size) for step in steps)


def test_an_unknown_place_is_not_found():
    ring = Ring()
    relocalizer = relocalizer_of(ring_map(ring, range(15)))
    for step in (22, 28, 34):
        assert relocalizer.relocalize(ring.features(step)[0], CAMERA.size) is None


def test_places_that_look_alike_are_not_told_apart():
    ring = Ring(alike=1.0)
    relocalizer = relocalizer_of(ring_map(ring, range(NUM_STEPS - 6)))
    quarter = NUM_STEPS // 4
    for step in (quarter - 2, quarter + 2 + NUM_STEPS // 2):
        assert relocalizer.relocalize(ring.features(step)[0], CAMERA.size) is None
    distinct, _ = ring.features(1)
    assert relocalizer.relocalize(distinct, CAMERA.size) is not None


def test_a_small_object_that_occurs_twice_is_no_place():
    ring = Ring(alike=0.07, alike_in_corner=True)
    relocalizer = relocalizer_of(ring_map(ring, range(NUM_STEPS // 2)))
    for step in range(NUM_STEPS * 5 // 8, NUM_STEPS * 7 // 8):
        assert relocalizer.relocalize(ring.features(step)[0], CAMERA.size) is None


def test_the_map_is_that_of_the_place():
    ring = Ring()
    slam_map = ring_map(ring, range(12))
    for idx, step in enumerate(range(20, 32), start=12):
        ring.add_to(slam_map, idx, step, map_id=1, map_from_drifted=Sim3(2.0, np.eye(3), np.ones(3)))
    relocalizer = relocalizer_of(slam_map)
    assert relocalizer.relocalize(ring.features(6)[0], CAMERA.size).map_id == 0
    found = relocalizer.relocalize(ring.features(26)[0], CAMERA.size)
    assert found.map_id == 1
    np.testing.assert_allclose(found.cam_from_world.center, 2 * ring.true_pose(26).center + 1, atol=0.04)


def test_an_empty_map_finds_nothing():
    relocalizer = relocalizer_of(ring_map(Ring(), []))
    assert relocalizer.relocalize(Ring().features(0)[0], CAMERA.size) is None
