"""Scenes with twins: when there are some, and how sure pairs settle others; and the test for the order of a way."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import rankdata

from sfm_lightglue.lookalikes import probability, twins
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.name_order import is_a_way, ranks_of
from sfm_lightglue.lookalikes.probability import OverlapModel, scene_probabilities
from sfm_lightglue.lookalikes.tracks import PairTracks
from sfm_lightglue.lookalikes.twins import closed_triplets, has_lone_surroundings, has_twins, logits_among_twins
from sfm_lightglue.lookalikes.views import PairView
from tests.helpers.lookalike_views import Walk

NO_WRONG = np.zeros(3, np.bool_)


def triplet() -> PairTracks:
    """Three images that see the same points, with the pairs 0-1, 0-2 and 1-2."""
    walk = Walk([0, 60, 120])
    return PairTracks(walk.images, [walk.pair(*ends) for ends in combinations(range(3), 2)])


def cues(conflict: float = np.nan, step: float = np.nan, rarity: float = 0.3) -> PairCues:
    return PairCues(same_view_conflict=conflict, order_step=step, track_rarity=rarity)


def test_a_scene_has_twins_if_pairs_that_look_true_are_in_conflict() -> None:
    pairs = [cues(2.0), cues(2.0), cues(2.0), cues(-1.0), cues()]
    assert has_twins(pairs, np.array([1.0, 2.0, 2.0, 3.0, 3.0]))
    assert not has_twins(pairs, np.array([-1.0, 2.0, 2.0, 3.0, 3.0]))
    assert not has_twins([cues(2.0)] * 7, np.array([2.0, 2.0, 2.0, -3.0, -3.0, -3.0, -3.0]))
    assert not has_twins([], np.zeros(0))


def test_a_few_of_many_pairs_in_conflict_show_no_twins() -> None:
    few, without = [cues(2.0)] * 3, [cues(-1.0)]
    assert has_twins(few + 8 * without, np.full(11, 2.0))
    assert not has_twins(few + 12 * without, np.full(15, 2.0))


def test_two_pairs_of_a_triplet_settle_the_third_one() -> None:
    tracks, logits = triplet(), np.full(3, 2.0)
    assert closed_triplets(tracks) == [(0, 1, 2)]
    undecided = logits_among_twins(tracks, [cues(step=9), cues(step=9), cues(step=9)], logits, NO_WRONG)
    one_wrong = logits_among_twins(tracks, [cues(3.0, 9), cues(step=9), cues(step=1)], logits, NO_WRONG)
    both_true = logits_among_twins(tracks, [cues(step=1), cues(step=9), cues(step=1)], logits, NO_WRONG)
    assert one_wrong[0] < -3 < 2 < one_wrong[2]
    assert one_wrong[1] < undecided[1] < both_true[1]


def test_pairs_that_joined_twins_in_a_model_are_wrong_and_speak_against_others() -> None:
    tracks, logits = triplet(), np.full(3, 2.0)
    pairs = [cues(step=3), cues(step=3), cues(step=1)]
    before = logits_among_twins(tracks, pairs, logits, NO_WRONG)
    after = logits_among_twins(tracks, pairs, logits, np.array([True, False, False]))
    assert after[0] < -3
    assert after[1] < before[1]


def test_the_rounds_end_when_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain = twins._news
    monkeypatch.setattr(twins, "_news", lambda others: calls.append(1) or plain(others))
    tracks = triplet()
    found = logits_among_twins(tracks, [cues(step=1), cues(step=9), cues(step=1)], np.full(3, 2.0), NO_WRONG)
    assert 3 * 5 < len(calls) < 3 * 25
    assert np.isfinite(found).all()


def test_rare_points_make_a_pair_more_probable_and_an_unknown_order_all_pairs_less() -> None:
    tracks, logits = triplet(), np.full(3, 2.0)
    rare = logits_among_twins(tracks, [cues(rarity=0.2), cues(rarity=0.3), cues(rarity=0.6)], logits, NO_WRONG)
    assert rare[0] < rare[1] < rare[2]
    known = [cues(step=2, rarity=value) for value in (0.2, 0.3, 0.6)]
    assert (logits_among_twins(tracks, known, logits, NO_WRONG) > rare).all()


BEST_ENDS = [(2 * k, 2 * k + 1) for k in range(6)]
"""Pairs of two images each, that can be the best ones of both."""

OTHER_ENDS = [(2 * k + 1, 2 * k + 2) for k in range(5)] + [(0, 11)]
"""Pairs that connect these images, so that each image has two pairs."""


def logits_with_best(
    num_true: int, num_best: int, trusted: tuple[int, ...] = (), others: list[tuple[int, int]] = OTHER_ENDS
) -> tuple[np.ndarray, np.ndarray]:
    """The logits of the pairs if none of the first six is a best one, and if some are; some look true by the order.

    The fourth pair joined twins. All have rare points, but the last of the six.
    """
    walk = Walk([0] * 12)
    tracks = PairTracks(walk.images, [walk.pair(*ends) for ends in [*BEST_ENDS, *others]])
    num = len(tracks.pairs)
    rarities = [*[0.32] * 5, *[0.3] * 4, *[0.1] * 3]
    plain = [cues(step=2 if k < num_true else 9, rarity=rarities[k]) for k in range(num)]
    marked = [
        replace(each, relative_inliers=1.0 if k < num_best else 0.9, relative_matched=0.95 if k < num_best else 1.0)
        for k, each in enumerate(plain)
    ]
    masks = np.arange(num) == 3, np.isin(np.arange(num), trusted)
    before, after = (logits_among_twins(tracks, given, np.full(num, 2.0), *masks) for given in (plain, marked))
    return before, after


@pytest.mark.parametrize(
    ("num_true", "num_best", "is_raised"), [(3, 6, True), (2, 6, False), (0, 6, False), (3, 4, False)]
)
def test_the_best_pairs_of_both_images_are_true_if_many_of_them_look_true(
    num_true: int, num_best: int, is_raised: bool
) -> None:
    before, after = logits_with_best(num_true, num_best)
    raised = np.isin(np.arange(len(before)), (0, 1, 2, 4) if is_raised else ())
    assert (before[:num_true] > 0).all()
    assert (before[num_true:] < 0).all()
    assert ((after > before + 2) == raised).all(), "a pair that joined twins stays wrong"
    assert np.allclose(np.delete(after, 5)[~np.delete(raised, 5)], np.delete(before, 5)[~np.delete(raised, 5)])
    assert (before[5] < after[5] < 0) if is_raised else after[5] == before[5], "without rare points, it stays doubtful"


def test_pairs_that_the_user_trusts_do_not_tell_whether_best_pairs_are_true() -> None:
    before, after = logits_with_best(2, 6, trusted=(4, 5))
    assert np.allclose(after, before)


def test_best_pairs_count_among_images_that_pairs_connect_and_not_if_they_are_the_only_ones() -> None:
    assert (logits_with_best(3, 6)[1] > logits_with_best(3, 0)[1] + 2).sum() == 4
    apart = [ends for ends in OTHER_ENDS if ends not in {(5, 6), (0, 11)}] + [(0, 5), (6, 11)]
    assert np.allclose(*logits_with_best(3, 6, others=apart)), "three of six images and three of the others"
    without = [ends for ends in OTHER_ENDS if ends not in {(1, 2), (3, 4)}]
    assert np.allclose(*logits_with_best(3, 6, others=without)), "four of them have two pairs at both images"


@pytest.mark.parametrize("conflict", [2.0, -1.0])
def test_only_in_scenes_with_twins_triplets_count(conflict: float) -> None:
    model = OverlapModel(("matched_low",), (0.0,), (1.0,), (0.0,), 2.0, 0.6)
    found = scene_probabilities(triplet(), [cues(conflict)] * 3, model=model)
    assert found.has_twins == (conflict > 0)
    assert (found.probabilities < 0.5).all() == (conflict > 0)


BY_MATCHED = OverlapModel(("matched_low",), (0.0,), (1.0,), (1.0,), 0.0, 0.6)
"""The cue `matched_low` is the logit of a pair."""


def scores_on_a_way(steps: list[float], logits: list[float]) -> np.ndarray:
    """The scores of the pairs of six images in a row, which see the same points."""
    walk = Walk([0] * 6)
    ends = list(combinations(range(6), 2))[: len(steps)]
    pairs = [replace(cues(step=step), matched_low=logit) for step, logit in zip(steps, logits, strict=True)]
    tracks = PairTracks(walk.images, [walk.pair(*each) for each in ends])
    found = scene_probabilities(tracks, pairs, model=BY_MATCHED)
    assert not found.has_twins
    return found.probabilities


def test_neighbours_on_a_way_are_believed_though_their_cues_are_poor() -> None:
    logits = [-1.0, 2.0, -4.0, -4.0, -4.0]
    without = scores_on_a_way([np.nan] * 5, logits)
    found = scores_on_a_way([1, 2, 8, 9, 10], logits)
    assert without[0] < 0.4 < 0.8 < found[0]
    assert found[1] >= without[1] > 0.5
    np.testing.assert_allclose(found[2:], without[2:])


def test_a_pair_that_the_way_refutes_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    of_twins = np.array([-8.0, -6.0, 3.0, -1.0, -9.0])
    monkeypatch.setattr(probability, "logits_among_twins", lambda *_: of_twins)
    logits = [3.0, 3.0, -4.0, -4.0, -4.0]
    assert (scores_on_a_way([np.nan] * 5, logits)[:2] > 0.8).all()
    found = scores_on_a_way([9, 9, 1, 8, 9], logits)
    assert found[0] < 0.1 and found[1] > 0.8, "most pairs look wrong by these rules: that alone refutes none"
    assert found[2] == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert (found[3:] < 0.1).all()


def test_the_way_says_nothing_where_no_pairs_are_improbable() -> None:
    logits = [-1.0, 2.0, 2.0, -4.0, -4.0]
    np.testing.assert_allclose(scores_on_a_way([1, 2, 8, 9, 10], logits), scores_on_a_way([np.nan] * 5, logits))


@pytest.mark.parametrize("period", [100, 5])
def test_the_order_of_a_way_is_found_also_if_far_images_look_alike(period: int) -> None:
    ends = list(combinations(range(20), 2))
    pairs = [PairView(*each, np.zeros((0, 2), np.int64), 0, 0, 0, 0.9, np.eye(3)) for each in ends]
    gaps = np.array([min((j - i) % period, -(j - i) % period) for i, j in ends])
    angles_deg = 18.0 * gaps
    assert is_a_way(20, pairs, np.ones(len(pairs)), angles_deg)
    order = np.random.default_rng(1).permutation(20).tolist()
    shuffled = [
        PairView(*sorted((order[i], order[j])), np.zeros((0, 2), np.int64), 0, 0, 0, 0.9, np.eye(3)) for i, j in ends
    ]
    assert not is_a_way(20, shuffled, np.ones(len(pairs)), angles_deg)
    assert not is_a_way(5, pairs[:4], np.ones(4), angles_deg[:4])


def turned(degrees: float) -> np.ndarray:
    """A rotation about the vertical axis."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])


