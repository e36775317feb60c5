"""Evaluation code for matchers is tested on rendered images with exact ground truth."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image as PilImage

from datasets.ground_truth import read_scene
from datasets.homographies import homography_pairs
from datasets.image_pairs import depth_pairs, evenly, read_pair_list, scene_pairs
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.match_errors import (
    PairFeatures,
    PairOutcome,
    classify_matches,
    evaluate_estimators,
    evaluate_matcher,
    evaluate_pair,
    summarize,
)
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.identity import Identity
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.synthetic import SyntheticScene
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.types import Features, Matches
from tests.helpers.checkout import ROOT
from tests.helpers.shared_data import shared_data


@pytest.fixture(scope="module")
def sequence(small_scene: SyntheticScene, small_scene_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small scene in the layout of a sequence with depth."""
    root = tmp_path_factory.mktemp("sequence")
    (root / "images").symlink_to(small_scene_dir / "images")
    (root / "depth").mkdir()
    (root / "cameras.json").write_text((small_scene_dir / "truth.json").read_text())
    for name, depth in small_scene.depths.items():
        millimetres = np.clip(depth * 1000, 0, 65535).round().astype(np.uint16)
        PilImage.fromarray(millimetres).save(root / "depth" / f"{Path(name).stem}.png")
    return root


@pytest.fixture(scope="module")
def features() -> PairFeatures:
    return PairFeatures(SiftExtractor(SiftConfig(max_keypoints=500)))


def superglue_line(scene: SyntheticScene, name0: str, name1: str, rotation: int = 0) -> str:
    focal, cx, cy = scene.camera.params
    K = [focal, 0, cx - 0.5, 0, focal, cy - 0.5, 0, 0, 1]
    T = scene.cam_from_world_from_name[name1] @ scene.cam_from_world_from_name[name0].inverse()
    return " ".join(map(str, [name0, name1, rotation, 0, *K, *K, *T.as_matrix().ravel()]))


