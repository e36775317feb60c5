"""Guided matching finds the matches within the epipolar band, and no others."""

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.scene.cameras import as_pycolmap, calibration_matrix, normalized_from_pixels
from sfm_lightglue.two_view.guided import match_guided
from sfm_lightglue.two_view.guided_config import GuidedConfig
from sfm_lightglue.types import Camera, DenseFeatures, Features

pytestmark = pytest.mark.usefixtures("each_implementation")

CAMERA = Camera("PINHOLE", 1600, 1200, (1400.0, 1380.0, 805.0, 590.0))
RADIAL = Camera("SIMPLE_RADIAL", 1600, 1200, (1400.0, 800.0, 600.0, -0.08))
POSES = {
    "sideways": Rigid3(rotation_from_rotvec(np.array([0.02, -0.2, 0.01])), np.array([-1.0, 0.05, 0.1])),
    "exactly sideways": Rigid3(np.eye(3), np.array([-1.0, 0.0, 0.0])),
    "forward": Rigid3(rotation_from_rotvec(np.array([0.01, 0.02, 0.3])), np.array([0.05, 0.02, -1.0])),
    "turned": Rigid3(rotation_from_rotvec(np.array([0.0, 0.0, 2.8])), np.array([0.3, -1.0, 0.2])),
}


def scene(pose, num=600, noise_px=0.3, camera=CAMERA, seed=0):
    """Features of both images: row i shows the same point, with descriptors of its own, among as many others."""
    rng = np.random.default_rng(seed)
    K = calibration_matrix(camera)
    points = np.zeros((0, 3))
    while len(points) < num:
        pixels = rng.uniform((20, 20), (1580, 1180), (4 * num, 2))
        rays = np.concatenate([normalized_from_pixels(camera, pixels), np.ones((len(pixels), 1))], axis=1)
        new = rays * rng.uniform(4, 12, (len(pixels), 1))
        seen = pose @ new
        projected = seen @ K.T
        projected = projected[:, :2] / projected[:, 2:]
        inside = (seen[:, 2] > 0.5) & (projected > 30).all(axis=1) & (projected < (1570, 1170)).all(axis=1)
        points = np.concatenate([points, new[inside]])
    points = points[:num]
    descriptors = rng.standard_normal((num, 32)).astype(np.float32)
    features = []
    for in_camera in (points, pose @ points):
        pixels = _project(camera, in_camera) + rng.normal(0, noise_px, (num, 2))
        others = rng.uniform((0, 0), (1600, 1200), (num, 2))
        keypoints = np.concatenate([pixels, others]).astype(np.float32)
        noisy = descriptors + 0.2 * rng.standard_normal(descriptors.shape).astype(np.float32)
        every = np.concatenate([noisy, rng.standard_normal(descriptors.shape).astype(np.float32)])
        features.append(Features(keypoints, np.ones(2 * num, np.float32), every, camera.size))
    return features


def _project(camera, points):
    return np.asarray(as_pycolmap(camera).img_from_cam(points))


def errors_px(features, rows, pose, camera=CAMERA):
    points = [normalized_from_pixels(camera, one.keypoints[index]) for one, index in zip(features, rows, strict=True)]
    squared = squared_sampson_errors(essential_from_pose(pose), *points)
    return np.sqrt(squared) * np.mean(camera.params[:2] if camera.model == "PINHOLE" else camera.params[0])


@pytest.mark.parametrize("name", POSES)
@pytest.mark.parametrize("camera", [CAMERA, RADIAL], ids=lambda camera: camera.model)
def test_finds_the_matches_within_the_band_and_no_others(name, camera):
    pose = POSES[name]
    features = scene(pose, camera=camera)
    found = match_guided(*features, (camera, camera), cam1_from_cam0=pose, config=GuidedConfig(max_error_px=2.0))
    errors = errors_px(features, found.indices.T, pose, camera)
    assert errors.max() <= 2.1  # both are first-order distances
    right = found.indices[:, 0] == found.indices[:, 1]
    assert right.mean() > 0.98
    assert right.sum() >= 590
    assert (np.diff(found.indices[:, 0]) > 0).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


@pytest.mark.parametrize("name", POSES)
def test_a_fundamental_matrix_gives_the_matches_of_its_pose(name):
    pose = POSES[name]
    features = scene(pose, camera=RADIAL)
    K = calibration_matrix(RADIAL)
    F = 1e-3 * np.linalg.inv(K).T @ essential_from_pose(pose) @ np.linalg.inv(K)
    by_pose = match_guided(*features, (RADIAL, RADIAL), cam1_from_cam0=pose)
    by_matrix = match_guided(*features, (RADIAL, RADIAL), F=F)
    common = {tuple(row) for row in by_pose.indices.tolist()} & {tuple(row) for row in by_matrix.indices.tolist()}
    assert len(common) >= 0.98 * len(by_pose)  # points behind a camera can compete only without a pose


def test_a_narrow_band_excludes_what_lies_beyond_it():
    pose = POSES["sideways"]
    features = scene(pose, noise_px=2.0)
    narrow = match_guided(*features, (CAMERA, CAMERA), cam1_from_cam0=pose, config=GuidedConfig(max_error_px=0.5))
    wide = match_guided(*features, (CAMERA, CAMERA), cam1_from_cam0=pose, config=GuidedConfig(max_error_px=6.0))
    assert errors_px(features, narrow.indices.T, pose).max() <= 0.53
    assert len(narrow) < 0.5 * len(wide)


