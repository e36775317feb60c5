"""A pair at the other end of two parts around which the camera turned says the same by its rotation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.lookalikes.views import PairView
from tests.lookalikes.test_part_hypotheses import BEST, PARTS, Listed, chosen, others, pair


def inside(angle0: float, angle1: float) -> list[tuple[float, PairView]]:
    """Pairs of both parts, whose images 0 and 1, and 2 and 3, are turned against each other."""
    first = [(0.9, pair(0, 1, 0, 0, angle0)), (0.9, pair(0, 1, 100, 100, angle0))]
    return [*first, (0.9, pair(2, 3, 100, 100, angle1)), *PARTS]


BETWEEN = pair(1, 2, 112, 100)
"""The best pair between the parts; image 3 observes its tracks, too."""


@pytest.mark.parametrize(("value", "expected"), [(0.44, [BEST, BEST + 1]), (0.24, [BEST])])
def test_pairs_at_both_ends_of_parts_around_something_agree(value: float, expected: list[int]) -> None:
    listed = [*inside(90, 90), (0.45, BETWEEN), (value, pair(0, 3, 300, 100, 180)), *others(0.02, 0)]
    assert chosen(listed) == expected


@pytest.mark.parametrize(
    ("angles", "end", "turned"),
    [
        ((0, 0), pair(0, 3, 300, 100, 0), others(0.02, 90)),  # straight walls: it may be another bay
        ((90, 0), pair(0, 3, 300, 100, 90), others(0.02, 0)),  # one of both is straight
        ((90, 90), pair(0, 3, 300, 100, 90), others(0.02, 0)),  # another rotation
        ((35, 35), pair(0, 3, 300, 100, 70), others(0.02, 0)),  # the camera looked aside
        ((90, 90), pair(1, 3, 300, 100, 90), others(0.02, 0)),  # not the other end of the first part
        ((90, 90), pair(0, 3, 100, 100, 180), others(0.02, 0)),  # image 1 observes the points of both pairs
        ((90, 90), pair(0, 3, 300, 100, 180), others(0.02, 0, count=5)),  # rotations tell nothing
    ],
)
def test_otherwise_they_contradict_each_other(angles: tuple[float, float], end: PairView, turned: Listed) -> None:
    assert chosen([*inside(*angles), (0.45, BETWEEN), (0.44, end), *turned]) == []


def test_a_camera_that_rolled_did_not_turn_around() -> None:
    """A photo in portrait format looks where the one before looked."""
    quarter, half = (rotation_from_rotvec(np.radians([0, 0, angle])) for angle in (90, 180))
    inner = [(value, replace(each, rotation=quarter)) for value, each in inside(0, 0)[:3]]
    end = replace(pair(0, 3, 300, 100), rotation=half)
    assert chosen([*inner, *PARTS, (0.45, BETWEEN), *others(0.02, 0)]) == [BEST]
    assert chosen([*inner, *PARTS, (0.45, BETWEEN), (0.44, end), *others(0.02, 0)]) == []


def test_nothing_is_joined_if_a_pair_at_the_other_end_joined_look_alikes() -> None:
    listed = [*inside(90, 90), (0.45, BETWEEN), (0.2, pair(0, 3, 300, 100, 180)), *others(0.02, 0)]
    assert chosen(listed) == [BEST]
    assert chosen(listed, np.arange(len(listed)) == BEST + 1) == []
