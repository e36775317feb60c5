"""LightGlue at work on real features: the adapter, and the whole road with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.match import main as match_command
from sfm_lightglue.alignment import align_poses
from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.extractors.superpoint import SuperPointConfig, SuperPointExtractor
from sfm_lightglue.images import Image
from sfm_lightglue.mapping.model import read_model
from sfm_lightglue.mapping.poses import poses_of_model
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig, upright_positions
from sfm_lightglue.reconstruct import ReconstructConfig, reconstruct
from sfm_lightglue.synthetic import SyntheticScene, corresponding_points
from sfm_lightglue.types import Features
from tests.untrained import write_lightglue, write_superpoint


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lightglue(tmp_path_factory.mktemp("weights") / "lightglue.safetensors")


@pytest.fixture(scope="module")
def features(small_scene: SyntheticScene) -> list[Features]:
    extractor = SiftExtractor(SiftConfig(max_keypoints=400))
    return [extractor.extract(Image.from_array(pixels)) for pixels in small_scene.images.values()]


def matcher_of(weights: Path, **options: object) -> LightGlueMatcher:
    return LightGlueMatcher(LightGlueMatcherConfig(str(weights), **options), "cpu")


def test_its_matches_are_correct(weights: Path, features: list[Features], small_scene: SyntheticScene) -> None:
    matches = matcher_of(weights).match(features[0], features[1])
    names = small_scene.names
    pixels0, pixels1 = corresponding_points(small_scene, names[0], names[1], step=1)
    matched0 = features[0].keypoints[matches.indices[:, 0]]
    matched1 = features[1].keypoints[matches.indices[:, 1]]
    distances = np.linalg.norm(pixels0[None] - matched0[:, None], axis=2)
    near = distances.min(axis=1) < 1
    errors = np.linalg.norm(pixels1[distances.argmin(axis=1)] - matched1, axis=1)[near]
    assert near.sum() > 60
    assert (errors < 3).mean() > 0.7
    assert ((matches.scores > 0.1) & (matches.scores <= 1)).all()


def test_a_batch_of_unequal_sizes_gives_what_the_pairs_give_alone(weights: Path, features: list[Features]) -> None:
    short = Features(
        *(array[:100] for array in (features[2].keypoints, features[2].scores, features[2].descriptors)),
        features[2].image_size,
        features[2].scales[:100],
        features[2].orientations[:100],
    )
    empty = SiftExtractor().extract(Image.from_array(np.zeros((64, 64), np.uint8)))
    pairs = [(features[0], features[1]), (short, features[3]), (empty, features[4]), (features[5], empty)]
    matcher = matcher_of(weights)
    batch = matcher.match_batch(pairs)
    for pair, together in zip(pairs, batch, strict=True):
        alone = matcher.match(*pair)
        assert np.array_equal(together.indices, alone.indices)
        assert np.allclose(together.scores, alone.scores, atol=1e-5)
        assert together.stop_layer == alone.stop_layer
    assert [len(matches) > 0 for matches in batch] == [True, True, False, False]


def test_thresholds_do_what_they_say(weights: Path, features: list[Features]) -> None:
    pair = features[0], features[1]
    adaptive, full = matcher_of(weights).match(*pair), matcher_of(weights, depth_confidence=-1).match(*pair)
    assert 0 < adaptive.stop_layer < full.stop_layer == 4
    strict = matcher_of(weights, filter_threshold=0.9).match(*pair)
    assert 0 < len(strict) < len(adaptive)
    assert strict.scores.min() > 0.9


def test_turned_features_stand_upright_for_the_network(small_scene: SyntheticScene) -> None:
    """The stored photo is turned, its features are too: the network is told the same as of the upright one."""
    pixels = small_scene.images["view_00.jpg"]
    extractor = SiftExtractor(SiftConfig(max_keypoints=300))
    upright = extractor.extract(Image.from_array(pixels))
    for turns in (1, 2, 3):
        stored = Image.from_array(np.ascontiguousarray(np.rot90(pixels, turns)), quarter_turns=turns)
        turned = extractor.extract(stored)
        assert not np.allclose(turned.keypoints, upright.keypoints, atol=1)
        expected, got = upright_positions(upright, True), upright_positions(turned, True)
        assert np.allclose(got[:, :3], expected[:, :3], atol=1e-4)
        angles = np.mod(got[:, 3] - expected[:, 3] + np.pi, 2 * np.pi) - np.pi
        assert np.abs(angles).max() < 1e-3


def test_features_of_another_kind_are_refused(weights: Path, features: list[Features]) -> None:
    other = replace(features[0], descriptors=np.zeros((len(features[0]), 64), np.float32))
    with pytest.raises(ConfigError, match="128 dimensions, the features have 64"):
        matcher_of(weights).match(other, features[1])
    bare = replace(features[0], scales=None, orientations=None)
    with pytest.raises(ConfigError, match="scales and orientations"):
        matcher_of(weights).match(bare, features[1])


def test_identity_follows_weights_and_thresholds_not_the_path(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere.safetensors"
    copy.write_bytes(weights.read_bytes())
    other = write_lightglue(tmp_path / "other.safetensors", num_layers=3)
    identity = matcher_of(weights).identity
    assert matcher_of(copy).identity == identity
    assert matcher_of(weights, batch_size=7).identity == identity
    assert matcher_of(other).identity != identity
    assert matcher_of(weights, filter_threshold=0.2).identity != identity


def test_bad_options_and_weights_are_told(tmp_path: Path, features: list[Features]) -> None:
    for options in ({"depth_confidence": 1.5}, {"width_confidence": -0.5}, {"filter_threshold": 2}, {"batch_size": -1}):
        with pytest.raises(ConfigError):
            LightGlueMatcherConfig("x", **options)
    with pytest.raises(WeightsError, match="--matcher-weights"):
        LightGlueMatcher()
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsError, match=r"text\.pth"):
        matcher_of(tmp_path / "text.pth").match(features[0], features[1])


def test_the_whole_road_with_lightglue(
    weights: Path, small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path
) -> None:
    config = ReconstructConfig.from_mapping(
        {
            "matcher": {"name": "lightglue", "weights": str(weights)},
            "extractor": {"name": "sift", "max_keypoints": 800},
            "device": "cpu",
        }
    )
    summary = reconstruct(small_scene_dir, tmp_path / "out", config)
    assert summary.num_registered == 6
    aligned = align_poses(poses_of_model(read_model(tmp_path / "out")), small_scene.cam_from_world_from_name)
    assert aligned.max_center_error < 0.01 * small_scene.extent_m
    assert reconstruct(small_scene_dir, tmp_path / "out", config).cache["misses"] == 0


def test_the_match_command_takes_weights(
    weights: Path, small_scene_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = small_scene_dir / "images"
    flags = ["--matcher", "lightglue", "--matcher-weights", str(weights), "--max-keypoints", "600", "--device", "cpu"]
    assert match_command([str(images / "view_00.jpg"), str(images / "view_01.jpg"), "--json", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "general"


def test_superpoint_finds_the_half_pixel_and_the_limits(tmp_path: Path, small_scene: SyntheticScene) -> None:
    config = SuperPointConfig(str(write_superpoint(tmp_path / "superpoint.safetensors")), max_keypoints=50)
    found = SuperPointExtractor(config, "cpu").extract(Image.from_array(small_scene.images["view_00.jpg"]))
    assert len(found) == 50
    assert found.descriptors.shape == (50, 32)
    assert np.allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    # Not shrunk, so every keypoint is the centre of a pixel in COLMAP's convention.
    assert np.allclose(found.keypoints % 1, 0.5)
    border = config.border_px
    assert (found.keypoints >= border).all()
    assert (found.keypoints <= np.array([480, 360]) - border).all()
