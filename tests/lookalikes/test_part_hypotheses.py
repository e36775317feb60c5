"""What rotations between parts, and pairs to third parts, say about a doubtful pair that joins two parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.arrays import BoolArray
from sfm_lightglue.geometry.transforms import rotation_angles_deg, rotation_from_rotvec
from sfm_lightglue.lookalikes.part_joining import with_clear_joining
from sfm_lightglue.lookalikes.part_tracks import PartTracks
from sfm_lightglue.lookalikes.part_turns import PartTurns
from sfm_lightglue.lookalikes.parts import Parts
from sfm_lightglue.lookalikes.views import ImageView, PairView

IMAGES = [ImageView(np.zeros((600, 2), np.float32), (600, 400))] * 14
Listed = Sequence[tuple[float, PairView]]


def pair(image0: int, image1: int, first0: int, first1: int, angle_deg: float = 0, num: int = 12) -> PairView:
    """A pair that matches some rows of both images, and turns the camera about its vertical axis."""
    rows = np.column_stack([np.arange(num) + first0, np.arange(num) + first1])
    turn = rotation_from_rotvec(np.radians([0, angle_deg, 0]))
    return PairView(image0, image1, rows, num, num, num, 0.9, turn)


PARTS = [(0.9, pair(k // 10 * 2, k, 580, 580)) for k in range(6, 14)]
INSIDE = [(0.9, pair(0, 1, 0, 0)), (0.9, pair(0, 1, 100, 100)), (0.9, pair(2, 3, 0, 0)), *PARTS]
"""Pairs of the parts (0, 1, 6, 7, 8, 9) and (2, 3, 10, 11, 12, 13)."""

BEST = len(INSIDE)
"""Place of the pair after these."""

TURN = rotation_from_rotvec(np.radians([0, 90, 0]))


def chosen(listed: Listed, is_wrong: BoolArray | None = None) -> list[int]:
    """The places of the doubtful pairs that join parts."""
    values = np.array([value for value, _ in listed])
    pairs = [each for _, each in listed]
    parts = Parts(len(IMAGES))
    for value, each in listed:
        if value > 0.5:
            parts.join(each.image0, each.image1)
    used = with_clear_joining(IMAGES, pairs, values, values > 0.5, parts, is_wrong=is_wrong)
    return [k for k in np.flatnonzero(used).tolist() if values[k] < 0.5]


def others(value: float, angle_deg: float, num: int = 12, count: int = 8) -> list[tuple[float, PairView]]:
    """Pairs between both parts without common tracks with each other."""
    rows = [(200 + num * k, 200 + num * k, angle_deg, num) for k in range(count)]
    return [(value, pair(6 + k % 4, 10 + (k + k // 4) % 4, *each)) for k, each in enumerate(rows)]


def test_pairs_that_turn_a_part_otherwise_contradict_without_common_tracks() -> None:
    best = (0.45, pair(1, 2, 100, 100))
    assert chosen([*INSIDE, best]) == [], "it was compared with nothing"
    assert chosen([*INSIDE, best, *others(0.02, 90)]) == [BEST]
    assert chosen([*INSIDE, best, *others(0.02, 90, count=7)]) == [], "with few"
    assert chosen([*INSIDE, best, *others(0.02, 20)]) == [], "errors of the rotation"
    assert chosen([*INSIDE, best, *others(0.02, 90, num=2)]) == [], "few inliers tell no rotation"
    assert chosen([*INSIDE, best, *others(0.2, 90)]) == [], "they are nearly as probable"


def test_wrong_pairs_of_one_image_are_no_comparison() -> None:
    """They turn this image in any direction."""
    of_one = [(0.02, replace(each, image0=9, image1=10 + k % 4)) for k, (_, each) in enumerate(others(0.02, 90))]
    assert chosen([*INSIDE, (0.3, pair(1, 2, 100, 100)), *others(0.02, 90)]) == [BEST]
    assert chosen([*INSIDE, (0.3, pair(1, 2, 100, 100)), *of_one]) == []


def test_a_pair_that_matches_what_joined_look_alikes_joins_nothing_also_if_that_is_turned() -> None:
    listed = [*INSIDE, (0.45, pair(1, 2, 100, 100)), *others(0.02, 90), (0.01, pair(1, 2, 100, 100, 40))]
    assert chosen(listed) == [BEST]
    assert chosen(listed, np.arange(len(listed)) == len(listed) - 1) == []


def test_the_rotation_within_a_part_counts() -> None:
    """Image 1 is turned by 90 degrees against the others of its part, and pairs with these agree only by that."""
    inside = [(0.9, pair(0, 1, 0, 0, 90)), (0.9, pair(2, 3, 0, 0)), *PARTS]
    best, turned = (0.45, pair(1, 2, 100, 100)), others(0.02, 0)
    assert chosen([*inside, best, *turned]) == [BEST - 1]
    assert chosen([*inside, best, *((value, replace(each, rotation=TURN)) for value, each in turned)]) == []


def test_parts_of_one_track_contradict_nothing_if_rotations_tell_hypotheses_apart() -> None:
    """Most of the same tracks of one part with tracks of the other one that no image observes both."""
    best = (0.45, pair(1, 2, 110, 100))
    turned = others(0.02, 90)
    rows = np.column_stack([[110, 111, *range(300, 310)], np.arange(100, 112)])
    fragment = replace(pair(0, 2, 300, 100), rows=rows)  # image 1 observes two of these tracks at the same rows
    assert chosen([*INSIDE, best, *turned, (0.2, fragment)]) == [BEST]
    assert chosen([*INSIDE, best, *turned, (0.2, replace(fragment, rotation=TURN))]) == []
    assert chosen([*INSIDE, best, *turned, (0.2, pair(1, 2, 300, 100))]) == [], "image 1 observes both"
    assert chosen([*INSIDE, best, *turned[:-1], (0.2, fragment)]) == [], "rotations tell nothing"


def test_a_rival_shifted_by_a_bay_that_no_image_sees_together_with_the_other_one_counts() -> None:
    """Bays are turned alike. That no image observes the points of both is usual for a photo of each bay."""
    best = (0.45, pair(1, 2, 110, 100))
    shifted = pair(0, 2, 300, 100)
    assert chosen([*INSIDE, best, *others(0.02, 90), (0.44, shifted)]) == []
    assert chosen([*INSIDE, best, *others(0.02, 90), (0.22, shifted)]) == []
    assert chosen([*INSIDE, best, *others(0.02, 90), (0.2, shifted)]) == [BEST], "it is far less probable"


@pytest.mark.parametrize(
    ("between", "is_joined"),
    [
        ([(0.05, 100, 0), (0.05, 100, 0), (0.001, 101, 0)], True),
        ([(0.05, 100, 0), (0.001, 101, 0)], False),  # one pair
        ([(0.05, 100, 0), (0.05, 100, 0)], False),  # nothing to compare with
        ([(0.05, 100, 0), (0.05, 100, 0), (0.01, 101, 0)], False),  # not clearly
        ([(0.05, 101, 0), (0.05, 101, 0), (0.001, 100, 0)], False),  # something else
        ([(0.05, 300, 0)] * 2 + [(0.001, 300, 90)] * 8, True),  # the same rotation
        ([(0.05, 300, 90)] * 2 + [(0.001, 300, 0)] * 8, False),  # another one
        ([(0.05, 300, 0)] * 2 + [(0.001, 300, 90)] * 7, False),
    ],
)
def test_an_image_joins_two_parts_if_pairs_between_these_say_the_same(
    between: list[tuple[float, int, float]], is_joined: bool
) -> None:
    """Otherwise the parts may be twins, and only one of both pairs is true."""
    first, second = pair(4, 0, 100, 100), pair(4, 2, 100, 100)
    weak = [(0.01, pair(4, each.image1, 100, 100 + k)) for each in (first, second) for k in range(1, 9)]
    direct = [
        (value, pair(1 - k % 2, 2, first0, 100, angle))
        if first0 <= 101
        else (value, replace(others(value, angle)[(k - 2) % 8][1], rows=pair(0, 0, 300 + 12 * k, 300 + 12 * k).rows))
        for k, (value, first0, angle) in enumerate(between)
    ]
    listed = [*INSIDE, (0.4, first), (0.39, second), *weak, *direct]
    assert chosen(listed) == ([BEST, BEST + 1] if is_joined else [])
    assert chosen(listed[: BEST + 1] + weak + direct) == [BEST], "without the other pair"


def test_rotations_of_a_part_follow_its_strongest_pairs() -> None:
    pairs = [pair(0, 1, 0, 0, 30), pair(2, 1, 0, 0, 40), pair(0, 2, 0, 0, 77), pair(3, 4, 0, 0, 5)]
    weights = np.array([3.0, 2.0, 1.0, 1.0])
    turns = PartTurns.of_pairs(5, pairs, weights, np.array([True, True, True, False]))
    found = [rotation_angles_deg(each) for each in turns.rotations[:3] @ turns.rotations[0].T]
    assert found == pytest.approx([0, 30, 10], abs=1e-6)
    between = turns.between(pair(2, 3, 0, 0, 50), is_swapped=False)
    assert np.allclose(between.T, turns.between(pair(2, 3, 0, 0, 50), is_swapped=True))


def test_tracks_over_a_further_pair_are_the_same_if_only_its_own_tracks_are_united() -> None:
    pairs = [pair(0, 1, 0, 0), pair(2, 3, 0, 0), pair(1, 2, 5, 0), pair(1, 2, 6, 0)]
    tracks = PartTracks.of_pairs(IMAGES, pairs, np.array([True, True, False, False]))
    old = tracks.observed(0, pairs[0], 1), tracks.observed(1, pair(8, 9, 0, 0), 1)
    joined, united = tracks.joined(pairs[2:], {0, 1, 2, 3}), tracks.united(pairs[2])
    alone = tracks.joined(pairs[2:3], {0, 1, 2, 3})
    assert all(np.array_equal(united.matched(each), alone.matched(each)) for each in [*pairs, pair(4, 5, 0, 0)])
    assert len(np.unique(joined.matched(pairs[2]))) == 1, "a chain of all points"
    assert len(joined.observed(0, pairs[0], 1)) < len(old[0]), "what was kept of a joined part is outdated"
    assert np.array_equal(joined.observed(1, pair(8, 9, 0, 0), 1), old[1])


def test_tracks_are_different_points_if_one_image_observes_them() -> None:
    pairs = [pair(0, 1, 0, 0), pair(2, 3, 0, 0)]
    tracks = PartTracks.of_pairs(IMAGES, pairs, np.ones(2, np.bool_))
    best = tracks.matched(pair(0, 2, 0, 0))
    assert tracks.fraction_seen_together(best, best) == 0
    assert tracks.fraction_seen_together(best, tracks.matched(pair(1, 3, 0, 0))) == 0, "the same tracks"
    assert tracks.fraction_seen_together(best, tracks.matched(pair(1, 3, 0, 1))) == 1
    assert tracks.fraction_seen_together(best, tracks.matched(pair(0, 2, 300, 0))) == 1
    assert tracks.fraction_seen_together(tracks.matched(pair(0, 2, 300, 0)), tracks.matched(pair(1, 2, 300, 0))) == 0
