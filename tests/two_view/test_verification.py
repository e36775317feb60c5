"""Two-view geometry of random points with exactly known poses: no images, no detector."""

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg, rotation_angle_deg
from sfm_lightglue.scene.cameras import as_pycolmap, make_camera, normalized_from_pixels
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import homography_errors, normalize_matches
from sfm_lightglue.two_view.estimators.base import Sampling
from sfm_lightglue.two_view.matrices import estimate_matrices
from sfm_lightglue.types import Camera, Rejected, TwoViewGeometry
from tests.helpers.point_views import OPENCV, PINHOLE, POSE, RADIAL, SIZE, make_features, make_views, plane_points

GUESSED = replace(PINHOLE, source="guessed")


def assert_pose(geometry, views, rotation_deg, direction_deg):
    assert isinstance(geometry, TwoViewGeometry), geometry
    errors = relative_pose_error_deg(geometry.cam1_from_cam0, views.pose)
    assert errors[0] < rotation_deg, errors
    assert errors[1] < direction_deg, errors


def assert_sound(geometry, views):
    """Every result has correct shapes and lengths, and no NaN."""
    if isinstance(geometry, Rejected):
        assert geometry.num_matches == len(views.matches)
        assert 0 <= geometry.num_inliers <= geometry.num_matches
        return
    assert geometry.inlier_mask.shape == (len(views.matches),)
    assert geometry.num_inliers >= 15
    for array in (geometry.cam1_from_cam0.as_matrix(), geometry.F, geometry.E, geometry.H):
        assert array is None or np.isfinite(array).all()
    length = np.linalg.norm(geometry.cam1_from_cam0.t)
    assert length == pytest.approx(0 if geometry.kind == "pure_rotation" else 1)


@pytest.mark.parametrize("seed", range(3))
def test_a_known_pose_is_recovered_from_clean_points(seed):
    views = make_views(noise_px=0, seed=seed)
    geometry = views.estimate()
    assert_pose(geometry, views, 1e-3, 1e-2)  # keypoints are float32
    assert geometry.kind == "general"
    assert geometry.inlier_mask.all()
    assert geometry.H is None


@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_known_pose_is_recovered_among_noise_and_outliers(seed, scored):
    views = make_views(noise_px=0.7, outlier_ratio=0.4, seed=seed, scored=scored)
    geometry = views.estimate(seed=seed)
    assert_pose(geometry, views, 0.15, 1.0)
    assert_sound(geometry, views)
    assert geometry.kind == "general"
    assert geometry.inlier_mask[views.is_true].mean() > 0.95
    assert geometry.inlier_mask[~views.is_true].mean() < 0.05


@pytest.mark.parametrize("cameras", [(OPENCV, RADIAL), (RADIAL, OPENCV), (PINHOLE, RADIAL)])
def test_two_different_cameras_with_distortion(cameras):
    views = make_views(cameras=cameras, outlier_ratio=0.3)
    geometry = views.estimate()
    assert_pose(geometry, views, 0.2, 1.0)
    assert geometry.inlier_mask[views.is_true].mean() > 0.95


def test_exchanged_cameras_lose_the_pose():
    """The test above depends on the distortion: with the other camera's distortion the pose is wrong."""
    views = make_views(cameras=(OPENCV, RADIAL))
    wrong = replace(views, cameras=(RADIAL, OPENCV)).estimate()
    assert isinstance(wrong, Rejected) or max(relative_pose_error_deg(wrong.cam1_from_cam0, POSE)) > 2


@pytest.mark.parametrize("cameras", [(PINHOLE, PINHOLE), (OPENCV, RADIAL)])
def test_matrices_agree_with_the_pose_and_the_pixels(cameras):
    views = make_views(cameras=cameras, noise_px=0.2)
    geometry = views.estimate()
    E = essential_from_pose(geometry.cam1_from_cam0)
    np.testing.assert_allclose(geometry.E / np.linalg.norm(geometry.E), E / np.linalg.norm(E), atol=1e-9)
    # F applies to pixels of the undistorted images.
    undistorted = []
    for side in (0, 1):
        keypoints = views.features[side].keypoints[views.matches.indices[:, side]]
        camera = views.cameras[side]
        rays = normalized_from_pixels(camera, keypoints)
        K = as_pycolmap(camera).calibration_matrix()
        undistorted.append(rays @ K[:2, :2].T + K[:2, 2])
    errors_px = np.sqrt(squared_sampson_errors(geometry.F, *undistorted))
    assert np.median(errors_px[geometry.inlier_mask]) < 0.3
    assert errors_px[geometry.inlier_mask].max() < 2.6


