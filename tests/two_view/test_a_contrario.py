"""The expected number of false alarms: exact values, and what it says of random and of true matches."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import comb

from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.two_view.a_contrario import (
    ESSENTIAL_SAMPLE,
    HOMOGRAPHY_SAMPLE,
    epipolar_chance,
    homography_chance,
    log10_false_alarms,
)
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import HOMOGRAPHY_ERROR_RATIO, Correspondences
from sfm_lightglue.two_view.estimators.base import Sampling, load_estimator
from sfm_lightglue.two_view.verification import estimate_two_view_geometry
from sfm_lightglue.types import Matches, Rejected, TwoViewGeometry
from tests.helpers.point_views import PINHOLE, SIZE, make_features, make_views

FOCAL_PX, MAX_ERROR_PX = 1000.0, 2.0
SIDEWAYS = Rigid3(np.eye(3), np.array([1.0, 0.0, 0.0]))


def random_matches(seed: int, num: int = 60) -> Correspondences:
    points = np.random.default_rng(seed).uniform([-0.6, -0.45], [0.6, 0.45], (2, num, 2))
    return Correspondences(points[0], points[1], FOCAL_PX, MAX_ERROR_PX)


def true_matches(points: np.ndarray, pose: Rigid3) -> Correspondences:
    """Exact matches of 3D points [M, 3] in the frame of camera 0."""
    moved = pose @ points
    return Correspondences(points[:, :2] / points[:, 2:], moved[:, :2] / moved[:, 2:], FOCAL_PX, MAX_ERROR_PX)


def log_alarms_of_pose(data: Correspondences, pose: Rigid3, num_matches: int) -> float:
    E = essential_from_pose(pose)
    num_inliers = int((squared_sampson_errors(E, data.points0, data.points1) <= data.max_error**2).sum())
    return log10_false_alarms(num_matches, num_inliers, epipolar_chance(E, data), ESSENTIAL_SAMPLE)


@pytest.mark.parametrize(
    ("num_matches", "num_inliers", "chance", "sample"),
    [(20, 9, 0.25, 5), (100, 30, 0.01, 7), (400, 400, 0.05, 4), (6, 6, 1.0, 5)],
)
def test_equals_the_exact_value(num_matches: int, num_inliers: int, chance: float, sample: int) -> None:
    """Equation 11 of Moisan and Stival with integers."""
    num_tests = (num_matches - sample) * comb(num_matches, num_inliers, exact=True)
    num_tests *= comb(num_inliers, sample, exact=True)
    expected = math.log10(num_tests) + (num_inliers - sample) * math.log10(chance)
    assert log10_false_alarms(num_matches, num_inliers, chance, sample) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("sample", [4, 5, 7])
def test_more_inliers_are_less_likely_by_chance(sample: int) -> None:
    values = [log10_false_alarms(100, num, 0.01, sample) for num in range(sample + 1, 101)]
    assert all(b < a for a, b in pairwise(values))
    assert log10_false_alarms(100, sample, 0.01, sample) == math.inf, "a sample fits itself"
    assert log10_false_alarms(200, 30, 0.01, sample) > log10_false_alarms(100, 30, 0.01, sample)


def test_a_chance_of_zero_is_measured_from_few_matches() -> None:
    assert math.isfinite(log10_false_alarms(20, 15, 0.0, 5))
    assert epipolar_chance(np.ones((3, 3)), random_matches(0, 1)) == 1.0


def test_the_best_geometry_of_random_matches_is_a_false_alarm() -> None:
    estimator = load_estimator("opencv-magsac")
    values = []
    for seed in range(20):
        data = random_matches(seed)
        sampling = Sampling(MAX_ERROR_PX, 0.9999, 500, seed)
        E = estimator.essential(data.points0 * FOCAL_PX, data.points1 * FOCAL_PX, FOCAL_PX, sampling)
        assert E is not None
        num_inliers = int((squared_sampson_errors(E, data.points0, data.points1) <= data.max_error**2).sum())
        values.append(log10_false_alarms(60, num_inliers, epipolar_chance(E, data), ESSENTIAL_SAMPLE))
    assert np.mean(values) > 0
    assert min(values) > -2


def test_a_true_geometry_is_no_false_alarm() -> None:
    for seed in range(5):
        geometry = make_views(num_points=60, outlier_ratio=0.2, seed=seed).estimate()
        assert isinstance(geometry, TwoViewGeometry)
        assert geometry.evidence is not None
        assert geometry.evidence.log10_false_alarms < -30


@pytest.mark.parametrize("seed", range(3))
def test_a_pair_of_random_matches_is_rejected_as_chance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = [make_features(rng.uniform(0, SIZE, (60, 2)), SIZE) for _ in range(2)]
    rows = np.arange(60, dtype=np.int32)
    matches = Matches(np.stack([rows, rows], axis=1), np.ones(60, np.float32))
    found = [
        estimate_two_view_geometry(
            *features, matches, PINHOLE, PINHOLE, TwoViewConfig(min_inliers=6, min_inlier_ratio=0.0, **limit), seed
        )
        for limit in ({}, {"max_false_alarms": 1e30})
    ]
    assert isinstance(found[0], Rejected)
    assert found[0].reason == "chance"
    assert isinstance(found[1], TwoViewGeometry), "the limit is not what refuses the pair"


def test_points_of_a_narrow_band_are_weaker_evidence() -> None:
    """A motion along the band moves the points on the epipolar lines, so other matches fit nearly as well."""
    rng = np.random.default_rng(0)
    spread, band, line = (rng.uniform([-3, -2, 6], [3, 2, 9], (40, 3)) * [1, height, 1] for height in (1.0, 0.02, 0.0))
    values = [log_alarms_of_pose(true_matches(points, SIDEWAYS), SIDEWAYS, 60) for points in (spread, band, line)]
    assert values[0] < values[1] - 10
    assert values[1] < values[2]
    assert values[0] < -30
    assert values[2] > 0, "points on one epipolar line say nothing"


def test_the_chance_of_an_epipolar_geometry_is_the_share_of_exchanged_matches() -> None:
    data = true_matches(np.random.default_rng(3).uniform([-3, -2, 5], [3, 2, 9], (50, 3)), SIDEWAYS)
    E = essential_from_pose(SIDEWAYS)
    rows0, rows1 = (rows[~np.eye(50, dtype=bool).ravel()] for rows in np.indices((50, 50)).reshape(2, -1))
    errors = squared_sampson_errors(E, data.points0[rows0], data.points1[rows1])
    assert epipolar_chance(E, data) == pytest.approx((errors <= data.max_error**2).mean())
    assert epipolar_chance(5 * E, data) == epipolar_chance(E, data)


def test_the_chance_of_a_homography_is_the_share_of_exchanged_matches() -> None:
    points = np.random.default_rng(3).uniform(-0.02, 0.02, (50, 2))
    data = Correspondences(points, points + 0.1, FOCAL_PX, MAX_ERROR_PX)
    H = np.array([[1, 0, 0.1], [0, 1, 0.1], [0, 0, 1]])
    limit = HOMOGRAPHY_ERROR_RATIO * data.max_error
    near = np.linalg.norm(points[:, None] - points, axis=2) <= limit
    expected = (near.sum() - 50) / (50 * 49)
    assert 0 < expected < 0.5
    assert homography_chance(3 * H, data) == pytest.approx(expected)
    wide = Correspondences(20 * points, 20 * points + 0.1, FOCAL_PX, MAX_ERROR_PX)
    values = [log10_false_alarms(50, 20, homography_chance(H, each), HOMOGRAPHY_SAMPLE) for each in (data, wide)]
    assert values[1] < values[0], "matches in one corner say less than matches all over"
