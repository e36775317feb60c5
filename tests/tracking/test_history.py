"""The final poses of frames: of dropped maps, before a later start, and with points that determine little."""

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking.config import PoseConfig
from sfm_lightglue.tracking.frame import FrameRecord
from sfm_lightglue.tracking.history import Trace, TrackPoints, final_records
from sfm_lightglue.tracking.projection import project
from sfm_lightglue.tracking.reference import RelativePose
from sfm_lightglue.tracking.slam_map import SlamMap
from tests.helpers.slam_ring import CAMERA, Ring, ring_map

NUM_POINTS = 80
POSE = Rigid3.from_rotvec([0.02, -0.05, 0.01], [0.2, 0.1, -0.1])
DROPPED = RelativePose(99, Rigid3.identity(), 1.0)
"""The keyframe 99 does not exist: its map was dropped."""


def points_in(low, high, num=NUM_POINTS):
    return np.random.default_rng(0).uniform(low, high, (num, 3))


def final(xyz, state, relative=None, slam_map=None, noise_px=0.3, map_id=0, cam_from_world=POSE, seed=1):
    """The final record of a frame that sees some points of a map."""
    random = np.random.default_rng(seed)
    pixels = project(CAMERA, cam_from_world, xyz)[0] + random.normal(0, noise_px, (len(xyz), 2))
    has_pose = relative is not None
    record = FrameRecord(500, "500", 5.0, state, POSE if has_pose else None, 0 if has_pose else None, 30, 1.0)
    trace = Trace(record, relative, np.arange(len(xyz)), pixels.astype(np.float32))
    points = TrackPoints(xyz, np.full(len(xyz), map_id))
    (found,) = final_records([trace], slam_map or SlamMap(CAMERA), points, PoseConfig(), 3.0, 0)
    return found


def test_a_frame_of_a_dropped_map_without_points_is_lost():
    record = final(points_in([-1, -1, 4], [1, 1, 8], 4), "tracked", DROPPED)
    assert (record.state, record.cam_from_world, record.map_id, record.num_inliers) == ("lost", None, None, 0)


@pytest.mark.parametrize(
    ("state", "relative", "expected"),
    [
        ("tracked", DROPPED, "tracked"),
        ("lost", None, "tracked"),
        ("initializing", None, "initializing"),
    ],
)
def test_frames_without_a_pose_are_found_by_the_points_of_a_later_map(state, relative, expected):
    record = final(points_in([-2, -1.5, 4], [2, 1.5, 8]), state, relative, map_id=1)
    assert (record.state, record.map_id) == (expected, 1)
    np.testing.assert_allclose(record.cam_from_world.center, POSE.center, atol=0.02)


@pytest.mark.parametrize("num", [6, 19, NUM_POINTS])
def test_points_in_a_corner_of_the_image_do_not_change_a_pose(num):
    ring = Ring()
    keyframe = ring_map(ring, range(2)).keyframes[0]
    corner = keyframe.cam_from_world.inverse() @ points_in([1, 0.5, 5], [2, 1.2, 6], num)
    for seed in range(10):
        moved = Rigid3(np.eye(3), [0.002, 0.0, 0.002])
        record = final(
            corner, "tracked", RelativePose(0, moved, 1.0), ring_map(ring, range(2)), 0.5,
            cam_from_world=keyframe.cam_from_world, seed=seed,
        )  # fmt: skip
        assert np.linalg.norm(record.cam_from_world.center - keyframe.cam_from_world.center) < 0.004


def test_points_all_over_the_image_correct_a_pose():
    slam_map = ring_map(Ring(), range(2))
    true = slam_map.keyframes[0].cam_from_world
    xyz = true.inverse() @ points_in([-2, -1.5, 4], [2, 1.5, 8])
    record = final(
        xyz, "tracked", RelativePose(0, Rigid3(np.eye(3), [0.1, 0.0, 0.1]), 1.0), slam_map, cam_from_world=true
    )
    assert np.linalg.norm(record.cam_from_world.center - true.center) < 0.02