def test_without_calibration_there_is_f_and_no_e():
    views = make_views(cameras=(GUESSED, PINHOLE), noise_px=0.5, outlier_ratio=0.3)
    geometry = views.estimate()
    assert_sound(geometry, views)
    assert isinstance(geometry, TwoViewGeometry)
    assert geometry.E is None
    assert geometry.inlier_mask[views.is_true].mean() > 0.9
    pixels = [views.features[side].keypoints[views.matches.indices[:, side]] for side in (0, 1)]
    errors_px = np.sqrt(squared_sampson_errors(geometry.F, *pixels))
    assert np.median(errors_px[views.is_true]) < 0.6
    # The guess is correct here, so the pose is correct too.
    assert_pose(geometry, views, 1.0, 5.0)


def test_a_wrong_guess_of_the_focal_length_loses_no_matches():
    views = make_views(noise_px=0.3, outlier_ratio=0.2)
    wrong = Camera("PINHOLE", *SIZE, (1500, 1500, 600, 450), "guessed")
    geometry = replace(views, cameras=(wrong, wrong)).estimate()
    assert isinstance(geometry, TwoViewGeometry)
    assert geometry.inlier_mask[views.is_true].mean() > 0.9
    assert geometry.inlier_mask[~views.is_true].mean() < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_a_planar_scene_is_classified_and_its_pose_is_right(seed):
    pose = Rigid3.from_rotvec([0.1, -0.35, 0.02], [2.0, -0.3, 0.6])
    views = make_views(pose, points=plane_points(seed=seed), noise_px=0.5, outlier_ratio=0.3, seed=seed)
    geometry = views.estimate()
    assert_sound(geometry, views)
    assert geometry.kind == "planar"
    assert_pose(geometry, views, 0.6, 3.0)
    assert geometry.inlier_mask[views.is_true].mean() > 0.95
    pixels = [views.features[side].keypoints[views.matches.indices[:, side]][views.is_true] for side in (0, 1)]
    assert np.median(homography_errors(geometry.H, *pixels)) < 1.5


