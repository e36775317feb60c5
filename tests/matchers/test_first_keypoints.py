"""Matching in two steps: which pairs end with their first keypoints, and that the others are matched as always."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.features import best_spread
from sfm_lightglue.image_pair.config import MatchConfig
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.first_keypoints import FirstKeypoints, in_all_keypoints, is_settled
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from sfm_lightglue.reconstruction.config import DatabaseConfig, ReconstructConfig
from sfm_lightglue.synthetic import SyntheticScene
from sfm_lightglue.types import Features, Matches
from tests.helpers.untrained import write_lightglue

LIMIT = 150


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lightglue(tmp_path_factory.mktemp("weights") / "lightglue.safetensors")


@pytest.fixture(scope="module")
def features(small_scene: SyntheticScene) -> list[Features]:
    extractor = SiftExtractor(SiftConfig(max_keypoints=400))
    return [extractor.extract(Image.from_array(pixels)) for pixels in small_scene.images.values()]


def matcher_of(weights: Path, **options: object) -> LightGlueMatcher:
    return LightGlueMatcher(LightGlueMatcherConfig(str(weights), **options), "cpu")  # type: ignore[arg-type]


def same(one: Matches, other: Matches) -> bool:
    return np.array_equal(one.indices, other.indices) and np.array_equal(one.scores, other.scores)


def of_first(matcher: LightGlueMatcher, pair: Sequence[Features]) -> Matches:
    """What a matcher of all keypoints finds among the first ones alone, in the rows of all."""
    rows = [np.sort(best_spread(one.keypoints, one.scores, LIMIT, one.image_size)) for one in pair]
    found = matcher.match(*(one.rows(index) for one, index in zip(pair, rows, strict=True)))
    return replace(found, indices=np.stack([rows[i][found.indices[:, i]] for i in (0, 1)], axis=1).astype(np.int32))


def test_a_pair_with_enough_matches_ends_with_the_first_keypoints(weights: Path, features: list[Features]) -> None:
    expected = of_first(matcher_of(weights), features[:2])
    found = matcher_of(weights, first_keypoints=LIMIT, enough_matches=1.0).match(*features[:2])
    assert same(found, expected)
    assert 5 < len(found) <= LIMIT


def test_a_pair_without_a_good_match_ends_with_the_first_keypoints(weights: Path, features: list[Features]) -> None:
    expected = of_first(matcher_of(weights), features[:2])
    options = {"first_keypoints": LIMIT, "enough_matches": 1e6, "min_best_score": 1.0}
    assert expected.scores.max() < 1
    assert same(matcher_of(weights, **options).match(*features[:2]), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"first_keypoints": LIMIT, "enough_matches": 1e6, "min_best_score": 0.0},
        {"first_keypoints": 0},
        {"first_keypoints": None},
        {"first_keypoints": 400},
    ],
)
def test_every_other_pair_is_matched_with_all_keypoints(
    weights: Path, features: list[Features], options: dict[str, float | None]
) -> None:
    expected = matcher_of(weights).match(*features[:2])
    assert same(matcher_of(weights, **options).match(*features[:2]), expected)


def test_a_batch_gives_the_matches_of_its_pairs_alone(weights: Path, features: list[Features]) -> None:
    options = {"first_keypoints": LIMIT, "min_best_score": 0.0, "precision": "float32"}
    pairs = [(features[i], features[j]) for i in range(3) for j in range(i + 1, 4)]
    totals = sorted(of_first(matcher_of(weights), pair).scores.sum() for pair in pairs)
    options["enough_matches"] = (totals[1] + totals[2]) / 2  # two pairs need all keypoints
    one_by_one = matcher_of(weights, **options)
    together = matcher_of(weights, **options, batch_size=4).match_batch(pairs)
    alone = [one_by_one.match(*pair) for pair in pairs]
    assert [len(one) for one in together] == [len(one) for one in alone]
    assert all(np.array_equal(one.indices, other.indices) for one, other in zip(together, alone, strict=True))


def test_swapped_images_give_swapped_matches(weights: Path, features: list[Features]) -> None:
    matcher = matcher_of(weights, first_keypoints=LIMIT, enough_matches=1.0)
    assert same(matcher.match(features[1], features[0]), matcher.match(features[0], features[1]).swapped())


def test_the_steps_are_part_of_the_identity_only_if_there_are_two(weights: Path) -> None:
    at_once = matcher_of(weights).identity
    assert matcher_of(weights, first_keypoints=0, enough_matches=3.0).identity == at_once
    in_steps = matcher_of(weights, first_keypoints=LIMIT).identity
    assert in_steps != at_once
    assert matcher_of(weights, first_keypoints=LIMIT, enough_matches=3.0).identity != in_steps
    assert matcher_of(weights, first_keypoints=LIMIT, min_best_score=0.3).identity != in_steps


def test_a_reconstruction_matches_in_two_steps_and_other_jobs_at_once() -> None:
    assert ReconstructConfig().matcher.config.first_keypoints == 640
    assert ReconstructConfig.from_mapping({"matcher": {"first_keypoints": 0}}).matcher.config.first_keypoints == 0
    assert DatabaseConfig().matcher.config.first_keypoints is None
    assert MatchConfig().matcher.config.first_keypoints is None


def test_settled_are_pairs_with_enough_matches_and_pairs_without_hope() -> None:
    def matches(*scores: float) -> Matches:
        rows = np.arange(len(scores), dtype=np.int32)
        return Matches(np.stack([rows, rows], axis=1), np.array(scores, np.float32))

    assert is_settled(matches(*[0.9] * 50), 40, 0.5)
    assert not is_settled(matches(*[0.9] * 40), 40, 0.5)
    assert is_settled(matches(*[0.4] * 60), 40, 0.5)  # many, all with low scores
    assert not is_settled(matches(*[0.6] * 10, *[0.1] * 30), 40, 0.5)  # ten good ones
    assert is_settled(matches(*[0.6] * 8), 40, 0.5)  # too few
    assert is_settled(Matches.empty(), 40, 0.5)


def test_the_first_keypoints_of_an_image_are_selected_once(features: list[Features]) -> None:
    first = FirstKeypoints(LIMIT)
    selected = first.of(features[0])
    assert first.of(features[0]) is selected
    assert len(selected.features) == len(selected.rows) == LIMIT
    assert (np.diff(selected.rows) > 0).all()
    assert np.array_equal(features[0].keypoints[selected.rows], selected.features.keypoints)
    rows = np.array([[3, 5]], np.int32)
    found = in_all_keypoints(Matches(rows, np.ones(1, np.float32), 4), selected, first.of(features[1]))
    assert found.indices.tolist() == [[selected.rows[3], first.of(features[1]).rows[5]]]
    assert found.stop_layer == 4


@pytest.mark.parametrize(
    "options", [{"first_keypoints": -1}, {"enough_matches": -1.0}, {"min_best_score": 1.5}, {"min_best_score": -0.1}]
)
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        LightGlueMatcherConfig(**options)  # type: ignore[arg-type]
