"""An image that is stored turned, which nothing says, and that matches others only if it is turned upright."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sfm_lightglue.execution.executor import SERIAL
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.scene.camera_assignment import CameraConfig
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.turned_images import most_turned
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import Features, Matches
from tests.helpers.reconstructions import copy_scene, one_thread

UPRIGHT_AFTER = 3
"""Clockwise quarter turns that make an image upright that was turned by one."""


@pytest.fixture
def scene_dir(small_scene_dir: Path, tmp_path: Path) -> Path:
    """The small scene, with its third image turned by a quarter, without EXIF data."""
    folder = copy_scene(small_scene_dir, tmp_path / "scene")
    path = sorted((folder / "images").iterdir())[2]
    with PIL.Image.open(path) as image:
        pixels = np.rot90(np.asarray(image.convert("RGB")), -1)
    PIL.Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def upright_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matchers for upright images: SIFT would match turned ones as well."""
    original = NearestMatcher.match_batch

    def is_upright(features: Features) -> bool:
        is_turned = features.image_size[0] < features.image_size[1]
        return features.quarter_turns == (UPRIGHT_AFTER if is_turned else 0)

    def match_batch(self: NearestMatcher, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        found = original(self, pairs)
        return [
            matches if all(map(is_upright, pair)) else Matches.empty()
            for pair, matches in zip(pairs, found, strict=True)
        ]

    monkeypatch.setattr(NearestMatcher, "match_batch", match_batch)


@pytest.mark.usefixtures("upright_only")
def test_it_is_turned_registered_and_told(scene_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = sorted((scene_dir / "images").iterdir())[2].name
    with caplog.at_level(logging.WARNING):
        result = reconstruct(scene_dir, tmp_path / "out", one_thread())
    assert result.summary.images[name]["status"] == "registered"
    assert f"{name}: matches other images only if it is turned by 270 degrees" in caplog.text
    before = (tmp_path / "out" / "sparse" / "0" / "images.bin").read_bytes()
    (tmp_path / "out" / "database.db").unlink()
    again = reconstruct(scene_dir, tmp_path / "out", one_thread())
    assert again.summary.cache["by_kind"]["models"]["hits"] == 1
    assert again.summary.cache["by_kind"]["matches"]["misses"] == 0
    assert (tmp_path / "out" / "sparse" / "0" / "images.bin").read_bytes() == before


def test_images_that_match_are_left_as_they_are(
    scene_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = reconstruct(scene_dir, tmp_path / "out", one_thread())
    assert result.summary.num_registered == result.summary.num_images
    assert "turned" not in caplog.text


def test_a_turned_image_has_its_own_entries_in_both_layers(scene_dir: Path, tmp_path: Path) -> None:
    scene = load_scene(scene_dir, CameraConfig(), [], 1)
    extractor = CachedExtractor(SiftExtractor(SiftConfig(max_keypoints=200)), Store(tmp_path / "store"))
    features = SceneFeatures(scene, extractor, max_keypoints_dense=600)
    features.extract(SERIAL)
    name = scene.images[2].name
    stored, key = features[name], features.key_of(name)
    turned = features.turned(name, UPRIGHT_AFTER)
    assert features[name] is stored
    assert (turned.quarter_turns, stored.quarter_turns) == (UPRIGHT_AFTER, 0)
    features.turn(name, UPRIGHT_AFTER)
    assert features.key_of(name) == features[name].key == turned.key != key
    assert features[name].quarter_turns == UPRIGHT_AFTER
    assert features[name].image_size == stored.image_size
    assert features.dense(name).starts_with(features[name])


def test_folders_of_unrelated_images_are_not_turned() -> None:
    assert [most_turned(num) for num in (3, 25, 26, 1000)] == [5, 5, 5, 200]
