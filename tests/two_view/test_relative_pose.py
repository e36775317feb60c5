"""`estimate_relative_pose`, and laws of all its estimators."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image as PilImage

import sfm_lightglue
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.extractors.sift import SiftExtractor
from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3, cross_matrix, relative_pose_error_deg
from sfm_lightglue.identity import Identity
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.registry.builtin import MATCHERS
from sfm_lightglue.scene.cameras import make_camera
from sfm_lightglue.stages.cached import CachedVerifier
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.two_view import verification
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import homography_errors, normalize_matches
from sfm_lightglue.two_view.estimators.base import ESTIMATOR_NAMES, Sampling, load_estimator
from sfm_lightglue.two_view.relative_pose import relative_pose_from_matches
from sfm_lightglue.two_view.verification import verification_identity
from sfm_lightglue.types import ImagePair, Rejected, TwoViewGeometry
from tests.helpers.point_views import OPENCV, PINHOLE, POSE, RADIAL, SIZE, make_features, make_views, plane_points

HAS_POSELIB = importlib.util.find_spec("poselib") is not None

ALL = [
    pytest.param(
        name, marks=pytest.mark.skipif(name == "poselib" and not HAS_POSELIB, reason="needs the extra poselib")
    )
    for name in ESTIMATOR_NAMES
]


# The estimators ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_known_pose_is_recovered_among_outliers(name):
    for cameras in ((PINHOLE, PINHOLE), (OPENCV, RADIAL)):
        views = make_views(noise_px=0.5, outlier_ratio=0.4, cameras=cameras)
        geometry = views.estimate(TwoViewConfig(estimator=name))
        assert isinstance(geometry, TwoViewGeometry)
        assert geometry.kind == "general"
        assert max(relative_pose_error_deg(geometry.cam1_from_cam0, views.pose)) < 1
        assert geometry.inlier_mask[views.is_true].mean() > 0.93
        assert geometry.inlier_mask[~views.is_true].mean() < 0.07


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", ["planar", "pure_rotation", "guessed"])
def test_every_verdict_is_found(name, kind):
    pose = Rigid3(POSE.R, np.zeros(3)) if kind == "pure_rotation" else POSE
    cameras = (replace(PINHOLE, source="guessed"),) * 2 if kind == "guessed" else (PINHOLE, PINHOLE)
    views = make_views(
        pose, noise_px=0.3, outlier_ratio=0.25, cameras=cameras, points=plane_points() if kind == "planar" else None
    )
    geometry = views.estimate(TwoViewConfig(estimator=name))
    assert isinstance(geometry, TwoViewGeometry)
    assert geometry.kind == ("general" if kind == "guessed" else kind)
    assert (geometry.E is None) == (kind == "guessed")
    assert geometry.inlier_mask[views.is_true].mean() > 0.9


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_bytes_and_another_one_other_samples(name):
    views = make_views(noise_px=1.5, outlier_ratio=0.6, num_points=60)
    config = TwoViewConfig(estimator=name, max_iterations=200)
    found = [views.estimate(config, seed) for seed in (0, 0, *range(1, 8))]
    as_bytes = [
        b"rejected" if isinstance(one, Rejected) else one.cam1_from_cam0.as_matrix().tobytes() + one.F.tobytes()
        for one in found
    ]
    assert as_bytes[0] == as_bytes[1]
    assert len(set(as_bytes)) > 1


@pytest.mark.parametrize("name", ALL)
def test_matrices_apply_to_the_given_points(name):
    views = make_views(noise_px=0.0, outlier_ratio=0.2)
    points = [views.features[side].keypoints[views.matches.indices[:, side]].astype(float) for side in (0, 1)]
    centred = [pixels - [600, 450] for pixels in points]
    estimator, sampling = load_estimator(name), Sampling(1.0, 0.9999, 5000, 3)
    E = estimator.essential(*centred, 1000.0, sampling)
    F = estimator.fundamental(*centred, sampling)
    true = views.is_true
    assert np.median(squared_sampson_errors(E, *(pixels[true] / 1000 for pixels in centred))) < 1e-10
    assert np.median(squared_sampson_errors(F, *(pixels[true] for pixels in centred))) < 1e-3
    flat = make_views(noise_px=0.0, points=plane_points())
    points = [flat.features[side].keypoints[flat.matches.indices[:, side]].astype(float) for side in (0, 1)]
    H = estimator.homography(*points, sampling)
    assert np.median(homography_errors(H, *points)) < 0.01


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", ["one spot", "a line", "random"])
def test_degenerate_points_raise_no_exception(name, kind):
    generator = np.random.default_rng(0)
    t = generator.uniform(0, 1, (40, 1))
    pixels = {
        "one spot": lambda: np.full((40, 2), 300.0),
        "a line": lambda: 100 + t * [300.0, 200.0],
        "random": lambda: generator.uniform(0, 900, (40, 2)),
    }[kind]
    views = make_views(num_points=40)
    features = make_features(pixels(), SIZE), make_features(pixels(), SIZE)
    found = replace(views, features=features).estimate(TwoViewConfig(estimator=name))
    if kind != "a line":
        assert isinstance(found, Rejected)


def test_the_estimators_are_different_methods_and_all_are_accurate():
    views = make_views(noise_px=0.8, outlier_ratio=0.4, seed=1)
    points = [views.features[side].keypoints[views.matches.indices[:, side]] - [600.0, 450.0] for side in (0, 1)]
    truth = essential_from_pose(Rigid3(POSE.R, POSE.t / np.linalg.norm(POSE.t)))
    found = []
    for name in ESTIMATOR_NAMES if HAS_POSELIB else ESTIMATOR_NAMES[:2]:
        E = load_estimator(name).essential(*points, 1000.0, Sampling(2.0, 0.9999, 5000, 0))
        found.append(E / np.linalg.norm(E) * np.sign((E * truth).sum()))
        assert np.linalg.norm(found[-1] - truth / np.sqrt(2)) < 0.02
    for one, other in combinations(found, 2):
        assert np.linalg.norm(one - other) > 1e-6


def test_without_poselib_the_error_names_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "poselib", None)
    with pytest.raises(ConfigError, match=re.escape('pip install "sfm-lightglue[poselib]"')):
        make_views().estimate(TwoViewConfig(estimator="poselib"))
    with pytest.raises(ConfigError, match="poselib"):
        verification_identity(TwoViewConfig(estimator="poselib"))


def test_poselib_is_imported_only_when_it_is_chosen():
    code = (
        "import sys, sfm_lightglue.two_view.verification as t; t.verification_identity(t.TwoViewConfig());"
        "print('poselib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ConfigError, match="opencv-magsac, opencv-ransac, poselib"):
        TwoViewConfig(estimator="lmeds")
    with pytest.raises(ConfigError, match="estimator"):
        ReconstructConfig.from_mapping({"two_view": {"estimator": "lmeds"}})


# The keys of the store -----------------------------------------------------------------------------------------------


def test_the_name_of_the_estimator_is_not_part_of_the_keys():
    """An estimator enters the keys by its version, so the options hash as if they had no field `estimator`."""
    names = [field.name for field in dataclasses.fields(TwoViewConfig) if field.name != "estimator"]
    values = [(name, float | int, getattr(TwoViewConfig(), name)) for name in names]
    before = dataclasses.make_dataclass("TwoViewConfig", values, frozen=True)()
    assert make_key(*verification_identity(TwoViewConfig())) == make_key(f"8-opencv-{cv2.__version__}-magsac-2", before)


def test_each_estimator_has_its_own_keys(tmp_path):
    views = make_views(num_points=60, outlier_ratio=0.2)
    pair = ImagePair("a", "b")
    store = Store(tmp_path)
    present = [name for name in ESTIMATOR_NAMES if name != "poselib" or HAS_POSELIB]
    for config in [TwoViewConfig(estimator=name) for name in present] + [TwoViewConfig(max_error_px=3.0)]:
        for _ in range(2):
            CachedVerifier(config, 0, store).verify(pair, views.features, views.matches, views.cameras)
    assert store.counts["two_view"].misses == len(present) + 1
    assert store.counts["two_view"].hits == len(present) + 1


# From images ---------------------------------------------------------------------------------------------------------


def test_two_files_give_everything(pair):
    found = sfm_lightglue.estimate_relative_pose(*pair.paths, matcher="nearest")
    assert found.verdict == "general"
    assert found.focal_sources == ("exif", "exif")
    rotation_deg, direction_deg = relative_pose_error_deg(found.cam1_from_cam0, pair.truth)
    assert rotation_deg < max(found.uncertainty.rotation_deg, 0.5)
    assert direction_deg < max(found.uncertainty.direction_deg, 0.5)
    assert np.linalg.norm(found.cam1_from_cam0.t) == pytest.approx(1)
    assert len(found.inliers) == found.num_inliers == len(found.keypoints0) == len(found.keypoints1)
    assert found.num_inliers <= found.num_matches
    assert 0.01 < found.uncertainty.noise_px < 1.5
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.points = None


def test_points_are_in_front_and_where_the_keypoints_see_them(pair):
    camera = replace(pair.scene.camera, source="given")
    found = sfm_lightglue.estimate_relative_pose(*pair.paths, camera, matcher="nearest")
    assert found.focal_sources == ("given", "given")  # given for one image; the other has the same size and camera
    assert len(found.points) == len(found.point_inlier_idxs) > 50
    assert (np.diff(found.point_inlier_idxs) > 0).all()
    focal, cx, cy = camera.params[:3]
    for pose, keypoints in ((Rigid3.identity(), found.keypoints0), (found.cam1_from_cam0, found.keypoints1)):
        seen = pose @ found.points
        assert (seen[:, 2] > 0).all()
        pixels = focal * seen[:, :2] / seen[:, 2:] + [cx, cy]
        errors_px = np.linalg.norm(pixels - keypoints[found.point_inlier_idxs], axis=1)
        assert np.median(errors_px) < 1
        assert errors_px.max() < 4


def test_points_have_the_depth_of_the_scene():
    """The unit of the points is the baseline; synthetic points without noise."""
    views = make_views(noise_px=0.0)
    found = relative_pose_from_matches(*views.features, views.matches, *views.cameras)
    depths = found.points[:, 2] * np.linalg.norm(POSE.t)
    assert 4 < depths.min() < depths.max() < 9.01
    rays = (found.keypoints0[found.point_inlier_idxs] - [600, 450]) / 1000
    np.testing.assert_allclose(found.points[:, :2] / found.points[:, 2:], rays, atol=1e-4)


@pytest.mark.parametrize(("source", "num_camera_pairs"), [("given", 1), ("guessed", 2)])
def test_matches_are_normalised_once_for_each_pair_of_cameras(monkeypatch, source, num_camera_pairs):
    """A guessed focal length is replaced by the estimated one, so the matches are normalised once more."""
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return normalize_matches(*arguments)

    monkeypatch.setattr(verification, "normalize_matches", counted)
    views = make_views(noise_px=0.3)
    cameras = (replace(PINHOLE, source=source),) * 2
    found = relative_pose_from_matches(*views.features, views.matches, *cameras, is_same_camera=True)
    assert found.focal_sources[0] == ("given" if source == "given" else "estimated")
    assert len(calls) == num_camera_pairs


def test_arrays_pillow_images_and_our_images_are_the_same(pair):
    camera = pair.scene.camera
    kinds = {
        "arrays": pair.pixels,
        "Pillow": [PilImage.fromarray(pixels) for pixels in pair.pixels],
        "Image": [Image.from_array(pixels) for pixels in pair.pixels],
    }
    found = {
        name: sfm_lightglue.estimate_relative_pose(*images, camera, camera, matcher="nearest")
        for name, images in kinds.items()
    }
    for one in found.values():
        assert one.cam1_from_cam0.as_matrix().tobytes() == found["arrays"].cam1_from_cam0.as_matrix().tobytes()
        assert max(relative_pose_error_deg(one.cam1_from_cam0, pair.truth)) < 1
    grey = [Image.from_array(pixels).grey() for pixels in pair.pixels]
    other = sfm_lightglue.estimate_relative_pose(*grey, camera, camera, matcher="nearest")
    assert max(relative_pose_error_deg(other.cam1_from_cam0, pair.truth)) < 1


def test_a_calibration_matrix_is_a_camera(pair):
    focal, cx, cy = pair.scene.camera.params[:3]
    K = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]])
    found = sfm_lightglue.estimate_relative_pose(*pair.pixels, K, K, matcher="nearest")
    assert found.cameras[0].params == (focal, focal, cx, cy)
    assert found.focal_sources == ("given", "given")


def test_components_by_name_and_as_objects_are_the_same(pair):
    by_name = sfm_lightglue.estimate_relative_pose(*pair.paths, extractor="sift", matcher="nearest")
    objects = sfm_lightglue.estimate_relative_pose(*pair.paths, extractor=SiftExtractor(), matcher=NearestMatcher())
    mixed = sfm_lightglue.estimate_relative_pose(*pair.paths, matcher=NearestMatcher())
    for other in (objects, mixed):
        assert other.cam1_from_cam0.as_matrix().tobytes() == by_name.cam1_from_cam0.as_matrix().tobytes()


class MyExtractor:
    """An extractor that is not registered."""

    identity = Identity("mine", 1, None)

    def extract(self, image):
        return SiftExtractor().extract(image)


def test_an_extractor_that_is_not_registered(pair):
    found = sfm_lightglue.estimate_relative_pose(*pair.paths, extractor=MyExtractor(), matcher="nearest")
    by_name = sfm_lightglue.estimate_relative_pose(*pair.paths, extractor="sift", matcher="nearest")
    assert found.cam1_from_cam0.as_matrix().tobytes() == by_name.cam1_from_cam0.as_matrix().tobytes()
    with pytest.raises(
        ConfigError, match="features of extractor mine"
    ):  # the default matcher has no weights for these features
        sfm_lightglue.estimate_relative_pose(*pair.paths, extractor=MyExtractor())


def test_a_matcher_as_an_object_needs_no_other(pair, monkeypatch):
    def refuse(*_):
        raise AssertionError("a matcher was built")

    monkeypatch.setattr(MATCHERS, "build", refuse)
    found = sfm_lightglue.estimate_relative_pose(*pair.paths, extractor="sift", matcher=NearestMatcher())
    assert found.verdict == "general"


def test_too_few(pair):
    noise = np.random.default_rng(0).integers(0, 255, (360, 480, 3), dtype=np.uint8)
    found = sfm_lightglue.estimate_relative_pose(pair.pixels[0], noise, matcher="nearest")
    assert found.verdict == "too_few"
    assert found.cam1_from_cam0 is None
    assert found.uncertainty is None
    assert isinstance(found.geometry, Rejected)
    assert found.points.shape == (0, 3)
    assert found.keypoints0.shape == found.keypoints1.shape == (0, 2)
    assert "too_few" in repr(found)


def test_the_same_image_twice_is_a_pure_rotation_without_points(pair):
    found = sfm_lightglue.estimate_relative_pose(pair.pixels[0], pair.pixels[0], matcher="nearest")
    assert found.verdict == "pure_rotation"
    assert not found.cam1_from_cam0.t.any()
    assert found.uncertainty.direction_deg is None
    assert len(found.points) == 0


def test_swapped_images_give_the_inverse(pair):
    camera = pair.scene.camera
    there = sfm_lightglue.estimate_relative_pose(*pair.pixels, camera, camera, matcher="nearest")
    back = sfm_lightglue.estimate_relative_pose(*pair.pixels[::-1], camera, camera, matcher="nearest")
    rotation_deg, direction_deg = relative_pose_error_deg(back.cam1_from_cam0.inverse(), there.cam1_from_cam0)
    assert rotation_deg < 0.5 * there.uncertainty.rotation_deg + 0.02
    assert direction_deg < 0.5 * there.uncertainty.direction_deg + 0.05
    assert back.uncertainty.rotation_deg == pytest.approx(there.uncertainty.rotation_deg, rel=0.2)


def test_a_camera_of_pycolmap_is_taken_as_ours(pair):
    camera = pair.scene.camera
    native = pycolmap.Camera.create_from_model_name(3, camera.model, 1.0, *camera.size)
    native.params = list(camera.params)
    theirs = sfm_lightglue.estimate_relative_pose(*pair.pixels, native, native, matcher="nearest")
    ours = sfm_lightglue.estimate_relative_pose(*pair.pixels, camera, camera, matcher="nearest")
    assert theirs.cameras == tuple(replace(camera, source="given") for _ in range(2))
    np.testing.assert_array_equal(theirs.cam1_from_cam0.as_matrix(), ours.cam1_from_cam0.as_matrix())
    native.focal_length = -5.0
    with pytest.raises(ConfigError, match="focal length must be positive"):
        sfm_lightglue.estimate_relative_pose(*pair.pixels, native, matcher="nearest")


@pytest.mark.parametrize("camera", [{"model": "PINHOLE"}, "PINHOLE", object()])
def test_an_error_names_the_accepted_types_of_a_camera(pair, camera):
    with pytest.raises(
        TypeError, match=rf"expected .*Camera, a pycolmap\.Camera, or K .*, got {type(camera).__name__}"
    ):
        sfm_lightglue.estimate_relative_pose(*pair.pixels, camera, matcher="nearest")


def test_wrong_arguments_are_refused(pair, tmp_path):
    estimate = sfm_lightglue.estimate_relative_pose
    with pytest.raises(DataError, match="none"):
        estimate(tmp_path / "none.jpg", pair.pixels[0], matcher="nearest")
    with pytest.raises(TypeError, match="Pillow"):
        estimate(3.0, pair.pixels[0], matcher="nearest")
    with pytest.raises(ValueError, match="uint8"):
        estimate(pair.pixels[0].astype(float), pair.pixels[1], matcher="nearest")
    with pytest.raises(ConfigError, match="480 x 360"):
        estimate(*pair.pixels, make_camera("PINHOLE", (640, 480), (500, 500, 320, 240)), matcher="nearest")
    with pytest.raises(ConfigError, match="fx"):
        estimate(*pair.pixels, cross_matrix([1, 2, 3]), matcher="nearest")
    with pytest.raises(ConfigError, match="nearest"):
        estimate(*pair.pixels, matcher="nearesst")
