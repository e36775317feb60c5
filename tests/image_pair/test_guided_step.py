"""The second matching of two images along the epipolar lines of the first pose."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.match import main
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.geometry.epipolar import homogeneous
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.image_pair import matching
from sfm_lightglue.image_pair.config import MatchConfig
from sfm_lightglue.image_pair.guided_step import GuidedResult, dense_limit, extract_layers, match_along_lines
from sfm_lightglue.image_pair.matching import ImagePairResult, match_images
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.store.store import Store
from sfm_lightglue.two_view.guided_config import GuidedConfig
from sfm_lightglue.types import TwoViewGeometry
from tests.conftest import PhotoPair
from tests.helpers.pair_lists import read_lines, run, write_list


def matched(pair: PhotoPair, guided: bool | GuidedConfig, **options: Any) -> ImagePairResult:
    extractor = SiftExtractor(SiftConfig(max_keypoints=400))
    return match_images(*options.pop("images", pair.paths), extractor, NearestMatcher(), guided=guided, **options)


@pytest.fixture(scope="module")
def both(pair: PhotoPair) -> tuple[ImagePairResult, ImagePairResult]:
    return matched(pair, False), matched(pair, True)


def test_guided_matching_finds_more_inliers_and_the_pose(
    pair: PhotoPair, both: tuple[ImagePairResult, ImagePairResult]
) -> None:
    first, guided = both
    assert guided.is_guided and not first.is_guided
    assert guided.geometry.num_inliers > 1.2 * first.geometry.num_inliers
    errors = []
    for result in both:
        pose = result.relative_pose.cam1_from_cam0
        assert pose is not None
        errors.append(max(relative_pose_error_deg(pose, pair.truth)))
    assert errors[1] < max(errors[0], 0.3)


def test_everything_of_the_result_belongs_to_the_guided_matches(
    both: tuple[ImagePairResult, ImagePairResult],
) -> None:
    first, guided = both
    assert isinstance(guided.geometry, TwoViewGeometry)
    assert len(guided.geometry.inlier_mask) == len(guided.matches)
    inliers = guided.relative_pose.inliers.indices
    points0 = guided.features[0].keypoints[inliers[:, 0]]
    assert np.array_equal(points0, guided.relative_pose.keypoints0)
    for sparse, full in zip(first.features, guided.features, strict=True):
        assert np.array_equal(full.keypoints[: len(sparse)], sparse.keypoints)
        assert np.array_equal(full.scores[: len(sparse)], sparse.scores)
        assert len(full) > len(sparse) and not full.scores[len(sparse) :].any()
    values = guided.as_dict()
    assert values["guided"] == {"num_matches": len(guided.matches), "num_inliers": guided.geometry.num_inliers}
    assert values["num_points"] == len(guided.relative_pose.points) > 0.9 * guided.geometry.num_inliers
    assert values["seconds_by_stage"]["guided"] > 0 and "guided" not in first.as_dict()["seconds_by_stage"]
    assert first.as_dict()["guided"] is None
    assert "guided matches" in str(guided) and "guided" not in str(first)


def test_a_guessed_focal_length_is_matched_along_the_lines_of_f(pair: PhotoPair) -> None:
    result = matched(pair, True, images=pair.pixels)
    assert "guessed" in result.relative_pose.focal_sources
    assert result.is_guided
    assert isinstance(result.geometry, TwoViewGeometry)
    points0, points1 = (homogeneous(one) for one in (result.relative_pose.keypoints0, result.relative_pose.keypoints1))
    lines = points0 @ result.geometry.F.T
    distances = np.abs((lines * points1).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)
    assert np.median(distances) < 0.5


def test_a_focal_length_of_both_is_estimated_from_the_guided_matches(pair: PhotoPair) -> None:
    result = matched(pair, True, images=pair.pixels, same_camera=True)
    assert result.relative_pose.focal_sources == ("estimated", "estimated")
    assert result.is_guided
    truth = pair.scene.camera.params[0]
    assert result.cameras[0].params[0] == pytest.approx(truth, rel=0.05)


def test_pure_rotations_and_rejected_pairs_stay_as_they_are(pair: PhotoPair) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (360, 480, 3), dtype=np.uint8)
    for images, verdict in (((pair.paths[0], pair.paths[0]), "pure_rotation"), ((pair.paths[0], noise), "too_few")):
        plain, guided = (matched(pair, one, images=images) for one in (False, True))
        assert guided.relative_pose.verdict == verdict
        assert not guided.is_guided and guided.as_dict()["guided"] is None
        assert np.array_equal(guided.matches.indices, plain.matches.indices)


def test_fewer_inliers_keep_the_first_result(pair: PhotoPair, both: tuple[ImagePairResult, ImagePairResult]) -> None:
    result = matched(pair, GuidedConfig(max_ratio=0.05))
    assert not result.is_guided
    assert np.array_equal(result.matches.indices, both[0].matches.indices)


def test_an_uncertain_pose_searches_a_wider_band(
    pair: PhotoPair, both: tuple[ImagePairResult, ImagePairResult]
) -> None:
    """A first pose that is wrong by more than the band, and says so, finds its matches nevertheless."""
    first = both[0].relative_pose
    assert first.cam1_from_cam0 is not None and first.uncertainty is not None
    turn = Rigid3.from_rotvec(np.array([0.0, 0.0, 0.03]), np.zeros(3))
    assert isinstance(first.geometry, TwoViewGeometry)
    geometry = replace(first.geometry, cam1_from_cam0=turn @ first.cam1_from_cam0)
    extractor = SiftExtractor(SiftConfig(max_keypoints=400))
    layers = tuple(extract_layers(extractor, image, with_dense=True) for image in both[0].images)
    found: list[GuidedResult | None] = []
    for sigma in (0.0, 0.03):
        uncertainty = replace(first.uncertainty, noise_covariance=np.diag([sigma**2] * 3 + [0.0] * 3))
        wrong = replace(first, geometry=geometry, uncertainty=uncertainty)
        found.append(match_along_lines(wrong, layers, first.cameras, GuidedConfig(), None, 0, False))  # type: ignore[arg-type]
    assert found[1] is not None
    assert found[0] is None or found[0].relative_pose.num_inliers < 0.8 * found[1].relative_pose.num_inliers
    assert max(relative_pose_error_deg(found[1].relative_pose.cam1_from_cam0, pair.truth)) < 0.5  # type: ignore[arg-type]


def test_a_plane_has_certain_lines_if_it_leaves_one_pose_of_known_cameras(
    pair: PhotoPair, both: tuple[ImagePairResult, ImagePairResult]
) -> None:
    first = both[0].relative_pose
    assert isinstance(first.geometry, TwoViewGeometry)
    plane = replace(first, geometry=replace(first.geometry, kind="planar"))
    extractor = SiftExtractor(SiftConfig(max_keypoints=400))
    layers = tuple(extract_layers(extractor, image, with_dense=True) for image in both[0].images)
    guessed = tuple(replace(camera, source="guessed") for camera in first.cameras)
    for one, is_matched in (
        (plane, True),  # the guided matches are not in one plane, so the second verdict is more certain
        (replace(plane, alternative_pose=first.cam1_from_cam0), False),
        (replace(plane, cameras=guessed), False),
    ):
        found = match_along_lines(one, layers, first.cameras, GuidedConfig(), None, 0, False)  # type: ignore[arg-type]
        assert (found is not None) == is_matched
        assert found is None or found.relative_pose.verdict == "general"


def test_layers_come_from_the_store_and_plug_ins_need_not_have_them(pair: PhotoPair, tmp_path: Path) -> None:
    extractor = SiftExtractor(SiftConfig(max_keypoints=100, max_keypoints_dense=300))
    cached = CachedExtractor(extractor, Store(tmp_path))
    assert dense_limit(cached) == dense_limit(extractor) == 300
    image = Image.read(pair.paths[0])
    first = extract_layers(cached, image, with_dense=True)
    again = extract_layers(cached, image, with_dense=True)
    assert np.array_equal(first.dense.descriptors, again.dense.descriptors)
    assert cached.store.counts["dense_features"].hits == 1

    class Plain:
        identity = extractor.identity
        extract = extractor.extract

    layers = extract_layers(Plain(), image, with_dense=True)
    assert len(layers.dense) == len(layers.features) == 100


def test_options_of_guided_matching() -> None:
    assert MatchConfig.from_mapping({}).guided is None
    assert MatchConfig.from_mapping({"guided": False}).guided is None
    assert MatchConfig.from_mapping({"guided": True}).guided == GuidedConfig()
    assert MatchConfig.from_mapping({"guided": {"max_ratio": 0.7}}).guided == GuidedConfig(max_ratio=0.7)
    for wrong, message in (({"guided": 3}, "expected true, false or a table"), ({"guided": {"ratio": 1}}, "max_ratio")):
        with pytest.raises(ConfigError, match=message):
            MatchConfig.from_mapping(wrong)


def test_the_commands_match_along_lines(
    pair: PhotoPair, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--matcher", "nearest", "--max-keypoints", "400"]
    assert main([*map(str, pair.paths), *flags, "--guided", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["guided"]["num_matches"] == alone["num_matches"]
    folder, names = pair.paths[0].parent, [path.name for path in pair.paths]
    pairs, out = write_list(tmp_path, " ".join(names)), tmp_path / "results.jsonl"
    batch: Callable[..., int] = lambda *more: run(pairs, folder, "--out", str(out), *flags, *more)  # noqa: E731
    assert batch("--guided", "--quiet") == 0
    (line,) = read_lines(out)
    for name in ("cam1_from_cam0", "num_matches", "guided", "num_keypoints"):
        assert line[name] == alone[name], name
    assert batch("--quiet") == 2  # the results of other options
    assert "other options" in capsys.readouterr().err
    monkeypatch.setattr(matching, "match_along_lines", lambda *_: pytest.fail("a finished pair is not matched again"))
    assert batch("--guided", "--quiet") == 0
