"""The LightGlue matcher on SIFT features: correctness, batches, precision, and a whole reconstruction."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.match import main as match_command
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.execution import threads
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.extractors.superpoint import SuperPointConfig, SuperPointExtractor
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers import lightglue
from sfm_lightglue.matchers.first_keypoints import FoundMatches
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig, batch_bytes, upright_positions
from sfm_lightglue.models.lightglue import LightGlue, LightGlueThresholds, Side
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.synthetic import SyntheticScene, corresponding_points
from sfm_lightglue.types import Features
from tests.helpers.untrained import write_lightglue, write_superpoint


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lightglue(tmp_path_factory.mktemp("weights") / "lightglue.safetensors")


@pytest.fixture(scope="module")
def features(small_scene: SyntheticScene) -> list[Features]:
    extractor = SiftExtractor(SiftConfig(max_keypoints=400))
    return [extractor.extract(Image.from_array(pixels)) for pixels in small_scene.images.values()]


def matcher_of(weights: Path | str, **options: object) -> LightGlueMatcher:
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


def shortened(features: Features, num_points: int) -> Features:
    assert features.scales is not None and features.orientations is not None
    arrays = (features.keypoints, features.scores, features.descriptors)
    return Features(
        *(array[:num_points] for array in arrays),
        features.image_size,
        features.scales[:num_points],
        features.orientations[:num_points],
    )


def unequal_pairs(features: list[Features]) -> list[tuple[Features, Features]]:
    """16 pairs of 0 to 400 points."""
    sizes = [400, 100, 0, 400, 37, 250, 3, 399, 1, 64, 300, 12, 400, 200, 150, 5]
    return [
        (shortened(features[k % 6], size), shortened(features[(k + 1 + k // 6) % 6], sizes[-1 - k]))
        for k, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("options", [{}, {"batch_size": 16}, {"batch_size": 5}, {"batch_size": 16, "memory_mb": 5}])
@pytest.mark.parametrize("is_trained", [False, True])
def test_16_pairs_of_unequal_sizes_equal_each_pair_alone(
    weights: Path, features: list[Features], options: dict[str, int], is_trained: bool
) -> None:
    pairs = unequal_pairs(features)
    matcher = (
        LightGlueMatcher(LightGlueMatcherConfig(**options), "cpu") if is_trained else matcher_of(weights, **options)
    )
    batch = matcher.match_batch(pairs)
    for pair, together in zip(pairs, batch, strict=True):
        alone = matcher.match(*pair)
        assert np.array_equal(together.indices, alone.indices)
        assert np.allclose(together.scores, alone.scores, atol=5e-5 if is_trained else 1e-5)
        assert together.stop_layer == alone.stop_layer
    assert sum(len(matches) > 10 for matches in batch) >= 5


def test_the_precision_that_is_used_is_part_of_the_identity(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def identities() -> list[object]:
        options: list[dict[str, object]] = [{}, {"batch_size": 4}, {"precision": "bfloat16"}, {"precision": "float32"}]
        return [matcher_of(weights, **one).identity for one in options]

    monkeypatch.setattr(lightglue, "has_bfloat16_instructions", lambda: True)
    auto, batched, low, full = identities()
    assert auto == low != full == batched
    monkeypatch.setattr(lightglue, "has_bfloat16_instructions", lambda: False)
    auto, batched, low, full = identities()
    assert auto == full == batched != low


def test_pairs_in_parallel_equal_each_pair_alone(
    weights: Path, features: list[Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "num_usable_cores", lambda: 2)
    monkeypatch.setattr(lightglue, "num_usable_cores", lambda: 2)
    pairs = unequal_pairs(features)
    matcher = matcher_of(weights, precision="float32")
    together = list(threads.ordered_map(lambda pair: matcher.match(*pair), pairs, 2))
    for pair, one in zip(pairs, together, strict=True):
        alone = matcher.match(*pair)
        assert np.array_equal(one.indices, alone.indices)
        assert np.allclose(one.scores, alone.scores, atol=1e-5)


def test_a_batch_that_would_not_fit_is_split(
    weights: Path, features: list[Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = unequal_pairs(features)
    sizes: list[tuple[int, int, int]] = []
    match = LightGlueMatcher._match

    def counted(self: LightGlueMatcher, some: list[tuple[Features, Features]], kept: list[None]) -> list[FoundMatches]:
        sizes.append((len(some), max(len(pair[0]) for pair in some), max(len(pair[1]) for pair in some)))
        return match(self, some, kept)

    monkeypatch.setattr(LightGlueMatcher, "_match", counted)
    matcher = matcher_of(weights, batch_size=16, memory_mb=30)
    matcher.match_batch(pairs)
    assert sum(size for size, _, _ in sizes) == 16 and 1 < len(sizes) < 16
    assert all(size == 1 or batch_bytes(size, n0, n1, matcher.architecture) <= 30 * 2**20 for size, n0, n1 in sizes)


def test_a_batch_is_halved_if_the_device_runs_out_of_memory(
    weights: Path, features: list[Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = unequal_pairs(features)
    matcher = matcher_of(weights, batch_size=16, precision="float32")
    wanted = matcher.match_batch(pairs)
    forward = LightGlue.forward

    def with_little_memory(self: LightGlue, side0: Side, side1: Side, thresholds: LightGlueThresholds) -> object:
        if len(side0.keypoints) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(self, side0, side1, thresholds)

    monkeypatch.setattr(LightGlue, "forward", with_little_memory)
    for one, other in zip(matcher.match_batch(pairs), wanted, strict=True):
        assert np.array_equal(one.indices, other.indices)


MEASURE = """
import sys
from pathlib import Path
import numpy as np
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from sfm_lightglue.types import Features
rng = np.random.default_rng(0)
def features(n):
    words = rng.gamma(1, 1, (n, 128)).astype(np.float32)
    numbers = [rng.uniform(0, high, n).astype(np.float32) for high in (1, 30, 6)]
    places = rng.uniform(0, 600, (n, 2)).astype(np.float32)
    return Features(places, numbers[0], words / np.linalg.norm(words, axis=1, keepdims=True), (640, 640), *numbers[1:])
