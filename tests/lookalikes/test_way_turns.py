"""The rotations along a way tell pairs of equal sides from those of one place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.tracks import PairTracks
from sfm_lightglue.lookalikes.twins import logits_among_twins
from sfm_lightglue.lookalikes.views import PairView
from sfm_lightglue.lookalikes.way_turns import way_deviations
from tests.helpers.lookalike_views import Walk
from tests.lookalikes.test_twins import turned

NUM, STEP_DEG = 12, 30.0
NO_ROWS = np.zeros((0, 2), np.int64)


def ring(far: Sequence[tuple[int, int, float]], missing: Sequence[int] = (), step_deg: float = STEP_DEG):
    """Pairs of neighbours on a way, without some, and far pairs with their rotations; and their steps."""
    listed = [(i, i + 1, step_deg) for i in range(NUM - 1) if i not in missing] + list(far)
    pairs = [PairView(i, j, NO_ROWS, 0, 0, 0, 0.9, turned(angle)) for i, j, angle in listed]
    return pairs, np.array([float(j - i) for i, j, _ in listed])


def logits(pairs: Sequence[PairView], steps: np.ndarray) -> np.ndarray:
    cues = [PairCues(order_step=step, track_rarity=0.3) for step in steps.tolist()]
    tracks = PairTracks(Walk([0] * NUM).images, pairs)
    return logits_among_twins(tracks, cues, np.full(len(pairs), 2.0), np.zeros(len(pairs), np.bool_))


def test_deviations_are_those_from_the_rotation_along_the_way() -> None:
    pairs, steps = ring([(0, 4, 120.0), (1, 5, 30.0), (0, 11, -30.0)])
    found = way_deviations(pairs, steps)
    assert found.angles_deg == pytest.approx([0.0] * 11 + [0.0, 90.0, 0.0], abs=1e-4)
    assert found.is_known.all()
    assert not found.is_filled.any()


def test_a_gap_is_filled_by_the_usual_rotation_if_there_is_one() -> None:
    pairs, steps = ring([(0, 11, -30.0), (0, 2, 60.0)], missing=[5])
    found = way_deviations(pairs, steps)
    assert found.angles_deg[-2:] == pytest.approx([0.0, 0.0], abs=1e-4)
    assert found.is_filled[-2:].tolist() == [True, False]
    assert found.is_known.all()
    straight = way_deviations(*ring([(0, 11, 0.0), (0, 2, 0.0)], missing=[5], step_deg=0.0))
    assert straight.is_known[-2:].tolist() == [False, True]
    none = way_deviations([], np.zeros(0))
    assert none.angles_deg.shape == none.is_known.shape == (0,)


@pytest.mark.parametrize("missing", [(), (5,)])
def test_the_end_of_a_round_is_more_probable_than_another_side(missing: tuple[int, ...]) -> None:
    """Sides of 90 degrees: most far pairs are turned as if all of them were one side."""
    wrong = [(i, i + gap, 30.0 * (gap % 3)) for gap in range(3, 9) for i in range(NUM - gap)]
    pairs, steps = ring([*wrong, (0, 11, -30.0), (1, 11, 30.0)], missing)
    found = logits(pairs, steps)
    assert found[-2] > 1.2, "the round is closed"
    assert found[-1] < found[-2] - 3, "another side"


def test_rotations_along_a_straight_way_say_nothing() -> None:
    far = [(i, i + gap, 0.0) for gap in range(3, 9) for i in range(NUM - gap)]
    pairs, steps = ring(far, step_deg=0.0)
    assert np.ptp(logits(pairs, steps)[NUM - 1 :]) == 0
    others = [*pairs[:-1], PairView(pairs[-1].image0, pairs[-1].image1, NO_ROWS, 0, 0, 0, 0.9, turned(50.0))]
    found = logits(others, steps)[NUM - 1 :]
    assert found[0] == pytest.approx(logits(pairs, steps)[NUM - 1], abs=0.15)
