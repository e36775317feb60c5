"""The searches for matrices: how many samples they draw, from which matches, and which candidate they choose."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from sfm_lightglue.geometry.epipolar import essential_from_pose
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import normalize_matches
from sfm_lightglue.two_view.estimators.base import MatrixEstimator, Sampling, load_estimator
from sfm_lightglue.two_view.matrices import estimate_homography, estimate_matrices
from sfm_lightglue.two_view.verification import estimate_two_view_geometry
from sfm_lightglue.types import Rejected
from tests.helpers.point_views import PINHOLE, SIZE, make_features, make_views, plane_points

SAMPLING = Sampling(2.0, 0.9999, 10000, 0)
GUESSED = replace(PINHOLE, source="guessed")


@dataclass
class Counting:
    """Another estimator, whose calls are noted."""

    inner: MatrixEstimator = field(default_factory=lambda: load_estimator("opencv-magsac"))
    epipolar: list[Sampling] = field(default_factory=list)
    homographies: list[Sampling] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)

    @property
    def version(self):
        return self.inner.version

    def essential(self, points0, points1, focal_px, sampling):
        self.epipolar.append(sampling)
        self.points.append(points0)
        return self.inner.essential(points0, points1, focal_px, sampling)

    def fundamental(self, points0, points1, sampling):
        self.epipolar.append(sampling)
        self.points.append(points0)
        return self.inner.fundamental(points0, points1, sampling)

    def homography(self, points0, points1, sampling):
        self.homographies.append(sampling)
        return self.inner.homography(points0, points1, sampling)


def hopeless(num_matches, cameras, seed=0):
    """Matches between random places."""
    generator = np.random.default_rng(seed)
    views = make_views(num_points=num_matches, cameras=cameras, seed=seed, scored=True)
    noise = tuple(make_features(generator.uniform(0, SIZE, (num_matches, 2)), SIZE) for _ in range(2))
    return replace(views, features=noise)


@pytest.mark.parametrize("cameras", [(PINHOLE, PINHOLE), (GUESSED, GUESSED)], ids=["calibrated", "guessed"])
@pytest.mark.parametrize("num_matches", [30, 200, 800])
def test_a_hopeless_pair_costs_few_samples(num_matches, cameras, monkeypatch):
    estimator = Counting()
    monkeypatch.setattr("sfm_lightglue.two_view.verification.load_estimator", lambda name: estimator)
    views = hopeless(num_matches, cameras)
    found = estimate_two_view_geometry(*views.features, views.matches, *views.cameras, TwoViewConfig())
    assert isinstance(found, Rejected)
    is_calibrated = cameras[0].source == "given"
    assert sum(one.max_iterations for one in estimator.epipolar) <= (450 if is_calibrated else 1500)
    assert sum(one.max_iterations for one in estimator.homographies) <= 500


@pytest.mark.parametrize("max_iterations", [1, 40])
def test_the_option_limits_every_search(max_iterations, monkeypatch):
    estimator = Counting()
    monkeypatch.setattr("sfm_lightglue.two_view.verification.load_estimator", lambda name: estimator)
    views = hopeless(100, (PINHOLE, PINHOLE))
    config = TwoViewConfig(max_iterations=max_iterations)
    estimate_two_view_geometry(*views.features, views.matches, *views.cameras, config)
    assert {one.max_iterations for one in [*estimator.epipolar, *estimator.homographies]} == {max_iterations}


def estimated(views, scores, estimator, sampling=SAMPLING):
    data, _ = normalize_matches(views.pair, TwoViewConfig())
    return data, estimate_matrices(data, scores, True, estimator, sampling, 15, 0.55)[0]


def test_high_scores_are_sampled_first_and_alone():
    views = make_views(num_points=100, outlier_ratio=0.5)
    scores = np.random.default_rng(0).permutation(np.linspace(0.1, 1, len(views.matches))).astype(np.float32)
    estimator = Counting()
    data, _ = estimated(views, scores, estimator)
    order = np.argsort(-scores)
    by_score = data.points0[order] * data.focal_px
    progressive = [i for i, one in enumerate(estimator.epipolar) if one.highest_first]
    assert len(progressive) == 1
    np.testing.assert_allclose(estimator.points[progressive[0]], by_score)
    smallest = min(estimator.points, key=len)
    np.testing.assert_allclose(smallest, by_score[: len(smallest)])
    assert len(smallest) == round(len(scores) / 2)
    assert len({one.seed for one in estimator.epipolar}) == len(estimator.epipolar)


@pytest.mark.parametrize("has_plane", [False, True])
def test_most_matches_and_no_plane_make_the_first_answer_the_last_one(has_plane):
    """Other motions fit a plane, too, so the other searches may find a better one."""
    points = plane_points() if has_plane else None
    views = make_views(num_points=200, noise_px=0.3, outlier_ratio=0.2, **({"points": points} if has_plane else {}))
    scores = np.random.default_rng(0).permutation(np.linspace(0.1, 1, len(views.matches))).astype(np.float32)
    estimator = Counting()
    _, (_, mask) = estimated(views, scores, estimator)
    assert len(estimator.epipolar) == (3 if has_plane else 1)
    assert len(estimator.homographies) == 1
    assert mask[views.is_true].mean() > 0.9


def test_equal_scores_say_nothing():
    """No match is preferred, and no half of them is taken alone."""
    views = make_views(num_points=100, outlier_ratio=0.5)
    estimator = Counting()
    estimated(views, np.ones(len(views.matches), np.float32), estimator)
    assert not any(one.highest_first for one in estimator.epipolar)
    assert {len(points) for points in estimator.points} == {len(views.matches)}


class Fixed:
    """Returns matrices one after another."""

    version = "test"

    def __init__(self, *matrices):
        self.matrices = list(matrices)

    def essential(self, points0, points1, focal_px, sampling):
        return self.matrices.pop(0)

    def homography(self, points0, points1, sampling):
        return None


def test_a_rough_matrix_is_optimised():
    """A candidate with a quarter of the inliers becomes the pose of all of them."""
    views = make_views(noise_px=0.3, outlier_ratio=0.3)
    pose = Rigid3(views.pose.R, views.pose.t / np.linalg.norm(views.pose.t))
    rough = Rigid3.from_rotvec([0.002, 0.002, -0.001], [0, 0, 0]) @ pose
    rough = Rigid3(rough.R, rough.t / np.linalg.norm(rough.t))
    E = essential_from_pose(rough)
    _, model = estimated(views, np.ones(len(views.matches), np.float32), Fixed(E, None, None))
    assert model is not None
    assert model[1][views.is_true].mean() > 0.9


def test_without_a_matrix_there_is_no_model():
    views = make_views(num_points=40)
    assert estimated(views, np.ones(40, np.float32), Fixed(None, None, None))[1] is None


def test_a_homography_is_searched_only_as_far_as_it_decides():
    views = make_views(num_points=100, outlier_ratio=0.5)
    data, _ = normalize_matches(views.pair, TwoViewConfig())
    counts = []
    for min_inliers in (10, 50, 90, 200):
        estimator = Counting()
        estimate_homography(data, estimator, SAMPLING, min_inliers)
        counts.append(estimator.homographies[0].max_iterations)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 500
    ratio = 90 / len(data.points0)
    assert (1 - ratio**4) ** counts[2] <= 0.01


def test_the_plane_of_a_known_geometry_is_searched_among_its_inliers():
    views = make_views(points=plane_points(), num_points=100, noise_px=0.3, outlier_ratio=0.4)
    data, _ = normalize_matches(views.pair, TwoViewConfig())
    true = views.is_true
    least = 0.55 * true.sum()
    found, counts = [], []
    for epipolar in (None, (np.eye(3), true)):
        estimator = Counting()
        found.append(estimate_homography(data, estimator, SAMPLING, least, epipolar))
        counts.append(estimator.homographies[0].max_iterations)
    assert counts[1] < counts[0] / 2
    for model in found:
        assert model is not None
        assert model[1].shape == true.shape
        assert model[1][true].mean() > 0.9


@pytest.mark.parametrize("name", ["opencv-magsac", "opencv-ransac"])
@pytest.mark.parametrize("outlier_ratio", [0.0, 0.3, 0.6])
def test_every_estimator_finds_the_pose_in_short_searches(name, outlier_ratio):
    for seed in range(3):
        views = make_views(noise_px=0.5, outlier_ratio=outlier_ratio, seed=seed, scored=True)
        geometry = views.estimate(TwoViewConfig(estimator=name), seed=seed)
        assert not isinstance(geometry, Rejected)
        rotation_deg, direction_deg = relative_pose_error_deg(geometry.cam1_from_cam0, views.pose)
        assert rotation_deg < 0.15
        assert direction_deg < 1.0