@pytest.mark.parametrize("angle_deg", [20.0, -40.0])
def test_neighbours_on_a_way_that_turn_back_are_no_surely_true_pair(angle_deg: float) -> None:
    """A camera walks around a tower: between two of its equal sides it seems to turn the other way."""
    walk = Walk([60 * number for number in range(6)])
    angles = [20.0, 21.0, angle_deg, 19.0, 20.0]
    pairs = [replace(walk.pair(i, i + 1), rotation=turned(angle)) for i, angle in enumerate(angles)]
    tracks = PairTracks(walk.images, pairs)
    found = logits_among_twins(tracks, [cues(step=1)] * 5, np.full(5, 2.0), np.zeros(5, np.bool_))
    assert (found[[0, 1, 3, 4]] > 2).all()
    assert (found[2] > 2) == (angle_deg > 0)


@pytest.mark.parametrize("angles", [[0.5, -0.4, 30.0, 0.3, 0.0], [20.0, 21.0, 55.0, 19.0, 20.0], [6.0, 5, -7, 6, -30]])
def test_corners_of_a_way_and_noise_take_no_evidence(angles: list[float]) -> None:
    walk = Walk([60 * number for number in range(6)])
    pairs = [replace(walk.pair(i, i + 1), rotation=turned(angle)) for i, angle in enumerate(angles)]
    found = logits_among_twins(
        PairTracks(walk.images, pairs), [cues(step=1)] * 5, np.full(5, 2.0), np.zeros(5, np.bool_)
    )
    assert (found[[0, 1, 2, 3]] > 2).all()