@pytest.mark.parametrize("noise_px", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("cameras", [(PINHOLE, PINHOLE), (OPENCV, RADIAL), (GUESSED, GUESSED)])
def test_a_pure_rotation_is_classified(noise_px, cameras):
    for angle_deg in (0.0, 1.0, 15.0):
        pose = Rigid3.from_rotvec(np.radians([0, angle_deg, angle_deg / 3]), np.zeros(3))
        views = make_views(pose, noise_px=noise_px, outlier_ratio=0.3, cameras=cameras)
        geometry = views.estimate()
        assert_sound(geometry, views)
        assert geometry.kind == "pure_rotation", angle_deg
        if geometry.E is not None:
            assert rotation_angle_deg(geometry.cam1_from_cam0.R @ pose.R.T) < 0.2 * max(noise_px, 0.5)
        assert not geometry.cam1_from_cam0.t.any()
        assert geometry.inlier_mask[views.is_true].mean() > 0.92
        pixels = [views.features[side].keypoints[views.matches.indices[:, side]][views.is_true] for side in (0, 1)]
        if cameras[0].model == "PINHOLE":
            assert np.median(homography_errors(geometry.H, *pixels)) < 3 * noise_px


@pytest.mark.parametrize("baseline", [0.15, 0.3, 0.6])
def test_small_parallax_is_not_a_pure_rotation(baseline):
    """0.15 at distances from 4 to 9 is a median parallax of 1.5 degrees."""
    pose = Rigid3.from_rotvec([0.02, -0.1, 0], [baseline, 0, 0.2 * baseline])
    views = make_views(pose, noise_px=0.3, outlier_ratio=0.2)
    geometry = views.estimate()
    assert isinstance(geometry, TwoViewGeometry)
    assert geometry.kind == "general"
    assert_pose(geometry, views, 0.2, 1.5 / baseline)


@pytest.mark.parametrize("baseline", [0.02, 0.05, 0.08])
def test_two_frames_of_a_video_are_never_rejected(baseline):
    """With very small parallax a correct pair is accepted; OpenCV's recoverPose would reject every third one."""
    pose = Rigid3.from_rotvec([0.02, -0.1, 0], [baseline, 0, 0.2 * baseline])
    for seed in range(6):
        views = make_views(pose, noise_px=0.3, outlier_ratio=0.3, seed=seed)
        geometry = views.estimate(seed=seed)
        assert_sound(geometry, views)
        assert isinstance(geometry, TwoViewGeometry), (seed, geometry)
        # A pure rotation does not fit the nearest points.
        assert geometry.inlier_mask[views.is_true].mean() > (0.95 if geometry.kind == "general" else 0.6)
        assert rotation_angle_deg(geometry.cam1_from_cam0.R @ pose.R.T) < 0.6
        if geometry.kind == "general":  # the direction of motion is uncertain, but its sign is correct
            assert relative_pose_error_deg(geometry.cam1_from_cam0, pose)[1] < 45


@pytest.mark.parametrize("cameras", [(PINHOLE, PINHOLE), (GUESSED, GUESSED)], ids=["calibrated", "guessed"])
@pytest.mark.parametrize("scene", ["general", "planar", "pure_rotation"])
def test_swapped_images_give_the_inverse(scene, cameras):
    pose = Rigid3(POSE.R, np.zeros(3)) if scene == "pure_rotation" else POSE
    points = plane_points() if scene == "planar" else None
    views = make_views(pose, points=points, noise_px=0.3, outlier_ratio=0.3, cameras=cameras, scored=True)
    one, other = views.estimate(), views.swapped().estimate()
    assert_sound(one, views)
    assert isinstance(one, TwoViewGeometry)
    assert isinstance(other, TwoViewGeometry)
    assert one.kind == other.kind == scene
    swapped_mask = other.inlier_mask[np.argsort(views.matches.indices[:, 1], kind="stable").argsort()]
    assert (one.inlier_mask == swapped_mask).mean() > 0.97
    if cameras[0].source == "given" and scene != "pure_rotation":
        rotation_deg, direction_deg = relative_pose_error_deg(other.cam1_from_cam0.inverse(), one.cam1_from_cam0)
        assert rotation_deg < 0.3
        assert direction_deg < 2


def as_bytes(geometry):
    parts = [geometry.inlier_mask, geometry.cam1_from_cam0.as_matrix(), geometry.F, geometry.E, geometry.H]
    return b"".join(b"none" if part is None else part.tobytes() for part in parts)


@pytest.mark.parametrize("cameras", [(PINHOLE, PINHOLE), (GUESSED, GUESSED)], ids=["calibrated", "guessed"])
def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(cameras):
    many = [make_views(noise_px=1.0, outlier_ratio=0.5, seed=seed, cameras=cameras, scored=True) for seed in range(4)]
    alone = [as_bytes(views.estimate(seed=7)) for views in many]
    together = [as_bytes(geometry) for geometry in ordered_map(lambda views: views.estimate(seed=7), many, 4)]
    assert alone == together
    assert len(set(alone)) == 4


def test_the_seed_reaches_the_samples():
    views = make_views(noise_px=1.5, outlier_ratio=0.6, num_points=60)
    found = [views.estimate(seed=seed) for seed in range(6)]
    assert len({as_bytes(geometry) for geometry in found if isinstance(geometry, TwoViewGeometry)}) > 1


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, 2**31, 2**40])
def test_any_integer_is_a_seed(seed):
    views = make_views(outlier_ratio=0.3, num_points=100)
    assert_pose(views.estimate(seed=seed), views, 0.5, 3)


@pytest.mark.parametrize("num_points", [0, 1, 5, 14])
def test_too_few_matches(num_points):
    assert make_views(num_points=num_points).estimate() == Rejected("too_few_matches", num_points)


