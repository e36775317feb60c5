"""COLMAP databases in our types: features, matches and geometries keep their meaning."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.database_reader import ColmapDatabase, read_database
from sfm_lightglue.colmap.features import colmap_features
from sfm_lightglue.errors import DataError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.geometry.transforms import relative_pose_error_deg
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.reconstruction.add_to_database import add_to_database
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.stages.cached import pair_seed
from sfm_lightglue.synthetic import SyntheticScene
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.verification import estimate_two_view_geometry
from sfm_lightglue.types import Features, ImagePair, Rejected, TwoViewGeometry

NAMES = ("view_01.jpg", "view_02.jpg", "view_03.jpg")
PAIR = ImagePair(NAMES[0], NAMES[1])
CONFIG = {"num_threads": 1, "extractor": {"name": "sift", "max_keypoints": 500}, "matcher": {"name": "nearest"}}


@pytest.fixture(scope="module")
def images(small_scene_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    for name in NAMES:
        (folder / name).write_bytes((small_scene_dir / "images" / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def ours(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that sfm_lightglue wrote."""
    path = tmp_path_factory.mktemp("ours") / "database.db"
    add_to_database(path, images, ReconstructConfig.from_mapping(CONFIG))
    return path


@pytest.fixture(scope="module")
def theirs(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that COLMAP wrote, with its own SIFT."""
    path = tmp_path_factory.mktemp("theirs") / "database.db"
    pycolmap.Database.open(path).close()
    extraction, matching = pycolmap.FeatureExtractionOptions(), pycolmap.FeatureMatchingOptions()
    extraction.num_threads = matching.num_threads = 1
    extraction.use_gpu = matching.use_gpu = False
    level, pycolmap.logging.minloglevel = pycolmap.logging.minloglevel, 3
    try:
        pycolmap.extract_features(path, images, extraction_options=extraction)
        pycolmap.match_exhaustive(path, matching_options=matching)
    finally:
        pycolmap.logging.minloglevel = level
    return path


def test_our_features_are_read_back_unchanged(ours: Path, images: Path) -> None:
    """Descriptors differ by rounding to bytes."""
    content = read_database(ours)
    assert content.names == NAMES
    extractor = SiftExtractor(SiftConfig(max_keypoints=500))
    for name in NAMES:
        expected, found = extractor.extract(Image.read(images / name)), content.features_from_name[name]
        np.testing.assert_array_equal(found.keypoints, expected.keypoints)
        assert expected.scales is not None
        assert found.scales is not None
        np.testing.assert_allclose(found.scales, expected.scales, rtol=1e-6)
        np.testing.assert_allclose(found.orientations, expected.orientations, atol=1e-6)
        np.testing.assert_allclose(found.descriptors, expected.descriptors, atol=1.5 / 512)
        assert found.image_size == expected.image_size == content.camera_from_name[name].size


def test_poses_of_pairs_are_correct(small_scene: SyntheticScene, ours: Path, theirs: Path) -> None:
    """Our databases store the pose of a pair. COLMAP's do not, so the pose is computed from the matrices."""
    truth = small_scene.cam_from_world_from_name
    for path in (ours, theirs):
        content = read_database(path)
        assert len(content.geometry_from_pair) == 3
        for pair, geometry in content.geometry_from_pair.items():
            assert isinstance(geometry, TwoViewGeometry)
            assert len(geometry.inlier_mask) == len(content.matches_from_pair[pair])
            assert geometry.num_inliers > 50
            expected = truth[pair.name1] @ truth[pair.name0].inverse()
            assert max(relative_pose_error_deg(geometry.cam1_from_cam0, expected)) < 1.5


def test_the_order_of_image_ids_does_not_matter(ours: Path, images: Path, tmp_path: Path) -> None:
    """With image ids in descending order of names, the database stores each pair in the opposite order."""
    backwards = tmp_path / "database.db"
    with pycolmap.Database.open(ours) as one, pycolmap.Database.open(backwards) as other:
        other.write_camera(one.read_all_cameras()[0], use_camera_id=True)
        for number, name in enumerate(NAMES):
            other.write_image(pycolmap.Image(name=name, camera_id=1, image_id=9 - number), use_image_id=True)
    add_to_database(backwards, images, ReconstructConfig.from_mapping(CONFIG), ours.with_name("database.db.store"))
    expected, found = read_database(ours), read_database(backwards)
    assert expected.matches_from_pair.keys() == found.matches_from_pair.keys()
    for pair, matches in expected.matches_from_pair.items():
        np.testing.assert_array_equal(found.matches_from_pair[pair].indices, matches.indices)
        one, other = expected.geometry_from_pair[pair], found.geometry_from_pair[pair]
        assert isinstance(one, TwoViewGeometry)
        assert isinstance(other, TwoViewGeometry)
        assert one.kind == other.kind
        np.testing.assert_array_equal(one.inlier_mask, other.inlier_mask)
        np.testing.assert_allclose(one.cam1_from_cam0.as_matrix(), other.cam1_from_cam0.as_matrix(), atol=1e-9)
        for name in ("E", "F"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-9)


def test_scale_and_orientation_of_colmap_are_converted(theirs: Path, images: Path) -> None:
    """Compared on keypoints that both SIFTs detect: COLMAP's scale is half of the diameter, the angle is the same."""
    found = read_database(theirs).features_from_name[NAMES[0]]
    expected = SiftExtractor(SiftConfig(max_keypoints=4000)).extract(Image.read(images / NAMES[0]))
    distances = np.linalg.norm(found.keypoints[:, None] - expected.keypoints[None], axis=2)
    nearest = distances.argmin(axis=1)
    same = distances[np.arange(len(found)), nearest] < 0.3
    assert found.scales is not None
    assert found.orientations is not None
    assert expected.scales is not None
    assert expected.orientations is not None
    ratios = found.scales[same] / expected.scales[nearest[same]]
    assert same.sum() > 300
    assert abs(np.median(ratios) - 1) < 0.01
    turns = found.orientations[same] - expected.orientations[nearest[same]]
    assert np.median(np.abs((turns + np.pi) % (2 * np.pi) - np.pi)) < 0.1
    differences = found.descriptors[same] - expected.descriptors[nearest[same]]
    assert np.median(np.linalg.norm(differences, axis=1)) < 0.2, "descriptors of the same keypoints differ"


def test_our_matcher_runs_on_features_of_colmap(small_scene: SyntheticScene, theirs: Path) -> None:
    content = read_database(theirs, NAMES[:2])
    assert content.names == NAMES[:2]
    both = content.features_from_name[NAMES[0]], content.features_from_name[NAMES[1]]
    np.testing.assert_allclose(np.linalg.norm(both[0].descriptors, axis=1), 1, atol=1e-5)
    matches = NearestMatcher().match(*both)
    colmap = content.matches_from_pair[PAIR]
    rows = {tuple(row) for row in matches.indices.tolist()}
    assert len(rows & {tuple(row) for row in colmap.indices.tolist()}) > 0.9 * len(colmap)
    cameras = content.camera_from_name[NAMES[0]], content.camera_from_name[NAMES[1]]
    geometry = estimate_two_view_geometry(*both, matches, *cameras, TwoViewConfig(), pair_seed(0, PAIR))
    assert isinstance(geometry, TwoViewGeometry)
    truth = small_scene.cam_from_world_from_name
    expected = truth[NAMES[1]] @ truth[NAMES[0]].inverse()
    assert max(relative_pose_error_deg(geometry.cam1_from_cam0, expected)) < 1


Write = Callable[..., ColmapDatabase]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Writes two images with keypoints, and their matches and geometry if given, and reads the database."""

    def write(
        keypoints: Any = None,
        matches: list[list[int]] | None = None,
        inliers: list[list[int]] | None = None,
        **geometry: Any,
    ) -> ColmapDatabase:
        path = tmp_path / "database.db"
        if keypoints is None:
            keypoints = np.random.default_rng(0).uniform(0, 100, (40, 2))
        with pycolmap.Database.open(path) as database:
            camera = pycolmap.Camera.create_from_model_name(0, "SIMPLE_PINHOLE", 100.0, 100, 100)
            camera_id = database.write_camera(camera)
            for name in "ab":
                image_id = database.write_image(pycolmap.Image(name=name, camera_id=camera_id))
                database.write_keypoints(image_id, np.asarray(keypoints, np.float32))
            if matches is not None:
                database.write_matches(1, 2, np.array(matches, np.uint32).reshape(-1, 2))
            if inliers is not None:
                native = pycolmap.TwoViewGeometry(inlier_matches=np.array(inliers, np.uint32).reshape(-1, 2))
                for name, value in geometry.items():
                    setattr(native, name, value)
                database.write_two_view_geometry(1, 2, native)
        return read_database(path)

    return write


AB = ImagePair("a", "b")
SIDEWAYS = pycolmap.Rigid3d(pycolmap.Rotation3d(np.eye(3)), np.array([2.0, 0, 0]))
KINDS = pycolmap.TwoViewGeometryConfiguration


def test_inliers_of_guided_matching_are_added_to_the_matches(written: Write) -> None:
    content = written(
        matches=[[3, 1], [0, 0], [7, 7]],
        inliers=[[0, 0], [5, 6]],
        config=KINDS.CALIBRATED,
        cam2_from_cam1=SIDEWAYS,
    )
    assert content.matches_from_pair[AB].indices.tolist() == [[0, 0], [3, 1], [5, 6], [7, 7]]
    geometry = content.geometry_from_pair[AB]
    assert isinstance(geometry, TwoViewGeometry)
    assert geometry.inlier_mask.tolist() == [True, False, True, False]
    np.testing.assert_allclose(geometry.cam1_from_cam0.t, [1, 0, 0])
    # The database has neither matrix, so both are computed from the pose.
    np.testing.assert_allclose(geometry.E, [[0, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-12)
    K_inverse = np.linalg.inv([[100, 0, 50], [0, 100, 50], [0, 0, 1]])
    np.testing.assert_allclose(geometry.F, K_inverse.T @ geometry.E @ K_inverse, atol=1e-12)


def test_a_feature_matched_twice_keeps_its_inlier(written: Write, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        content = written(
            matches=[[0, 1], [0, 2], [4, 2], [5, 5], [5, 5]],
            inliers=[[0, 2]],
            config=KINDS.CALIBRATED,
            cam2_from_cam1=SIDEWAYS,
        )
    assert content.matches_from_pair[AB].indices.tolist() == [[0, 2], [5, 5]]
    assert any("left out 2 matches" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (KINDS.CALIBRATED, "general"),
        (KINDS.CALIBRATED_RIG, "general"),
        (KINDS.UNCALIBRATED, "general"),
        (KINDS.PLANAR, "planar"),
        (KINDS.PANORAMIC, "pure_rotation"),
        (KINDS.MULTIPLE, None),
        (KINDS.WATERMARK, None),
        (KINDS.DEGENERATE, None),
        (KINDS.UNDEFINED, None),
    ],
)
def test_configurations_of_colmap_are_converted(written: Write, config: Any, kind: str | None) -> None:
    inliers = [[i, i] for i in range(20)]
    geometry = written(inliers=inliers, config=config, cam2_from_cam1=SIDEWAYS).geometry_from_pair[AB]
    if kind is None:
        assert geometry == Rejected("degenerate", 20, 20)
    else:
        assert isinstance(geometry, TwoViewGeometry)
        assert geometry.kind == kind
        assert (geometry.E is None) == (config == KINDS.UNCALIBRATED)


@pytest.mark.parametrize("config", [KINDS.DEGENERATE, KINDS.CALIBRATED, KINDS.UNCALIBRATED, KINDS.PLANAR])
def test_a_geometry_without_pose_and_matrix_is_rejected(written: Write, config: Any) -> None:
    assert written(inliers=[[0, 0]], config=config).geometry_from_pair[AB] == Rejected("degenerate", 1, 1)


def test_features_without_shape_or_descriptors(written: Write) -> None:
    """COLMAP's default shape of keypoints is read as no scale and no orientation."""
    points = np.array([[1, 2, 1, 0, 0, 1], [3, 4, 1, 0, 0, 1]])
    features = written(points).features_from_name["a"]
    assert features.scales is features.orientations is None
    assert features.descriptors.shape == (2, 0)
    assert features.scores.tolist() == [1, 1]


@pytest.mark.parametrize("columns", [4, 6])
def test_scale_and_orientation_in_both_forms(written: Write, columns: int) -> None:
    scale, angle = 3.0, np.radians(200)
    shape = [scale * np.cos(angle), -scale * np.sin(angle), scale * np.sin(angle), scale * np.cos(angle)]
    features = written([[5, 6, *({4: [scale, angle], 6: shape}[columns])]]).features_from_name["a"]
    assert features.scales == pytest.approx([6.0])
    assert features.orientations == pytest.approx([angle])


def test_descriptors_of_networks_are_floats(written: Write, tmp_path: Path) -> None:
    written([[5, 6], [7, 8]])
    values = np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32)
    floats = pycolmap.FeatureDescriptorsFloat(pycolmap.FeatureExtractorType.ALIKED_N32, values)
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        database.write_descriptors(1, pycolmap.FeatureDescriptors.from_float(floats))
    content = read_database(tmp_path / "database.db")
    np.testing.assert_array_equal(content.features_from_name["a"].descriptors, values)