options = {"depth_confidence": -1, "width_confidence": -1, "batch_size": 16, "memory_mb": int(sys.argv[2])}
matcher = LightGlueMatcher(LightGlueMatcherConfig(sys.argv[1], **options), "cpu")
matcher.match(features(64), features(64))
pairs = [(features(1000), features(1000)) for _ in range(16)]
def peak_kib():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])
Path("/proc/self/clear_refs").write_text("5")  # resets the peak
before = peak_kib()
matcher.match_batch(pairs)
print((peak_kib() - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_the_memory_of_a_batch_stays_within_its_budget(weights: Path) -> None:
    def megabytes(budget: int) -> float:
        command = [sys.executable, "-c", MEASURE, str(weights), str(budget)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert megabytes(100) < 110  # buffers of libraries grow too
    assert megabytes(4096) > 200, "without the budget, the batch takes more"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_swapped_images_give_swapped_matches_bit_for_bit(
    weights: Path, features: list[Features], precision: str
) -> None:
    """The computation inside the network does not depend on the order of the arguments."""
    matcher = matcher_of(weights, precision=precision)
    for first, second in ((features[0], features[1]), (features[0], shortened(features[2], 150))):
        matches, swapped = matcher.match(first, second), matcher.match(second, first).swapped()
        assert len(matches) > 10
        assert np.array_equal(matches.indices, swapped.indices)
        assert np.array_equal(matches.scores, swapped.scores)
        assert matches.stop_layer == swapped.stop_layer


def test_thresholds_have_their_effects(weights: Path, features: list[Features]) -> None:
    pair = features[0], features[1]
    adaptive, full = matcher_of(weights).match(*pair), matcher_of(weights, depth_confidence=-1).match(*pair)
    assert 0 < adaptive.stop_layer < full.stop_layer == 4
    strict = matcher_of(weights, filter_threshold=0.9).match(*pair)
    assert 0 < len(strict) < len(adaptive)
    assert strict.scores.min() > 0.9


def test_features_of_rotated_images_are_upright_for_the_network(small_scene: SyntheticScene) -> None:
    """The input of the network is the same for a rotated stored image and the upright image."""
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
    assert matcher_of(weights, batch_size=1).identity == identity
    assert matcher_of(other).identity != identity
    assert matcher_of(weights, filter_threshold=0.2).identity != identity


def test_bad_options_and_weights_are_reported(tmp_path: Path, features: list[Features]) -> None:
    for options in ({"depth_confidence": 1.5}, {"width_confidence": -0.5}, {"filter_threshold": 2}, {"batch_size": -1}):
        with pytest.raises(ConfigError):
            LightGlueMatcherConfig("x", **options)
    with pytest.raises(WeightsError, match="did you mean 'lightglue_sift'"):
        LightGlueMatcher(LightGlueMatcherConfig("lightglue_sitf"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsError, match=r"text\.pth"):
        matcher_of(tmp_path / "text.pth").match(features[0], features[1])


def test_a_reconstruction_with_lightglue(
    weights: Path, small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path
) -> None:
    config = ReconstructConfig.from_mapping(
        {
            "matcher": {"name": "lightglue", "weights": str(weights)},
            "extractor": {"name": "sift", "max_keypoints": 800},
            "device": "cpu",
        }
    )
    summary = reconstruct(small_scene_dir, tmp_path / "out", config).summary
    assert summary.num_registered == 6
    aligned = align_poses(poses_of_model(read_model(tmp_path / "out")), small_scene.cam_from_world_from_name)
    assert aligned.max_center_error < 0.01 * small_scene.extent_m
    assert reconstruct(small_scene_dir, tmp_path / "out", config).summary.cache["misses"] == 0


def test_the_match_command_takes_weights(
    weights: Path, small_scene_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = small_scene_dir / "images"
    flags = ["--matcher", "lightglue", "--matcher-weights", str(weights), "--max-keypoints", "600", "--device", "cpu"]
    assert match_command([str(images / "view_00.jpg"), str(images / "view_01.jpg"), "--json", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "general"


def test_superpoint_shifts_by_half_a_pixel_and_applies_its_limits(tmp_path: Path, small_scene: SyntheticScene) -> None:
    config = SuperPointConfig(str(write_superpoint(tmp_path / "superpoint.safetensors")), max_keypoints=50)
    found = SuperPointExtractor(config, "cpu").extract(Image.from_array(small_scene.images["view_00.jpg"]))
    assert len(found) == 50
    assert found.descriptors.shape == (50, 32)
    assert np.allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    # Not shrunk, so every keypoint is at the centre of a pixel in COLMAP's convention.
    assert np.allclose(found.keypoints % 1, 0.5)
    border = config.border_px
    assert (found.keypoints >= border).all()
    assert (found.keypoints <= np.array([480, 360]) - border).all()
