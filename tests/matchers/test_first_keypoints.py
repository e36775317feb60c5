"""Matching in two steps: which pairs end with their first keypoints, and that the others are matched as always."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.features import best_spread
from sfm_lightglue.image_pair.config import MatchConfig
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.first_keypoints import (
    FirstKeypoints,
    FoundMatches,
    KeptRows,
    SecondStep,
    Selected,
    in_all_keypoints,
    is_settled,
    rows_to_match,
)
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
    assert found.asked0 is not None and found.asked0.sum() == LIMIT


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


def test_the_steps_are_part_of_the_identity_only_if_there_are_two(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = matcher_of(weights).identity
    assert matcher_of(weights, first_keypoints=0, enough_matches=3.0).identity == at_once
    in_steps = matcher_of(weights, first_keypoints=LIMIT).identity
    assert in_steps != at_once
    assert matcher_of(weights, first_keypoints=LIMIT, enough_matches=3.0).identity != in_steps
    assert matcher_of(weights, first_keypoints=LIMIT, min_best_score=0.3).identity != in_steps
    # A change of the second step computes only matches of two steps again.
    monkeypatch.setattr("sfm_lightglue.matchers.lightglue.TWO_STEPS_VERSION", 90_001)
    assert matcher_of(weights).identity == at_once
    assert matcher_of(weights, first_keypoints=LIMIT).identity != in_steps


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
    nums = len(features[0]), len(features[1])
    both = selected.rows, first.of(features[1]).rows
    found = in_all_keypoints(Matches(rows, np.ones(1, np.float32), 4), both, nums)
    assert found.indices.tolist() == [[selected.rows[3], first.of(features[1]).rows[5]]]
    assert found.stop_layer == 4
    assert found.asked0 is not None and np.array_equal(np.flatnonzero(found.asked0), selected.rows)
    of_all = in_all_keypoints(found, (selected.rows, np.arange(nums[1])), nums)
    assert of_all.asked0 is not None and of_all.asked1 is None


def test_the_neighbours_of_a_keypoint_are_the_nearest_first_ones(features: list[Features]) -> None:
    selected = FirstKeypoints(LIMIT).of(features[0])
    distances = np.linalg.norm(features[0].keypoints[:, None] - selected.features.keypoints, axis=2)
    nearest = np.take_along_axis(distances, selected.neighbours, axis=1)
    assert np.allclose(np.sort(nearest, axis=1), np.sort(distances, axis=1)[:, :8], atol=1e-3)
    for num in (1, 3):
        assert FirstKeypoints(num).of(features[0]).neighbours.shape == (len(features[0]), num)
    # The neighbours of many images are kept: nothing larger stays in memory with them.
    kept = selected.neighbours.base
    assert selected.neighbours.nbytes == len(features[0]) * 8 * 4
    assert kept is None or kept.nbytes == selected.neighbours.nbytes


def selected_of(num: int, num_first: int, neighbours: np.ndarray) -> Selected:
    some = Features(
        np.zeros((num_first, 2), np.float32),
        np.ones(num_first, np.float32),
        np.zeros((num_first, 4), np.float32),
        (9, 9),
    )
    return Selected(some, np.arange(num - num_first, num), neighbours)


def test_keypoints_amid_unwanted_first_ones_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the neighbours of each third of all 500 keypoints, none, one or two are wanted; wanted first ones stay."""
    monkeypatch.setattr("sfm_lightglue.matchers.first_keypoints._FEWEST_AGAIN", 128)
    neighbours = np.tile(np.arange(8), (500, 1))
    neighbours[1::3, 0], neighbours[2::3, :2] = 100, (100, 101)
    is_wanted = np.zeros(200, np.bool_)
    is_wanted[100:128] = True
    rows = rows_to_match(selected_of(500, 200, neighbours), is_wanted, np.ones(500, np.float32))
    with_two = [row for row in range(500) if row % 3 == 2]
    first_ones = [*range(400, 428)]
    expected = {*with_two, *first_ones}
    assert 128 < len(expected) < 256 == len(rows)
    assert expected <= {*rows.tolist()}
    # The number is rounded up by those with one wanted neighbour, the first of equal scores.
    others = [row for row in range(500) if row % 3 == 1 and row not in expected]
    assert [row for row in rows.tolist() if row not in expected] == others[: 256 - len(expected)]