def test_invalid_values_are_a_data_error(written: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="features of a do not fit its camera"):
        written([[5, 600]])
    (tmp_path / "database.db").unlink()
    with pytest.raises(DataError, match="matches of a and b refer to missing keypoints"):
        written([[5, 6]], matches=[[0, 1]])
    with pytest.raises(DataError, match="has no image named 'c'"):
        read_database(tmp_path / "database.db", ["a", "c"])


def test_scales_are_those_of_the_full_image() -> None:
    """The extractor measures scales in the resized image."""
    rng = np.random.default_rng(0)
    descriptors = np.sqrt(rng.dirichlet(np.ones(128), 3)).astype(np.float32)
    one = np.ones(3, np.float32)
    features = Features(np.zeros((3, 2), np.float32), one, descriptors, (3200, 2000), 4 * one, one)
    keypoints, root_sift = colmap_features(replace(features, shrink_factor=2.0))
    np.testing.assert_allclose(keypoints[:, 2:], [[4, 1]] * 3)
    assert root_sift is not None
    np.testing.assert_allclose(root_sift / 512, descriptors, atol=0.5 / 512 + 1e-6)
    assert colmap_features(features)[0][0, 2] == 2  # an unknown factor is taken as 1
    signed = Features(features.keypoints, one, -descriptors, features.image_size, one, one)
    assert colmap_features(signed)[1] is None
    bare = Features(features.keypoints, one, descriptors, features.image_size)
    assert colmap_features(bare)[0].shape == (3, 2)
