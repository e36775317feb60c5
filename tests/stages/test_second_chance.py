"""Images that no model has are matched once more; what helps is kept, and what was tried is told."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.reconstruction.second_chance import left_over
from sfm_lightglue.stages.added_pairs import AddedPairs, decode_added, encode_added, with_added_kept
from sfm_lightglue.stages.hard_pairs import ATTEMPTS
from sfm_lightglue.stages.second_chance import SecondChanceConfig
from sfm_lightglue.types import Features, ImagePair, Matches, TwoViewGeometry
from tests.helpers.judged_models import record, weighed_pairs
from tests.helpers.reconstructions import copy_scene, one_thread, tree

ANGLE_DEG = 45


def quick(**second_chance: int) -> ReconstructConfig:
    """Few keypoints and one partner of an image, and nothing after mapping, to keep tests fast."""
    return one_thread(
        second_chance={"num_partners": 1, **second_chance},
        extractor={"max_keypoints": 512},
        density={"level": "sparse"},
        refine={"mode": "off"},
    )


@pytest.fixture
def scene_dir(small_scene_dir: Path, tmp_path: Path) -> Path:
    """The small scene, with its third image taken by a camera that was turned by 45 degrees."""
    folder = copy_scene(small_scene_dir, tmp_path / "scene")
    path = sorted((folder / "images").iterdir())[2]
    with PIL.Image.open(path) as image:
        exif = image.getexif()
        turned = image.convert("RGB").rotate(ANGLE_DEG, PIL.Image.Resampling.BICUBIC)
    turned.save(path, exif=exif, quality=95)
    return folder


@pytest.fixture
def name(scene_dir: Path) -> str:
    return sorted((scene_dir / "images").iterdir())[2].name


@pytest.fixture
def upright_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The turned image, which has dark corners, matches only in copies that were turned, which are square."""
    original = NearestMatcher.match_batch

    def is_turned(features: Features) -> bool:
        width, height = features.image_size
        from_corner = np.abs(features.keypoints - (width, height)).sum(axis=1)
        return width > height and bool((from_corner > width / 4).all())

    def match_batch(self: NearestMatcher, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        found = original(self, pairs)
        return [
            Matches.empty() if any(map(is_turned, pair)) else matches
            for pair, matches in zip(pairs, found, strict=True)
        ]

    monkeypatch.setattr(NearestMatcher, "match_batch", match_batch)


@pytest.mark.usefixtures("upright_only")
def test_a_turned_image_is_registered_and_a_second_run_computes_nothing(
    scene_dir: Path, name: str, tmp_path: Path
) -> None:
    result = reconstruct(scene_dir, tmp_path / "out", quick())
    image = result.summary.images[name]
    assert image["status"] == "registered"
    assert image["tried"][-1].startswith("turned by ")
    assert all(not one["tried"] for other, one in result.summary.images.items() if other != name)
    before = tree(tmp_path / "out" / "sparse")
    (tmp_path / "out" / "database.db").unlink()
    again = reconstruct(scene_dir, tmp_path / "out", quick())
    assert again.summary.cache["misses"] == 0
    assert again.summary.images[name] == image
    assert tree(tmp_path / "out" / "sparse") == before


@pytest.mark.usefixtures("upright_only")
def test_without_a_second_chance_it_is_left_out(scene_dir: Path, name: str, tmp_path: Path) -> None:
    result = reconstruct(scene_dir, tmp_path / "out", quick(max_images=0))
    assert result.summary.images[name]["status"] == "left_out"
    assert result.summary.images[name]["tried"] == []


def test_an_image_of_another_place_is_not_registered_and_told(
    small_scene_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copy_scene(small_scene_dir, tmp_path / "scene")
    noise = np.random.default_rng(0).integers(0, 256, (45, 60, 3), np.uint8)
    PIL.Image.fromarray(noise).resize((480, 360), PIL.Image.Resampling.BICUBIC).save(folder / "images" / "other.jpg")
    with caplog.at_level(logging.WARNING):
        result = reconstruct(folder, tmp_path / "out", quick())
    image = result.summary.images["other.jpg"]
    assert image["status"] == "left_out"
    assert image["tried"] == [*(one.text for one in ATTEMPTS[:-1]), "another extractor (not installed)"]
    assert "not registered, also after a second chance: other.jpg; tried: more keypoints, half size" in caplog.text
    assert result.summary.num_registered == 6


def test_a_scene_without_images_left_over_asks_for_nothing(
    small_scene_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sfm_lightglue.reconstruction.second_chance import SecondLook

    def refuse(self: SecondLook) -> None:
        raise AssertionError("nothing is to be tried")

    monkeypatch.setattr(SecondLook, "_hard_pairs", refuse)
    assert reconstruct(small_scene_dir, tmp_path / "out", quick()).summary.num_registered == 6


def test_nothing_added_is_nothing_after_reading_it_back() -> None:
    added = AddedPairs({}, {"a.jpg": ("half size",)}, ("a note",))
    again = decode_added(encode_added(added))
    assert (again.pairs, again.tried, again.notes) == ({}, {"a.jpg": ("half size",)}, ("a note",))


@pytest.mark.parametrize("values", [{"max_images": -1}, {"num_partners": 0}, {"max_pairs_between": -1}])
def test_impossible_limits_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="second_chance"):
        SecondChanceConfig(**values)


def test_a_pair_is_the_same_after_reading_it_back(pair) -> None:
    from sfm_lightglue.image_pair.matching import match_images

    result = match_images(*pair.paths, matcher="nearest")
    added = AddedPairs({ImagePair("a", "b"): (result.matches, result.relative_pose.geometry)})
    ((found, geometry),) = decode_added(encode_added(added)).pairs.values()
    assert np.array_equal(found.indices, result.matches.indices)
    assert geometry.num_inliers == result.relative_pose.geometry.num_inliers
    assert np.array_equal(geometry.E, result.relative_pose.geometry.E)


def test_which_keypoints_were_asked_is_the_same_after_reading_it_back() -> None:
    asked = np.array([True, False, True, True]), np.array([True, True, False])
    matches = Matches(np.array([[0, 1], [2, 0]], np.int32), np.ones(2, np.float32), asked0=asked[0], asked1=asked[1])
    geometry = TwoViewGeometry("general", np.ones(2, np.bool_), Rigid3.identity(), np.eye(3))
    added = AddedPairs({ImagePair("a", "b"): (matches, geometry)})
    ((found, _),) = decode_added(encode_added(added)).pairs.values()
    assert found.asked0 is not None and found.asked1 is not None
    assert found.asked0.tolist() == asked[0].tolist()
    assert found.asked1.tolist() == asked[1].tolist()


class CountedFeatures(dict[str, None]):
    """Names of images, each with 100 keypoints."""

    num_keypoints_from_name = dict.fromkeys(("a", "b", "c", "d"), 100)


def test_among_twins_only_images_that_were_kept_apart_get_no_second_chance() -> None:
    features = CountedFeatures.fromkeys("abcd")
    pairs = weighed_pairs({("a", "b"): record()})
    apart = replace(pairs, apart={ImagePair("c", "d"): record()})
    assert left_over(features, [], pairs) == ["a", "b", "c", "d"]
    assert left_over(features, [], apart) == ["a", "b", "c", "d"]
    assert left_over(features, [], replace(apart, has_twins=True)) == ["a", "b"]


def test_pairs_that_tell_how_models_lie_take_part_although_they_were_kept_apart() -> None:
    joining, other = ImagePair("a", "c"), ImagePair("b", "c")
    pairs = replace(weighed_pairs({("a", "b"): record()}), apart={joining: record(), other: record()})
    added = AddedPairs(joining=frozenset({joining}))
    found = with_added_kept(pairs, added)
    assert (set(found.kept), set(found.apart)) == ({ImagePair("a", "b"), joining}, {other})
    assert found.joined == {joining}
    assert with_added_kept(pairs, added.without_pairs()).joined == frozenset()
    assert decode_added(encode_added(added)).joining == {joining}
    assert AddedPairs().joined(added).joining == {joining}
    contradicted = replace(pairs, apart={}, contradicted={joining: record()})
    assert with_added_kept(contradicted, added).contradicted == {}
