"""The similarity of two cameras from point pairs: exact from exact ones, and not moved by wrong ones."""

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Sim3, rotation_angle_deg, rotation_from_rotvec
from sfm_lightglue.tracking.projection import pixels_from_cam
from sfm_lightglue.tracking.similarity import PointPairs, estimate_similarity
from tests.helpers.slam_ring import CAMERA


def pairs_of(cam1_from_cam0, num=150, num_wrong=0, noise_px=0.0, depth_noise=0.0):
    random = np.random.default_rng(0)
    xyz0 = random.uniform((-2, -1.5, 4), (2, 1.5, 9), (num, 3))
    xyz1 = cam1_from_cam0 @ xyz0
    pixels0, pixels1 = pixels_from_cam(CAMERA, xyz0), pixels_from_cam(CAMERA, xyz1)
    pixels0 += noise_px * random.normal(size=pixels0.shape)
    pixels1 += noise_px * random.normal(size=pixels1.shape)
    xyz0 *= np.exp(depth_noise * random.normal(size=(num, 1)))
    xyz1 *= np.exp(depth_noise * random.normal(size=(num, 1)))
    order = random.permutation(num_wrong)
    pixels1[:num_wrong], xyz1[:num_wrong] = pixels1[order], xyz1[order]
    return PointPairs(pixels0, pixels1, xyz0, xyz1)


def similarity(scale, length):
    return Sim3(scale, rotation_from_rotvec(np.array([0.05, -0.2, 0.1])), length * np.array([1.0, -0.2, 0.3]))


@pytest.mark.parametrize("length", [0.0, 0.8], ids=["same position", "other position"])
@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_exact_pairs_give_the_similarity(scale, length):
    true = similarity(scale, scale * length)
    found = estimate_similarity(pairs_of(true), CAMERA, seed=0, max_error_px=3.0)
    assert len(found.inliers) == 150
    assert found.cam1_from_cam0.scale == pytest.approx(scale, rel=1e-4)
    assert rotation_angle_deg(found.cam1_from_cam0.R @ true.R.T) < 1e-3
    np.testing.assert_allclose(found.cam1_from_cam0.t, true.t, atol=1e-3 * scale)


def test_wrong_pairs_and_noise_do_not_move_it():
    true = similarity(0.5, 0.5)
    pairs = pairs_of(true, num_wrong=75, noise_px=0.5, depth_noise=0.03)
    found = estimate_similarity(pairs, CAMERA, seed=0, max_error_px=4.0)
    assert found.inliers.min() >= 70
    assert len(found.inliers) >= 60
    assert found.cam1_from_cam0.scale == pytest.approx(0.5, rel=0.02)
    assert rotation_angle_deg(found.cam1_from_cam0.R @ true.R.T) < 0.5


def test_pairs_with_one_point_take_part():
    true = similarity(0.5, 0.5)
    pairs = pairs_of(true, noise_px=0.3)
    pairs.xyz0[:60], pairs.xyz1[60:120] = np.nan, np.nan
    found = estimate_similarity(pairs, CAMERA, seed=0, max_error_px=3.0)
    assert len(found.inliers) > 140
    assert found.cam1_from_cam0.scale == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("length", [0.0, 0.05, 0.5])
def test_points_of_each_side_give_the_scale_if_the_cameras_are_apart(length):
    """No pair has two points."""
    pairs = pairs_of(similarity(0.5, length), noise_px=0.3)
    pairs.xyz0[:60], pairs.xyz1[60:] = np.nan, np.nan
    found = estimate_similarity(pairs, CAMERA, seed=0, max_error_px=3.0)
    if length < 0.1:
        assert found is None
    else:
        assert len(found.inliers) > 140
        assert found.cam1_from_cam0.scale == pytest.approx(0.5, rel=0.02)


def test_random_pairs_give_none():
    pairs = pairs_of(similarity(1.0, 0.5), num=60, num_wrong=60)
    found = estimate_similarity(pairs, CAMERA, seed=0, max_error_px=3.0)
    assert found is None or len(found.inliers) < 12
    assert estimate_similarity(pairs_of(similarity(1.0, 0.5), num=5), CAMERA, 0, 3.0) is None
