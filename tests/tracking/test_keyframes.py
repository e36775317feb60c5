"""When a frame becomes a keyframe."""

from dataclasses import replace

import pytest

from sfm_lightglue.tracking.config import KeyframeConfig
from sfm_lightglue.tracking.keyframes import View, is_keyframe

CONFIG = KeyframeConfig()
LIKE_ITS_REFERENCE = View(400, 400, 0.95, 0.1, 0.5)


def test_a_standing_camera_makes_no_keyframes():
    assert not is_keyframe(LIKE_ITS_REFERENCE, CONFIG)
    assert not is_keyframe(replace(LIKE_ITS_REFERENCE, interval_s=1000.0), CONFIG)


@pytest.mark.parametrize(
    "change",
    [
        {"tracked_share": CONFIG.min_tracked_share - 0.01},
        {"num_points": CONFIG.min_points - 1},
        {"parallax_deg": CONFIG.max_parallax_deg + 0.1},
        {"interval_s": CONFIG.max_interval_s + 0.1, "parallax_deg": CONFIG.min_parallax_deg + 0.1},
    ],
)
def test_lost_tracks_or_parallax_make_a_keyframe(change):
    assert is_keyframe(replace(LIKE_ITS_REFERENCE, **change), CONFIG)


def test_a_place_with_few_points_does_not_make_every_frame_a_keyframe():
    poor = View(40, 45, 0.9, 0.1, 0.5)
    assert not is_keyframe(poor, CONFIG)
    assert is_keyframe(replace(poor, num_points=30), CONFIG)
