"""Both layers of features in the store: made in one pass, read apart, and made again where one is damaged."""

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.stages.into_database import extract_scene
from sfm_lightglue.store.encoding import arrays_from_dense, dense_from_arrays
from sfm_lightglue.store.store import Store
from tests.helpers.photos import textured, write_photo

IMAGE = Image.from_array(textured(320, 240))


class CountingExtractor(SiftExtractor):
    """Counts the passes over an image."""

    def __init__(self, max_keypoints=100):
        super().__init__(SiftConfig(max_keypoints=max_keypoints))
        self.num_passes = 0

    def detect_layers(self, pixels, allowed, max_keypoints):
        self.num_passes += 1
        return super().detect_layers(pixels, allowed, max_keypoints)


class WithoutDense:
    """An extractor of a plug-in that has one layer."""

    def __init__(self):
        self.wrapped = CountingExtractor()
        self.identity = self.wrapped.identity

    def extract(self, image):
        return self.wrapped.extract(image)


def files(store, kind):
    return sorted(path for path in (store.root / kind).rglob("*.npz"))


@pytest.fixture
def scene(tmp_path):
    for number in range(3):
        write_photo(tmp_path / "photos" / f"{number}.png", textured(320, 240, number))
    return load_scene(tmp_path / "photos")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def assert_same_dense(one, other):
    for name in ("keypoints", "descriptors", "scales"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("zero", "step", "image_size", "num_sparse", "key", "shrink_factor"):
        assert getattr(one, name) == getattr(other, name)


def num_places(dense):
    """A place with two orientations has two keypoints."""
    return len(np.unique(dense.keypoints, axis=0))


def test_both_layers_are_made_in_one_pass(scene, store):
    extractor = CountingExtractor()
    features = extract_scene(scene, CachedExtractor(extractor, store), ThreadExecutor(2), max_keypoints_dense=300)
    assert extractor.num_passes == 3
    assert len(files(store, "features")) == len(files(store, "dense_features")) == 3
    again = extract_scene(scene, CachedExtractor(extractor, store), max_keypoints_dense=300)
    for name in scene.names:
        dense = again.dense(name)
        assert len(again[name]) == 100
        assert 300 <= num_places(dense) <= 450
        assert dense.starts_with(features[name])
        assert_same_dense(dense, features.dense(name))
    assert extractor.num_passes == 3
    assert (store.counts["dense_features"].hits, store.counts["dense_features"].misses) == (3, 3)


def test_the_sparse_layer_of_a_store_stays_as_it_is(scene, store):
    """A run without the dense layer, then one with it: only the dense entries are written."""
    extract_scene(scene, CachedExtractor(CountingExtractor(), store))
    assert not files(store, "dense_features")
    before = [path.stat().st_mtime_ns for path in files(store, "features")]
    features = extract_scene(scene, CachedExtractor(CountingExtractor(), store), max_keypoints_dense=300)
    assert [path.stat().st_mtime_ns for path in files(store, "features")] == before
    assert 300 <= num_places(features.dense(scene.names[0])) <= 450


def test_the_dense_entries_are_not_read_for_the_sparse_layer(scene, store):
    extract_scene(scene, CachedExtractor(CountingExtractor(), store), max_keypoints_dense=300)
    for path in files(store, "dense_features"):
        path.write_bytes(b"damaged")
    extractor = CountingExtractor()
    features = extract_scene(scene, CachedExtractor(extractor, store), max_keypoints_dense=300)
    assert sum(len(features[name]) for name in scene.names) == 300
    assert extractor.num_passes == 0


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-100], lambda data: data[:2000]])
def test_a_damaged_dense_entry_is_made_again(scene, store, damage):
    name = scene.names[1]
    expected = extract_scene(scene, CachedExtractor(CountingExtractor(), store), max_keypoints_dense=300).dense(name)
    for path in files(store, "dense_features"):
        path.write_bytes(damage(path.read_bytes()))
    extractor = CountingExtractor()
    features = extract_scene(scene, CachedExtractor(extractor, store), max_keypoints_dense=300)
    assert_same_dense(features.dense(name), expected)
    assert extractor.num_passes == 1
    assert_same_dense(CachedExtractor(extractor, store).read_dense(expected.key), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_sparse": np.array(1000)},
        {"step": np.array(np.nan)},
        {"zero": np.array(300)},
        {"scales": np.full(300, np.inf, np.float32)},
        {"descriptors": np.zeros((300, 128), np.float32)},
        {"shrink_factor": np.array(np.inf)},
        {"image_size": np.array([320.0, 240.0])},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_entry_with_wrong_values_is_a_miss(store, changes):
    cached = CachedExtractor(CountingExtractor(), store)
    dense = cached.compute_dense(IMAGE, 300)[1]
    assert_same_dense(dense_from_arrays(arrays_from_dense(dense), dense.key), dense)
    store.save("dense_features", dense.key, arrays_from_dense(dense) | changes)
    assert cached.read_dense(dense.key) is None


def test_another_number_of_dense_keypoints_is_another_entry(store):
    cached = CachedExtractor(CountingExtractor(), store)
    keys = {cached.compute_dense(IMAGE, limit)[1].key for limit in (200, 300)}
    assert len(keys) == 2
    assert len(files(store, "features")) == 1


def test_the_dense_layer_starts_with_the_features_that_the_store_has(store):
    """Another device can find slightly other features; matches in the store refer to the rows of the stored ones."""
    cached = CachedExtractor(CountingExtractor(), store)
    features, expected = cached.compute_dense(IMAGE, 300)
    keypoints = features.keypoints[::-1] + np.float32(1e-3)
    other = replace(features, keypoints=keypoints, descriptors=np.ascontiguousarray(features.descriptors[::-1]))

    class OfOtherDevice(CountingExtractor):
        def extract_dense(self, image, max_keypoints):
            _, dense = super().extract_dense(image, max_keypoints)
            return other, replace(dense, keypoints=np.concatenate([keypoints, dense.keypoints[100:]]))

    found, dense = CachedExtractor(OfOtherDevice(), store).compute_dense(IMAGE, 300)
    assert found.digest == features.digest
    assert dense.starts_with(features)
    assert len(dense) >= 295  # additional ones that share a pixel with a stored one are left out
    assert (dense.unit_descriptors()[:100] * features.descriptors).sum(axis=1).min() > 0.999
    assert dense.key == expected.key


@pytest.mark.parametrize("limit", [0, 300])
def test_extractors_without_a_dense_layer_give_their_features_alone(scene, store, limit):
    extractor = WithoutDense()
    features = extract_scene(scene, CachedExtractor(extractor, store), max_keypoints_dense=limit)
    for name in scene.names:
        dense = features.dense(name)
        assert len(dense) == dense.num_sparse == 100
        assert dense.starts_with(features[name])
    extract_scene(scene, CachedExtractor(extractor, store), max_keypoints_dense=400)
    assert extractor.wrapped.num_passes == 3
