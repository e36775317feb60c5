"""Options of tracking: limits in pixels grow with the image."""

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.features import Features
from sfm_lightglue.tracking.config import TrackerConfig, pixel_factor
from sfm_lightglue.tracking.feature_matching import FeatureMatching
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.projection import project
from sfm_lightglue.types import Camera
from tests.helpers.slam_ring import NearestMatcher, Ring, ring_map


@pytest.mark.parametrize(
    ("size", "factor"), [((320, 240), 1.0), ((480, 640), 1.0), ((1280, 376), 2.0), ((3, 960), 1.5)]
)
def test_limits_in_pixels_are_for_640_px(size, factor):
    assert pixel_factor(size) == factor


def test_components_have_defaults_of_their_own_beside_given_options():
    assert TrackerConfig.from_mapping({}) == TrackerConfig()
    config = TrackerConfig.from_mapping({"matcher": {"filter_threshold": 0.2}, "extractor": {"max_keypoints": 9}})
    assert (config.matcher.config.memory_mb, config.matcher.config.filter_threshold) == (256, 0.2)
    assert (config.extractor.config.contrast_threshold, config.extractor.config.max_keypoints) == (0.01, 9)
    assert TrackerConfig.from_mapping({"matcher": {"memory_mb": 99}}).matcher.config.memory_mb == 99
    assert TrackerConfig.from_mapping({"matcher": {"name": "nearest"}}).matcher.name == "nearest"
    assert TrackerConfig.from_mapping(config.as_mapping()) == config


@pytest.mark.parametrize("name", ["max_lag_s", "max_camera_lag_s"])
def test_negative_waits_are_refused(name):
    with pytest.raises(ConfigError, match="must not be negative"):
        TrackerConfig.from_mapping({"keyframes": {name: -1.0}})


class Extracted:
    """An extractor that returns given features."""

    def __init__(self, features):
        self.features = features

    def extract(self, image):
        return self.features


@pytest.mark.parametrize(("width", "is_found"), [(640, False), (1280, True)])
def test_a_frame_with_errors_of_four_pixels_is_found_only_if_it_is_large(width, is_found):
    camera = Camera("PINHOLE", width, 480, (500.0, 500.0, 320.0, 240.0))
    slam_map = ring_map(Ring(), range(3))
    slam_map.camera, keyframe = camera, slam_map.keyframes[2]
    known = np.flatnonzero(keyframe.point_ids[: keyframe.num_features] >= 0)
    signs = np.where(np.arange(len(known)) % 2 == 0, 1, -1)[:, None]
    moved = project(camera, keyframe.cam_from_world, slam_map.xyz(keyframe.point_ids[known]))[0] + signs * [0.0, 4.0]
    features = keyframe.features.rows(known)
    frame_features = Features(
        np.clip(moved, 1, [width - 1, 478]).astype(np.float32),
        features.scores,
        features.descriptors,
        camera.size,
        features.scales,
    )
    matching = FeatureMatching(Extracted(frame_features), NearestMatcher(), TrackerConfig())
    frame = Frame(9, "9", 9.0, np.zeros((480, width), np.uint8))
    found = matching.find_by_keyframe(frame, keyframe, slam_map, 0)
    assert (found is not None and found.num_points > 0.8 * len(known)) == is_found
