"""What rotations between parts, and pairs to third parts, say about a doubtful pair that joins two parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import rotation_angles_deg, rotation_from_rotvec
from sfm_lightglue.lookalikes.part_joining import Parts, with_clear_joining
from sfm_lightglue.lookalikes.part_tracks import PartTracks
from sfm_lightglue.lookalikes.part_turns import PartTurns
from sfm_lightglue.lookalikes.views import ImageView, PairView

IMAGES = [ImageView(np.zeros((600, 2), np.float32), (600, 400))] * 6
Listed = Sequence[tuple[float, PairView]]


def pair(image0: int, image1: int, first0: int, first1: int, angle_deg: float = 0, num: int = 12) -> PairView:
    """A pair that matches some rows of both images, and turns the camera about its vertical axis."""
    rows = np.column_stack([np.arange(num) + first0, np.arange(num) + first1])
    turn = rotation_from_rotvec(np.radians([0, angle_deg, 0]))
    return PairView(image0, image1, rows, num, num, num, 0.9, turn)


INSIDE = [(0.9, pair(0, 1, 0, 0)), (0.9, pair(0, 1, 100, 100)), (0.9, pair(2, 3, 0, 0))]
"""Pairs of the parts (0, 1) and (2, 3)."""

TURN = rotation_from_rotvec(np.radians([0, 90, 0]))


def chosen(listed: Listed) -> list[int]:
    """The places of the doubtful pairs that join parts."""
    values = np.array([value for value, _ in listed])
    pairs = [each for _, each in listed]
    parts = Parts(len(IMAGES))
    for value, each in listed:
        if value > 0.5:
            parts.join(each.image0, each.image1)
    used = with_clear_joining(IMAGES, pairs, values, values > 0.5, parts)
    return [k for k in np.flatnonzero(used).tolist() if values[k] < 0.5]


def others(value: float, angle_deg: float, num: int = 12, count: int = 8) -> list[tuple[float, PairView]]:
    """Pairs between the parts (0, 1) and (2, 3) without common tracks with each other."""
    return [(value, pair(1, 3, 200 + num * k, 200 + num * k, angle_deg, num)) for k in range(count)]


def test_pairs_that_turn_a_part_otherwise_contradict_without_common_tracks() -> None:
    best = (0.45, pair(1, 2, 100, 100))
    assert chosen([*INSIDE, best]) == [], "it was compared with nothing"
    assert chosen([*INSIDE, best, *others(0.02, 90)]) == [3]
    assert chosen([*INSIDE, best, *others(0.02, 90, count=7)]) == [], "with few"
    assert chosen([*INSIDE, best, *others(0.02, 20)]) == [], "errors of the rotation"
    assert chosen([*INSIDE, best, *others(0.02, 90, num=2)]) == [], "few inliers tell no rotation"
    assert chosen([*INSIDE, best, *others(0.2, 90)]) == [], "they are nearly as probable"


def test_the_rotation_within_a_part_counts() -> None:
    """Image 1 is turned by 90 degrees against image 0, and the pairs with both agree only by that."""
    inside = [(0.9, pair(0, 1, 0, 0, 90)), (0.9, pair(2, 3, 0, 0))]
    best = (0.45, pair(1, 2, 100, 100))
    turned = [(0.02, pair(0, 3, 200 + 12 * k, 200 + 12 * k)) for k in range(8)]
    assert chosen([*inside, best, *turned]) == [2]
    assert chosen([*inside, best, *((value, replace(each, rotation=TURN)) for value, each in turned)]) == []


def test_parts_of_one_track_contradict_nothing_if_rotations_tell_hypotheses_apart() -> None:
    """The same tracks of one part with tracks of the other one that no image observes both."""
    best = (0.45, pair(1, 2, 150, 100))
    turned = others(0.02, 90)
    fragment = pair(0, 2, 300, 100)
    assert chosen([*INSIDE, best, *turned, (0.2, fragment)]) == [3]
    assert chosen([*INSIDE, best, *turned, (0.2, replace(fragment, rotation=TURN))]) == []
    assert chosen([*INSIDE, best, *turned, (0.2, pair(1, 2, 300, 100))]) == [], "image 1 observes both"
    assert chosen([*INSIDE, best, *turned[:-1], (0.2, fragment)]) == [], "rotations tell nothing"


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
        (value, pair(1 - k % 2, 2, min(first0, 300), 100 if first0 <= 101 else 300, angle))
        for k, (value, first0, angle) in enumerate(between)
    ]
    listed = [*INSIDE, (0.4, first), (0.39, second), *weak, *direct]
    assert chosen(listed) == ([3, 4] if is_joined else [])
    assert chosen(listed[:3] + listed[3:4] + weak + direct) == [3], "without the other pair"


def test_rotations_of_a_part_follow_its_strongest_pairs() -> None:
    pairs = [pair(0, 1, 0, 0, 30), pair(2, 1, 0, 0, 40), pair(0, 2, 0, 0, 77), pair(3, 4, 0, 0, 5)]
    weights = np.array([3.0, 2.0, 1.0, 1.0])
    turns = PartTurns.of_pairs(5, pairs, weights, np.array([True, True, True, False]))
    found = [rotation_angles_deg(each) for each in turns.rotations[:3] @ turns.rotations[0].T]
    assert found == pytest.approx([0, 30, 10], abs=1e-6)
    between = turns.between(pair(2, 3, 0, 0, 50), is_swapped=False)
    assert np.allclose(between.T, turns.between(pair(2, 3, 0, 0, 50), is_swapped=True))


def test_tracks_are_different_points_if_one_image_observes_them() -> None:
    pairs = [pair(0, 1, 0, 0), pair(2, 3, 0, 0)]
    tracks = PartTracks.of_pairs(IMAGES, pairs, np.ones(2, np.bool_))
    best = tracks.matched(pair(0, 2, 0, 0))
    assert tracks.fraction_seen_together(best, best) == 0
    assert tracks.fraction_seen_together(best, tracks.matched(pair(1, 3, 0, 0))) == 0, "the same tracks"
    assert tracks.fraction_seen_together(best, tracks.matched(pair(1, 3, 0, 1))) == 1
    assert tracks.fraction_seen_together(best, tracks.matched(pair(0, 2, 300, 0))) == 1
    assert tracks.fraction_seen_together(tracks.matched(pair(0, 2, 300, 0)), tracks.matched(pair(1, 2, 300, 0))) == 0
