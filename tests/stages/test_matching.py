"""Pairs whose results are in the store need the keypoints of their images, and nothing else."""

import hashlib
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.identity import Identity
from sfm_lightglue.pairs.pair_sets import in_blocks
from sfm_lightglue.stages import matching
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier, pair_seed
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.matching import match_pairs
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.verification import verification_identity
from sfm_lightglue.types import Camera, Features, ImagePair, Matches, Scene, SceneImage

CAMERA = Camera("PINHOLE", 640, 480, (500.0, 500.0, 320.0, 240.0), "given")
PAIR = ImagePair("a.png", "b.png")


class RowMatcher:
    """A `Matcher` of equal rows."""

    batch_size = 4
    identity = Identity("rows", 1, None)

    def match_batch(self, pairs):
        rows = np.repeat(np.arange(5, dtype=np.int32)[:, None], 2, axis=1)
        return [Matches(rows, np.ones(5, np.float32)) for _ in pairs]


class NoExtractor:
    """An `Extractor` whose results are all in the store."""

    identity = Identity("none", 1, None)


def features_of(seed):
    keypoints = np.random.default_rng(seed).uniform(0, 480, (30, 2)).astype(np.float32)
    return Features(keypoints, np.ones(30, np.float32), np.zeros((30, 4), np.float32), (640, 480))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def features(store, tmp_path):
    """Features of two images that are in the store."""
    names = PAIR.name0, PAIR.name1
    images = tuple(
        SceneImage(name, tmp_path / name, CAMERA, 0, hashlib.sha256(name.encode()).hexdigest()) for name in names
    )
    extractor = CachedExtractor(NoExtractor(), store)
    for seed, image in enumerate(images):
        extractor.save(features_of(seed), extractor.key(image.content_digest, image.quarter_turns))
    features = SceneFeatures(Scene(tmp_path, images), extractor, num_in_memory=1)
    features.extract()
    return features


def result(features, store):
    matcher, verifier = CachedMatcher(RowMatcher(), store), CachedVerifier(TwoViewConfig(), 0, store)
    (only,) = match_pairs([PAIR], features, dict.fromkeys(features, CAMERA), matcher, verifier)
    return only


def test_a_pair_of_the_store_has_the_same_result_without_features(features, store, monkeypatch):
    first = result(features, store)
    monkeypatch.setattr(CachedExtractor, "read", None)
    monkeypatch.setattr(RowMatcher, "match_batch", None)
    again = result(features, store)
    assert again.geometry == first.geometry
    assert np.array_equal(again.matches.indices, first.matches.indices)
    for seed, keypoints in enumerate(again.keypoints):
        assert np.array_equal(keypoints.keypoints, features_of(seed).keypoints)
        assert (len(keypoints), keypoints.image_size) == (30, (640, 480))
        assert keypoints.digest == features.key_of((PAIR.name0, PAIR.name1)[seed])


def test_keypoints_of_the_memory_do_not_keep_features_in_memory(features):
    assert len(features.keypoints_of(PAIR.name0)) == 30  # reads them
    kept = features.keypoints_of(PAIR.name0)
    assert not hasattr(kept, "descriptors")
    assert kept.keypoints.base is None
    assert kept.scores.base is None


def test_keys_of_pairs_are_those_of_all_parts(store):
    """Else entries of earlier runs would not be found."""
    digests, config = ("a" * 64, "b" * 64), TwoViewConfig(max_error_px=3.0)
    matcher, verifier = CachedMatcher(RowMatcher(), store), CachedVerifier(config, 7, store)
    matches_key = make_key("matches", matcher.identity, *digests)
    assert matcher.key(*digests) == matches_key
    for camera in (CAMERA, replace(CAMERA, params=(500, 500, 320, 240))):  # equal, but with another text
        upstream = (matches_key, list(digests), (CAMERA, camera))
        expected = make_key("two_view", *verification_identity(config), pair_seed(7, PAIR), *upstream)
        assert verifier.key(PAIR, digests, matches_key, (CAMERA, camera)) == expected


def test_seeds_of_pairs_stay_those_of_earlier_versions():
    for pair in (PAIR, ImagePair('a "quoted" é.png', "straße.png")):
        text = json.dumps([7, pair.name0, pair.name1])
        assert pair_seed(7, pair) == int(hashlib.sha256(text.encode()).hexdigest(), 16) & 0x7FFFFFFF


def test_batches_that_are_stored_are_tasks_together(store, monkeypatch):
    """The results, their order and the batches of the matcher are those of single tasks."""
    names = [f"{number}.png" for number in range(9)]
    features = {name: replace(features_of(seed), key=f"{seed:064x}") for seed, name in enumerate(names)}
    pairs = [ImagePair(*both) for both in itertools.combinations(names, 2)]
    in_order, sizes, tasks, done = list(in_blocks(pairs, matching.BLOCK_SIZE)), [], [], []

    class NotedMatcher(RowMatcher):
        def match_batch(self, each):
            sizes.append(len(each))
            return super().match_batch(each)

    class OneByOne:
        def map(self, function, items):
            for item in items:
                tasks.append(len(item))
                yield function(item)

    def matched(pairs):
        tasks.clear(), sizes.clear(), done.clear()
        matcher, verifier = CachedMatcher(NotedMatcher(), store), CachedVerifier(TwoViewConfig(), 0, store)
        results = match_pairs(
            pairs,
            features,
            dict.fromkeys(names, CAMERA),
            matcher,
            verifier,
            OneByOne(),
            lambda stage, num_done, num_total: done.append((num_done, num_total)),
        )
        return [each.pair for each in results]

    assert matched(in_order[4:20]) == list(in_blocks(in_order[4:20], matching.BLOCK_SIZE))
    assert (tasks, sizes) == ([1] * 4, [4] * 4)
    assert matched(pairs) == in_order
    assert sum(sizes) == 20
    assert sum(tasks) == 9
    assert matched(pairs) == in_order
    assert (tasks, sizes) == ([9], [])
    monkeypatch.setattr(matching, "_STORED_PER_TASK", 4)
    assert matched(pairs) == in_order
    assert (tasks, sizes) == ([4, 4, 1], [])
    assert done == [(number, 36) for number in range(37)]
