"""From frame to frame: a frame without points to follow is lost without a warning."""

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.frame_tracker import LiveTracks, track_frame
from sfm_lightglue.tracking.optical_flow import FlowImage
from sfm_lightglue.tracking.reference import Reference, RelativePose
from tests.helpers.slam_ring import CAMERA, Ring, ring_map

BLACK = FlowImage.of(np.zeros((CAMERA.height, CAMERA.width), np.uint8), 640)


@pytest.mark.filterwarnings("error")
def test_a_frame_without_points_to_follow_has_no_pose():
    slam_map = ring_map(Ring(), range(3))
    none, pixels = np.zeros(0, np.int64), np.zeros((0, 2))
    reference = Reference(2, None, pixels, none, none, np.zeros((0, 3)), none, keyframe=slam_map.keyframes[2])
    live = LiveTracks(BLACK, reference, none, pixels, RelativePose(2, Rigid3.identity(), 1.0), Rigid3.identity())
    assert track_frame(live, BLACK, slam_map, TrackerConfig(), seed=0) is None