def test_pairs_whose_images_are_in_the_other_order_turn_alike() -> None:
    """Pairs sort names as text, `img10` before `img9`."""
    walk = Walk([60 * number for number in range(6)])
    pairs = [replace(walk.pair(i, i + 1), rotation=turned(20.0)) for i in range(5)]
    pair = pairs[2]
    pairs[2] = replace(pair, image0=3, image1=2, rows=pair.rows[:, ::-1], rotation=pair.rotation.T)
    found = logits_among_twins(
        PairTracks(walk.images, pairs), [cues(step=1)] * 5, np.full(5, 2.0), np.zeros(5, np.bool_)
    )
    assert (found > 2).all()


def rounds(num_sides: int, per_side: int = 6) -> tuple[list[PairView], list[PairCues]]:
    """Two rounds around a statue, or as many equal sides of a house as one round has; only far images look alike."""
    num, angle_deg = 12, 360.0 / (per_side * num_sides)
    no_rows = np.zeros((0, 2), np.int64)
    ahead = [PairView(i, i + 1, no_rows, 9, 9, 9, 0.9, turned(angle_deg)) for i in range(num - 1)]
    far = [PairView(i, i + per_side, no_rows, 9, 9, 9, 0.9, np.eye(3)) for i in range(num - per_side)]
    near_cues = [cues(step=1)] * len(ahead)
    return ahead + far, near_cues + [PairCues(surroundings_conflict=2.0, order_step=per_side)] * len(far)


@pytest.mark.parametrize(("num_sides", "has_lone"), [(1, False), (2, True), (4, True)])
def test_a_second_round_is_told_from_the_next_side_by_the_rotations_of_the_way(num_sides: int, has_lone: bool) -> None:
    """Leaves behind a statue are alike in no two images, and no near images have equal views."""
    pairs, found = rounds(num_sides)
    assert has_lone_surroundings(pairs, found, np.full(len(pairs), 2.0)) == has_lone


def test_surroundings_of_a_way_without_a_usual_rotation_say_nothing_across_gaps() -> None:
    pairs, found = rounds(4)
    assert not has_lone_surroundings(pairs[11:], found[11:], np.full(len(pairs) - 11, 2.0))


def test_surroundings_of_far_images_count_if_those_of_near_ones_are_like() -> None:
    pairs, found = rounds(1)
    found[:3] = [PairCues(surroundings_conflict=-1.0, order_step=1)] * 3
    assert has_lone_surroundings(pairs, found, np.full(len(pairs), 2.0))


def test_equal_values_have_the_mean_of_their_ranks() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.integers(0, 9, 30) / 7
        assert np.array_equal(ranks_of(values), rankdata(values))