def test_fifteen_matches_are_enough():
    views = make_views(num_points=15, noise_px=0.1)
    assert isinstance(views.estimate(), TwoViewGeometry)
    assert views.estimate(TwoViewConfig(min_inliers=16)) == Rejected("too_few_matches", 15)


@pytest.mark.parametrize("cameras", [(PINHOLE, PINHOLE), (GUESSED, GUESSED)], ids=["calibrated", "guessed"])
@pytest.mark.parametrize("num_matches", [30, 100, 400])
@pytest.mark.parametrize("scored", [False, True])
def test_random_matches_are_rejected(num_matches, cameras, scored):
    for seed in range(3):
        generator = np.random.default_rng(seed)
        views = make_views(num_points=num_matches, cameras=cameras, seed=seed, scored=scored)
        noise = tuple(make_features(generator.uniform(0, SIZE, (num_matches, 2)), SIZE) for _ in range(2))
        found = replace(views, features=noise).estimate(seed=seed)
        assert isinstance(found, Rejected), found
        assert found.reason in {"too_few_inliers", "no_model", "degenerate"}
        assert found.num_matches == num_matches
        assert found.num_inliers < max(20, 0.15 * num_matches)


def degenerate_points(kind, generator, n):
    t = generator.uniform(0, 1, (n, 1))
    spot = np.array([[500.0, 300.0]])
    return {
        "one spot": lambda: np.repeat(spot, n, axis=0),
        "nearly one spot": lambda: spot + generator.normal(scale=0.3, size=(n, 2)),
        "two spots": lambda: np.where(t < 0.5, spot, spot + 200),
        "a line": lambda: spot + t * [300, 200],
        "nearly a line": lambda: spot + t * [300, 200] + generator.normal(scale=0.3, size=(n, 2)),
        "a row": lambda: np.concatenate([800 * t, np.full((n, 1), 450.0)], axis=1),
        "the corner": lambda: np.zeros((n, 2)),
    }[kind]()


@pytest.mark.parametrize("cameras", [(PINHOLE, PINHOLE), (GUESSED, GUESSED)], ids=["calibrated", "guessed"])
@pytest.mark.parametrize(
    "kind", ["one spot", "nearly one spot", "two spots", "a line", "nearly a line", "a row", "the corner"]
)
@pytest.mark.parametrize("n", [15, 60])
@pytest.mark.parametrize("scored", [False, True])
def test_degenerate_points_raise_no_exception(kind, cameras, n, scored):
    generator = np.random.default_rng(0)
    views = make_views(num_points=n, cameras=cameras, scored=scored)
    for shift in (0.0, 5.0):
        first = degenerate_points(kind, generator, n)
        order = views.matches.indices[:, 1].argsort()
        second = (degenerate_points(kind, generator, n) if "nearly" in kind else first) + shift
        features = (make_features(np.clip(first, 0, SIZE), SIZE), make_features(second[order].clip(0), SIZE))
        assert_sound(replace(views, features=features).estimate(), views)


@pytest.mark.parametrize("kind", ["one spot", "two spots", "the corner"])
def test_points_that_do_not_determine_a_pose_are_rejected(kind):
    n = 40
    views = make_views(num_points=n)
    pixels = degenerate_points(kind, np.random.default_rng(0), n)
    order = views.matches.indices[:, 1].argsort()
    features = (make_features(pixels, SIZE), make_features(pixels[order] + 5, SIZE))
    assert isinstance(replace(views, features=features).estimate(), Rejected)


def test_points_whose_distortion_cannot_be_undone_are_left_out():
    """Strong barrel distortion has no inverse far from the centre. The NaN of these points stay out of the result."""
    camera = make_camera("SIMPLE_RADIAL", SIZE, (500, 600, 450, -0.35))
    views = make_views()
    geometry = replace(views, cameras=(camera, camera)).estimate()
    assert_sound(geometry, views)


def test_a_larger_limit_keeps_more():
    views = make_views(noise_px=2.0, outlier_ratio=0.2)
    counts = [views.estimate(TwoViewConfig(max_error_px=limit)).num_inliers for limit in (1.0, 2.0, 6.0)]
    assert counts[0] < counts[1] < counts[2]