@pytest.mark.parametrize("name", POSES)
def test_exchanging_the_images_exchanges_the_matches(name):
    pose = POSES[name]
    features = scene(pose)
    forward = match_guided(*features, (CAMERA, CAMERA), cam1_from_cam0=pose)
    backward = match_guided(*features[::-1], (CAMERA, CAMERA), cam1_from_cam0=pose.inverse()).swapped()
    same = {tuple(row) for row in forward.indices.tolist()} & {tuple(row) for row in backward.indices.tolist()}
    assert len(same) >= len(forward) - 2  # of float32 at the edge of the band


def test_points_behind_a_camera_do_not_match():
    pose = POSES["sideways"]
    features = scene(pose)
    backward = Rigid3(pose.R, -pose.t)
    assert len(match_guided(*features, (CAMERA, CAMERA), cam1_from_cam0=pose)) > 500
    assert len(match_guided(*features, (CAMERA, CAMERA), cam1_from_cam0=backward)) < 30


def test_a_covariance_widens_the_band():
    pose = POSES["sideways"]
    features = scene(pose)
    wrong = Rigid3(rotation_from_rotvec(np.array([0.004, 0.0, 0.0])) @ pose.R, pose.t)
    exact = match_guided(*features, (CAMERA, CAMERA), cam1_from_cam0=wrong)
    covariance = np.diag([0.004**2, 0.004**2, 0.004**2, 0, 0, 0])
    widened = match_guided(*features, (CAMERA, CAMERA), cam1_from_cam0=wrong, covariance=covariance)
    assert len(exact) < 100
    right = widened.indices[:, 0] == widened.indices[:, 1]
    assert right.sum() > 550


def test_the_second_best_descriptor_of_the_band_decides():
    pose = POSES["exactly sideways"]
    features = scene(pose, num=40, noise_px=0.0)
    copied = features[1].keypoints.copy()
    copied[40:] = copied[:40] + np.float32([60, 0])  # on the same line, at a possible depth
    descriptors = features[1].descriptors.copy()
    descriptors[40:] = descriptors[:40] + 0.01
    twins = Features(np.clip(copied, 0, (1600, 1200)).astype(np.float32), features[1].scores, descriptors, CAMERA.size)
    assert len(match_guided(features[0], twins, (CAMERA, CAMERA), cam1_from_cam0=pose)) < 4
    all_best = GuidedConfig(max_ratio=1.0)
    assert len(match_guided(features[0], twins, (CAMERA, CAMERA), cam1_from_cam0=pose, config=all_best)) > 30


def test_quantised_features_match_like_those_that_they_come_from():
    pose = POSES["sideways"]
    features = scene(pose)
    dense = [DenseFeatures.from_features(one) for one in features]
    plain = match_guided(*features, (CAMERA, CAMERA), cam1_from_cam0=pose)
    quantised = match_guided(*dense, (CAMERA, CAMERA), cam1_from_cam0=pose)
    same = {tuple(row) for row in plain.indices.tolist()} & {tuple(row) for row in quantised.indices.tolist()}
    assert len(same) > 0.97 * len(plain)


def test_an_image_without_keypoints_has_no_matches():
    features = scene(POSES["sideways"], num=20)
    empty = Features(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros((0, 32), np.float32), CAMERA.size)
    assert len(match_guided(features[0], empty, (CAMERA, CAMERA), cam1_from_cam0=POSES["sideways"])) == 0
    assert len(match_guided(empty, features[0], (CAMERA, CAMERA), F=np.diag([0.0, 1.0, -1.0]))) == 0
    pose, covariance = POSES["sideways"], 1e-6 * np.eye(6)
    assert len(match_guided(features[0], empty, (CAMERA, CAMERA), cam1_from_cam0=pose, covariance=covariance)) == 0


@pytest.mark.parametrize("num", [1, 2, 63, 64, 65, 193])
def test_blocks_of_any_size_lose_no_match(num):
    pose = POSES["exactly sideways"]
    features = [one.rows(np.arange(num)) for one in scene(pose, num=200, noise_px=0.0)]
    found = match_guided(*features, (CAMERA, CAMERA), cam1_from_cam0=pose)
    assert found.indices.tolist() == [[row, row] for row in range(num)]


def test_wrong_arguments_are_told():
    pose = POSES["sideways"]
    features, cameras = scene(pose, num=20), (CAMERA, CAMERA)
    F = np.eye(3)
    for arguments in ({}, {"cam1_from_cam0": pose, "F": F}):
        with pytest.raises(ValueError, match="either cam1_from_cam0 or F"):
            match_guided(*features, cameras, **arguments)
    with pytest.raises(ValueError, match="translation"):
        match_guided(*features, cameras, cam1_from_cam0=Rigid3(np.eye(3), np.zeros(3)))
    with pytest.raises(ValueError, match="needs a pose"):
        match_guided(*features, cameras, F=F, covariance=np.eye(6))
    with pytest.raises(ValueError, match=r"\[6, 6\]"):
        match_guided(*features, cameras, cam1_from_cam0=pose, covariance=np.eye(5))
    with pytest.raises(ValueError, match="negative variance"):
        match_guided(*features, cameras, cam1_from_cam0=pose, covariance=-np.eye(6))
    with pytest.raises(ValueError, match="finite matrix"):
        match_guided(*features, cameras, F=np.full((3, 3), np.nan))
    other = Features(features[1].keypoints, features[1].scores, features[1].descriptors[:, :16].copy(), CAMERA.size)
    with pytest.raises(ValueError, match="32 and 16"):
        match_guided(features[0], other, cameras, cam1_from_cam0=pose)
    with pytest.raises(ConfigError, match="max_ratio"):
        GuidedConfig(max_ratio=0.0)
