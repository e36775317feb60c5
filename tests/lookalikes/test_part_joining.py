"""Two parts are joined by a doubtful pair only if it is clearly more probable than those that contradict it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest

from sfm_lightglue.lookalikes.config import LookalikesConfig
from sfm_lightglue.lookalikes.part_joining import with_clear_joining
from sfm_lightglue.lookalikes.parts import Parts
from sfm_lightglue.lookalikes.selection import select_pairs
from sfm_lightglue.lookalikes.views import ImageView, PairView
from tests.helpers.lookalike_views import Walk

WALK = Walk([0, 60, 120, 180, 240, 300])
INSIDE = [(0, 1), (1, 2), (3, 4), (4, 5)]
"""Pairs of the parts (0, 1, 2) and (3, 4, 5)."""

BETWEEN = list(product(range(3), range(3, 6)))
BEST = (2, 3)


def joined(probabilities: Mapping[tuple[int, int], float], right: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """The used pairs between the parts; pairs that are not right match other points than the right ones."""
    listed = [*INSIDE, *probabilities]
    pairs = [WALK.pair(*ends, shift=0 if ends in {*INSIDE, *right} else 5) for ends in listed]
    values = np.array([0.95] * len(INSIDE) + list(probabilities.values()))
    parts = Parts(6)
    for ends in INSIDE:
        parts.join(*ends)
    used = with_clear_joining(WALK.images, pairs, values, values > 0.5, parts)
    assert (parts.root(5) == 0) == bool(used[len(INSIDE) :].any())
    return {ends for ends, is_used in zip(listed, used.tolist(), strict=True) if is_used} - {*INSIDE}


def test_a_pair_that_is_far_more_probable_than_all_that_contradict_it_joins_parts() -> None:
    assert joined(dict.fromkeys(BETWEEN, 0.02) | {BEST: 0.4}, {BEST}) == {BEST}


@pytest.mark.parametrize(("best", "rival"), [(0.4, 0.1), (0.2, 0.001)])
def test_a_pair_that_is_little_more_probable_or_improbable_itself_joins_nothing(best: float, rival: float) -> None:
    assert joined(dict.fromkeys(BETWEEN, rival) | {BEST: best}, {BEST}) == set()


def test_a_pair_that_was_compared_with_few_others_joins_nothing() -> None:
    assert joined({BEST: 0.45}, {BEST}) == set()
    assert joined({BEST: 0.45, (0, 5): 0.01, (1, 4): 0.01}, {BEST}) == set()


def test_others_that_say_the_same_are_as_good_as_many_that_contradict() -> None:
    same = {BEST, (1, 3), (2, 4)}
    compared = {BEST: 0.45, (1, 3): 0.3, (2, 4): 0.3, (1, 4): 0.01}
    assert joined(compared, same) == same
    assert joined(compared | {(2, 4): 0.2}, same) == set(), "it is no evidence"
    of_one = {BEST: 0.45, (1, 3): 0.3, (0, 3): 0.3}
    assert joined(of_one | {(1, 4): 0.01}, {*of_one}) == set(), "they have a common image"
    # They are no evidence against a rival of nearly the same probability.
    assert joined(compared | {(1, 4): 0.25}, same) == set()


def test_without_a_comparison_pairs_without_a_common_image_must_be_sure_together() -> None:
    assert joined({BEST: 0.45, (1, 3): 0.45, (2, 4): 0.45}, {BEST, (1, 3), (2, 4)}) == set()
    three, four = {(0, 5): 0.45, (1, 4): 0.45, (2, 3): 0.45}, {(k, 4 + k): 0.45 for k in range(4)}
    assert joined(three, {*three}) == set()
    walk = Walk([30 * k for k in range(8)])
    inside = [(k, k + 1) for k in range(7) if k != 3]
    values = np.array([0.9] * 6 + list(four.values()))
    parts = Parts(8)
    for ends in inside:
        parts.join(*ends)
    pairs = [walk.pair(*ends) for ends in [*inside, *four]]
    assert with_clear_joining(walk.images, pairs, values, values > 0.5, parts).all()


def test_what_joined_look_alikes_joins_nothing_and_what_is_left_out_contradicts() -> None:
    listed = [*INSIDE, *BETWEEN]
    right = {BEST, (1, 3)}
    pairs = [WALK.pair(*ends, shift=0 if ends in {*INSIDE, *right} else 5) for ends in listed]
    pairs += [WALK.pair(2, 4, shift=7)]
    values = np.array([0.95] * len(INSIDE) + [{BEST: 0.45, (1, 4): 0.3}.get(ends, 0.02) for ends in BETWEEN] + [0.02])

    def num_joining(**masks: tuple[int, int]) -> int:
        parts = Parts(6)
        for ends in INSIDE:
            parts.join(*ends)
        own = values.copy()
        if "is_left_out" not in masks:
            own[listed.index((1, 4))] = 0.02
        given = {name: np.array([each == ends for each in [*listed, (9, 9)]]) for name, ends in masks.items()}
        return int(with_clear_joining(WALK.images, pairs, own, own > 0.5, parts, **given).sum()) - len(INSIDE)

    assert num_joining() == 1
    assert num_joining(is_wrong=BEST) == 0
    assert num_joining(is_wrong=(1, 3)) == 0, "it says the same as the best pair"
    assert num_joining(is_left_out=(1, 3)) == 0, "the rival of .3 takes part"
    assert num_joining(is_left_out=(1, 4)) == 0, "the rival of .3 is left out"


IMAGES = [ImageView(np.zeros((400, 2), np.float32), (600, 400))] * 28
Rows = tuple[int, int, int, int]
"""Images of a pair, and their first rows."""

INNER = (0.9, [(0, 1, 0, 0), (2, 3, 0, 0)])


def plain(image0: int, image1: int, first0: int, first1: int) -> PairView:
    """A pair that matches twelve rows of both images."""
    rows = np.column_stack([np.arange(12) + first0, np.arange(12) + first1])
    return PairView(image0, image1, rows, 12, 12, 12, 0.9, np.eye(3))


def with_weak(image0: int, image1: int, first0: int, first1: int) -> list[tuple[float, list[Rows]]]:
    """Eight rivals of a pair, hardly probable."""
    return [(0.01, [(image0, image1, first0, first1 + number) for number in range(1, 9)])]


def chosen(groups: list[tuple[float, list[Rows]]]) -> set[Rows]:
    """The used doubtful pairs; they are the same if all images are swapped, or are numbered the other way round."""
    listed = [(each, value) for value, several in groups for each in several]
    values = np.array([value for _, value in listed])
    found = []
    for is_reversed, is_swapped in product((False, True), repeat=2):
        pairs = []
        for (image0, image1, *rows), _ in listed:
            ends = (27 - image0, 27 - image1) if is_reversed else (image0, image1)
            pair = plain(*ends, *rows)
            pairs.append(plain(*ends[::-1], *rows[::-1]) if is_swapped else pair)
        parts = Parts(28)
        for pair, value in zip(pairs, values.tolist(), strict=True):
            if value > 0.5:
                parts.join(pair.image0, pair.image1)
        used = with_clear_joining(IMAGES, pairs, values, values > 0.5, parts)
        found.append({each for (each, value), is_used in zip(listed, used, strict=True) if is_used and value < 0.5})
    assert all(each == found[0] for each in found)
    return found[0]


@pytest.mark.parametrize("rival", [(0, 2, 300, 100), (1, 3, 100, 300), (0, 3, 300, 300)])
def test_a_rival_that_matches_the_tracks_of_one_part_only_or_of_none_counts(rival: Rows) -> None:
    """A facade that the images of one part see twice."""
    best = (1, 2, 100, 100)
    groups = [INNER, (0.45, [best]), *with_weak(*best)]
    assert chosen(groups) == {best}
    assert chosen([*groups, (0.01, [rival])]) == {best}
    assert chosen([*groups, (0.2, [rival])]) == set()


@pytest.mark.parametrize("other", [(4, 2, 100, 100), (0, 2, 100, 100)])
def test_an_image_between_twins_joins_none(other: Rows) -> None:
    """Image 4 looks like both parts, or the parts look alike."""
    best = (4, 0, 100, 100)
    groups = [INNER, (0.4, [best]), *with_weak(*best), *with_weak(*other)]
    assert chosen(groups) == {best}
    assert chosen([*groups, (0.39, [other])]) == set()


def test_many_single_images_join_one_part_at_different_tracks() -> None:
    best = [(0, image, 15 * (image - 2), 0) for image in range(2, 27)]
    groups = [(0.9, [(0, 1, 0, 0)]), (0.45, best), *(each for one in best for each in with_weak(*one))]
    assert chosen(groups) == {*best}


def test_pairs_without_common_tracks_are_not_compared() -> None:
    """The images at both ends see nothing in common with the best pair."""
    walk = Walk([0, 550, 1100, 1650])
    pairs = [walk.pair(0, 1), walk.pair(2, 3), walk.pair(1, 2), walk.pair(0, 2), walk.pair(1, 3)]
    values = np.array([0.9, 0.9, 0.45, 0.01, 0.01])
    parts = Parts(4)
    parts.join(0, 1)
    parts.join(2, 3)
    assert with_clear_joining(walk.images, pairs, values, values > 0.5, parts).tolist() == [True, True, *[False] * 3]


def test_a_scene_without_images_has_nothing_to_join() -> None:
    assert with_clear_joining([], [], np.zeros(0), np.zeros(0, np.bool_), Parts(0)).shape == (0,)


@pytest.mark.parametrize("has_twins", [True, False])
def test_such_a_pair_takes_part_and_confirms_nothing(has_twins: bool) -> None:
    """Tracks over it agree with other pairs between the parts, but these may be as wrong as it."""
    walk = Walk([60 * number for number in range(7)])
    inside, between = [*INSIDE, (5, 6)], list(product(range(3), range(3, 7)))
    listed = [*inside, *between]
    right = {BEST, (1, 3), (2, 4)}
    pairs = [walk.pair(*ends, shift=0 if ends in {*inside, *right} else 5) for ends in listed]
    values = np.array([0.95] * len(inside) + [0.4 if ends == BEST else 0.02 for ends in between])
    no_trust = np.zeros(len(listed), np.bool_)
    found = select_pairs(walk.images, pairs, values, no_trust, LookalikesConfig(), has_twins)
    assert found.is_used[listed.index(BEST)]
    assert not found.is_confirmed.any()
    assert {listed[k] for k in np.flatnonzero(found.is_joined)} == {BEST}
    assert found.is_used.sum() == len(inside) + 1, "the others are improbable"
    assert found.has_look_alikes
    assert len(set(found.part)) == 1
    strict = select_pairs(walk.images, pairs, values, no_trust, LookalikesConfig("strict"), has_twins)
    assert strict.is_used.sum() == len(inside)


def test_a_doubtful_pair_that_joins_parts_is_no_reason_to_map_all_pairs() -> None:
    """Tracks over three agreeing pairs confirm improbable ones, too; but that they looked wrong still counts."""
    same = {BEST: 0.45, (1, 3): 0.3, (2, 4): 0.3}
    improbable = dict.fromkeys([(0, 3), (1, 4), (0, 4)], 0.01)
    rival = {(1, 5): 0.01}
    listed = [*INSIDE, *same, *improbable, *rival]
    pairs = [WALK.pair(*ends, shift=5 if ends in rival else 0) for ends in listed]
    values = np.array([0.95] * len(INSIDE) + [*(same | improbable | rival).values()])
    found = select_pairs(WALK.images, pairs, values, np.zeros(len(listed), np.bool_), LookalikesConfig())
    assert found.has_look_alikes
    assert {listed[k] for k in np.flatnonzero(found.is_joined)} == {*same}
    assert {listed[k] for k in np.flatnonzero(found.is_used)} == {*INSIDE, *same, *improbable}
