"""Frames with few known points: all matches confirm the pose, and random ones do not."""

import numpy as np

from sfm_lightglue.geometry.transforms import Rigid3, rotation_angle_deg
from sfm_lightglue.tracking.pose_from_matches import MatchesWithPoints, pose_from_matches
from sfm_lightglue.tracking.projection import project
from sfm_lightglue.types import Camera

CAMERA = Camera("PINHOLE", 640, 480, (500.0, 500.0, 320.0, 240.0))
KEYFRAME = Rigid3.from_rotvec([0.05, -0.1, 0.02], [0.3, 0.1, -0.2])
FRAME = Rigid3.from_rotvec([0.1, 0.05, -0.02], [-0.4, 0.15, 0.1])


def matches(num_known, noise_px=0.3, num=150, seed=0):
    """Matches of which the first have points."""
    random = np.random.default_rng(seed)
    xyz = random.uniform([-1.5, -1, 4], [1.5, 1, 9], (num, 3))
    pixels0, pixels1 = (
        project(CAMERA, pose, xyz)[0] + random.normal(0, noise_px, (num, 2)) for pose in (KEYFRAME, FRAME)
    )
    xyz[num_known:] = np.nan
    return MatchesWithPoints(CAMERA, KEYFRAME, pixels0, pixels1, xyz, 3.0)


def errors(found):
    assert found is not None
    rotation_deg = rotation_angle_deg(found.cam_from_world.R @ FRAME.R.T)
    return rotation_deg, float(np.linalg.norm(found.cam_from_world.center - FRAME.center))


def test_many_points_are_enough():
    rotation_deg, distance = errors(pose_from_matches(matches(100), 20, 0))
    assert rotation_deg < 0.1 and distance < 0.02


def test_few_points_and_many_matches_give_the_pose():
    few = matches(7)
    found = pose_from_matches(few, 20, 0)
    rotation_deg, distance = errors(found)
    assert rotation_deg < 0.3 and distance < 0.05
    assert found is not None and found.inlier_mask.mean() > 0.9


def test_matches_without_points_have_no_scale():
    assert pose_from_matches(matches(2), 20, 0) is None


def test_few_points_are_not_believed_if_the_matches_are_random():
    few = matches(7)
    random = np.random.default_rng(1).uniform(0, 480, (150, 2))
    random[:7] = few.pixels1[:7]
    wrong = MatchesWithPoints(CAMERA, KEYFRAME, few.pixels0, random, few.xyz, 3.0)
    assert pose_from_matches(wrong, 20, 0) is None
