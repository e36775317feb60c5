"""Two parts are joined by a doubtful pair only if it is clearly more probable than those that contradict it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest

from sfm_lightglue.lookalikes.config import LookalikesConfig
from sfm_lightglue.lookalikes.part_joining import Parts, with_clear_joining
from sfm_lightglue.lookalikes.selection import select_pairs
from sfm_lightglue.lookalikes.views import PairView
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
    assert joined({BEST: 0.45, (1, 3): 0.1, (2, 4): 0.1}, same) == {BEST}
    # They are no evidence against a rival of nearly the same probability.
    assert joined({BEST: 0.45, (1, 3): 0.1, (2, 4): 0.1, (1, 4): 0.3}, same) == set()


def test_pairs_without_common_tracks_are_not_compared() -> None:
    """The images at both ends see nothing in common with the best pair."""
    walk = Walk([0, 550, 1100, 1650])
    pairs = [walk.pair(0, 1), walk.pair(2, 3), walk.pair(1, 2), walk.pair(0, 2), walk.pair(1, 3)]
    values = np.array([0.9, 0.9, 0.45, 0.01, 0.01])
    parts = Parts(4)
    parts.join(0, 1)
    parts.join(2, 3)
    assert with_clear_joining(walk.images, pairs, values, values > 0.5, parts).tolist() == [True, True, *[False] * 3]


def test_it_is_the_same_for_swapped_images_and_needs_keypoints() -> None:
    pairs = [WALK.pair(*ends, shift=0 if ends in {*INSIDE, BEST} else 5) for ends in [*INSIDE, *BETWEEN]]
    swapped = [
        PairView(each.image1, each.image0, each.rows[:, ::-1], *([len(each.rows)] * 3), 0.9, np.eye(3))
        if number % 2
        else each
        for number, each in enumerate(pairs)
    ]
    values = np.array([0.9] * len(INSIDE) + [0.4 if ends == BEST else 0.01 for ends in BETWEEN])
    parts = Parts(6)
    for ends in INSIDE:
        parts.join(*ends)
    used = with_clear_joining(WALK.images, swapped, values, values > 0.5, parts)
    assert used.sum() == len(INSIDE) + 1
    assert with_clear_joining([], [], np.zeros(0), np.zeros(0, np.bool_), Parts(0)).shape == (0,)


@pytest.mark.parametrize("has_twins", [True, False])
def test_such_a_pair_takes_part_and_is_confirmed(has_twins: bool) -> None:
    listed = [*INSIDE, *BETWEEN]
    pairs = [WALK.pair(*ends, shift=0 if ends in {*INSIDE, BEST} else 5) for ends in listed]
    values = np.array([0.95] * len(INSIDE) + [0.4 if ends == BEST else 0.02 for ends in BETWEEN])
    no_trust = np.zeros(len(listed), np.bool_)
    found = select_pairs(WALK.images, pairs, values, no_trust, LookalikesConfig(), has_twins)
    assert found.is_used[listed.index(BEST)]
    assert found.is_confirmed[listed.index(BEST)]
    assert found.is_used.sum() == len(INSIDE) + 1
    assert len(set(found.part)) == 1
    strict = select_pairs(WALK.images, pairs, values, no_trust, LookalikesConfig("strict"), has_twins)
    assert strict.is_used.sum() == len(INSIDE)
