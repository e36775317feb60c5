"""Pictures of a result, and what its JSON says of every match."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from pipelines import match_output
from pipelines.match import main
from sfm_lightglue.drawing.match_styles import layer_colours
from sfm_lightglue.drawing.matches import INLIER_COLOUR, OUTLIER_COLOUR
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.image_pair.matching import ImagePairResult, match_images
from sfm_lightglue.image_pair.picture import PictureConfig
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.types import Rejected, TwoViewGeometry


@pytest.fixture(scope="module")
def paths(small_scene_dir: Path) -> tuple[str, str]:
    folder = small_scene_dir / "images"
    return str(folder / "view_00.jpg"), str(folder / "view_01.jpg")


@pytest.fixture(scope="module")
def extractor() -> SiftExtractor:
    return SiftExtractor(SiftConfig(max_keypoints=400))


@pytest.fixture(scope="module")
def result(paths: tuple[str, str], extractor: SiftExtractor) -> ImagePairResult:
    return match_images(*paths, extractor, NearestMatcher())


@pytest.fixture(scope="module")
def layered(paths: tuple[str, str], extractor: SiftExtractor) -> Iterator[ImagePairResult]:
    matcher = LightGlueMatcher(LightGlueMatcherConfig(width_confidence=0.5), device="cpu")
    yield match_images(*paths, extractor, matcher, with_layers=True)


def has(picture: PilImage.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(picture) == colour).all(axis=2).any())


def test_a_picture_has_inliers_and_outliers(result: ImagePairResult) -> None:
    picture = result.plot()
    assert has(picture, INLIER_COLOUR) and has(picture, OUTLIER_COLOUR)
    assert not has(result.plot(outliers=False), OUTLIER_COLOUR)
    by_score = result.plot(colour="score")
    assert not has(by_score, INLIER_COLOUR) or not has(by_score, OUTLIER_COLOUR)
    assert by_score.size == picture.size
    assert picture.height <= 800 and result.plot(height=100).height == 100


def test_a_notebook_shows_the_picture(result: ImagePairResult) -> None:
    assert result._repr_png_().startswith(b"\x89PNG")


def test_epipolar_lines_replace_the_matches(result: ImagePairResult) -> None:
    assert not has(result.plot(epipolar_lines=8), INLIER_COLOUR)


def test_layers_are_known_only_if_asked_for(result: ImagePairResult, layered: ImagePairResult) -> None:
    with pytest.raises(ConfigError, match="with_layers=True"):
        result.plot(colour="layers")
    layers = layered.layers
    assert layers is not None
    for side, num_layers in enumerate((layers.num_layers0, layers.num_layers1)):
        assert len(num_layers) == len(layered.features[side])
        assert num_layers.min() >= 1 and num_layers.max() == layers.stop_layer == layered.matches.stop_layer
        matched = num_layers[layered.matches.indices[:, side]]
        assert (matched == layers.stop_layer).all(), "a removed point has no match"
        assert (num_layers < layers.stop_layer).any(), "points were removed"
    assert layers.stop_layer <= layers.network_layers
    picture = layered.plot(colour="layers")
    assert has(picture, layer_colours(np.array([layers.stop_layer]), layers.stop_layer)[0])


def test_layers_of_swapped_images_are_swapped(layered: ImagePairResult, paths: tuple[str, str]) -> None:
    matcher = LightGlueMatcher(LightGlueMatcherConfig(width_confidence=0.5), device="cpu")
    swapped = matcher.point_layers(*layered.features[::-1])
    assert layered.layers is not None
    np.testing.assert_array_equal(swapped.num_layers0, layered.layers.num_layers1)
    np.testing.assert_array_equal(swapped.num_layers1, layered.layers.num_layers0)


@pytest.mark.parametrize("verdict", ["rejected", "pure_rotation"])
def test_a_pair_without_epipolar_lines_has_a_picture_of_its_matches(
    result: ImagePairResult, verdict: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = result.geometry
    assert isinstance(found, TwoViewGeometry)
    geometry = (
        Rejected("too_few_inliers", len(result.matches))
        if verdict == "rejected"
        else replace(found, kind="pure_rotation")
    )
    without = replace(result, relative_pose=replace(result.relative_pose, geometry=geometry))
    matches = without.plot()
    assert caplog.text == ""
    assert without.plot(epipolar_lines=3).tobytes() == matches.tobytes()
    assert "no epipolar lines" in caplog.text


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--colour", "layers", "--out", "m.png"], "--matcher"),
        (["--colour", "layers", "--out", "m.png", "--matcher", "lightglue", "--guided"], "--guided"),
        (["--colour", "score"], "--out"),
        (["--epipolar", "5"], "--show"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_before_matching(
    paths: tuple[str, str],
    tmp_path: Path,
    flags: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("images are matched")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipelines.match.match_images", fail)
    assert main([*paths, "--matcher", "nearest", *flags]) == 2
    assert named in capsys.readouterr().err


def test_wrong_options_are_errors() -> None:
    with pytest.raises(ConfigError, match="inliers, score, layers"):
        PictureConfig("depth")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="epipolar_lines"):
        PictureConfig(epipolar_lines=-1)


def test_every_match_is_in_the_json(result: ImagePairResult) -> None:
    values, matches = result.as_dict(), result.matches_as_dict()
    assert values["image_sizes"] == [[480, 360], [480, 360]] and values["stop_layer"] == 0
    assert len(matches["scores"]) == values["num_matches"] and sum(matches["inlier_mask"]) == values["num_inliers"]
    F, inlier = np.array(values["F"]), np.array(matches["inlier_mask"])
    x0, x1 = (np.c_[np.array(matches[name]), np.ones(len(inlier))] for name in ("keypoints0", "keypoints1"))
    lines = x0 @ F.T
    distances = np.abs((x1 * lines).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)
    assert np.median(distances[inlier]) < 1 < np.median(distances[~inlier])


@pytest.mark.parametrize("has_display", [False, True])
def test_show_opens_the_picture_or_tells_where_it_is(
    paths: tuple[str, str],
    tmp_path: Path,
    has_display: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(match_output, "has_display", lambda: has_display)
    monkeypatch.setattr(PilImage.Image, "show", lambda drawing, title: shown.append(title))
    flags = ["--matcher", "nearest", "--max-keypoints", "300", "--show", "--json", "--matches", "--colour", "score"]
    assert main([*paths, *flags]) == 0
    assert shown == (["view_00_view_01_matches.png"] if has_display else [])
    printed = capsys.readouterr()
    assert ("no display: the picture is view_00_view_01_matches.png" in printed.err) == (not has_display)
    values = json.loads(printed.out)
    assert len(values["matches"]["scores"]) == values["num_matches"]
    assert (tmp_path / "view_00_view_01_matches.png").is_file()
    assert json.loads((tmp_path / "view_00_view_01_matches.json").read_text())["F"] == values["F"]


@pytest.mark.parametrize("flags", [["--show"], ["--colour", "score"], ["--epipolar", "5"]])
def test_a_batch_shows_nothing(
    tmp_path: Path, paths: tuple[str, str], flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.txt").write_text("view_00.jpg view_01.jpg\n")
    shutil.copy(paths[0], tmp_path)
    assert main(["--batch", str(tmp_path / "pairs.txt"), *flags]) == 2
    assert flags[0] in capsys.readouterr().err