def test_of_many_keypoints_those_with_the_most_wanted_neighbours_are_matched() -> None:
    neighbours = np.tile(np.arange(8), (3000, 1))
    is_wanted = np.zeros(640, np.bool_)
    is_wanted[:3] = is_wanted[100] = True  # three wanted neighbours, four of each second keypoint
    neighbours[::2, 7] = 100
    scores = np.linspace(0, 1, 3000).astype(np.float32)
    rows = rows_to_match(selected_of(3000, 640, neighbours), is_wanted, scores)
    assert len(rows) == 1920  # a multiple of 128, at most two thirds
    assert {*range(0, 3000, 2)} <= {*rows.tolist()}
    assert next(row for row in rows.tolist() if row % 2 and row < 2360) == 2161  # the others by their scores
    few = rows_to_match(selected_of(1100, 640, neighbours[:1100]), is_wanted, scores[:1100])
    assert len(few) == 1024
    assert len(rows_to_match(selected_of(900, 640, neighbours[:900]), is_wanted, scores[:900])) == 900


def test_wanted_first_keypoints_are_never_left_out_for_others() -> None:
    neighbours = np.tile(np.arange(8), (3000, 1))
    is_wanted = np.zeros(640, np.bool_)
    is_wanted[:8] = is_wanted[600:] = True
    neighbours[2360:] = 20  # all other keypoints are amid wanted ones, the first keypoints themselves are not
    scores = np.linspace(1, 0, 3000).astype(np.float32)
    rows = rows_to_match(selected_of(3000, 640, neighbours), is_wanted, scores)
    assert len(rows) == 1920
    assert {*range(2360, 2368), *range(2960, 3000)} <= {*rows.tolist()}


def test_all_keypoints_are_matched_if_all_first_ones_are_wanted() -> None:
    neighbours = np.tile(np.arange(8), (3000, 1))
    rows = rows_to_match(selected_of(3000, 640, neighbours), np.ones(640, np.bool_), np.ones(3000, np.float32))
    assert np.array_equal(rows, np.arange(3000))


def second_step(score: float) -> SecondStep:
    """Of 3,000 and 500 keypoints; the last 640 and 200 are the first ones, of which a wanted and an unwanted match."""
    both = tuple(selected_of(num, first, np.tile(np.arange(8), (num, 1))) for num, first in ((3000, 640), (500, 200)))
    wanted = np.zeros(640, np.bool_), np.ones(200, np.bool_)
    wanted[0][0] = True
    matches = Matches(np.array([[0, 0], [9, 9]], np.int32), np.full(2, score, np.float32))
    pair = tuple(
        Features(np.zeros((num, 2), np.float32), np.ones(num, np.float32), np.zeros((num, 4), np.float32), (9, 9))
        for num in (3000, 500)
    )
    return SecondStep.after((both[0], both[1]), FoundMatches(matches, wanted), (pair[0], pair[1]))


def test_a_first_keypoint_with_a_match_is_matched_again() -> None:
    step = second_step(0.5)
    assert {2360, 2369} <= {*step.rows[0].tolist()}
    assert len(step.rows[0]) == 3000 or len(step.rows[0]) % 128 == 0
    assert np.array_equal(step.rows[1], np.arange(500))


def test_the_matches_of_the_first_step_stay_if_the_second_one_finds_less() -> None:
    more = Matches(np.array([[3, 4]], np.int32), np.full(1, 0.8, np.float32), 7)
    step = second_step(0.5)
    kept = step.result(more)
    assert kept.indices.tolist() == [[2360, 300], [2369, 309]]
    assert kept.asked0 is not None and np.array_equal(np.flatnonzero(kept.asked0), np.arange(2360, 3000))
    assert kept.asked1 is not None and np.array_equal(np.flatnonzero(kept.asked1), np.arange(300, 500))
    found = second_step(0.1).result(more)
    assert found.indices.tolist() == [[step.rows[0][3], 4]]
    assert found.stop_layer == 7
    # What the first step asked was asked, too.
    expected = np.union1d(step.rows[0], np.arange(2360, 3000))
    assert found.asked0 is not None and np.array_equal(np.flatnonzero(found.asked0), expected)
    assert len(expected) > len(step.rows[0])
    assert found.asked1 is None


