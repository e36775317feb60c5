"""Pairs are matched while later images are still extracted, and the results are those of one stage after the other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError, DataError, WeightsError
from sfm_lightglue.execution.executor import Executor, ThreadExecutor
from sfm_lightglue.features import Features
from sfm_lightglue.identity import Identity
from sfm_lightglue.images.image import Image
from sfm_lightglue.pairs.pair_sets import AllPairs, IndexedPairs
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.streaming import PAIRS_PER_IMAGE, earlier_partners, extract_and_match
from sfm_lightglue.store.store import Store
from sfm_lightglue.testing.photos import textured, write_photo
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.types import ImagePair, Matches, Scene

WAIT_S = 60.0
SHORT_WAIT_S = 5.0  # in vain, where a test fails


class Rows:
    """An `Extractor` and a `Matcher` of equal rows, which list what they were given."""

    identity = Identity("rows", 1, None)

    def __init__(self, batch_size: int = 1) -> None:
        self.batch_size = batch_size
        self.extracted: list[str] = []
        self.matched = 0
        self.has_matched = threading.Event()

    def extract(self, image: Image) -> Features:
        self.extracted.append(image.name)
        keypoints = np.random.default_rng(len(image.name)).uniform(0, 48, (9, 2)).astype(np.float32)
        return Features(keypoints, np.ones(9, np.float32), np.zeros((9, 4), np.float32), (64, 48))

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        self.matched += len(pairs)
        self.has_matched.set()
        rows = np.repeat(np.arange(5, dtype=np.int32)[:, None], 2, axis=1)
        return [Matches(rows, np.ones(5, np.float32)) for _ in pairs]


class NeedsPreparation(Rows):
    """Cannot match before it was prepared, and notes what was extracted until then."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self._error = error
        self.preparations: list[str] = []
        self.is_prepared = threading.Event()

    def prepare(self) -> None:
        self.preparations.append(threading.current_thread().name)
        self.is_prepared.set()
        if self._error is not None:
            raise self._error

    def extract(self, image: Image) -> Features:
        assert self.is_prepared.wait(WAIT_S), "the matcher was not prepared while the first image was extracted"
        return super().extract(image)


class PreparedLate(Rows):
    """Is prepared after all images were extracted, and cannot match before."""

    def __init__(self, num_images: int) -> None:
        super().__init__()
        self._num_images = num_images
        self._are_extracted, self._is_prepared = threading.Event(), threading.Event()
        self.was_first = False

    def prepare(self) -> None:
        self.was_first = self._are_extracted.wait(SHORT_WAIT_S)
        self._is_prepared.set()

    def extract(self, image: Image) -> Features:
        found = super().extract(image)
        if len(self.extracted) == self._num_images:
            self._are_extracted.set()
        return found

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        self._is_prepared.wait()
        return super().match_batch(pairs)


class LastWaits(Rows):
    """The last image is extracted only after a pair was matched."""

    def __init__(self, last: str) -> None:
        super().__init__()
        self._last = last

    def extract(self, image: Image) -> Features:
        if image.name == self._last:
            assert self.has_matched.wait(WAIT_S), "no pair was matched while an image was extracted"
        return super().extract(image)


def scene_of(folder: Path, num_images: int) -> Scene:
    for number in range(num_images):
        write_photo(folder / f"{number:02d}.png", textured(64, 48, seed=number))
    return load_scene(folder)


def extracted(
    scene: Scene, rows: Rows, store: Store, executor: Executor, pairs: Sequence[ImagePair] | None = None
) -> tuple[SceneFeatures, Clock]:
    clock = Clock.for_stages(("extract", "match", "verify"))
    extractor, matcher = CachedExtractor(rows, store), CachedMatcher(rows, store)
    verifier = CachedVerifier(TwoViewConfig(), 0, store)
    pairs = AllPairs(scene.names) if pairs is None else pairs
    return extract_and_match(scene, pairs, extractor, matcher, verifier, clock, executor), clock


def test_a_pair_is_matched_while_another_image_is_extracted(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, 12)
    with Store(tmp_path / "store") as store:
        features, clock = extracted(scene, LastWaits(scene.names[-1]), store, ThreadExecutor(2))
        assert tuple(features) == scene.names
        assert all(seconds > 0 for seconds in clock.seconds.values())


def test_pairs_of_an_image_are_few_and_those_with_the_images_just_before_it(tmp_path: Path) -> None:
    scene, rows = scene_of(tmp_path, 20), Rows()
    with Store(tmp_path / "store") as store:
        features, _ = extracted(scene, rows, store, ThreadExecutor(3))
        matcher = CachedMatcher(rows, store)
        for i, j in combinations(range(20), 2):
            if matcher.has(matcher.key(features.key_of(scene.names[i]), features.key_of(scene.names[j]))):
                assert j - i <= PAIRS_PER_IMAGE
    assert 0 < rows.matched <= 20 * PAIRS_PER_IMAGE
    assert sorted(rows.extracted) == list(scene.names)


