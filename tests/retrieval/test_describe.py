"""Signatures of the images of a scene: laws, the store, and the vocabularies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.features import Features
from sfm_lightglue.retrieval.describe import describe_scene, scene_vectors
from sfm_lightglue.retrieval.scene_vocabulary import KIND, is_root_sift, scene_vocabulary
from sfm_lightglue.retrieval.vocabulary import NUM_LARGEST, SIFT_VOCABULARY, sift_vocabulary
from sfm_lightglue.store.store import CacheCounts, Store
from sfm_lightglue.weights.array_file import read_arrays
from sfm_lightglue.weights.lookup import find_weights
from tests.helpers.random_features import random_sift


def scene_of(num: int, num_points: int = 60) -> dict[str, Features]:
    return {f"{i:03}.jpg": random_sift(i, num_points) for i in range(num)}


def learnt_scene(num: int = 9, dimension: int = 32) -> dict[str, Features]:
    rng = np.random.default_rng(3)
    descriptors = [rng.normal(size=(60, dimension)).astype(np.float32) for _ in range(num)]
    return {
        f"{i:03}.jpg": replace(random_sift(i, 60), descriptors=one, scales=None) for i, one in enumerate(descriptors)
    }


class Counting(dict[str, Features]):
    """Features that know their keys, and count how often they are read."""

    num_reads = 0

    def __getitem__(self, name: str) -> Features:
        self.num_reads += 1
        return super().__getitem__(name)

    def key_of(self, name: str) -> str:
        return f"key of {name}"


@pytest.mark.parametrize("num", [2, 9, 300])
def test_vectors_have_length_1(num):
    similar = describe_scene(scene_of(num, 20))
    assert similar.names == tuple(sorted(scene_of(num, 1)))
    np.testing.assert_allclose(np.linalg.norm(similar.vectors, axis=1), 1, atol=1e-5)


def test_the_order_of_keypoints_does_not_matter():
    features = random_sift(0, 300)
    shuffled = features.rows(np.random.default_rng(1).permutation(300))
    one, other = (sift_vocabulary().describe(each) for each in (features, shuffled))
    assert np.abs(one.vlad.astype(int) - other.vlad).max() <= 1
    np.testing.assert_array_equal(one.largest, other.largest)


def test_the_largest_keypoints_are_compared():
    features = random_sift(0, 300)
    assert features.scales is not None
    largest = features.rows(features.scales >= np.sort(features.scales)[-NUM_LARGEST])
    vocabulary = sift_vocabulary()
    np.testing.assert_array_equal(vocabulary.describe(features).largest, vocabulary.describe(largest).largest)


def test_keypoints_of_equal_size_are_chosen_alike_in_other_views():
    features = replace(random_sift(0, 300), scales=np.ones(300, np.float32))
    moved = replace(features, keypoints=features.keypoints[::-1].copy())
    vocabulary = sift_vocabulary()
    np.testing.assert_array_equal(vocabulary.describe(features).largest, vocabulary.describe(moved).largest)


def test_the_same_place_in_other_images_is_found():
    """Each image shares a third of its features with one other image."""
    features = scene_of(12, 90)
    for i in range(0, 12, 2):
        one, other = features[f"{i:03}.jpg"], features[f"{i + 1:03}.jpg"]
        descriptors, scales = other.descriptors.copy(), other.scales.copy()
        descriptors[:30], scales[:30] = one.descriptors[:30], one.scales[:30]
        features[f"{i + 1:03}.jpg"] = replace(other, descriptors=descriptors, scales=scales)
    similar = describe_scene(features)
    for found in (similar.nearest(1)[0], replace(similar, largest=None).nearest(1)[0]):
        assert found[:, 0].tolist() == [i ^ 1 for i in range(12)]


def test_the_number_of_threads_does_not_matter(tmp_path):
    features = scene_of(40)
    with Store(tmp_path) as store:
        one = describe_scene(features, store)
    other = describe_scene(features, None, ThreadExecutor(3))
    np.testing.assert_array_equal(one.vectors, other.vectors)
    for array, same in zip(one.nearest(5), other.nearest(5), strict=True):
        np.testing.assert_array_equal(array, same)


def test_images_without_features_have_no_vector():
    features = scene_of(5) | {"empty.jpg": random_sift(0, 0)}
    assert describe_scene(features).names == tuple(sorted(scene_of(5)))
    assert describe_scene({"empty.jpg": random_sift(0, 0)}).names == ()
    assert describe_scene({}).nearest(3)[0].shape == (0, 0)


def test_an_image_that_can_no_longer_be_read_is_left_out():
    class Damaged(dict[str, Features]):
        def __getitem__(self, name: str) -> Features:
            if name == "001.jpg":
                raise DataError("001.jpg: cannot be decoded")
            return super().__getitem__(name)

    assert describe_scene(Damaged(scene_of(4))).names == ("000.jpg", "002.jpg", "003.jpg")
    assert describe_scene(Damaged(learnt_scene(4))).names == ("000.jpg", "002.jpg", "003.jpg")


def test_equal_images_have_vectors_too():
    vlads = np.repeat(np.arange(1, 9, dtype=np.int8)[None], 5, axis=0)
    np.testing.assert_allclose(np.linalg.norm(scene_vectors(vlads), axis=1), 1, atol=1e-5)


def test_progress_comes_after_each_image():
    calls = []
    describe_scene(scene_of(3), progress=lambda *call: calls.append(call))
    assert calls == [("describe", i, 3) for i in range(4)]


def test_a_second_run_reads_signatures_and_no_features(tmp_path):
    features = Counting(scene_of(6))
    with Store(tmp_path) as store:
        first = describe_scene(features, store).vectors
    features.num_reads = 0
    store = Store(tmp_path)
    second = describe_scene(features, store).vectors
    assert features.num_reads == 1  # of one image, to see what kind of features they are
    assert store.counts[KIND] == CacheCounts(hits=6)
    np.testing.assert_array_equal(first, second)


def test_a_damaged_entry_is_computed_again(tmp_path):
    with Store(tmp_path) as store:
        first = describe_scene(scene_of(6), store).vectors
    entries = sorted(path for path in (tmp_path / KIND).rglob("*") if path.is_file())
    assert entries
    for path in entries:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 3] + b"\1" * (len(data) // 3) + data[2 * (len(data) // 3) :])
    store = Store(tmp_path)
    second = describe_scene(scene_of(6), store).vectors
    assert store.counts[KIND].misses > 0
    np.testing.assert_array_equal(first, second)


def test_the_vocabulary_that_comes_with_the_package_is_the_trained_one():
    """Its digest is part of the keys of signatures."""
    path = find_weights(SIFT_VOCABULARY)
    assert path.stat().st_size < 2_000_000
    assert sift_vocabulary().words.shape == (64, 64)
    assert set(read_arrays(path)) == {"mean", "axes", "words"}
    assert sift_vocabulary().digest == DIGEST
    axes = sift_vocabulary().axes
    np.testing.assert_allclose(axes.T @ axes, np.eye(64), atol=5e-3)


DIGEST = "a63745f6a4e726c1de1e08223b56f933914f36972d19e82e70b70ef864dfd833"


def test_sift_uses_the_vocabulary_of_the_package_and_other_features_one_of_their_own():
    assert scene_vocabulary(scene_of(3)) is sift_vocabulary()
    assert is_root_sift(random_sift(0, 9).descriptors)
    assert not is_root_sift(-random_sift(0, 9).descriptors)
    assert not is_root_sift(2 * random_sift(0, 9).descriptors)
    assert not is_root_sift(random_sift(0, 9).descriptors[:, :64])
    learnt = scene_vocabulary(learnt_scene())
    assert learnt is not None and learnt.axes.shape == (32, 32)


def test_a_learnt_vocabulary_depends_on_the_features_alone(tmp_path):
    scene = learnt_scene()
    renamed = {f"z{9 - i}.jpg": one for i, one in enumerate(scene.values())}
    first = scene_vocabulary(scene)
    assert first is not None
    with Store(tmp_path) as store:
        others = [scene_vocabulary(scene, store), scene_vocabulary(scene, store), scene_vocabulary(renamed)]
    others.append(scene_vocabulary(scene, executor=ThreadExecutor(3)))
    assert {other.digest for other in others if other is not None} == {first.digest}
    fewer = scene_vocabulary(dict(list(scene.items())[:-1]))
    assert fewer is not None and fewer.digest != first.digest


def test_a_learnt_vocabulary_is_kept(tmp_path):
    features = Counting(learnt_scene())
    with Store(tmp_path) as store:
        describe_scene(features, store)
    features.num_reads = 0
    store = Store(tmp_path)
    assert len(describe_scene(features, store).vectors) == len(features)
    assert features.num_reads == 1
    assert store.counts[KIND] == CacheCounts(hits=len(features) + 1)


def test_similar_images_are_found_with_a_learnt_vocabulary(tmp_path: Path):
    features = learnt_scene(8)
    for i in range(0, 8, 2):
        one, other = features[f"{i:03}.jpg"], features[f"{i + 1:03}.jpg"]
        descriptors = np.concatenate([one.descriptors[:20], other.descriptors[20:]])
        features[f"{i + 1:03}.jpg"] = replace(other, descriptors=descriptors)
    found, _ = describe_scene(features).nearest(1)
    assert found[:, 0].tolist() == [i ^ 1 for i in range(8)]