def load_benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("matching_benchmark", ROOT / "benchmarks" / "matching.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_overlap_falls_with_the_distance_on_the_arc(sequence: Path) -> None:
    pairs = {(p.path0.name, p.path1.name): p.overlap for p in depth_pairs(sequence, "all", (0.0, 1.0), 1000)}
    assert len(pairs) == 15
    near, far = pairs["view_00.jpg", "view_01.jpg"], pairs["view_00.jpg", "view_05.jpg"]
    assert 0 < far < near <= 1
    some = depth_pairs(sequence, "some", ((near + far) / 2, 1.0), 1000)
    assert 0 < len(some) < 15
    assert all((near + far) / 2 <= pair.overlap <= 1 for pair in some)
    assert len(depth_pairs(sequence, "few", (0.0, 1.0), 4)) == 4


def test_matches_that_are_correct_by_depth_are_correct_by_epipolar_error(
    sequence: Path, features: PairFeatures
) -> None:
    """Depth is the stricter criterion."""
    (pair, *_) = depth_pairs(sequence, "all", (0.5, 1.0), 1000)
    both = features.for_pair(pair)
    matches = NearestMatcher().match(*both)
    known, correct = classify_matches(matches, both, pair, 1600)
    assert known.mean() > 0.8
    assert correct[known].mean() > 0.85
    classified, epipolar = classify_matches(matches, both, replace(pair, depth0=None), 1600)
    assert classified.all()
    assert epipolar[known & correct].mean() > 0.95


def test_shifted_matches_are_wrong(sequence: Path, features: PairFeatures) -> None:
    (pair, *_) = depth_pairs(sequence, "all", (0.5, 1.0), 1000)
    both = features.for_pair(pair)
    n = min(map(len, both))
    generator = np.random.default_rng(0)
    random = np.stack([generator.permutation(n), generator.permutation(n)], axis=1).astype(np.int32)
    known, correct = classify_matches(Matches(random, np.ones(n, np.float32)), both, pair, 1600)
    assert correct[known].mean() < 0.05


def test_pose_of_a_pair_is_compared(sequence: Path, features: PairFeatures) -> None:
    (pair, *_) = depth_pairs(sequence, "all", (0.5, 1.0), 1000)
    outcome = evaluate_pair(NearestMatcher(), features.for_pair(pair), pair, 1600)
    assert outcome.pose_error_deg is not None and outcome.pose_error_deg < 2
    assert outcome.match_ms > 0
    assert pair.cam1_from_cam0 is not None
    wrong = replace(pair, cam1_from_cam0=pair.cam1_from_cam0 @ Rigid3.from_rotvec(np.array([0, 0.5, 0]), np.zeros(3)))
    turned = evaluate_pair(NearestMatcher(), features.for_pair(pair), wrong, 1600)
    assert turned.pose_error_deg is not None and turned.pose_error_deg > 20
    assert turned.num_correct < outcome.num_correct / 2


def test_pairs_of_a_scene_are_limited_by_rotation(small_scene_dir: Path) -> None:
    scene = read_scene(small_scene_dir)
    counts = [len(scene_pairs(scene, "scene", degrees)) for degrees in (1, 12, 180)]
    assert 0 == counts[0] < counts[1] < counts[2] == 15


def test_homographies_are_in_colmap_pixels(tmp_path: Path, small_scene: SyntheticScene) -> None:
    """img2 is img1 at half its size; a scale, unlike a shift, depends on the pixel convention."""
    pixels = small_scene.images["view_00.jpg"]
    PilImage.fromarray(pixels).save(tmp_path / "img1.png")
    PilImage.fromarray(pixels).resize((240, 180), PilImage.Resampling.BOX).save(tmp_path / "img2.png")
    np.savetxt(tmp_path / "H1to2p", [[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
    (pair,) = homography_pairs(tmp_path, "box")
    assert pair.group == "box 1-2"
    assert pair.H is not None and np.allclose(pair.H, np.diag([0.5, 0.5, 1]))
    outcome = evaluate_pair(NearestMatcher(), PairFeatures(SiftExtractor()).for_pair(pair), pair, 1600)
    assert outcome.pose_error_deg is None
    assert outcome.num_correct / outcome.num_matches > 0.9
    (tmp_path / "img2.png").unlink()
    with pytest.raises(DataError, match="img2"):
        homography_pairs(tmp_path, "box")


def test_superglue_lists_are_read(small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(superglue_line(small_scene, "view_00.jpg", "view_02.jpg") + "\n\n# a comment\n")
    (pair,) = read_pair_list(path, small_scene_dir / "images")
    (same, *_) = [
        other
        for other in scene_pairs(read_scene(small_scene_dir), "scene")
        if (other.path0.name, other.path1.name) == ("view_00.jpg", "view_02.jpg")
    ]
    assert pair.cam1_from_cam0 is not None and same.cam1_from_cam0 is not None
    assert np.allclose(pair.cam1_from_cam0.as_matrix(), same.cam1_from_cam0.as_matrix())
    assert pair.camera0 is not None
    focal, cx, cy = small_scene.camera.params
    assert np.allclose(pair.camera0.params, (focal, focal, cx, cy))
    for line, message in (("a b 0 0 1 2 3", "pairs.txt:1: expected"), ("a b", "K0, K1 or T_0to1 is missing")):
        path.write_text(line)
        with pytest.raises(DataError, match=message):
            read_pair_list(path, small_scene_dir / "images")
    path.write_text(superglue_line(small_scene, "view_00.jpg", "view_02.jpg", rotation=1))
    (turned,) = read_pair_list(path, small_scene_dir / "images")
    assert (pair.quarter_turns, turned.quarter_turns) == ((None, None), (3, None))  # clockwise, unlike in the list
    assert turned.camera0 == pair.camera0


def test_summary_counts_failures() -> None:
    outcomes = [
        PairOutcome(10, 5, 2.0, 1.0, 3),
        PairOutcome(0, 0, np.inf, 3.0, 9),
        PairOutcome(10, 10, 0.0, 2.0, 3),
        PairOutcome(20, 15, np.inf, 9.0, 5),
    ]
    scores = summarize(outcomes)
    assert scores.precision == pytest.approx(30 / 40)
    assert scores.correct == pytest.approx(7.5)
    assert scores.ms == pytest.approx(2.5)
    assert scores.auc is not None and 0.3 < scores.auc[0] < 0.5
    assert scores.fraction_from_stop_layer == {3: 0.5, 5: 0.25, 9: 0.25}


def test_areas_under_the_curve_are_its_exact_integral() -> None:
    """Two of four pairs fail; the curve has the points (0, 0), (1, 1/4), (3, 1/2), and is constant afterwards."""
    errors = (3.0, np.inf, 1.0, np.inf)
    poses = summarize([PairOutcome(1, 1, error, 1.0, 0) for error in errors])
    assert poses.auc == pytest.approx((0.375, 0.4375, 0.46875)) and poses.corner_auc is None
    corners = summarize([PairOutcome(1, 1, None, 1.0, 0, error) for error in errors])
    # An error equal to the threshold is not counted, as in SuperGlue's evaluation.
    assert corners.corner_auc == pytest.approx((0.0, (0.125 + 0.5) / 3, 0.375)) and corners.auc is None
    assert (poses.num_failed, corners.num_failed) == (2, 2)


def test_each_seed_of_the_pose_counts(sequence: Path, features: PairFeatures) -> None:
    """The number of pairs and the matches do not depend on the number of seeds; the curve is over all poses."""
    pairs = depth_pairs(sequence, "all", (0.5, 1.0), 3)
    (once,) = evaluate_matcher(NearestMatcher(), pairs, features, 1600).values()
    (often,) = evaluate_matcher(NearestMatcher(), pairs, features, 1600, num_seeds=3).values()
    assert [one.pose_error_deg for one in often[::3]] == [one.pose_error_deg for one in once]
    assert len({one.pose_error_deg for one in often[:3]}) > 1
    scores, reference = summarize(often, 3), summarize(once)
    assert scores.num_pairs == reference.num_pairs == len(pairs)
    assert (scores.correct, scores.precision) == (reference.correct, reference.precision)
    failing = [PairOutcome(1, 1, error, 1.0, 0) for error in (1.0, np.inf, np.inf, 2.0, 2.0, np.inf)]
    assert (summarize(failing, 3).num_pairs, summarize(failing, 3).num_failed) == (2, 1)


def test_several_estimators_get_the_same_matches(sequence: Path, features: PairFeatures) -> None:
    (pair, *_) = depth_pairs(sequence, "all", (0.5, 1.0), 1000)
    configs = [TwoViewConfig(), TwoViewConfig(estimator="opencv-ransac")]
    outcomes = evaluate_estimators(NearestMatcher(), features.for_pair(pair), pair, 1600, configs)
    alone = [evaluate_pair(NearestMatcher(), features.for_pair(pair), pair, 1600, config) for config in configs]
    assert [one.pose_error_deg for one in outcomes] == [one.pose_error_deg for one in alone]
    assert outcomes[0].pose_error_deg != outcomes[1].pose_error_deg
    assert {one.num_correct for one in outcomes} == {alone[0].num_correct}


def test_a_true_pure_rotation_has_no_direction_to_compare(sequence: Path, features: PairFeatures) -> None:
    (pair, *_) = depth_pairs(sequence, "all", (0.5, 1.0), 1000)
    assert pair.cam1_from_cam0 is not None
    still = replace(pair, cam1_from_cam0=Rigid3(pair.cam1_from_cam0.R, np.zeros(3)), depth0=None)
    outcome = evaluate_pair(NearestMatcher(), features.for_pair(pair), still, 1600)
    assert outcome.pose_error_deg is not None and outcome.pose_error_deg < 2


def test_features_of_recently_used_images_are_kept(sequence: Path) -> None:
    class Counting:
        num_extracted = 0
        identity = Identity("counting", 1, ())

        def extract(self, image: Image) -> Features:
            self.num_extracted += 1
            empty = np.zeros((0, 2), np.float32)
            return Features(empty, np.zeros(0, np.float32), empty, image.size)

    pairs = depth_pairs(sequence, "all", (0.0, 1.0), 1000)  # in the order of their first images
    # A cache of two images keeps the first image of consecutive pairs. The second one is extracted for each pair,
    # except for the last pair.
    for max_images, num_expected in ((6, 6), (2, 5 + 15 - 1)):
        extractor = Counting()
        kept = PairFeatures(extractor, max_images)
        for pair in pairs:
            kept.for_pair(pair)
        assert extractor.num_extracted == num_expected


def test_a_subset_of_pairs_is_evenly_spaced(sequence: Path) -> None:
    pairs = depth_pairs(sequence, "all", (0.0, 1.0), 1000)
    assert evenly(pairs, None) == evenly(pairs, 15) == evenly(pairs, 99) == pairs
    some = evenly(pairs, 3)
    assert [pairs.index(pair) for pair in some] == [0, 7, 14]


def test_the_benchmark_writes_what_it_prints(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pairs.txt"
    names = small_scene.names
    path.write_text("\n".join(superglue_line(small_scene, a, b) for a, b in pairwise(names)))
    flags = ["--pairs", str(path), "--images", str(small_scene_dir / "images"), "--json", str(tmp_path / "out.json")]
    assert load_benchmark().main([*flags, "--max-keypoints", "400", "--matcher", "nearest"]) == 0
    nearest = json.loads((tmp_path / "out.json").read_text())["matchers"]["nearest"]
    assert nearest.keys() >= {"auc5", "auc10", "auc20", "correct", "precision", "ms"}
    assert nearest["auc10"] > 0.8
    assert nearest["precision"] > 0.9
    assert f"{nearest['auc10']:.3f}" in capsys.readouterr().out


def test_shared_pairs_range_from_easy_to_difficult() -> None:
    """Nearest neighbours find most matches for small changes of viewpoint and few for large ones."""
    pairs = homography_pairs(shared_data("homographies", "graf"), "graf")
    assert [pair.group for pair in pairs] == [f"graf 1-{i}" for i in range(2, 7)]
    features = PairFeatures(SiftExtractor(SiftConfig(max_keypoints=1024, max_image_size=800)))
    correct = [evaluate_pair(NearestMatcher(), features.for_pair(pair), pair, 800).num_correct for pair in pairs]
    assert correct[0] > 300 > 150 > correct[2] > correct[3] >= correct[4]