def test_without_a_wanted_keypoint_so_many_are_matched_all_the_same() -> None:
    selected = selected_of(1500, 640, np.zeros((1500, 8), int))
    rows = rows_to_match(selected, np.zeros(640, np.bool_), np.ones(1500, np.float32))
    assert rows.tolist() == [*range(1024)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_second_step_matches_what_is_near_wanted_first_ones(
    features: list[Features], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the weights of the package; also in bfloat16, whose network keeps more keypoints than it wants."""
    monkeypatch.setattr("sfm_lightglue.matchers.first_keypoints._FEWEST_AGAIN", 128)
    at_once = LightGlueMatcher(LightGlueMatcherConfig(precision=precision), "cpu")
    options = LightGlueMatcherConfig(first_keypoints=LIMIT, enough_matches=1e6, min_best_score=0.0, precision=precision)
    matcher, pair = LightGlueMatcher(options, "cpu"), (features[0], features[2])
    found, expected = matcher.match(*pair), at_once.match(*pair)
    for side in (0, 1):
        seen = np.unique(found.indices[:, side])
        assert len(seen) <= round(2 / 3 * len(pair[side])) < len(pair[side])
    assert len(found) > 0.6 * len(expected) > 20  # the images have all in common, so a third of the keypoints is missed
    assert same(matcher.match(*pair[::-1]), found.swapped())


def test_pairs_with_unequal_kept_rows_give_the_matches_of_each_alone(
    features: list[Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfm_lightglue.matchers.first_keypoints._FEWEST_AGAIN", 128)
    monkeypatch.setattr("sfm_lightglue.matchers.first_keypoints._MULTIPLE", 8)
    options = LightGlueMatcherConfig(
        first_keypoints=LIMIT, enough_matches=1e6, min_best_score=0.0, precision="float32", batch_size=4
    )
    matcher = LightGlueMatcher(options, "cpu")
    kept_rows: list[tuple[int, int]] = []
    run = LightGlueMatcher._run

    def noted(self: LightGlueMatcher, pairs: Sequence[tuple[Features, Features]], kept: Sequence[KeptRows | None]):  # type: ignore[no-untyped-def]
        kept_rows.extend((len(one[0]), len(one[1])) for one in kept if one is not None)
        return run(self, pairs, kept)

    monkeypatch.setattr(LightGlueMatcher, "_run", noted)
    planned: list[tuple[int, int]] = []
    batches = LightGlueMatcher._batches

    def planning(self: LightGlueMatcher, sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        planned.extend(sizes)
        return batches(self, sizes)

    monkeypatch.setattr(LightGlueMatcher, "_batches", planning)
    left = features[1].rows(np.sort(np.argsort(features[1].keypoints[:, 0])[:240]))
    pairs = [(features[0], features[1]), (features[2], left), (left, features[3])]
    together = matcher.match_batch(pairs)
    assert len(kept_rows) == 3 and len({*kept_rows}) > 1
    assert any(num0 != num1 for num0, num1 in kept_rows)
    assert planned == [(LIMIT, LIMIT)] * 3 + kept_rows  # batches are planned with what is matched, not with all
    for pair, found in zip(pairs, together, strict=True):
        alone, swapped = matcher.match(*pair), matcher.match(*pair[::-1]).swapped()
        assert len(found) > 10
        for other in (alone, swapped):
            assert np.array_equal(found.indices, other.indices)
            assert np.array_equal(found.asked0, other.asked0) and np.array_equal(found.asked1, other.asked1)
        for side, asked in enumerate((found.asked0, found.asked1)):
            assert asked is not None and asked.shape == (len(pair[side]),)
            assert asked[found.indices[:, side]].all() and not asked.all()


def test_without_pruning_the_second_step_matches_all_keypoints(
    features: list[Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfm_lightglue.matchers.first_keypoints._FEWEST_AGAIN", 128)
    at_once = LightGlueMatcher(LightGlueMatcherConfig(width_confidence=-1, precision="float32"), "cpu")
    options = replace(at_once.config, first_keypoints=LIMIT, enough_matches=1e6, min_best_score=0.0)
    found = LightGlueMatcher(options, "cpu").match(*features[:2])
    assert same(found, at_once.match(*features[:2]))
    assert found.asked0 is None and found.asked1 is None


def test_is_wanted_tells_which_keypoints_stay_only_to_fill_up(features: list[Features]) -> None:
    pair = features[0], features[2]
    wanted = {}
    for precision in ("float32", "bfloat16"):
        matcher = LightGlueMatcher(LightGlueMatcherConfig(precision=precision), "cpu")
        output = matcher._run([pair], [None])
        layers = torch.cat([output.num_layers0, output.num_layers1], dim=1)[0]
        wanted[precision] = torch.cat([output.is_wanted0, output.is_wanted1], dim=1)[0]
        is_left = layers == output.stop_layer[0]
        assert bool((is_left | ~wanted[precision]).all())  # what is wanted is left
        assert bool((is_left == wanted[precision]).all()) == (precision == "float32")
    assert float((wanted["float32"] == wanted["bfloat16"]).float().mean()) > 0.95


@pytest.mark.parametrize(
    "options", [{"first_keypoints": -1}, {"enough_matches": -1.0}, {"min_best_score": 1.5}, {"min_best_score": -0.1}]
)
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        LightGlueMatcherConfig(**options)  # type: ignore[arg-type]
