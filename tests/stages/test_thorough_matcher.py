"""A thorough matcher finds what it would find alone, and computes only what a quicker one ended early."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from sfm_lightglue.stages.cached import CachedMatcher
from sfm_lightglue.stages.thorough_matcher import ThoroughMatcher
from sfm_lightglue.store.store import Store
from sfm_lightglue.synthetic import SyntheticScene
from sfm_lightglue.types import Features, Matches
from tests.helpers.untrained import write_lightglue

LIMIT = 150

Pair = tuple[Features, Features]


class Counting(LightGlueMatcher):
    """Counts the pairs that it computes."""

    def __init__(self, weights: Path, **options: float) -> None:
        config = LightGlueMatcherConfig(str(weights), first_keypoints=LIMIT, precision="float32", **options)  # type: ignore[arg-type]
        super().__init__(config, "cpu")
        self.num_computed = 0

    def match_batch(self, pairs: Sequence[Pair]) -> list[Matches]:
        self.num_computed += len(pairs)
        return super().match_batch(pairs)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lightglue(tmp_path_factory.mktemp("weights") / "lightglue.safetensors")


@pytest.fixture(scope="module")
def pairs(small_scene: SyntheticScene) -> list[Pair]:
    extractor = SiftExtractor(SiftConfig(max_keypoints=400))
    features = [extractor.extract(Image.from_array(pixels)) for pixels in small_scene.images.values()]
    few = features[0].rows(np.arange(LIMIT))
    return [(features[0], features[1]), (features[1], features[2]), (features[0], features[3]), (few, features[2])]


def equal(one: Matches, other: Matches) -> bool:
    names = ("indices", "scores", "asked0", "asked1")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.parametrize("num_open", [0, 1, 3])
def test_only_pairs_that_ended_early_are_computed(
    weights: Path, pairs: list[Pair], tmp_path: Path, num_open: int
) -> None:
    first = Counting(weights, enough_matches=0.0)  # ends all pairs with their first keypoints
    totals = sorted(found.scores.sum() for found in first.match_batch(pairs[:3]))
    enough = {0: 0.0, 1: (totals[0] + totals[1]) / 2, 3: 1e6}[num_open]
    alone = Counting(weights, enough_matches=enough, min_best_score=0.0)
    expected = alone.match_batch(pairs)
    quick = CachedMatcher(first, Store(tmp_path))
    quick.match_batch(pairs)
    again = Counting(weights, enough_matches=enough, min_best_score=0.0)
    thorough = ThoroughMatcher(again, quick)
    assert sum(thorough.unsettled(*pair) is not None for pair in pairs) == num_open
    found = thorough.match_batch(pairs)
    assert again.num_computed == num_open, "a pair of few keypoints is matched with all of them at once"
    assert all(map(equal, found, expected))
    assert thorough.identity == alone.identity != first.identity
    assert not any(one.key for one in found), "they get the key of this matcher when they are saved"


def test_pairs_that_were_matched_again_before_stay(weights: Path, pairs: list[Pair], tmp_path: Path) -> None:
    before = Counting(weights, enough_matches=1e5, min_best_score=0.0)
    quick = CachedMatcher(before, Store(tmp_path))
    expected = quick.match(*pairs[0])
    again = Counting(weights, enough_matches=1e6, min_best_score=0.0)
    assert equal(ThoroughMatcher(again, quick).match(*pairs[0]), expected)
    assert again.num_computed == 0


def test_what_the_store_lacks_is_computed(weights: Path, pairs: list[Pair], tmp_path: Path) -> None:
    quick = CachedMatcher(Counting(weights, enough_matches=0.0), Store(tmp_path))
    again = Counting(weights, enough_matches=0.0)
    assert ThoroughMatcher(again, quick).unsettled(*pairs[0]) is None, "it was not matched before"
    found = ThoroughMatcher(again, quick).match(*pairs[0])
    assert again.num_computed == 1
    assert len(found) > 0
