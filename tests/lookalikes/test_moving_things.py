"""Things that move before a wall are no sign of twins, and take no probability from true pairs; unlike surroundings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.probability import SceneProbabilities, scene_probabilities
from sfm_lightglue.lookalikes.scene_cues import scene_cues
from sfm_lightglue.lookalikes.tracks import PairTracks
from sfm_lightglue.lookalikes.twins import unlike_surroundings
from sfm_lightglue.lookalikes.views import PairView
from tests.helpers.still_views import (
    Seen,
    before_sea,
    lone_surroundings,
    pairs_of,
    turntable,
    twin_walls,
    walked_by,
    with_person,
)


def judged(seen: Sequence[Seen]) -> tuple[list[PairView], np.ndarray, SceneProbabilities]:
    """The pairs of a scene, their conflicts and their probabilities."""
    images, pairs = [each.image for each in seen], pairs_of(seen)
    cues = scene_cues(images, pairs)
    conflicts = np.array([one.same_view_conflict for one in cues])
    return pairs, conflicts, scene_probabilities(PairTracks(images, pairs), cues)


@pytest.mark.parametrize("images_with_person", [range(16), (3, 8, 12), range(0, 16, 2)])
def test_a_person_who_walks_by_makes_no_twins(images_with_person: Sequence[int]) -> None:
    pairs, conflicts, found = judged(walked_by(images_with_person))
    assert len(pairs) == 120
    assert (~np.isnan(conflicts)).sum() > 20
    assert not found.has_twins
    assert (found.probabilities >= 0.5).all()


@pytest.mark.parametrize("step_px", [20, 80])
def test_two_people_who_walk_through_all_images_make_no_twins(step_px: int) -> None:
    seen = [with_person(each, 10 + step_px * number % 540, number) for number, each in enumerate(walked_by(()))]
    both = [
        with_person(each, 10 + (2 * step_px * number + 300) % 540, 100 + number) for number, each in enumerate(seen)
    ]
    _, _, found = judged(both)
    assert not found.has_twins
    assert (found.probabilities >= 0.5).all()


@pytest.mark.parametrize("step_deg", [2.0, 4.0, 15.0])
def test_an_object_that_turns_before_a_wall_makes_no_twins(step_deg: float) -> None:
    _, conflicts, found = judged(turntable(step_deg=step_deg))
    assert (~np.isnan(conflicts)).sum() > 10
    assert not found.has_twins


def test_surroundings_that_other_pairs_match_with_the_twin_show_twins() -> None:
    pairs, conflicts, found = judged(twin_walls())
    is_twin = np.array([(pair.image0 < 8) != (pair.image1 < 8) for pair in pairs])
    assert found.has_twins
    assert np.nanmin(conflicts[is_twin]) > np.nanmax(conflicts[~is_twin])


def test_surroundings_that_no_pair_matches_show_twins_if_far_images_of_a_way_have_equal_views() -> None:
    """A house with equal sides: what is around it is out of sight in the next image."""
    pairs, conflicts, found = judged(lone_surroundings())
    assert not (conflicts > -0.25).any()  # keypoints that other pairs match show nothing
    assert found.has_twins
    steps = np.array([pair.image1 - pair.image0 for pair in pairs])
    assert (found.probabilities[steps == 5] < 0.1).all()
    assert np.median(found.probabilities[steps == 1]) > 0.5


def test_water_that_neighbours_do_not_match_either_makes_no_twins() -> None:
    _, _, found = judged(before_sea())
    assert not found.has_twins
    assert (found.probabilities >= 0.5).all()


def shuffled(seen: Sequence[Seen]) -> list[Seen]:
    return [seen[number] for number in np.random.default_rng(2).permutation(len(seen)).tolist()]


@pytest.mark.parametrize("scene", [lone_surroundings, before_sea])
def test_without_an_order_unlike_surroundings_are_no_evidence_but_told(scene: Callable[[], list[Seen]]) -> None:
    """Nothing tells the sea from a house with equal sides then."""
    _, _, found = judged(shuffled(scene()))
    assert not found.has_twins
    assert (found.probabilities >= 0.5).all()
    assert found.is_unlike.sum() >= 3
    assert not judged(scene())[2].is_unlike.any(), "in order, twins are found, and the sea is known"


@pytest.mark.parametrize("seen", [walked_by(range(16)), walked_by((3, 8, 12)), turntable(step_deg=2.0)])
def test_things_that_move_are_no_unlike_surroundings(seen: list[Seen]) -> None:
    assert not judged(shuffled(seen))[2].is_unlike.any()


def test_a_few_pairs_with_unlike_surroundings_are_told_only_if_they_are_many() -> None:
    unlike, like = PairCues(surroundings_conflict=1.0), PairCues(surroundings_conflict=-3.0)
    logits = np.full(5, 2.0)
    assert unlike_surroundings([unlike] * 3 + [like] * 2, logits).tolist() == [True] * 3 + [False] * 2
    assert unlike_surroundings([unlike] * 13 + [like] * 10, np.full(23, 2.0)).sum() == 13  # a house, in random order
    hardly = PairCues(surroundings_conflict=0.4)  # as some pairs of a right model of a square have
    assert not unlike_surroundings([hardly] * 3 + [like] * 2, logits).any()
    assert not unlike_surroundings([unlike] * 2, logits[:2]).any()
    assert not unlike_surroundings([unlike] * 3 + [like] * 4, np.full(7, 2.0)).any()
    assert not unlike_surroundings([unlike] * 3, np.array([2.0, 2.0, -1.0])).any()
    assert not unlike_surroundings([], np.zeros(0)).any()
