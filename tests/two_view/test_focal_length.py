"""An unknown focal length is estimated from the matches if, and only if, they determine it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from datasets import read_scene
from sfm_lightglue.extractors.sift import SiftExtractor
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.image_pair.matching import match_images
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.scene.cameras import default_camera, make_camera, mean_focal_length
from sfm_lightglue.two_view.focal_length import MAX_LOG_SIGMA, MODEL_LOG_SIGMA, FocalEstimate, with_focal_factor
from sfm_lightglue.two_view.relative_pose import relative_pose_from_matches
from sfm_lightglue.types import Matches
from tests.helpers.point_views import POSE, SIZE, make_features, make_views, plane_points
from tests.helpers.shared_data import shared_data

GUESS = default_camera("SIMPLE_RADIAL", SIZE, None)
"""Its focal length is 1440 pixels."""


def camera_of(focal_px):
    return make_camera("SIMPLE_RADIAL", SIZE, (focal_px, 600, 450, 0))


def estimate(views, cameras=(GUESS, GUESS), is_same_camera=True, seed=0):
    return relative_pose_from_matches(
        *views.features, views.matches, *cameras, seed=seed, is_same_camera=is_same_camera
    )


def assert_estimated(found, focal_px, views):
    assert found.focal_sources == ("estimated", "estimated")
    for camera in found.cameras:
        assert mean_focal_length(camera) == pytest.approx(focal_px, rel=0.04)
        assert camera.params[1:] == GUESS.params[1:]
    rotation_deg, direction_deg = relative_pose_error_deg(found.cam1_from_cam0, views.pose)
    assert rotation_deg < found.uncertainty.rotation_deg
    assert found.uncertainty.direction_deg is None or direction_deg < found.uncertainty.direction_deg


@pytest.mark.parametrize("focal_px", [650, 1000, 2000])
@pytest.mark.parametrize("seed", range(2))
def test_one_focal_length_of_both_images(focal_px, seed):
    pose = Rigid3.from_rotvec([0.1, -0.25, 0.05], [1.0, 0.1, 0.5])
    views = make_views(pose, 200, 0.5, 0.25, (camera_of(focal_px),) * 2, seed)
    assert_estimated(estimate(views, seed=seed), focal_px, views)


def test_one_image_beside_a_known_camera():
    for side in (0, 1):
        known = camera_of(900)
        views = make_views(POSE, 200, 0.5, 0.25, (known, camera_of(1100)) if side == 1 else (camera_of(1100), known))
        found = estimate(views, (known, GUESS) if side == 1 else (GUESS, known), is_same_camera=False)
        assert found.focal_sources[side] == "estimated"
        assert found.focal_sources[1 - side] == "given"
        assert found.cameras[1 - side] == known
        assert mean_focal_length(found.cameras[side]) == pytest.approx(1100, rel=0.04)


def test_a_pure_rotation():
    rotation = Rigid3.from_rotvec([0.1, -0.3, 0.1], np.zeros(3))
    views = make_views(rotation, 200, 0.5, 0.25, (camera_of(900),) * 2)
    found = estimate(views)
    assert found.verdict == "pure_rotation"
    assert_estimated(found, 900, views)


def guesses():
    """Views that do not determine a focal length, by name."""
    ahead = Rigid3.from_rotvec([0, 0, 0.1], [0, 0, 1.0])
    sideways = Rigid3.from_rotvec([0, 0, 0], [1.0, 0, 0])
    slight = Rigid3.from_rotvec([0, 0.001, 0], np.zeros(3))
    camera = camera_of(900)
    return {
        "a plane": make_views(POSE, 200, 0.5, 0.2, (camera, camera), points=plane_points()),
        "parallel axes, ahead": make_views(ahead, 200, 0.5, 0.2, (camera, camera)),
        "parallel axes, sideways": make_views(sideways, 200, 0.5, 0.2, (camera, camera)),
        "hardly a rotation": make_views(slight, 200, 0.5, 0.2, (camera, camera)),
        "few matches": make_views(POSE, 30, 0.5, 0.0, (camera, camera)),
    }


@pytest.mark.parametrize("name", list(guesses()))
def test_an_undetermined_focal_length_stays_guessed_and_enlarges_the_radius(name):
    views = guesses()[name]
    found = estimate(views)
    assert found.focal_sources == ("guessed", "guessed")
    assert found.cameras == (GUESS, GUESS)
    if found.uncertainty is not None and name in {"a plane", "few matches"}:
        assert found.uncertainty.rotation_deg > 2


def test_two_different_unknown_focal_lengths_are_not_estimated():
    views = make_views(POSE, 200, 0.5, 0.2, (camera_of(900), camera_of(1300)))
    assert estimate(views, is_same_camera=False).focal_sources == ("guessed", "guessed")


def test_errors_of_two_unknown_focal_lengths_are_independent():
    """Two different guessed focal lengths enlarge the radii, which then contain the errors."""
    views = make_views(POSE, 200, 0.5, 0.0, (camera_of(900), camera_of(1300)))
    apart = estimate(views, is_same_camera=False)
    exact = estimate(views, tuple(replace(GUESS, source="given") for _ in range(2)))
    assert apart.uncertainty.rotation_deg > 3 * exact.uncertainty.rotation_deg
    rotation_deg, direction_deg = relative_pose_error_deg(apart.cam1_from_cam0, views.pose)
    assert rotation_deg < apart.uncertainty.rotation_deg
    assert direction_deg < apart.uncertainty.direction_deg


def exact_views(kind):
    """Matches without any error, as in synthetic images and rectified stereo."""
    generator = np.random.default_rng(0)
    pixels0 = generator.integers([200, 20], [1180, 880], (120, 2)).astype(float)
    shift = generator.integers(5, 150, 120) if kind == "rectified stereo" else np.zeros(120)
    features = make_features(pixels0, SIZE), make_features(pixels0 - shift[:, None] * [1, 0], SIZE)
    views = make_views(num_points=120)
    order = np.arange(120, dtype=np.int32)
    return replace(
        views, features=features, matches=Matches(np.stack([order, order], axis=1), np.ones(120, np.float32))
    )


@pytest.mark.parametrize("camera", [camera_of(900), GUESS], ids=["given", "guessed"])
@pytest.mark.parametrize("kind", ["rectified stereo", "twice the same keypoints"])
def test_matches_without_any_error_have_a_pose_and_finite_radii(kind, camera):
    found = estimate(exact_views(kind), (camera, camera))
    assert found.verdict == ("general" if kind == "rectified stereo" else "pure_rotation")
    assert found.cameras == (camera, camera)  # neither determines a focal length
    np.testing.assert_allclose(found.cam1_from_cam0.R, np.eye(3), atol=1e-5)
    assert 0 < found.uncertainty.noise_px < 0.01
    assert 0 < found.uncertainty.rotation_deg < 180
    if kind == "rectified stereo":
        np.testing.assert_allclose(found.cam1_from_cam0.t, [-1, 0, 0], atol=1e-4)
        assert found.uncertainty.direction_deg > 0


def test_known_focal_lengths_do_not_change():
    views = make_views(POSE, 200, 0.5, 0.2, (camera_of(900),) * 2)
    found = estimate(views, views.cameras)
    assert found.focal_sources == ("given", "given")
    assert found.cameras == views.cameras


def test_an_estimate_is_reliable_by_its_noise_and_its_value():
    assert FocalEstimate(1.0, 0.9 * MAX_LOG_SIGMA).is_reliable
    assert not FocalEstimate(1.0, 1.1 * MAX_LOG_SIGMA).is_reliable
    assert not FocalEstimate(8.0, 0.01).is_reliable
    assert FocalEstimate(1.0, 0.0).log_sigma == MODEL_LOG_SIGMA


@pytest.mark.parametrize(
    ("model", "params", "expected"),
    [
        ("PINHOLE", (100, 120, 50, 40), (150, 180, 50, 40)),
        ("SIMPLE_RADIAL", (100, 50, 40, 0.1), (150, 50, 40, 0.1)),
    ],
)
def test_a_factor_on_the_focal_length_changes_nothing_else(model, params, expected):
    camera = with_focal_factor(make_camera(model, (100, 80), params, "guessed"), 1.5)
    assert camera.params == pytest.approx(expected)
    assert camera.source == "estimated"


def test_neighbours_of_a_real_scene_without_exif():
    """The images of Fountain-P11 have no EXIF data, and the guess is a third too long."""
    scene = read_scene(shared_data("scenes", "fountain_p11"))
    names = scene.names[:5]
    extractor, matcher = SiftExtractor(), NearestMatcher()
    features = {name: extractor.extract(Image.read(scene.image_root / name)) for name in names}
    true_px = mean_focal_length(scene.camera_from_name[names[0]])
    guess = default_camera("SIMPLE_RADIAL", scene.camera_from_name[names[0]].size, None)
    assert mean_focal_length(guess) / true_px > 1.3
    factors, errors_deg = [], []
    for name0, name1 in [*pairwise(names), *zip(names, names[2:], strict=False)]:
        pair = features[name0], features[name1]
        found = relative_pose_from_matches(*pair, matcher.match(*pair), guess, guess, is_same_camera=True)
        if found.focal_sources[0] == "estimated":
            truth = scene.cam_from_world_from_name[name1] @ scene.cam_from_world_from_name[name0].inverse()
            factors.append(mean_focal_length(found.cameras[0]) / true_px)
            errors_deg.append(relative_pose_error_deg(found.cam1_from_cam0, truth)[0])
            assert errors_deg[-1] < 1.5 * found.uncertainty.rotation_deg
    assert len(factors) >= 6
    assert np.median(np.abs(np.log(factors))) < 0.04
    assert np.abs(np.log(factors)).max() < 0.12
    assert np.median(errors_deg) < 1.0


def test_the_result_reports_which_focal_length_was_used(tmp_path):
    folder = shared_data("scenes", "fountain_p11") / "images"
    paths = folder / "0003.jpg", folder / "0006.jpg"
    result = match_images(*paths, SiftExtractor(), NearestMatcher(), same_camera=True)
    assert result.as_dict()["cameras"][0]["source"] == "estimated"
    assert result.as_dict()["pose_rests_on_guessed_focal_length"] is False
    assert "estimated from the pair" in str(result)
