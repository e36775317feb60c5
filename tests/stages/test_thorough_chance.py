"""An image that is left over first gets its pairs matched more thoroughly, before anything is extracted for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from sfm_lightglue.extractors.sift import SiftExtractor
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.identity import Identity
from sfm_lightglue.matchers.lightglue import LightGlueMatcher
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.stages.added_pairs import AddedPairs
from sfm_lightglue.stages.pair_plan import PairPlan
from sfm_lightglue.stages.thorough_chance import THOROUGHLY, ThoroughChance
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import Features, ImagePair, Matches, Rejected, TwoViewGeometry
from tests.helpers.reconstructions import copy_scene, tree

LEFT = "left.jpg"
OTHERS = tuple(f"{number:02}.jpg" for number in range(12))

Pair = tuple[str, str]


class Keypoints:
    """Stands for the features of an image."""

    def __init__(self, name: str) -> None:
        self.name = self.digest = name

    def __len__(self) -> int:
        return 500


class FakeFeatures(dict[str, Keypoints]):
    """Stands for `SceneFeatures`."""

    def keypoints_of(self, name: str) -> Keypoints:
        return self[name]


def matches_of(num: int) -> Matches:
    rows = np.arange(num, dtype=np.int32)
    return Matches(np.stack([rows, rows], axis=1), np.ones(num, np.float32))


class FakeMatcher:
    """Stands for `ThoroughMatcher`.

    Args:
        first: numbers of quick matches of the pairs that are not settled.
        thorough: numbers of thorough matches.
    """

    identity = Identity("fake", 1, None)

    def __init__(self, first: Mapping[Pair, int], thorough: Mapping[Pair, int]) -> None:
        self._first, self._thorough = first, thorough
        self.matched: list[Pair] = []

    def unsettled(self, keypoints0: Keypoints, keypoints1: Keypoints) -> Matches | None:
        num = self._first.get((keypoints0.name, keypoints1.name))
        return None if num is None else matches_of(num)

    def match_batch(self, pairs: Sequence[tuple[Keypoints, Keypoints]]) -> list[Matches]:
        names = [(one.name, other.name) for one, other in pairs]
        self.matched += names
        return [matches_of(self._thorough.get(pair, 0)) for pair in names]


class FakeVerifier:
    """All matches of a pair are inliers, if they are ten."""

    def verify(
        self, pair: ImagePair, features: object, matches: Matches, cameras: object
    ) -> TwoViewGeometry | Rejected:
        if len(matches) < 10:
            return Rejected("too_few_inliers", len(matches))
        return TwoViewGeometry("general", np.ones(len(matches), np.bool_), Rigid3.identity(), np.eye(3))


def helped(
    folder: Path,
    matcher: FakeMatcher,
    verified: Mapping[Pair, int] | None = None,
    barred: Sequence[Pair] = (),
    allowed: Sequence[str] = OTHERS,
) -> AddedPairs:
    """What is found for one image, beside which all others are in a model."""
    inside = [ImagePair(*pair) for pair in verified or ()]
    plan = PairPlan([*(ImagePair.from_names(LEFT, other) for other in allowed), *inside])
    inliers = {ImagePair(*pair): num for pair, num in (verified or {}).items()}
    features = FakeFeatures({name: Keypoints(name) for name in (*OTHERS, LEFT)})
    with Store(folder) as store:
        pairs = plan, inliers, [ImagePair(*pair) for pair in barred]
        cameras = dict.fromkeys(features)
        chance = ThoroughChance(features, cameras, matcher, FakeVerifier(), store, *pairs)  # type: ignore[arg-type]
        return chance.help([LEFT], OTHERS)


def own(number: int) -> Pair:
    return OTHERS[number], LEFT


def test_pairs_of_the_image_that_are_not_settled_are_matched(tmp_path: Path) -> None:
    matcher = FakeMatcher({own(3): 12, own(5): 30}, {own(3): 40, own(5): 4, own(6): 99})
    added = helped(tmp_path, matcher)
    assert sorted(matcher.matched) == [own(3), own(5)]
    assert {pair: geometry.num_inliers for pair, (_, geometry) in added.pairs.items()} == {ImagePair(*own(3)): 40}
    assert added.tried == {LEFT: (THOROUGHLY,)}
    assert added.altered == {}, "the keypoints of the image stay"


def test_nothing_is_told_where_all_pairs_are_settled(tmp_path: Path) -> None:
    matcher = FakeMatcher({}, {own(1): 99})
    added = helped(tmp_path, matcher)
    assert (matcher.matched, dict(added.pairs), dict(added.tried)) == ([], {}, {})


def test_the_pairs_with_most_expected_matches_are_taken_and_they_are_few(tmp_path: Path) -> None:
    matcher = FakeMatcher({own(number): 10 + number for number in range(12)}, {})
    helped(tmp_path, matcher)
    assert sorted(matcher.matched) == [own(number) for number in range(4, 12)]


def test_pairs_of_partners_are_matched_too_if_they_were_verified(tmp_path: Path) -> None:
    verified = {own(2): 25, (OTHERS[0], OTHERS[2]): 30, (OTHERS[2], OTHERS[4]): 45, (OTHERS[6], OTHERS[7]): 20}
    first = {pair: 15 for pair in [*verified, (OTHERS[2], OTHERS[9])] if pair != own(2)}
    matcher = FakeMatcher(first, {(OTHERS[0], OTHERS[2]): 70, (OTHERS[2], OTHERS[4]): 45})
    added = helped(tmp_path, matcher, verified)
    assert sorted(matcher.matched) == [(OTHERS[0], OTHERS[2]), (OTHERS[2], OTHERS[4])]
    assert list(added.pairs) == [ImagePair(OTHERS[0], OTHERS[2])], "the other one has no more inliers than before"
    assert added.tried == {LEFT: (THOROUGHLY,)}


def test_three_partners_with_the_most_inliers_have_four_pairs_each(tmp_path: Path) -> None:
    of_image = {own(number): 20 + number for number in range(4)}
    inside = {(OTHERS[number], OTHERS[other]): 30 for number in range(4) for other in range(5, 11)}
    matcher = FakeMatcher({pair: 10 + OTHERS.index(pair[1]) for pair in inside}, {})
    helped(tmp_path, matcher, of_image | inside)
    expected = [(OTHERS[number], OTHERS[other]) for number in (1, 2, 3) for other in range(7, 11)]
    assert sorted(matcher.matched) == expected


def test_pairs_that_take_no_part_and_those_that_may_not_be_matched_stay_out(tmp_path: Path) -> None:
    matcher = FakeMatcher({own(number): 20 for number in range(4)}, {own(number): 60 for number in range(4)})
    helped(tmp_path, matcher, barred=[own(1)], allowed=OTHERS[1:3])
    assert matcher.matched == [own(2)]


def test_what_both_attempts_tried_is_told_in_their_order() -> None:
    first, second = AddedPairs(tried={"a": (THOROUGHLY,), "b": (THOROUGHLY,)}), AddedPairs(tried={"b": ("half size",)})
    assert first.joined(second).tried == {"a": (THOROUGHLY,), "b": (THOROUGHLY, "half size")}
    assert first.joined(AddedPairs()).tried == first.tried


def test_pairs_of_keypoints_that_a_later_attempt_replaces_are_dropped() -> None:
    geometry = TwoViewGeometry("general", np.ones(12, np.bool_), Rigid3.identity(), np.eye(3))
    of_left, inside, again = ImagePair("a", "left"), ImagePair("a", "b"), ImagePair("b", "left")
    first = AddedPairs({pair: (matches_of(12), geometry) for pair in (of_left, inside, again)})
    better = AddedPairs({again: (matches_of(12), geometry)}, altered={"left": "half size"})
    both = first.joined(better)
    assert both.pairs.keys() == {inside, again}
    assert both.pairs[again] is better.pairs[again]
    assert both.joined(AddedPairs()).pairs.keys() == both.joined(both).pairs.keys() == both.pairs.keys()
    assert first.joined(better.without_pairs()).pairs.keys() == first.pairs.keys()


NUM_FIRST, NUM_WRONG = 120, 15


def wrong(matches: Matches, pair: tuple[Features, Features], rng: np.random.Generator) -> Matches:
    """Matches of the first keypoints that are few and wrong, but not hopeless."""
    asked = [np.arange(len(features)) < NUM_FIRST for features in pair]
    rows = [rng.permutation(NUM_FIRST)[:NUM_WRONG] for _ in pair]
    indices = np.stack([np.sort(rows[0]), rows[1]], axis=1).astype(np.int32)
    scores = np.full(NUM_WRONG, 0.7, np.float32)
    return replace(matches, indices=indices, scores=scores, asked0=asked[0], asked1=asked[1])


@pytest.fixture
def thorough_pairs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Quick matches of the image of another size are wrong; the list tells of each thorough pair if it is one of it."""
    plain, rng, thorough = LightGlueMatcher.match_batch, np.random.default_rng(0), list[bool]()

    def match_batch(self: LightGlueMatcher, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        found = plain(self, pairs)
        is_of_it = [any(one.image_size == SIZE for one in pair) for pair in pairs]
        if self.config.first_keypoints == NUM_FIRST and self.config.enough_matches == 40:
            return [
                wrong(*each, rng) if is_it else each[0] for is_it, *each in zip(is_of_it, found, pairs, strict=True)
            ]
        thorough.extend(is_of_it)
        return found

    monkeypatch.setattr(LightGlueMatcher, "match_batch", match_batch)
    return thorough


SIZE = (476, 360)


def test_an_image_that_was_lost_by_quick_matches_is_registered_and_nothing_is_extracted(
    small_scene_dir: Path, tmp_path: Path, thorough_pairs: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_scene(small_scene_dir, tmp_path / "scene")
    path = sorted((folder / "images").iterdir())[2]
    with PIL.Image.open(path) as image:
        image.crop((0, 0, *SIZE)).save(path, exif=image.getexif(), quality=95)
    plain, extracted = SiftExtractor.detect_layers, []

    def detect_layers(self: SiftExtractor, *arguments: Any) -> Any:
        extracted.append(self.config.max_keypoints)
        return plain(self, *arguments)

    monkeypatch.setattr(SiftExtractor, "detect_layers", detect_layers)
    options = {"num_threads": 1, "matcher": {"first_keypoints": NUM_FIRST}, "extractor": {"max_keypoints": 500}}
    config = ReconstructConfig.from_mapping(options | {"density": {"level": "sparse"}, "refine": {"mode": "off"}})
    result = reconstruct(folder, tmp_path / "out", config)
    assert result.summary.num_registered == 6
    assert result.summary.images[path.name]["tried"] == [THOROUGHLY]
    assert set(extracted) == {500}, "more keypoints are not asked for"
    assert thorough_pairs == [True] * 5, "other pairs are not matched again"
    before = tree(tmp_path / "out" / "sparse")
    (tmp_path / "out" / "database.db").unlink()
    again = reconstruct(folder, tmp_path / "out", config)
    assert again.summary.cache["misses"] == 0
    assert tree(tmp_path / "out" / "sparse") == before
