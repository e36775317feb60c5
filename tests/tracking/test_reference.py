"""Poses relative to keyframes."""

import numpy as np

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking.reference import moved_with, relative_to
from sfm_lightglue.tracking.slam_map import ReferencePose


def test_rotations_of_a_long_chain_of_keyframes_stay_rotations() -> None:
    """Without projection, a departure from a rotation doubles at each keyframe that is placed by the one before."""
    step = Rigid3.from_rotvec([0.01, 0.02, -0.01], [0.1, 0.0, 0.02])
    slightly_off = Rigid3(np.eye(3) * (1 + 1e-9), np.zeros(3))
    keyframe = ReferencePose(slightly_off, 0, 1.0)
    for idx in range(60):
        keyframe = moved_with(keyframe, relative_to(idx, keyframe, step @ keyframe.cam_from_world))
    R = keyframe.cam_from_world.R
    assert np.abs(R @ R.T - np.eye(3)).max() < 1e-12