def test_only_pairs_of_the_scene_are_matched(tmp_path: Path) -> None:
    scene, rows = scene_of(tmp_path, 8), Rows()
    pairs = IndexedPairs.from_pairs(scene.names, [ImagePair(scene.names[0], scene.names[1])])
    with Store(tmp_path / "store") as store:
        extracted(scene, rows, store, ThreadExecutor(2), pairs)
    assert rows.matched == 1


def test_images_of_the_store_are_not_matched_before_their_stage(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, 8)
    with Store(tmp_path / "store") as store:
        extracted(scene, Rows(), store, ThreadExecutor(2), [])
        rows = Rows()
        extracted(scene, rows, store, ThreadExecutor(2))
    assert (rows.extracted, rows.matched) == ([], 0)


def test_the_matcher_is_prepared_once_while_images_are_extracted(tmp_path: Path) -> None:
    scene, rows = scene_of(tmp_path, 8), NeedsPreparation()
    with Store(tmp_path / "store") as store:
        extracted(scene, rows, store, ThreadExecutor(2))
        assert len(rows.preparations) == 1
        assert rows.preparations[0] != threading.current_thread().name
        assert not [each for each in threading.enumerate() if each.name in rows.preparations]
        again = NeedsPreparation()
        extracted(scene, again, store, ThreadExecutor(2))
        extracted(scene, again, store, ThreadExecutor(2), [])
    assert again.preparations == []  # the pairs may be in the store, too


def test_no_worker_waits_for_the_matcher_while_there_are_images(tmp_path: Path) -> None:
    scene, rows = scene_of(tmp_path, 12), PreparedLate(12)
    with Store(tmp_path / "store") as store:
        extracted(scene, rows, store, ThreadExecutor(2))
    assert rows.was_first


def test_pairs_of_new_images_are_matched_meanwhile_although_nothing_is_prepared(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, 12)
    with Store(tmp_path / "store") as store:
        extracted(replace(scene, images=scene.images[:2]), Rows(), store, ThreadExecutor(2), [])
        rows = Rows()
        extracted(scene, rows, store, ThreadExecutor(2))
    assert len(rows.extracted) == 10
    assert rows.matched > 0


@pytest.mark.parametrize("error", [WeightsError("other keys"), ImportError("no torch"), TypeError("another method")])
def test_a_matcher_that_cannot_be_prepared_stops_no_extraction(tmp_path: Path, error: Exception) -> None:
    scene, rows = scene_of(tmp_path, 8), NeedsPreparation(error)
    with Store(tmp_path / "store") as store:
        features, _ = extracted(scene, rows, store, ThreadExecutor(2))
    assert tuple(features) == scene.names
    assert rows.matched > 0


@pytest.mark.parametrize(("num_workers", "batch_size"), [(1, 1), (2, 16)])
def test_one_worker_and_batches_match_nothing_meanwhile(tmp_path: Path, num_workers: int, batch_size: int) -> None:
    scene, rows = scene_of(tmp_path, 8), Rows(batch_size)
    with Store(tmp_path / "store") as store:
        _, clock = extracted(scene, rows, store, ThreadExecutor(num_workers))
    assert rows.matched == 0
    assert clock.seconds["match"] == 0


def test_an_unreadable_image_is_left_out_with_its_pairs(tmp_path: Path) -> None:
    scene, rows = scene_of(tmp_path, 8), Rows()
    (tmp_path / scene.names[3]).write_bytes(b"no image")
    with Store(tmp_path / "store") as store:
        features, _ = extracted(scene, rows, store, ThreadExecutor(2))
        assert [image.name for image in features.skipped] == [scene.names[3]]
        assert len(features) == 7
        extracted(scene, rows, store, ThreadExecutor(2))
    for name in scene.names:
        (tmp_path / name).write_bytes(b"no image")
    with Store(tmp_path / "other") as store, pytest.raises(DataError, match="none of the 8 images can be decoded"):
        extracted(scene, rows, store, ThreadExecutor(2))


def test_errors_of_the_matcher_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Rows, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        raise ConfigError("other descriptors")

    monkeypatch.setattr(Rows, "match_batch", fail)
    with Store(tmp_path / "store") as store, pytest.raises(ConfigError, match="other descriptors"):
        extracted(scene_of(tmp_path, 12), Rows(), store, ThreadExecutor(2))


def test_partners_are_those_of_the_pairs_nearest_first() -> None:
    names = [f"{number:02d}" for number in range(15)]
    generator = np.random.default_rng(4)
    order = generator.permutation(names).tolist()
    chosen = [ImagePair(*pair) for pair in combinations(names, 2) if generator.uniform() < 0.3]
    some = IndexedPairs.from_pairs(names, chosen)
    for pairs in (AllPairs(names), some, list(some), AllPairs(names[:9])):
        earlier = earlier_partners(pairs, order)
        for position, name in enumerate(order):
            expected = [i for i in range(position) if ImagePair.from_names(name, order[i]) in pairs]
            assert list(earlier(position)) == expected[::-1]
