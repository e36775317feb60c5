"""What was computed once is not computed again, and what comes from the store is the same."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.identity import Identity
from sfm_lightglue.images.image import Image
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier, pair_seed
from sfm_lightglue.store.inventory import read_all_entries, take_inventory
from sfm_lightglue.store.store import Store
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.types import Camera, Features, ImagePair, Matches, Rejected, TwoViewGeometry
from tests.helpers.photos import textured, write_photo

CAMERA = Camera("PINHOLE", 640, 480, (500, 500, 320, 240))


@dataclass(frozen=True)
class FakeConfig:
    value: float = 1.0


class FakeExtractor:
    """Counts its calls; the features depend on the image alone."""

    def __init__(self, config=None, weights="", version=1, optional=True):
        self.identity = Identity("fake", version, config or FakeConfig(), weights)
        self.optional = optional
        self.num_calls = 0

    def extract(self, image):
        self.num_calls += 1
        generator = np.random.default_rng(int(image.digest[:8], 16))
        n = 20
        return Features(
            (generator.random((n, 2)) * image.size).astype(np.float32),
            generator.random(n).astype(np.float32),
            generator.random((n, 8)).astype(np.float32),
            image.size,
            np.ones(n, np.float32) if self.optional else None,
            np.zeros(n, np.float32) if self.optional else None,
            image.quarter_turns,
        )


class FakeMatcher:
    """Matches row i with row i of the shorter image; remembers how many pairs it was given at a time."""

    batch_size = 4

    def __init__(self, config=None, weights=""):
        self.identity = Identity("fake", 1, config or FakeConfig(), weights)
        self.sizes = []

    def match(self, features0, features1):
        return self.match_batch([(features0, features1)])[0]

    def match_batch(self, pairs):
        self.sizes.append(len(pairs))
        result = []
        for features0, features1 in pairs:
            rows = np.arange(min(len(features0), len(features1)), dtype=np.int32)
            scores = (features0.scores[rows] * features1.scores[rows]).astype(np.float32)
            result.append(Matches(np.stack([rows, rows], axis=1), scores, stop_layer=5))
        return result


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def image(seed=0, **options):
    return Image.from_array(textured(64, 48, seed), **options)


def features_of(seeds, extractor=None):
    return [(extractor or FakeExtractor()).extract(image(seed)) for seed in seeds]


def assert_same(a, b):
    """Equal in every field, arrays by content and type."""
    assert type(a) is type(b)
    for name in a.__dataclass_fields__:
        one, other = getattr(a, name), getattr(b, name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        elif isinstance(one, Rigid3):
            np.testing.assert_array_equal(one.as_matrix(), other.as_matrix())
        else:
            assert one == other, name


@pytest.mark.parametrize("optional", [True, False])
def test_features_are_extracted_once(store, optional):
    extractor = FakeExtractor(optional=optional)
    cached = CachedExtractor(extractor, store)
    assert cached.identity == extractor.identity
    first = cached.extract(image())
    second = cached.extract(Image.from_array(textured(64, 48), name="the same under another name"))
    assert extractor.num_calls == 1
    assert_same(first, second)
    assert_same(replace(first, key=""), extractor.extract(image()))
    assert len(first.digest) == 64
    assert first.digest == first.key


@pytest.mark.parametrize(
    ("extractor", "photo"),
    [
        (FakeExtractor(FakeConfig(2.0)), image()),
        (FakeExtractor(weights="0" * 64), image()),
        (FakeExtractor(version=2), image()),
        (FakeExtractor(), image(seed=1)),
        (FakeExtractor(), image(quarter_turns=1)),
        (FakeExtractor(), Image.from_array(textured(48, 64))),
    ],
    ids=["config", "weights", "version", "pixels", "turned", "shape"],
)
def test_whatever_features_depend_on_makes_a_miss(store, extractor, photo):
    before = CachedExtractor(FakeExtractor(), store).extract(image())
    num_calls = extractor.num_calls
    after = CachedExtractor(extractor, store).extract(photo)
    assert extractor.num_calls == num_calls + 1
    assert after.digest != before.digest


def test_a_file_told_to_stand_otherwise_is_another_image(store, tmp_path):
    data = write_photo(tmp_path / "photo.png", textured(64, 48)).read_bytes()
    found = [CachedExtractor(FakeExtractor(), store).extract(Image("photo.png", data, turns)) for turns in (0, 1)]
    assert [features.quarter_turns for features in found] == [0, 1]


def test_matches_are_computed_once(store):
    matcher = FakeMatcher()
    cached = CachedMatcher(matcher, store)
    assert (cached.identity, cached.batch_size) == (matcher.identity, 4)
    pair = features_of([0, 1])
    first, second = cached.match(*pair), cached.match(*features_of([0, 1]))
    assert matcher.sizes == [1]
    assert_same(first, second)
    assert first.stop_layer == 5
    assert_same(replace(first, key=""), FakeMatcher().match(*pair))


def test_whatever_matches_depend_on_makes_a_miss(store):
    features = features_of([0, 1, 2])
    first = CachedMatcher(FakeMatcher(), store).match(*features[:2])
    keys = {first.key}
    for matcher, pair in (
        (FakeMatcher(FakeConfig(2.0)), (0, 1)),
        (FakeMatcher(weights="0" * 64), (0, 1)),
        (FakeMatcher(), (1, 0)),
        (FakeMatcher(), (0, 2)),
    ):
        keys.add(CachedMatcher(matcher, store).match(features[pair[0]], features[pair[1]]).key)
        assert matcher.sizes == [1]
    assert len(keys) == 5


def test_of_a_batch_only_the_missing_pairs_are_computed(store):
    features = features_of(range(6))
    pairs = [(features[i], features[i + 1]) for i in range(5)]
    matcher = FakeMatcher()
    cached = CachedMatcher(matcher, store)
    cached.match(*pairs[1])
    cached.match(*pairs[3])
    found = cached.match_batch(pairs)
    assert matcher.sizes == [1, 1, 3]
    for matches, pair in zip(found, pairs, strict=True):
        assert_same(replace(matches, key=""), FakeMatcher().match(*pair))
    again = cached.match_batch(pairs)
    for one, other in zip(found, again, strict=True):
        assert_same(one, other)
    assert sum(matcher.sizes) == 5


def test_an_empty_batch_and_a_full_hit_bother_nobody(store):
    matcher = FakeMatcher()
    cached = CachedMatcher(matcher, store)
    assert cached.match_batch([]) == []
    pair = features_of([0, 1])
    cached.match(*pair)
    cached.match(*pair)
    assert sum(matcher.sizes) == 1


def test_a_pair_twice_in_a_batch_is_the_same_twice(store):
    pair = tuple(features_of([0, 1]))
    one, other = CachedMatcher(FakeMatcher(), store).match_batch([pair, pair])
    assert_same(one, other)


def test_no_matches_come_back_as_no_matches(store):
    empty = Features(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros((0, 8), np.float32), (64, 48))
    (features,) = features_of([0])
    for _ in range(2):
        matches = CachedMatcher(FakeMatcher(), store).match(empty, features)
        assert matches.indices.shape == (0, 2)
        assert matches.indices.dtype == np.int32


@pytest.fixture(scope="module")
def scene():
    """Features of two images with a common view, and their matches."""
    generator = np.random.default_rng(0)
    points = generator.uniform([-2, -1.5, 4], [2, 1.5, 8], (80, 3))
    pose = Rigid3.from_rotvec([0.02, 0.1, 0], [-0.8, 0.1, 0.1])
    rows = np.arange(len(points), dtype=np.int32)
    features = tuple(
        Features(
            np.clip(500 * seen[:, :2] / seen[:, 2:] + (320, 240), 0, (640, 480)).astype(np.float32),
            np.ones(len(points), np.float32),
            np.zeros((len(points), 2), np.float32),
            (640, 480),
        )
        for seen in (points, pose @ points)
    )
    return features, Matches(np.stack([rows, rows], axis=1), np.ones(len(points), np.float32))


PAIR = ImagePair("a.jpg", "b.jpg")


def verify(store, scene, config=None, seed=0, pair=PAIR, cameras=(CAMERA, CAMERA)):
    features, matches = scene
    return CachedVerifier(config or TwoViewConfig(), seed, store).verify(pair, features, matches, cameras)


@pytest.mark.parametrize("source", ["given", "guessed"])
def test_geometries_are_estimated_once(store, scene, monkeypatch, source):
    camera = replace(CAMERA, source=source)
    first = verify(store, scene, cameras=(camera, camera))
    assert isinstance(first, TwoViewGeometry)
    assert (first.E is None) == (source == "guessed")
    monkeypatch.setattr("sfm_lightglue.stages.cached.estimate_two_view_geometry", None)
    assert_same(first, verify(store, scene, cameras=(camera, camera)))


def test_rejections_are_remembered_too(store, scene, monkeypatch):
    config = TwoViewConfig(min_inliers=81)
    first = verify(store, scene, config)
    assert first == Rejected("too_few_matches", 80)
    monkeypatch.setattr("sfm_lightglue.stages.cached.estimate_two_view_geometry", None)
    assert verify(store, scene, config) == first


@pytest.mark.parametrize(
    "change",
    [
        {"config": TwoViewConfig(max_error_px=3.0)},
        {"seed": 1},
        {"pair": ImagePair("a.jpg", "c.jpg")},
        {"cameras": (CAMERA, replace(CAMERA, source="exif"))},
        {"cameras": (CAMERA, replace(CAMERA, params=(501, 500, 320, 240)))},
    ],
    ids=["config", "seed", "names", "source", "params"],
)
def test_whatever_a_geometry_depends_on_makes_a_miss(store, scene, change):
    verify(store, scene)
    verify(store, scene, **change)
    assert (store.counts["two_view"].hits, store.counts["two_view"].misses) == (0, 2)


def test_seeds_of_pairs():
    pairs = [ImagePair(f"{i}.jpg", f"{j}.jpg") for i in range(5) for j in range(5, 9)]
    seeds = {pair_seed(seed, pair) for seed in (0, 1) for pair in pairs}
    assert len(seeds) == 2 * len(pairs)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert pair_seed(0, PAIR) == pair_seed(0, ImagePair.from_names("b.jpg", "a.jpg"))


def only_entry(store, kind):
    """(key, arrays) of the only entry of a kind."""
    store.flush()
    (inventory,) = take_inventory(store.root, [kind])
    (entry,) = read_all_entries(inventory)
    return entry


WRONG_VALUES = [
    ("features", "keypoints", lambda array: array.astype(np.float64)),
    ("features", "keypoints", lambda array: array + 1000),
    ("features", "descriptors", lambda array: np.full_like(array, np.nan)),
    ("features", "image_size", lambda array: array.astype(np.float64)),
    ("features", "quarter_turns", lambda array: array + 7),
    ("features", "scores", None),
    ("matches", "indices", lambda array: array + 15),
    ("matches", "indices", lambda array: array - 1),
    ("matches", "indices", lambda array: np.zeros_like(array)),
    ("matches", "stop_layer", None),
    ("two_view", "inlier_mask", lambda array: array[:-1]),
    ("two_view", "cam1_from_cam0", lambda array: 2 * array),
    ("two_view", "F", lambda array: array.ravel()),
    ("two_view", "F", None),
    ("two_view", "E", lambda array: array + np.nan),
    ("two_view", "kind", lambda array: np.array("unheard-of")),
    ("two_view", "kind", lambda array: np.array("rejected")),
]


@pytest.mark.parametrize(("kind", "name", "change"), WRONG_VALUES)
def test_an_entry_with_wrong_values_is_computed_again(store, scene, caplog, kind, name, change):
    """The archive is whole and has its key, so only the values can tell."""
    pair = features_of([0, 1])

    def computed():
        if kind == "features":
            return CachedExtractor(FakeExtractor(), store).extract(image())
        return CachedMatcher(FakeMatcher(), store).match(*pair) if kind == "matches" else verify(store, scene)

    first = computed()
    key, arrays = only_entry(store, kind)
    array = arrays.pop(name)
    store.save(kind, key, arrays if change is None else arrays | {name: change(array)})
    assert_same(computed(), first)
    assert [record.getMessage().count("will be computed again") for record in caplog.records] == [1]
    caplog.clear()
    assert_same(computed(), first)
    assert not caplog.records
