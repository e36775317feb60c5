"""Features and matches of keyframes are those that other jobs look for in the store."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.features import Features
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher
from sfm_lightglue.store.store import Store
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.frame_store import StoredFeatures, StoredMatches, file_in_folder
from sfm_lightglue.tracking.keyframe_images import as_jpeg, jpeg_bytes
from tests.helpers.videos import panned_images

EXTRACTOR = SiftExtractor(SiftConfig(max_keypoints=150))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three frames as JPEG files, whose pixels differ from those that were given."""
    root = tmp_path / "frames"
    root.mkdir()
    for idx, image in enumerate(panned_images(3)):
        PIL.Image.fromarray(image).save(root / f"{idx}.jpg", quality=60)
    return root


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "out")


def assert_equal(features: Features, other: Features) -> None:
    assert len(features) == len(other) > 50
    for one in dataclasses.fields(features):
        value, expected = getattr(features, one.name), getattr(other, one.name)
        assert np.array_equal(value, expected), one.name


def test_features_of_a_frame_are_those_of_its_file_under_the_key_of_other_jobs(folder: Path, store: Store) -> None:
    path = folder / "0.jpg"
    pixels = Image.read(path).rgb()
    stored = StoredFeatures(EXTRACTOR, store, file_in_folder(folder))
    features = stored.extract(Image.from_array(pixels, "0.jpg"))
    usual = CachedExtractor(EXTRACTOR, store)
    key = usual.key(Image.read(path).content_digest, 0)
    assert features.key == key and not usual.has(key), "a frame that is no keyframe is saved"
    stored.keep(features)
    found = usual.read(key)
    assert found is not None
    assert_equal(found, features)
    assert_equal(usual.compute(Image.read(path)), features)


def test_features_of_the_store_are_not_computed_again(folder: Path, store: Store) -> None:
    usual = CachedExtractor(EXTRACTOR, store).compute(Image.read(folder / "0.jpg"))

    class Broken(SiftExtractor):
        def extract(self, image: Image) -> Features:
            raise AssertionError("computed again")

    stored = StoredFeatures(Broken(EXTRACTOR.config), store, file_in_folder(folder))
    frames = {name: Image.from_array(Image.read(folder / name).rgb(), name) for name in ("0.jpg", "1.jpg")}
    assert_equal(stored.extract(frames["0.jpg"]), usual)
    with pytest.raises(AssertionError, match="computed again"):
        stored.extract(frames["1.jpg"])


def test_features_of_a_video_are_those_of_the_image_that_is_written(tmp_path: Path, store: Store) -> None:
    pixels = panned_images(1)[0]
    for name, image in (("colour.jpg", pixels), ("grey.jpg", np.ascontiguousarray(pixels[..., 1]))):
        (tmp_path / name).write_bytes(jpeg_bytes(image))
        features = StoredFeatures(EXTRACTOR, store, as_jpeg).extract(Image.from_array(image, name))
        assert_equal(features, CachedExtractor(EXTRACTOR, store).compute(Image.read(tmp_path / name)))


def test_a_frame_whose_file_is_gone_keeps_its_pixels(tmp_path: Path, store: Store) -> None:
    image = Image.from_array(panned_images(1)[0], "gone.jpg")
    features = StoredFeatures(EXTRACTOR, store, file_in_folder(tmp_path)).extract(image)
    assert_equal(dataclasses.replace(features, key=""), EXTRACTOR.extract(image))


def test_matches_of_keyframes_are_saved_if_both_sides_are_features_of_the_extractor(folder: Path, store: Store) -> None:
    stored = StoredFeatures(EXTRACTOR, store, file_in_folder(folder))
    first, second = (
        stored.extract(Image.from_array(Image.read(folder / name).rgb(), name)) for name in ("0.jpg", "1.jpg")
    )
    matcher, usual = StoredMatches(NearestMatcher(), store), CachedMatcher(NearestMatcher(), store)
    (found,) = matcher.match_batch([(first, second)])
    assert np.array_equal(matcher.match(first, second).indices, found.indices)
    assert not usual.has(usual.key(first.digest, second.digest)), "matches of frames are saved"
    matcher.match_keyframes(first, second)
    saved = usual.load(first, second)
    assert saved is not None and len(found) > 20
    assert np.array_equal(saved.indices, found.indices)
    without_key = dataclasses.replace(second, key="")
    assert np.array_equal(matcher.match_keyframes(first, without_key).indices, found.indices)
    assert not usual.has(usual.key(first.digest, without_key.digest)), "matches of altered features are saved"


def test_a_reconstruction_has_the_keys_of_the_tracker_with_the_options_that_the_guide_names() -> None:
    options = {
        "extractor": {"max_keypoints": 1024, "contrast_threshold": 0.01},
        "matcher": {"first_keypoints": 0},
    }
    for given, is_equal in ((options, True), ({}, False)):
        tracker, other = TrackerConfig(), ReconstructConfig.from_mapping(given)
        for registry, table in ((EXTRACTORS, "extractor"), (MATCHERS, "matcher")):
            identities = [registry.build(getattr(one, table), "cpu").identity for one in (tracker, other)]
            assert (identities[0] == identities[1]) == is_equal, table