def test_the_limit_grows_with_images_beyond_the_reference_size():
    views = make_views(noise_px=2.0)
    as_is, grown = (
        views.estimate(TwoViewConfig(max_error_px=1.0, reference_size_px=size)).num_inliers for size in (1200, 400)
    )
    assert as_is < 0.75 * grown


def test_homography_errors_see_both_directions():
    H = np.diag([2.0, 2.0, 1.0])
    points0 = np.array([[1.0, 2.0], [3.0, -1.0]])
    assert homography_errors(H, points0, 2 * points0).max() < 1e-12
    np.testing.assert_allclose(homography_errors(H, points0, 2 * points0 + [1, 0]), [1, 1])
    np.testing.assert_allclose(homography_errors(np.linalg.inv(H), points0, points0 / 2 + [1, 0]), [2, 2])
    np.testing.assert_allclose(homography_errors(-5 * H, points0, 2 * points0 + [1, 0]), [1, 1])
    behind = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1.0]])
    assert np.isinf(homography_errors(behind, np.array([[-3.0, 0]]), np.array([[1.5, 0]]))).all()


@pytest.mark.parametrize(
    "options",
    [
        {"max_error_px": 0},
        {"reference_size_px": -1},
        {"max_iterations": 0},
        {"min_inliers": 4},
        {"confidence": 1.0},
        {"confidence": 0.0},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        TwoViewConfig(**options)


@pytest.mark.parametrize("cameras", [(PINHOLE, PINHOLE), (GUESSED, GUESSED)], ids=["calibrated", "guessed"])
def test_scores_recover_a_pose_among_many_outliers(cameras):
    """30 correct matches among 170 wrong ones: by chance a wrong pose has as many inliers, but with lower scores."""

    def mean_fraction_found(score_of_wrong: float) -> float:
        shares = []
        for seed in range(10):
            views = make_views(num_points=30, noise_px=0.7, outlier_ratio=0.85, seed=seed, cameras=cameras)
            scores = np.where(views.is_true, 0.9, score_of_wrong).astype(np.float32)
            geometry = replace(views, matches=replace(views.matches, scores=scores)).estimate(seed=seed)
            found = geometry.inlier_mask[views.is_true] if isinstance(geometry, TwoViewGeometry) else [False]
            shares.append(np.mean(found))
        return float(np.mean(shares))

    lower_scores, equal_scores = mean_fraction_found(0.2), mean_fraction_found(0.9)
    assert lower_scores > 0.85
    assert equal_scores < lower_scores - 0.2


class CountingEstimator:
    """Returns one matrix for all points, and another one for the highest-scoring points alone."""

    version = "test"

    def __init__(self, matrix_of_all: np.ndarray, matrix_of_some: np.ndarray, num_all: int) -> None:
        self.matrices, self.num_all = (matrix_of_some, matrix_of_all), num_all

    def essential(self, points0, points1, focal_px, sampling):
        return self.matrices[len(points0) == self.num_all]

    def homography(self, points0, points1, sampling):
        return None


def test_a_geometry_with_too_few_inliers_does_not_replace_one_with_enough():
    """Even if their scores are higher."""
    views = make_views(num_points=40, noise_px=0.0, outlier_ratio=60 / 100)
    data, _ = normalize_matches(views.pair, TwoViewConfig(max_error_px=20.0))
    other = essential_from_pose(Rigid3.from_rotvec([0.3, 0.2, -0.5], [0.2, 1.0, 0.3]))
    is_inlier = squared_sampson_errors(other, data.points0, data.points1) <= data.max_error**2
    assert 0 < is_inlier.sum() < 15 and views.is_true.sum() == 40
    scores = np.where(is_inlier, 1.0, 1e-3).astype(np.float32)
    estimator = CountingEstimator(essential_from_pose(views.pose), other, 100)
    sampling = Sampling(data.max_error_px, 0.9999, 100, 0)
    (_, enough), _ = estimate_matrices(data, scores, True, estimator, sampling, 15, 0.55)
    assert enough[views.is_true].all()
    (_, higher_scoring), _ = estimate_matrices(data, scores, True, estimator, sampling, 1, 0.55)
    assert not higher_scoring[views.is_true].all()
    assert higher_scoring[is_inlier].sum() > enough[is_inlier].sum()
