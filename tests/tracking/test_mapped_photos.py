"""Local mapping of frames of a rendered sequence with exact poses."""

import json

import numpy as np
import pytest

from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.local_mapper import LocalMapper
from sfm_lightglue.tracking.projection import reprojection_errors_px
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap
from sfm_lightglue.types import Camera
from tests.helpers.shared_data import shared_data

CAMERA = Camera("PINHOLE", 640, 480, (615.0, 615.0, 320.0, 240.0))
FRAMES = (40, 45, 50)


@pytest.fixture
def keyframes():
    """Keyframes without tracks of flow; the first is the origin, the second at distance 1."""
    folder = shared_data("sequences", "tsukuba")
    truth = json.loads((folder / "cameras.json").read_text())
    extractor = SiftExtractor(SiftConfig(max_keypoints=512))
    names = [f"{number:05}.jpg" for number in FRAMES]
    poses = [Rigid3(np.array(truth[name]["R"]), np.array(truth[name]["t"])) for name in names]
    poses = [pose @ poses[0].inverse() for pose in poses]
    unit = np.linalg.norm(poses[1].t)
    return [
        keyframe_of(idx, extractor.extract(Image.read(folder / "images" / name)), Rigid3(pose.R, pose.t / unit))
        for idx, (name, pose) in enumerate(zip(names, poses, strict=True))
    ]


def keyframe_of(idx, features, pose):
    none = np.full(len(features), -1, np.int64)
    return Keyframe(
        idx, FRAMES[idx], f"{idx}", idx / 6, 0, pose, features, features.keypoints, none, idx - 1, none.copy()
    )


def test_points_from_true_poses_reproject(keyframes):
    slam_map = SlamMap(CAMERA)
    mapper = LocalMapper(slam_map, NearestMatcher(), TrackerConfig())
    truth = [keyframe.cam_from_world for keyframe in keyframes]
    assert mapper.start(*keyframes[:2])
    mapper.add(keyframes[2])
    ids = keyframes[2].point_ids
    seen = np.flatnonzero(ids >= 0)
    in_three = slam_map.num_observations(ids[seen]) == 3
    assert in_three.sum() > 40
    errors = reprojection_errors_px(CAMERA, truth[2], slam_map.xyz(ids[seen]), keyframes[2].keypoints[seen])
    assert np.median(errors) < 1
    for keyframe, pose in zip(keyframes[1:], truth[1:], strict=True):
        rotation_error, direction_error = relative_pose_error_deg(keyframe.cam_from_world, pose)
        assert rotation_error < 0.2
        assert direction_error < 2
